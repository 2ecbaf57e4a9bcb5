"""Kill a command at each of its durable steps, give the same command again, and compare: `make crash`.

For each scenario the command runs once to the end, and its points are written down. Then it runs again from the same
start for each point, is killed there, and the same command is given until it ends. Ledger, results, views and server
have to agree afterwards. Prints a line a scenario; ends with 1 if one has a finding.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Final

from crash_points import Order, Point, run_command
from crash_witness import witness
from reliability import table, write_section

__all__ = ["SCENARIOS", "Bench", "Scenario", "Tally"]

ITEMS: Final = 5
SLOTS: Final = 2
LONGEST_S: Final = 40.0
AGAIN: Final = 2
"""Rounds for the points that a run has not reached where it was to be killed."""
ROUNDS: Final = 8
"""Rounds in which all points are tried: a time limit then leaves out some points of each scenario, and no scenario."""

FORKS: Final = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["crash_points"])
# The fork server of Python 3.11 looks for the modules to preload on its own path, and goes on without them.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
SAFE: Final = {"method": "PATCH", "path": "/things/{id}", "body": {"name": "{name}"}}
MAKES: Final = {"method": "POST", "path": "/things", "body": {"id": "{id}", "name": "{name}"}}
METHODS: Final[Mapping[str, Mapping[str, Any]]] = {
    "PATCH": SAFE,
    "PATCH once": SAFE | {"idempotent": False},
    "PUT": SAFE | {"method": "PUT"},
    "POST": MAKES | {"idempotent": False},
    "POST with a key": MAKES | {"headers": {"Idempotency-Key": '"{@run}-{@item}"'}},
}
OPTIONS: Final[Mapping[str, Sequence[str]]] = {
    "keep-before": ["--keep-before"],
    "verify read": ["--verify", "read"],
    "plan": ["--plan", "plan.json"],
    "stages": ["--stages", "2,100%", "--allow-commands"],
    "only-changed": ["--only-changed"],
    "since-last": ["--since-last"],
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One command, with what has to be so before it.

    Attributes:
        name: for the table.
        command: the arguments.
        method: of the job's request.
        before: commands that make the state from which the command starts.
        check: says what is wrong afterwards.
        refused: keys that the server refuses during `before`.
        broken: keys whose writes it answers with an error during `before`, though it has made them.
    """

    name: str
    command: Sequence[str]
    method: str = "PATCH"
    before: Sequence[Sequence[str]] = ()
    check: "Callable[[Bench, Scenario], Iterator[str]] | None" = None
    refused: Sequence[str] = ()
    broken: Sequence[str] = ()


@dataclass(slots=True)
class Tally:
    """What came of a scenario."""

    points: list[Point] = field(default_factory=list)
    kills: list[Point] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


