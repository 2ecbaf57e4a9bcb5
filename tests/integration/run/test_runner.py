"""One invocation of a run, on a real server and a real ledger: what it sends, shows and leaves to the next one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import pytest
from conftest import Workplace
from in_process import Bench, bench, settings

from migrator.commands.run import JobWork
from migrator.job.job_file import Job
from migrator.report.observer import Observer, RunStatistics
from migrator.report.summary import Summary
from migrator.results import StopKind, StopReason
from migrator.run.runner import Runner
from migrator.run.stopper import Stopper
from migrator.run.work_list import Given
from migrator.store.ledger_reader import read_ledger

pytestmark = pytest.mark.anyio

ITEMS = 6


@dataclass
class Seen(Observer):
    """Remembers what it saw, and stops the run at the first result where it has a stopper.

    Attributes:
        stopper: stops the run.
        events: names, in their order.
        items: keys of results.
        looks: how often it looked at the run.
    """

    stopper: Stopper | None = None
    events: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    looks: int = 0

    def event(self, event: Mapping[str, Any]) -> None:
        """See an event."""
        self.events.append(event["event"])

    def item(self, record: Mapping[str, Any]) -> None:
        """See a result."""
        self.items.append(record["key"])
        if self.stopper is not None:
            assert self.stopper.stop(StopReason(StopKind.CONTROL, "stopped by a test"))

    def progress(self, _statistics: RunStatistics) -> None:
        """Look at the run."""
        self.looks += 1


async def drive(held: Bench, job: Job, place: Path, seen: Seen) -> Summary:
    """Drive a run once."""
    options = held.options(canary="0", concurrency="1")
    source, verdict = held.checked(job)
    work = JobWork(job, source, verdict, options)
    stopper = seen.stopper or Stopper()
    runner = Runner(
        work, options, state=held.state, place=place, observers=[seen], ask=None, stopper=stopper, given=Given()
    )
    return await runner.run()


async def test_a_run_sends_all_and_is_told_item_by_item(workplace: Workplace) -> None:
    """Its files agree with what observers saw."""
    async with bench(workplace, settings(items=ITEMS)) as held:
        place, seen = held.state.new_run("rotate", time()), Seen()
        summary = await drive(held, held.job(ITEMS), place, seen)

        assert summary["counts"]["succeeded"] == ITEMS
        assert sorted(seen.items) == sorted(row["key"] for row in workplace.results())
        assert seen.events[0] == "run.started"
        assert seen.events[-1] == "run.ended"
        assert seen.looks
        with read_ledger(place / "ledger.db") as reader:
            assert reader.meta()["state"] == "ended"


async def test_a_stopped_run_is_finished_by_the_next_invocation(workplace: Workplace) -> None:
    """Each item is sent once, and the second invocation counts as one."""
    async with bench(workplace, settings(items=ITEMS)) as held:
        job, place = held.job(ITEMS), held.state.new_run("rotate", time())
        first, second = Seen(stopper=Stopper()), Seen()

        stopped = await drive(held, job, place, first)
        assert stopped["stopped"] is not None
        assert 0 < len(first.items) < ITEMS
        ended = await drive(held, job, place, second)

        assert ended["counts"]["succeeded"] == ITEMS
        assert len(first.items) + len(second.items) == ITEMS
        assert not set(first.items) & set(second.items)
        with read_ledger(place / "ledger.db") as reader:
            assert reader.meta()["invocations"] == "2"


async def test_an_invocation_that_only_has_to_end_sends_nothing(workplace: Workplace) -> None:
    """A kill may come after the last result and before the last file."""
    async with bench(workplace, settings(items=ITEMS)) as held:
        job, place = held.job(ITEMS), held.state.new_run("rotate", time())
        before = await drive(held, job, place, Seen())
        (place / "summary.json").unlink()

        seen = Seen()
        after = await drive(held, job, place, seen)

        assert seen.items == []
        assert after["counts"] == before["counts"]
        assert (place / "summary.json").exists()


async def test_a_run_that_is_not_driven_cannot_be_stopped(workplace: Workplace) -> None:
    """A signal before the start or after the end is not taken for a stop of this run."""
    async with bench(workplace, settings(items=ITEMS)) as held:
        stopper, reason = Stopper(), StopReason(StopKind.CONTROL, "too early")
        assert not stopper.stop(reason)
        seen = Seen(stopper=stopper)
        await drive(held, held.job(1), held.state.new_run("rotate", time()), seen)
        assert not stopper.stop(reason)
