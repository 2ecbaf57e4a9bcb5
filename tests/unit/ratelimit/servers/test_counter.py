"""A sliding counter is recognised by its own requests, and used without asking too early; no other server is one."""

import math
from dataclasses import dataclass
from random import Random

import pytest
from server_kinds import KINDS, jobs
from simulation import World, least_seconds, simulate

from migrator.ratelimit.model import PacerSettings
from migrator.ratelimit.pacer import Pacer
from migrator.ratelimit.servers.counter import Counter
from migrator.ratelimit.servers.report import Report
from migrator.ratelimit.servers.window_length import WindowLength
from migrator.sandbox.limits import Algorithm, Limiter, Verdict, make_limiter

LIMIT, WINDOW_S, TRIP_S = 50, 10.0, 0.02


@dataclass
class Caller:
    """Sends one request at a time."""

    counter: Counter
    limiter: Limiter
    refused: int = 0

    def call(self, now: float, *, opening: bool = False, on_trust: bool = False) -> Verdict:
        """Send a request, and tell the counter the answer."""
        verdict = self.limiter.take(now + TRIP_S / 2)
        self.refused += on_trust and not verdict.allowed
        seen = Report(
            limit=LIMIT,
            remaining=verdict.remaining,
            reset_s=float(math.ceil(verdict.reset_s)),
            resolution_s=1.0,
            late_s=0.0,
            window_s=WINDOW_S,
            opening=opening,
            sent=now,
            now=now + TRIP_S,
            in_flight=0,
            overtaken=0,
            refused=not verdict.allowed,
            on_trust=on_trust,
        )
        self.counter.answered(seen)
        return verdict


def caller(algorithm: Algorithm, phase_s: float) -> tuple[Caller, float]:
    """Return a caller that has used up the quota and asked on, once a tenth of a window; and the time."""
    length = WindowLength()
    one = Caller(Counter(length), make_limiter(algorithm, limit=LIMIT, window_s=WINDOW_S, start=-phase_s))
    length.seconds = WINDOW_S
    now = 0.0
    while one.call(now).remaining:
        now += TRIP_S
    for _ in range(12):
        now += WINDOW_S / 10
        one.call(now, opening=True)
    return one, now


@pytest.mark.parametrize("phase_s", [0.5 * step for step in range(20)])
def test_a_counter_is_used_as_it_gives_back(phase_s: float) -> None:
    """Whatever the begin of its windows, requests go at the pace at which a counter gives back, and few too early."""
    one, now = caller(Algorithm.COUNTER, phase_s)
    assert one.counter.possible

    accepted, start = 0, now
    while now < start + 3 * WINDOW_S:
        now = max(now + TRIP_S, one.counter.next_at(now, 0))
        accepted += one.call(now, on_trust=True).allowed

    assert one.refused <= 4
    assert accepted >= 0.9 * 3 * LIMIT


@pytest.mark.parametrize("reset", ["true", "aligned window"])
@pytest.mark.parametrize(("limit", "window_s"), [(100, 60.0), (30, 20.0), (30, 7.0), (10, 1.0)])
def test_a_job(reset: str, limit: int, window_s: float) -> None:
    """Whether the reset tells of one unit or of the window, nearly all of the speed is used with hardly a refusal."""
    for seed in range(4):
        world = World(
            algorithm=Algorithm.COUNTER,
            limit=limit,
            window_s=window_s,
            phase_s=window_s * (0.1 + 0.25 * seed),
            latency_s=(0.015, 0.03),
            reset=reset,  # type: ignore[arg-type]
        )
        best = least_seconds(world, items=max(200, 4 * limit), slots=16, seed=seed)
        outcome = simulate(
            world, Pacer(PacerSettings(), rng=Random(seed)), items=max(200, 4 * limit), slots=16, seed=seed
        )

        assert best / outcome.seconds >= (0.95 if window_s > 1.0 else 0.85)
        assert outcome.refused <= 2


@pytest.mark.parametrize("algorithm", [Algorithm.FIXED, Algorithm.FIRST, Algorithm.SLIDING])
@pytest.mark.parametrize("phase_s", [0.0, 3.3, 9.1])
def test_other_servers_are_no_counters(algorithm: Algorithm, phase_s: float) -> None:
    """A window or a log gives back at one instant, which no counter explains."""
    one, _ = caller(algorithm, phase_s)

    assert not one.counter.possible


@pytest.mark.parametrize("seed", [203, 205, 294, 373, 388])
def test_windows_at_long_round_trips_are_no_counters(seed: int) -> None:
    """Where a round trip is half a window, a unit that seems to be missing is no counter's: none is refused for it."""
    kind = next(one for one in KINDS if one.name == "relative, 0.3 to 0.5 s")
    for world, items, slots in jobs(kind, "1 s", seed):
        assert (
            simulate(world, Pacer(PacerSettings(), rng=Random(seed)), items=items, slots=slots, seed=seed).refused == 0
        )