class Bench:
    """A folder to work in, and the server that bears witness."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.work, self.start = folder / "work", folder / "start"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATOR_")}
        self.environment = kept | {"MIGRATOR_KEY": "a passphrase of the crash tests"}

    def prepare(self, scenario: Scenario) -> None:
        """Make the state from which the command starts, and keep a copy."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.start, ignore_errors=True)
        self.work.mkdir(parents=True)
        self._ask(f"/witness/reset?things={0 if 'POST' in scenario.method else ITEMS}", b"")
        api = {
            "base_url": self.url,
            "auth": {"type": "none"},
            "read": True,
            "collection": {"path": "/things", "items": "data", "item": "/things/{id}", "columns": ["id", "name"]},
        }
        job = {
            "name": "crash",
            "api": api,
            "request": METHODS[scenario.method],
            "key": "id",
            "items": "items.csv",
            "gate": ["true"],
            "notify": [{"ping": f"{self.url}/notice"}],
        }
        (self.work / "job.json").write_text(json.dumps(job))
        rows = [f"t-{number},new {number}" for number in range(1, ITEMS + 1)]
        (self.work / "items.csv").write_text("\n".join(["id,name", *rows, ""]))
        self.refuse(scenario.refused, broken=scenario.broken)
        for command in scenario.before:
            self.run(command)
        self.refuse(())
        shutil.copytree(self.work, self.start)

    def rewind(self) -> None:
        """Go back to the start: the folder's copy, and the server as it was then."""
        shutil.rmtree(self.work)
        shutil.copytree(self.start, self.work)

    def run(self, command: Sequence[str], kill_at: Point | None = None, **order: Any) -> int:
        """Run a command to its end or its death, and return its exit code."""
        process = self.process(command, kill_at=kill_at, **order)
        process.start()
        process.join(LONGEST_S)
        if process.is_alive():
            process.kill()
            process.join()
            return 124
        return process.exitcode or 0

    def process(self, command: Sequence[str], **order: Any) -> "multiprocessing.context.ForkServerProcess":
        """Return the process of a command, not yet started."""
        whole = Order(command, self.work, self.environment, self.folder / "points.txt", **order)
        return FORKS.Process(target=run_command, args=(whole,))

    def points(self) -> list[Point]:
        """Return the points that the last command reached."""
        rows = (line.split("\t") for line in (self.folder / "points.txt").read_text().splitlines())
        return [Point(step, int(nth)) for step, nth in rows]

    def seen(self) -> dict[str, Any]:
        """Return what the server has seen."""
        found: dict[str, Any] = json.loads(self._ask("/witness"))
        return found

    def refuse(self, keys: Iterable[str], *, broken: Iterable[str] = ()) -> None:
        """Let the server refuse writes to these keys, and answer writes to others with an error after making them."""
        self._ask("/witness/refuse", json.dumps({"refused": sorted(keys), "broken": sorted(broken)}).encode())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set the server's state."""
        self._ask("/witness/state", json.dumps(state).encode())

    def _ask(self, path: str, data: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"{self.url}{path}", data, timeout=10) as answer:  # noqa: S310  loopback
            body: bytes = answer.read()
        return body

    def runs(self) -> list[Path]:
        """Return the folders of runs, in the order in which they started."""
        ledgers = (self.work / ".migrator/runs").glob("*/ledger.db")
        return [path.parent for path in sorted(ledgers, key=lambda path: path.stat().st_mtime_ns)]

    def meta(self, run: Path) -> dict[str, str]:
        """Return the facts in a run's ledger."""
        with closing(sqlite3.connect(f"file:{run / 'ledger.db'}?mode=ro", uri=True)) as connection:
            return dict(connection.execute("SELECT name, value FROM meta").fetchall())


def states(bench: Bench) -> Counter[str]:
    """Count the runs by their state, from copies, so that looking changes nothing."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for run in (bench.work / ".migrator/runs").glob("*"):
            for name in ("ledger.db", "ledger.db-wal"):
                if (run / name).exists():
                    shutil.copy(run / name, Path(scratch) / name)
            try:
                found[bench.meta(Path(scratch)).get("state", "empty")] += 1
            except sqlite3.Error:
                found["empty"] += 1
            for path in Path(scratch).iterdir():
                path.unlink()
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_run(bench: Bench, scenario: Scenario) -> Iterator[str]:
    """Yield what is wrong with the run that has ended."""
    whole = [run for run in bench.runs() if (run / "results.jsonl").exists()]
    if not whole:
        yield "no run has results"
        return
    run = whole[-1]
    records = {record["key"]: record for record in lines(run / "results.jsonl")}
    if len(lines(run / "results.jsonl")) != ITEMS or len(records) != ITEMS:
        yield f"results.jsonl has {len(lines(run / 'results.jsonl'))} lines for {ITEMS} items"
    yield from check_ledger(run, records)
    seen = bench.seen()
    for key, record in records.items():
        held = seen["things"].get(key, {}).get("name") == f"new {key.removeprefix('t-')}"
        if record["status"] in {"succeeded", "unchanged"} and not held:
            yield f"{key} is {record['status']}, and the server does not hold it"
        if record["status"] == "in_doubt" and scenario.method != "POST":
            yield f"{key} is in doubt, though it is safe to send again"
        if record["status"] == "failed":
            yield f"{key} failed: {record['error']}"
    doubled = {key: count for key, count in seen["writes"].items() if count > 1}
    allowed = 0 if "POST" in scenario.method else SLOTS
    if len(doubled) > allowed or any(count > 2 for count in doubled.values()):
        yield f"written more than once: {doubled}"
    yield from check_views(run)


def check_ledger(run: Path, records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield where ledger and results differ."""
    with closing(sqlite3.connect(f"file:{run / 'ledger.db'}?mode=ro", uri=True)) as connection:
        rows = dict(connection.execute("SELECT key, status FROM item").fetchall())
        state = dict(connection.execute("SELECT name, value FROM meta").fetchall()).get("state")
    if rows != {key: record["status"] for key, record in records.items()}:
        yield f"the ledger has {rows}"
    if state != "ended":
        yield f"the ledger's state is {state}"


