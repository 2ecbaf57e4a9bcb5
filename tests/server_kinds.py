"""The kinds of servers that the throttle is measured against, as simulated worlds: for `make bench-throttle`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from simulation import World

from migrator.sandbox.limits import Algorithm, ResetStyle, Rounding

__all__ = ["DEVELOPMENT", "JUDGEMENT", "KINDS", "Kind", "jobs"]

DEVELOPMENT: Final = range(1, 4)
"""Seeds with which rules are found."""

JUDGEMENT: Final = range(101, 106)
"""Seeds with which they are judged: never looked at while a rule is made."""

QUOTAS: Final = {
    "60 s": (100, 60.0, 400),
    "10 s": (50, 10.0, 250),
    "1 s": (10, 1.0, 200),
    "20 s": (30, 20.0, 150),
    "7 s": (30, 7.0, 150),
    "3 s": (20, 3.0, 120),
    "50/s, burst 10": (11, 0.22, 600),
}


@dataclass(frozen=True)
class Kind:
    """A kind of server, and what is to be reached.

    Attributes:
        name: of the row.
        worlds: its variants.
        speed: the least share of the oracle's speed, by the window's length.
        refused: the most refusals of a job.
        refused_share: the most refusals of a job, as a share of its requests, on top of `refused`.
        latency_s: the least and the most of a round trip; None for 15 to 30 ms.
    """

    name: str
    worlds: tuple[World, ...]
    speed: dict[str, float]
    refused: int = 0
    refused_share: float = 0.0
    latency_s: tuple[float, float] | None = None


def _each(*algorithms: Algorithm, **changes: object) -> tuple[World, ...]:
    return tuple(replace(World(algorithm=one), **changes) for one in algorithms)  # type: ignore[arg-type]


def _speeds(long: float, middle: float, short: float) -> dict[str, float]:
    return {"60 s": long, "10 s": middle, "1 s": short}


FIXED, FIRST, LOG, COUNTER, BUCKET = (
    Algorithm.FIXED,
    Algorithm.FIRST,
    Algorithm.SLIDING,
    Algorithm.COUNTER,
    Algorithm.GCRA,
)
EPOCH, DRAFT = ResetStyle.EPOCH, ResetStyle.DRAFT
DOWN, NEAREST, NONE = Rounding.DOWN, Rounding.NEAREST, Rounding.NONE

KINDS: Final = (
    Kind(
        "relative seconds, fixed window",
        _each(FIXED, FIRST) + _each(FIXED, FIRST, style=DRAFT),
        _speeds(0.99, 0.97, 0.95),
    ),
    Kind("bucket (GCRA)", _each(BUCKET) + _each(BUCKET, style=DRAFT), _speeds(0.99, 0.97, 0.95)),
    Kind("epoch, rounded up", _each(FIXED, FIRST, style=EPOCH), _speeds(0.98, 0.92, 0.75)),
    Kind("epoch with a fraction", _each(FIXED, FIRST, style=EPOCH, rounding=NONE), _speeds(0.98, 0.92, 0.75)),
    Kind("epoch, truncated", _each(FIXED, FIRST, style=EPOCH, rounding=DOWN), _speeds(0.98, 0.92, 0.75), 1),
    Kind("epoch, nearest", _each(FIXED, FIRST, style=EPOCH, rounding=NEAREST), _speeds(0.98, 0.92, 0.75), 1),
    Kind("log, relative seconds", _each(LOG), _speeds(0.97, 0.92, 0.75)),
    Kind("log, epoch rounded up", _each(LOG, style=EPOCH), _speeds(0.97, 0.92, 0.75)),
    Kind("log, epoch truncated", _each(LOG, style=EPOCH, rounding=DOWN), _speeds(0.97, 0.92, 0.75), 1),
    Kind("log with a fixed window's reset", _each(LOG, reset="first window"), _speeds(0.98, 0.94, 0.90)),
    Kind("counter, reset of one unit", _each(COUNTER), _speeds(0.90, 0.92, 0.90), 2),
    Kind("counter, reset of the window", _each(COUNTER, reset="aligned window"), _speeds(0.90, 0.92, 0.90), 2),
    Kind("affixed names", _each(FIRST, affix="-short"), _speeds(0.99, 0.97, 0.95)),
    Kind(
        "Retry-After alone",
        _each(FIXED, FIRST, LOG, BUCKET, style=None),
        _speeds(0.90, 0.85, 0.80),
        2,
        refused_share=0.01,
    ),
    Kind(
        "bare 429",
        _each(FIXED, FIRST, LOG, BUCKET, style=None, retry_after=False),
        {"60 s": 0.90, "10 s": 0.85},
        5,
        refused_share=0.03,
    ),
    Kind(
        "bare 429 of nginx",
        _each(BUCKET, style=None, retry_after=False),
        {"50/s, burst 10": 0.90},
        5,
        refused_share=0.03,
    ),
    Kind("window, others take 30 %", _each(FIXED, FIRST, rival=0.3), _speeds(0.97, 0.97, 0.97), refused_share=0.005),
    Kind("bucket, others take 30 %", _each(BUCKET, rival=0.3), _speeds(0.97, 0.97, 0.97), refused_share=0.005),
    Kind(
        "counter, others take 30 %",
        _each(COUNTER, rival=0.3) + _each(COUNTER, rival=0.3, reset="aligned window"),
        _speeds(0.97, 0.97, 0.97),
        refused_share=0.02,
    ),
    *(
        Kind(
            f"{name}, {latency_s[0]:g} to {latency_s[1]:g} s",
            _each(FIXED, FIRST, style=style),
            {"1 s": least},
            latency_s=latency_s,
        )
        for latency_s, relative in (((0.15, 0.25), 0.85), ((0.3, 0.5), 0.80))
        for name, style, least in (("relative", ResetStyle.RELATIVE, relative), ("epoch", EPOCH, 0.70))
    ),
)


def jobs(kind: Kind, length: str, seed: int) -> Iterator[tuple[World, int, int]]:
    """Yield the worlds of a cell of the table, with the number of items and of slots."""
    limit, window_s, items = QUOTAS[length]
    rng = Random(seed)
    for world in kind.worlds:
        phase_s = rng.uniform(0.0, window_s)
        latency_s = rng.choice([(0.018, 0.022), (0.015, 0.03)])
        latency_s = kind.latency_s or latency_s
        changed = replace(world, limit=limit, window_s=window_s, phase_s=phase_s, latency_s=latency_s)
        yield changed, items, rng.choice([8, 16])
