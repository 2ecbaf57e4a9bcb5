"""What stops a run from outside: a caller, a deadline, or a ledger that is not there any more."""

import io
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import virtual_time

from migrator.messages import Clock
from migrator.options import Deadline
from migrator.report.journal import Journal
from migrator.results import StopKind, StopReason
from migrator.run.stopper import DRAIN_S, Stopper, flush, watch_deadline
from migrator.secret import Fingerprinter, Masker

ASKED = StopReason(StopKind.CONTROL, "asked")


class Run:
    """Takes down what it is told, with the second of each."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.told: list[tuple[str, float]] = []

    def stop(self, reason: StopReason) -> None:
        """Take down the reason."""
        self.told.append((reason.kind.value, round(self.clock().mono, 3)))

    def abandon(self) -> None:
        """Take down that what is in flight is given up."""
        self.told.append(("abandon", round(self.clock().mono, 3)))


def watched(act: Callable[[Stopper], Coroutine[Any, Any, None]]) -> list[tuple[str, float]]:
    """Return what a run is told while a stopper is used."""

    async def main(clock: Clock) -> list[tuple[str, float]]:
        run, stopper = Run(clock), Stopper()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stopper.watch, run)
            with stopper.heeded():
                await act(stopper)
                await anyio.sleep(100.0)
            tasks.cancel_scope.cancel()
        return run.told

    return virtual_time.run(main)


def test_first_request_lets_what_is_in_flight_finish() -> None:
    """It is given up after ten seconds."""

    async def act(stopper: Stopper) -> None:
        await anyio.sleep(5.0)
        assert stopper.stop(ASKED)

    assert watched(act) == [(ASKED.kind.value, 5.0), ("abandon", 5.0 + DRAIN_S)]


def test_second_request_gives_up_at_once() -> None:
    """An impatient person presses Ctrl-C twice; the reason is that of the first."""

    async def act(stopper: Stopper) -> None:
        stopper.stop(ASKED)
        await anyio.sleep(2.0)
        stopper.stop(StopReason(StopKind.SIGINT, "again"))

    assert watched(act) == [(ASKED.kind.value, 0.0), ("abandon", 2.0)]


def test_two_requests_in_one_moment() -> None:
    """The second counts, though the first was not passed on yet."""

    async def act(stopper: Stopper) -> None:
        stopper.stop(ASKED)
        stopper.stop(ASKED)

    assert watched(act) == [(ASKED.kind.value, 0.0), ("abandon", 0.0)]


def test_request_without_a_run_is_refused() -> None:
    """The caller has to end by itself where there is no run to stop, or not any more."""
    stopper = Stopper()
    assert not stopper.stop(ASKED)
    with stopper.heeded():
        assert stopper.stop(ASKED)
    assert not stopper.stop(ASKED)


def stopped_at(deadline: Deadline) -> list[tuple[str, float]]:
    """Return what a run is told by a deadline."""

    async def main(clock: Clock) -> list[tuple[str, float]]:
        run = Run(clock)
        await watch_deadline(run, deadline)
        return run.told

    return virtual_time.run(main)


def test_deadline_after_a_time() -> None:
    """A duration counts by the monotonic clock."""
    assert stopped_at(Deadline(after_s=90.0)) == [("deadline reached", 90.0)]


def test_deadline_at_a_time_of_day_that_is_now() -> None:
    """A time of day counts by the wall clock, which may jump; it is looked at again and again."""
    now = datetime.now(UTC).astimezone() + timedelta(seconds=1)
    (told,) = stopped_at(Deadline(at=now.timetz().replace(tzinfo=None)))

    assert told[0] == "deadline reached"


def flushed(act: Callable[[Path], object], tmp_path: Path) -> list[tuple[str, float]]:
    """Return what a run is told while something happens to its ledger."""
    ledger = tmp_path / "ledger.db"
    ledger.write_bytes(b"x")

    async def main(clock: Clock) -> list[tuple[str, float]]:
        run = Run(clock)
        masker = Masker(Fingerprinter(b"k" * 32), [])
        journal = Journal(run="run", events=io.BytesIO(), results=io.BytesIO(), masker=masker, clock=clock)
        # The run holds its ledger open, so that no other file gets its number.
        with ledger.open("rb"):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(flush, journal, run, ledger)
                await anyio.sleep(5.2)
                act(ledger)
                await anyio.sleep(5.0)
                tasks.cancel_scope.cancel()
        return run.told

    return virtual_time.run(main)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda path: path.unlink(), id="deleted"),
        pytest.param(lambda path: path.rename(path.with_name("moved")), id="moved"),
        pytest.param(lambda path: (path.unlink(), path.write_bytes(b"y")), id="replaced"),
    ],
)
def test_ledger_that_is_gone_stops_the_run(tmp_path: Path, act: Callable[[Path], object]) -> None:
    """What is written into a file that no one can find is lost: the run stops within half a second, once."""
    assert flushed(act, tmp_path) == [(StopKind.LEDGER.value, 5.5)]


def test_ledger_that_is_there_stops_nothing(tmp_path: Path) -> None:
    """What is written into it does not count."""
    assert flushed(lambda path: path.write_bytes(b"more"), tmp_path) == []