def check_views(run: Path) -> Iterator[str]:
    """Yield which views are missing or were left half written."""
    for name in ("summary.json", "report.html", "succeeded.csv", "failed.csv", "events.jsonl"):
        if not (run / name).exists():
            yield f"{name} is missing"
    leftovers = [path.name for path in run.parents[1].rglob(".new-*")]
    if leftovers:
        yield f"left behind: {leftovers}"


def check_rollback(bench: Bench, _: Scenario) -> Iterator[str]:
    """Yield what was not put back."""
    for key, thing in bench.seen()["things"].items():
        if thing["name"] != f"old {key.removeprefix('t-')}":
            yield f"{key} was not put back: {thing}"


def check_retry(bench: Bench, scenario: Scenario) -> Iterator[str]:
    """Yield what is wrong with the items that were sent again."""
    run = next(run for run in reversed(bench.runs()) if bench.meta(run).get("kind") == "retry")
    ends = [(record["key"], record["status"]) for record in lines(run / "results.jsonl")]
    if sorted(ends) != [(key, "succeeded") for key in scenario.refused]:
        yield f"the retry has {ends}"
    old = [key for key, thing in bench.seen()["things"].items() if thing["name"] != f"new {key.removeprefix('t-')}"]
    if old:
        yield f"{old} were not written"
    yield from check_views(run)


def check_report(bench: Bench, _: Scenario) -> Iterator[str]:
    """Yield which views are missing."""
    yield from check_views(bench.runs()[-1])


def check_prune(bench: Bench, _: Scenario) -> Iterator[str]:
    """Yield what prune has left or taken too much of."""
    if len(bench.runs()) != 1:
        yield f"{len(bench.runs())} runs are left"
    yield from check_views(bench.runs()[-1])


def check_export(bench: Bench, _: Scenario) -> Iterator[str]:
    """Yield how the exported file is wrong."""
    rows = (bench.work / "out.csv").read_text().splitlines()
    if len(rows) != ITEMS + 1 or len(set(rows)) != ITEMS + 1:
        yield f"out.csv has {len(rows)} lines"
    if leftovers := [path.name for path in bench.work.rglob(".new-*")]:
        yield f"left behind: {leftovers}"


RUN: Final = ("run", "job.json", "--yes", "--progress", "none", "--concurrency", str(SLOTS), "--max-outage", "5s")


