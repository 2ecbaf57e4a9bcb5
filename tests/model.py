"""Histories of a job, made up by hypothesis: `make model`.

Commands end, are killed or get a signal at any durable step; items are refused and accepted again; the clock jumps;
two processes start at once. After each step: every item of an ended run has one record, a record that says succeeded is
of a value that the server has held, nothing was written more often than the records and the kills account for, and the
command that the program advises next works.
"""

import argparse
import json
import re
import shlex
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final

from crash import ITEMS, RUN, SCENARIOS, Bench, lines
from crash_witness import witness
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from reliability import write_section

__all__ = ["machine"]

KEYS: Final = [f"t-{number}" for number in range(1, ITEMS + 1)]
GOOD: Final = {0, 1, 3}
"""Exit codes of a command that worked: done, some items failed, or stopped with a reason."""

SIGNALS: Final = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
ADVICE: Final = re.compile(r"migrator ((?:run|retry|reconcile|rollback|verify)\b[^;,:()]*)")


class Histories(RuleBasedStateMachine):
    """One folder, one server, and everything that an operator may do to them."""

    bench: ClassVar[Bench]
    method: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.bench.prepare(SCENARIOS[f"run {self.method}"])
        self.refused: set[str] = set()
        self.kills = 0
        self.clock_s = 0.0
        self.last: Sequence[str] = ()
        self.forgotten: Counter[str] = Counter()

    def give(self, command: Sequence[str], **order: Any) -> int:
        (self.bench.work / "err.txt").unlink(missing_ok=True)
        self.last = command
        code = self.bench.run(command, clock_s=self.clock_s, **order)
        self.kills += code < 0
        said = (self.bench.work / "err.txt").read_text() if (self.bench.work / "err.txt").exists() else ""
        assert "Traceback" not in said, f"{command}: {said}"
        assert "a bug" not in said, f"{command}: {said}"
        return code

    def codes_of_a_run(self) -> set[int]:
        """Return the codes that a run may end with now: an unfinished retry or rollback has to be resumed first."""
        unfinished = set()
        for run in self.bench.runs():
            with suppress(sqlite3.Error):
                meta = self.bench.meta(run)
                unfinished |= {meta.get("kind")} if meta.get("state") != "ended" else set()
        return GOOD | ({2} if unfinished & {"retry", "rollback"} else set())

    @rule(options=st.sampled_from([(), ("--keep-before",), ("--verify", "read"), ("--only-changed",)]))
    def run(self, options: Sequence[str]) -> None:
        codes = self.codes_of_a_run()
        assert self.give([*RUN, *options]) in codes

    @rule(after=st.integers(1, 160))
    def run_is_killed(self, after: int) -> None:
        codes = self.codes_of_a_run() | {-signal.SIGKILL}
        assert self.give([*RUN, "--keep-before"], signal_after=after) in codes

    @rule(after=st.integers(1, 160), sent=st.sampled_from(sorted(SIGNALS)))
    def run_gets_a_signal(self, after: int, sent: int) -> None:
        # Before the program has set its handlers, the system's own ending is as good.
        codes = self.codes_of_a_run() | {SIGNALS[signal.Signals(sent)], -sent}
        assert self.give(RUN, signal_after=after, signal=sent) in codes

    @rule(command=st.sampled_from([("retry", "last", "--yes"), ("reconcile", "last"), ("rollback", "last", "--yes")]))
    def follow_up(self, command: Sequence[str]) -> None:
        if self.bench.runs():
            assert self.give(command) in GOOD | {2}

    @rule(after=st.integers(1, 120))
    def retry_is_killed(self, after: int) -> None:
        if self.bench.runs():
            assert self.give(("retry", "last", "--yes"), signal_after=after) in GOOD | {2, -signal.SIGKILL}

    @rule(key=st.sampled_from(KEYS))
    def refuse(self, key: str) -> None:
        self.refused ^= {key}
        self.bench.refuse(self.refused)

    @rule(seconds=st.sampled_from([-90_000.0, -5.0, 5.0, 90_000.0]))
    def clock_jumps(self, seconds: float) -> None:
        self.clock_s += seconds

    @rule()
    def prune(self) -> None:
        known = {run: Counter({r["key"]: r["attempts"] for r in records_of(run)}) for run in self.bench.runs()}
        if known:
            assert self.give(("prune", "--keep-last", "1")) in GOOD
            for run, attempts in known.items():
                if not run.exists():
                    self.forgotten += attempts

    @rule()
    def look(self) -> None:
        assert self.give(("status",)) == 0

    @rule()
    def two_at_once(self) -> None:
        codes = self.codes_of_a_run() | {4}
        both = [self.bench.process(RUN, clock_s=self.clock_s) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join(60)
        assert {process.exitcode for process in both} <= codes

    @rule()
    def take_the_advice(self) -> None:
        runs = [run for run in self.bench.runs() if (run / "summary.json").exists()]
        if not runs:
            return
        summary = json.loads((runs[-1] / "summary.json").read_text())
        for advised in ADVICE.findall(summary.get("next_step") or ""):
            command = shlex.split(advised)
            assert self.give([*command, "--yes"] if command[0] != "reconcile" else command) in GOOD

    @invariant()
    def every_item_has_one_record(self) -> None:
        for run in self.bench.runs():
            if ended(run):
                records = lines(run / "results.jsonl")
                keys = Counter(record["key"] for record in records)
                assert set(keys.values()) <= {1}, f"{self.last}: {run.name} has {keys}"

    @invariant()
    def success_is_true(self) -> None:
        held = self.bench.seen()["held"]
        for run in self.bench.runs():
            if (run / "results.jsonl").exists() and "rollback" not in (run / "results.jsonl").read_text():
                for record in records_of(run):
                    if record["status"] == "succeeded":
                        assert held[record["key"]], f"{self.last}: {record}"

    @invariant()
    def nothing_is_doubled_unknowingly(self) -> None:
        accounted: Counter[str] = Counter()
        for run in self.bench.runs():
            for record in records_of(run):
                accounted[record["key"]] += record["attempts"]
        unfinished = sum(not ended(run) for run in self.bench.runs())
        for key, count in self.bench.seen()["writes"].items():
            most = accounted[key] + self.forgotten[key] + self.kills + unfinished
            assert count <= most, f"{self.last}: {key} was written {count} times"


def machine(bench: Bench, method: str) -> type[Histories]:
    """Return the state machine for requests of one method."""
    return type(f"Histories{method}", (Histories,), {"bench": bench, "method": method})


def records_of(run: Path) -> list[dict[str, Any]]:
    """Return the whole records of a run; a kill may have cut off the last line."""
    path = run / "results.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def ended(run: Path) -> bool:
    """Tell whether a run has ended, as its summary says."""
    path = run / "summary.json"
    return path.exists() and not json.loads(path.read_text())["resumable"]


def main() -> None:
    """Try histories until the examples are used up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=60, help="histories for each method")
    parser.add_argument("--steps", type=int, default=14, help="steps of a history")
    parser.add_argument("--write", action="store_true", help="write the section of docs/reliability.md")
    given = parser.parse_args()
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    chosen = settings(
        max_examples=given.examples, stateful_step_count=given.steps, deadline=None, suppress_health_check=checks
    )
    with tempfile.TemporaryDirectory() as folder, witness() as url:
        bench = Bench(Path(folder), url)
        for method in ("PATCH", "POST"):
            run_state_machine_as_test(machine(bench, method), settings=chosen)
            print(f"{method}: {given.examples} histories of up to {given.steps} steps, no finding")
            sys.stdout.flush()
    if given.write:
        text = (
            "Histories that hypothesis makes up for a job of five items: runs, kills and signals at any durable step, "
            "retries, reconciles, rollbacks, prunes, items that the server refuses and takes again, clock jumps of a "
            "day, two processes at once, and what the program advises. After each step every item has one record, each "
            "success was held by the server, and nothing was written more often than records and kills account for. "
            "Changes of the items or the job between two commands were not tried."
        )
        told = f"**{given.examples} histories of up to {given.steps} steps for PATCH, as many for POST, no finding.**"
        write_section("model", "Histories of runs", [text, told])


if __name__ == "__main__":
    main()
