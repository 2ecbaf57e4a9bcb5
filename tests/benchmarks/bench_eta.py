"""What `make bench-eta` prints: the time left that a run tells, against the time it took, over the sandbox's settings.

The engine, its items and the throttle are real, the server is the sandbox's own limiter, and time is virtual. From a
tenth of a run on, each second is asked for the time left.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import anyio
from driven_run import Driven, Script, Server, drive, requests

from migrator.messages import Request
from migrator.options import Pace, RunOptions, Verify
from migrator.ratelimit.throttle import Throttle
from migrator.run.engine import Engine
from migrator.sandbox.limits import Algorithm, ResetStyle, limit_headers, make_limiter

SHARE, ROUNDED_S = 0.2, 1.0
"""How far off an estimate may be: a share of the time that is really left, and what whole seconds hide."""


MOST_OFF = 0.03
"""Share of moments that a setting may be off at, such as those at which a window opens."""


class Setting(NamedTuple):
    """A sandbox, and the options of the run.

    Attributes:
        algorithm: how it counts; None for a server without a quota.
        reset: how it tells of it.
        limit: requests in a window.
        window_s: its length.
        items: of the run.
        latency_s: of a request.
        errors: share of requests that are answered by 500.
        options: of the run.
    """

    algorithm: Algorithm | None
    reset: ResetStyle = ResetStyle.RELATIVE
    limit: int = 100
    window_s: float = 60.0
    items: int = 600
    latency_s: float = 0.05
    errors: float = 0.0
    options: RunOptions = RunOptions()

    def __str__(self) -> str:
        quota = f"{self.algorithm} {self.reset} {self.limit}/{self.window_s:g} s" if self.algorithm else "no quota"
        named = [f"{name} {value}" for name, value in self._named() if value]
        return ", ".join([quota, f"{self.items} items", f"{self.latency_s * 1000:g} ms", *named])

    def _named(self) -> Iterator[tuple[str, object]]:
        options = self.options
        yield "errors", f"{self.errors:.0%}" if self.errors else ""
        yield "rate", options.rate
        yield "concurrency", options.concurrency
        yield "reserve", f"{options.reserve:.0%}" if options.reserve else ""
        yield "pace", options.pace if options.pace is not Pace.FAST else ""
        yield "verify", options.verify if options.verify is Verify.READ else ""


class Told(NamedTuple):
    """What a run told at one moment.

    Attributes:
        at: in seconds of the run.
        finished: items.
        eta_s: the time left.
        limited_by: what limits it.
    """

    at: float
    finished: int
    eta_s: float | None
    limited_by: str | None


def script(setting: Setting, seed: int) -> Script:
    """Return a server's answers."""
    rng = Random(seed)
    start = -rng.uniform(0.0, setting.window_s)
    limiter = (
        make_limiter(setting.algorithm, limit=setting.limit, window_s=setting.window_s, start=start)
        if setting.algorithm
        else None
    )

    def answer(server: Server, _request: Request) -> tuple[int, dict[str, str]]:
        now = server.clock()
        status = 500 if rng.random() < setting.errors else 200
        if limiter is None:
            return status, {}
        verdict = limiter.take(now.mono)
        headers = limit_headers(verdict, style=setting.reset, utc=now.utc, window_s=setting.window_s)
        return (status if verdict.allowed else 429), {name.lower(): value for name, value in headers.items()}

    return answer


def told_by(setting: Setting, *, seed: int = 1, every_s: float = 0.2) -> tuple[list[Told], Driven]:
    """Drive a run in virtual time, and return what it told of the time left."""
    told: list[Told] = []
    rng = Random(seed)

    async def watch(engine: Engine, _throttle: Throttle) -> None:
        while True:
            await anyio.sleep(every_s)
            now = engine.statistics()
            told.append(Told(anyio.current_time(), now.finished, now.eta_s, now.limited_by))

    def latency_s(_request: Request) -> float:
        return setting.latency_s * rng.uniform(0.8, 1.2)

    record = {"name": "new"} if setting.options.verify is Verify.READ else None
    done = drive(
        requests(setting.items),
        script(setting, seed),
        options=setting.options,
        meanwhile=watch,
        latency_s=latency_s,
        record=record,
    )
    return told, done


def wrong(told: list[Told], done: Driven, items: int) -> list[tuple[Told, float]]:
    """Return what was told from a tenth of the run on and was too far off, each with the truth."""
    found = []
    for one in told:
        left_s = done.seconds - one.at
        late = one.at >= 0.1 * done.seconds and one.finished >= 0.1 * items
        if late and (one.eta_s is None or abs(one.eta_s - left_s) > SHARE * left_s + ROUNDED_S):
            found.append((one, left_s))
    return found


def settings() -> Iterator[Setting]:
    """Yield what is measured."""
    quotas = [(100, 60.0, 450), (50, 10.0, 420), (10, 1.0, 300), (500, 5.0, 2600)]
    for algorithm, reset, quota, latency_s in product(Algorithm, ResetStyle, quotas, (0.02, 0.3)):
        limit, window_s, items = quota
        yield Setting(algorithm, reset, limit, window_s, items, latency_s)
    plain = Setting(Algorithm.FIXED)
    for options in (
        RunOptions(rate=2.0),
        RunOptions(rate=50.0),
        RunOptions(concurrency=1),
        RunOptions(concurrency=4),
        RunOptions(reserve=0.2),
        RunOptions(pace=Pace.SMOOTH),
    ):
        yield plain._replace(options=options)
        yield plain._replace(options=options, algorithm=None, items=1500, latency_s=0.1)
        yield plain._replace(options=options, limit=500, window_s=5.0, items=2600, latency_s=0.2)
    for errors in (0.01, 0.05):
        yield plain._replace(errors=errors)
        yield plain._replace(errors=errors, algorithm=None, items=1500, latency_s=0.1)
    for latency_s in (0.02, 0.1, 0.3):
        yield plain._replace(algorithm=None, items=3000, latency_s=latency_s)


def main() -> None:
    """Measure each setting; say what was off."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    only = parser.parse_args().only
    found = [measure(setting) for setting in settings() if only in str(setting)]
    whole, most = sum(off == 0.0 for off in found), sum(off <= MOST_OFF for off in found)
    print(f"{len(found)} settings: {whole} right at each moment, {most} but for {MOST_OFF:.0%} of their moments")


def measure(setting: Setting) -> float:
    """Print a row, and return the share of moments at which the time left was wrong."""
    told, done = told_by(setting)
    off = len(wrong(told, done, setting.items)) / len(told)
    limited_by = Counter(one.limited_by for one in told).most_common(1)[0][0]
    verdict = "ok" if off == 0.0 else f"off at {off:.0%} of moments" + (" MISSED" if off > MOST_OFF else "")
    print(f"{setting!s:<72} {done.seconds:>7.1f} s  {limited_by or '':<14} {verdict}", flush=True)
    return off


if __name__ == "__main__":
    main()