def scenarios() -> Iterator[Scenario]:
    """Yield every scenario: methods, options, pairs of options, and the other commands."""
    plan = ["plan", "job.json", "--out", "plan.json"]
    for method in METHODS:
        if method != "PATCH once":
            yield Scenario(f"run {method}", RUN, method)
    for count in (1, 2):
        for names in combinations(OPTIONS, count):
            options = [word for name in names for word in OPTIONS[name]]
            before = [plan] if "plan" in names else []
            yield Scenario(f"run PATCH, {' and '.join(names)}", [*RUN, *options], "PATCH", before)
    keeping = [*RUN, "--keep-before"]
    yield Scenario("rollback", ["rollback", "last", "--yes"], "PATCH", [keeping], check_rollback)
    yield Scenario("retry", ["retry", "last", "--yes"], "PATCH", [RUN], check_retry, refused=("t-2", "t-4"))
    yield Scenario("reconcile", ["reconcile", "last"], "PATCH once", [RUN], broken=("t-3", "t-5"))
    yield Scenario("report", ["report", "last"], "PATCH", [RUN], check_report)
    yield Scenario("prune", ["prune", "--keep-last", "1"], "PATCH", [RUN, [*RUN, "--fresh"]], check_prune)
    yield Scenario("export", ["export", "job.json", "--out", "out.csv"], "PATCH", [], check_export)


SCENARIOS: Final = {scenario.name: scenario for scenario in scenarios()}


