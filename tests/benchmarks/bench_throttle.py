"""What `make bench-throttle` prints: the pacer against what users would write instead, on the same simulated servers.

Speed is the least possible time, of an oracle that reads the server's state, over ours; time is virtual. Three rows at
the end are real: a run against the sandbox, whose least time is known.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from server_kinds import DEVELOPMENT, JUDGEMENT, KINDS, jobs
from simulation import Client, Outcome, World, least_seconds, share_of_the_rest, simulate

from migrator.ratelimit.headers import Quota
from migrator.ratelimit.model import PacerMemory, PacerSettings
from migrator.ratelimit.pacer import Pacer
from migrator.sandbox.limits import Algorithm, Rounding

JOB = Path(__file__).parents[2] / "jobs" / "rotate-slack-webhooks.json"


class Fixed:
    """A fixed aiolimiter rate: AsyncLimiter(limit, window), as a formula; a refusal is tried again after its wait."""

    def __init__(self, world: World) -> None:
        self._rate, self._most = world.limit / world.window_s, world.limit
        self._level, self._at = 0.0, 0.0

    def delay(self, now: float) -> float:
        """Return the seconds until the bucket has room."""
        level = max(0.0, self._level - (now - self._at) * self._rate)
        over = level + 1.0 - self._most
        return over / self._rate if over > 1e-6 else 0.0

    def sent(self, now: float) -> None:
        """Fill the bucket by one."""
        self._level = max(0.0, self._level - (now - self._at) * self._rate) + 1.0
        self._at = now

    def answered(self, ticket: Any, quota: Quota | None, now: float) -> None:
        """Look at no header."""

    def refused(self, ticket: Any, quota: Quota | None, retry_after_s: float | None, now: float) -> None:
        """Try again in the item's turn."""

    def lost(self, ticket: Any, now: float) -> None:
        """Try again in the item's turn."""


class SleepAtZero(Fixed):
    """Full speed, and a sleep until the reset when remaining is 0 or a request was refused."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._until = 0.0

    def delay(self, now: float) -> float:
        """Return the rest of the sleep."""
        return max(0.0, self._until - now)

    def answered(self, ticket: Any, quota: Quota | None, now: float) -> None:
        """Sleep when nothing is left."""
        if quota is not None and quota.remaining == 0 and quota.reset_s is not None:
            self._until = max(self._until, now + quota.reset_s)

    def refused(self, ticket: Any, quota: Quota | None, retry_after_s: float | None, now: float) -> None:
        """Sleep as long as the server says."""
        self._until = max(self._until, now + (retry_after_s or 1.0))


class Spread(SleepAtZero):
    """The latest answer's reset over its remaining, between two requests."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._gap = 0.0
        self._last = -math.inf

    def delay(self, now: float) -> float:
        """Return the rest of the gap."""
        return max(0.0, self._until - now, self._last + self._gap - now)

    def sent(self, now: float) -> None:
        """Note when."""
        self._last = now

    def answered(self, ticket: Any, quota: Quota | None, now: float) -> None:
        """Take the gap again."""
        super().answered(ticket, quota, now)
        if quota is not None and quota.remaining and quota.reset_s is not None:
            self._gap = quota.reset_s / quota.remaining


class Octokit(SleepAtZero):
    """A second between writes, and a refusal is waited out, with a second more."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._last = -math.inf

    def delay(self, now: float) -> float:
        """Return the rest of the second, or of the wait."""
        return max(0.0, self._until - now, self._last + 1.0 - now)

    def sent(self, now: float) -> None:
        """Note when."""
        self._last = now

    def answered(self, ticket: Any, quota: Quota | None, now: float) -> None:
        """Look at no header before a refusal."""

    def refused(self, ticket: Any, quota: Quota | None, retry_after_s: float | None, now: float) -> None:
        """Wait, and a second more."""
        self._until = max(self._until, now + (retry_after_s or 1.0) + 1.0)


RIVALS: dict[str, Callable[[World], Client]] = {
    "fixed aiolimiter": Fixed,
    "sleep at 0": SleepAtZero,
    "spread": Spread,
    "octokit's rule": Octokit,
}


@dataclass(frozen=True)
class Row:
    """A row of the table: settings, and what is to be reached."""

    name: str
    worlds: list[tuple[World, int, int]]
    target: str
    reached: Callable[[list[float], list[Outcome]], bool]
    warm: bool = False


def worlds(
    latencies: Iterable[tuple[float, float]], slots: Iterable[int], **changes: Any
) -> Iterator[tuple[World, int, int]]:
    """Yield each algorithm under each latency and number of slots, with the number of items."""
    for algorithm, latency_s, count in product(Algorithm, latencies, slots):
        for limit, window_s, items in changes.get("quotas", ((100, 60.0, 1000), (5000, 3600.0, 10_000))):
            kept = {name: value for name, value in changes.items() if name != "quotas"}
            world = World(
                algorithm=algorithm,
                limit=limit,
                window_s=window_s,
                latency_s=latency_s,
                phase_s=0.37 * window_s,
                **kept,
            )
            yield world, items, count


def refused(outcomes: list[Outcome]) -> int:
    """Return all refusals."""
    return sum(outcome.refused for outcome in outcomes)


def share(outcomes: list[Outcome]) -> float:
    """Return the refusals' share of all requests."""
    return refused(outcomes) / sum(outcome.sent for outcome in outcomes)