def trial(bench: Bench, scenario: Scenario, point: Point, start: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Kill the command at a point, give it again until it ends, and return whether it was killed, and what is wrong."""
    bench.rewind()
    bench.restore(start)
    ended = states(bench)["ended"]
    if bench.run(scenario.command, point) != -signal.SIGKILL:
        return False, []
    # A run that was ended already is not given again: that would be a new run.
    code = 0 if scenario.command[0] == "run" and states(bench)["ended"] > ended else bench.run(scenario.command)
    said = (bench.work / "err.txt").read_text()
    if code not in {0, 1} or "Traceback" in said or "a bug" in said:
        return True, [f"exit code {code}: {said[-300:]}"]
    return True, list((scenario.check or check_run)(bench, scenario))


def reference(bench: Bench, scenario: Scenario) -> tuple[list[Point], dict[str, Any], list[str]]:
    """Run a scenario's command without a kill.

    Returns:
        its points, the server's state before it, and what is wrong.
    """
    bench.prepare(scenario)
    start = bench.seen()
    code = bench.run(scenario.command)
    wrong = list((scenario.check or check_run)(bench, scenario))
    if code not in {0, 1} or wrong:
        said = (bench.work / "err.txt").read_text()[-300:] if (bench.work / "err.txt").exists() else ""
        wrong = [f"without a kill: exit code {code} {wrong} {said}"]
    return list(dict.fromkeys(bench.points())), start, wrong


def killed(
    bench: Bench, scenario: Scenario, points: Iterable[Point], start: Mapping[str, Any], deadline: float = float("inf")
) -> Tally:
    """Kill a scenario's command at each of these points, until the time is up."""
    tally = Tally()
    for point in points:
        if time.monotonic() > deadline:
            break
        reached, findings = trial(bench, scenario, point, start)
        tally.kills += [point] if reached else []
        tally.findings += [f"{point}: {finding}" for finding in findings]
    return tally


def examine(bench: Bench, scenario: Scenario, *, every: int, first: int) -> Tally:
    """Kill a scenario's command at every n-th of its points."""
    points, start, wrong = reference(bench, scenario)
    tally = killed(bench, scenario, points[first::every], start)
    return Tally(points, tally.kills, wrong + tally.findings)


class Worker:
    """A process that tries points, with a folder for each scenario and a server of its own."""

    known: ClassVar[dict[str, tuple[Bench, list[Point], dict[str, Any], list[str]]]] = {}
    folder: ClassVar[Path]
    url: ClassVar[str]
    serving: ClassVar[ExitStack] = ExitStack()

    @classmethod
    def start(cls, folder: Path) -> None:
        """Start the server."""
        # Else each fork would run the main module again, to find the functions in it.
        vars(sys.modules["__main__"]).pop("__file__", None)
        cls.folder = Path(tempfile.mkdtemp(dir=folder))
        cls.url = cls.serving.enter_context(witness())

    @classmethod
    def reference(cls, name: str) -> Tally:
        """Return the points of a scenario."""
        if name not in cls.known:
            bench = Bench(cls.folder / str(len(cls.known)), cls.url)
            cls.known[name] = bench, *reference(bench, SCENARIOS[name])
        _, points, _, wrong = cls.known[name]
        return Tally(points, [], wrong)

    @classmethod
    def killed(cls, name: str, points: Sequence[Point], deadline: float) -> Tally:
        """Kill the scenario's command at these points."""
        cls.reference(name)
        bench, _, start, _ = cls.known[name]
        return killed(bench, SCENARIOS[name], points, start, deadline)


@contextmanager
def workers(folder: Path, jobs: int) -> Iterator[Executor]:
    """Start processes that try what they are given, each with a server of its own."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawned, initializer=Worker.start, initargs=(folder,)) as pool:
        yield pool


def offsets(every: int) -> list[int]:
    """Return the numbers below a power of two so that each further one halves a gap that those before it leave."""
    half = offsets(every // 2) if every > 1 else []
    return [2 * one for one in half] + [2 * one + 1 for one in half] or [0]


def rounds(pool: Executor, names: Sequence[str], deadline: float) -> dict[str, Tally]:
    """Try other points of each scenario each round, until all were tried or the time is up.

    What is in flight together has no order, so a run may miss a point that another had: such a point is tried again.
    """
    tallies = dict(zip(names, pool.map(Worker.reference, names), strict=True))
    for turn in (*offsets(ROUNDS), *[None] * AGAIN):
        left = {name: [point for point in tally.points if point not in tally.kills] for name, tally in tallies.items()}
        chosen = left if turn is None else {name: tally.points[turn::ROUNDS] for name, tally in tallies.items()}
        tries = {name: pool.submit(Worker.killed, name, points, deadline) for name, points in chosen.items() if points}
        for name, waited in tries.items():
            found, known = waited.result(), tallies[name]
            known.kills += found.kills
            known.findings += found.findings
            for finding in found.findings:
                print(f"{name}: {finding}", flush=True)
        print(f"{sum(len(tally.kills) for tally in tallies.values())} kills", flush=True)
    return tallies


def main() -> None:
    """Examine the scenarios for some minutes; end with 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="scenarios whose names contain this")
    parser.add_argument("--minutes", type=float, default=20.0, help="end after that time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that try points")
    parser.add_argument("--write", action="store_true", help="write the section of docs/reliability.md")
    given = parser.parse_args()
    names = [name for name in SCENARIOS if given.only in name]
    deadline = time.monotonic() + given.minutes * 60
    with tempfile.TemporaryDirectory() as folder, workers(Path(folder), given.jobs) as pool:
        tallies = rounds(pool, names, deadline)
    points, kills, findings = (
        sum(len(getattr(tally, what)) for tally in tallies.values()) for what in ("points", "kills", "findings")
    )
    for name, tally in tallies.items():
        print(f"{name:<42} {len(tally.points):>4} points {len(tally.kills):>4} kills {len(tally.findings):>3} findings")
    print(f"{kills} kills at {points} points, {findings} findings")
    if given.write:
        write(tallies, points, kills, findings)
    sys.exit(1 if findings else 0)


def write(tallies: Mapping[str, Tally], points: int, kills: int, findings: int) -> None:
    """Write the section of docs/reliability.md."""
    rows = [(name, len(tally.points), len(tally.kills), len(tally.findings)) for name, tally in tallies.items()]
    text = (
        "A step is what is durable or leaves the process: fsync, rename, link, unlink, a statement that writes, "
        "bytes to a socket. The command is killed before or after one and given again until it ends; then ledger, "
        f"results, views and server have to agree. Each run has {ITEMS} items and {SLOTS} slots."
    )
    told = f"**{kills:,} kills, {findings} findings.**"
    if missed := points - kills:
        told += f" {missed:,} of {points:,} steps were not tried: the time was up, or they came in no second run."
    shown = table(["command", "steps", "killed at", "findings"], rows)
    write_section("crash", "Killed at its durable steps", [text, told, shown])


if __name__ == "__main__":
    main()