def rows() -> Iterator[Row]:
    """Yield the rows of the table."""
    usual, slots = ((0.02, 0.04), (0.1, 0.4)), (8, 64)
    for rounding in (Rounding.UP, Rounding.NONE):
        yield Row(
            f"alone, reset {rounding}",
            list(worlds(usual, slots, rounding=rounding)),
            "median >= 99.5 %, worst >= 98 %, 0 refused",
            lambda s, o: statistics.median(s) >= 0.995 and min(s) >= 0.98 and not refused(o),
        )
    yield Row(
        "alone, reset rounded down, first run",
        list(worlds(usual, slots, rounding=Rounding.DOWN)),
        "the same, <= 1 refused a job",
        lambda s, o: statistics.median(s) >= 0.995 and min(s) >= 0.98 and all(one.refused <= 1 for one in o),
    )
    yield Row(
        "alone, reset rounded down, second run",
        list(worlds(usual, slots, rounding=Rounding.DOWN)),
        "the same, 0 refused",
        lambda s, o: statistics.median(s) >= 0.995 and min(s) >= 0.98 and not refused(o),
        warm=True,
    )
    second = ((10, 1.0, 1000),)
    quick, slow = (
        list(worlds(((0.02, 0.1),), (8, 16), quotas=second)),
        list(worlds(((0.39, 0.41),), (64,), quotas=second)),
    )
    for counter, name in ((False, ""), (True, ", sliding counter")):
        yield Row(
            f"10 in 1 s, 20 to 100 ms{name}",
            [one for one in quick if (one[0].algorithm is Algorithm.COUNTER) is counter],
            ">= 93 %, 0 refused",
            lambda s, o: min(s) >= 0.93 and not refused(o),
        )
        yield Row(
            f"10 in 1 s, 400 ms, 64 slots{name}",
            [one for one in slow if (one[0].algorithm is Algorithm.COUNTER) is counter],
            ">= 80 %, <= 0.1 % refused",
            lambda s, o: min(s) >= 0.8 and share(o) <= 0.001,
        )
    yield Row(
        "fixed, someone else takes 30 %",
        [
            (replace(world, algorithm=Algorithm.FIXED, rival=0.3), items, count)
            for world, items, count in worlds(usual, slots, quotas=((100, 60.0, 1000),))
            if world.algorithm is Algorithm.FIXED
        ],
        ">= 98 % of what is left, <= 0.5 % refused",
        lambda s, o: min(s) >= 0.98 and share(o) <= 0.005,
    )
    yield Row(
        "no headers, 429 alone",
        list(worlds(usual, (8, 16), quotas=((100, 60.0, 1000),), style=None)),
        "median >= 85 %, <= 2 % refused",
        lambda s, o: statistics.median(s) >= 0.85 and share(o) <= 0.02,
    )
    free = World(limit=10**9, window_s=1.0, latency_s=(0.05, 0.15), style=None)
    yield Row("no limit", [(free, 20_000, 64)], "costs < 10 s of 31", lambda s, o: min(s) >= 0.75 and not refused(o))


def ours(world: World, items: int, slots: int, *, warm: bool) -> Outcome:
    """Run the pacer; warm: with what a first run has learned."""
    memory: PacerMemory | None = None
    if warm:
        first = Pacer(PacerSettings(), rng=Random(1))
        simulate(world, first, items=items, slots=slots, seed=3)
        memory = first.memory()
    return simulate(world, Pacer(PacerSettings(), rng=Random(1), memory=memory), items=items, slots=slots, seed=7)


def bench_kinds(seeds: range, rows: str, lengths: list[str]) -> None:
    """Print each kind of server and window length: speed, refusals, and whether they reach what is asked.

    Args:
        seeds: of the jobs.
        rows: a part of the names of the kinds to run.
        lengths: windows that nothing is asked of, in place of those of the table.
    """
    print(f"\n{'kind, seeds ' + str(list(seeds)):<34} window, worst/mean speed (asked), most refused (asked)")
    for kind in KINDS:
        if rows not in kind.name:
            continue
        cells = []
        for length in lengths or kind.speed:
            speeds, ran = [], []
            for seed in seeds:
                for world, items, slots in jobs(kind, length, seed):
                    ran.append(run_once(world, items, slots, seed))
                    speeds.append(share_of_the_rest(world, ran[-1], items=items, slots=slots, seed=seed))
            most = max(one.refused for one in ran)
            allowed = [int(kind.refused + kind.refused_share * one.sent) for one in ran]
            kept = all(one.refused <= most_allowed for one, most_allowed in zip(ran, allowed, strict=True))
            cell = f"{length}: {min(speeds):5.1%}/{statistics.mean(speeds):5.1%}"
            if (least := kind.speed.get(length)) is not None:
                verdict = "ok" if min(speeds) >= least and kept else "MISSED"
                cell += f" ({least:.0%}) {most} ({max(allowed)}) {verdict}"
            else:
                cell += f" {most}"
            cells.append(cell)
        print(f"{kind.name:<34} {' | '.join(cells)}", flush=True)


def run_once(world: World, items: int, slots: int, seed: int) -> Outcome:
    """Run a pacer that knows nothing yet."""
    return simulate(world, Pacer(PacerSettings(), rng=Random(seed)), items=items, slots=slots, seed=seed)


def line(name: str, speeds: list[float], outcomes: list[Outcome], verdict: str) -> None:
    """Print a line of the table."""
    median, worst = statistics.median(speeds), min(speeds)
    print(
        f"{name:<46} {median:>8.1%} {worst:>8.1%} {refused(outcomes):>9} {share(outcomes):>9.3%}   {verdict}",
        flush=True,
    )


def bench(row: Row) -> None:
    """Print a row of ours and of each rival."""
    least = [least_seconds(world, items=items, slots=slots, seed=7) for world, items, slots in row.worlds]
    outcomes = [ours(world, items, slots, warm=row.warm) for world, items, slots in row.worlds]
    speeds = [best / one.seconds if not one.stuck else 0.0 for best, one in zip(least, outcomes, strict=True)]
    verdict = "ok" if row.reached(speeds, outcomes) else "MISSED"
    line(row.name, speeds, outcomes, f"{verdict}: {row.target}")
    if os.environ.get("BENCH_DETAILS"):
        for speed, one, (world, items, slots) in zip(speeds, outcomes, row.worlds, strict=True):
            print(
                f"    {world.algorithm:<8} {world.limit}/{world.window_s:g} {items} {slots} {speed:.1%} {one.refused}"
            )
    if row.warm or os.environ.get("BENCH_OURS"):
        return
    for name, make in RIVALS.items():
        others = [simulate(world, make(world), items=items, slots=slots, seed=7) for world, items, slots in row.worlds]
        rated = [best / one.seconds if not one.stuck else 0.0 for best, one in zip(least, others, strict=True)]
        line(f"    {name}", rated, others, "")


def bench_real() -> None:
    """Run against the sandbox in real time: the least time is the windows that the items need."""
    key = {"CONFLUENT_CLOUD_API_KEY": "BENCH", "CONFLUENT_CLOUD_API_SECRET": "made-up-for-the-bench"}
    for algorithm in ("first", "sliding", "gcra"):
        command = [
            sys.executable,
            "-m",
            "migrator",
            "sandbox",
            "--limit",
            "100",
            "--window",
            "4",
            "--algorithm",
            algorithm,
        ]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sandbox,
            tempfile.TemporaryDirectory() as state,
        ):
            url = (sandbox.stdout.readline() if sandbox.stdout else "").removeprefix("listening on ").strip()
            run = ["run", str(JOB), "--base-url", url, "--state", f"{state}/s", "--yes", "--json", "--progress", "none"]
            done = subprocess.run(
                [sys.executable, "-m", "migrator", *run], env=os.environ | key, capture_output=True, check=True
            )
            sandbox.terminate()
        summary = json.loads(done.stdout)
        least = 12.0
        speed, turned_away = least / summary["elapsed_s"], summary["quota"]["refused"]
        print(f"real: {algorithm}, 400 items, 100 in 4 s {'':<9} {speed:>8.1%} {'':>8} {turned_away:>9}", flush=True)


def main() -> None:
    """Print the tables, or what is chosen of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", default="all", choices=["all", "kinds", "others", "real"])
    parser.add_argument("--rows", default="", help="rows whose name has this")
    parser.add_argument("--lengths", default="", help="other windows for the kinds, such as '20 s,7 s,3 s'")
    chosen = parser.parse_args()
    if chosen.part in {"all", "kinds"}:
        for seeds in (DEVELOPMENT, JUDGEMENT):
            bench_kinds(seeds, chosen.rows, chosen.lengths.split(",") if chosen.lengths else [])
    if chosen.part in {"all", "others"}:
        print(f"\n{'server':<46} {'median':>8} {'worst':>8} {'refused':>9} {'share':>9}   target")
        for row in rows():
            if chosen.rows in row.name:
                bench(row)
    if chosen.part in {"all", "real"}:
        bench_real()


if __name__ == "__main__":
    main()
