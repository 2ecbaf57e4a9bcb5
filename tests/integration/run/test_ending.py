"""An invocation ends in durable steps, and the run's state becomes `ended` last."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from made_up_work import MadeUpWork
from result_rows import result

from migrator.messages import Instant
from migrator.report.journal import open_journal
from migrator.report.observer import Observer
from migrator.report.summary import LastInvocation, Summary
from migrator.results import Exit, StopKind, StopReason
from migrator.run.ending import Ending
from migrator.run.work_list import RunFiles
from migrator.secret import Fingerprinter, Masker
from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_writer import Ledger

pytestmark = pytest.mark.anyio

MASKER = Masker(Fingerprinter(b"k" * 32), [])


class Told(Observer):
    """Remembers what it was told, and what the ledger said then."""

    once = "told"

    def __init__(self, place: Path, *, says: Sequence[str] = ()) -> None:
        self.place = place
        self.says = says
        self.summaries: list[Summary] = []
        self.states: list[str | None] = []

    async def ended(self, summary: Summary) -> Sequence[str]:
        """Take down the summary."""
        self.summaries.append(summary)
        with read_ledger(self.place / "ledger.db") as reader:
            self.states.append(reader.meta().get("state"))
        return self.says


@asynccontextmanager
async def opened(place: Path, *, items: int = 2) -> AsyncIterator[RunFiles]:
    """Open the files of a run with two results."""
    async with Ledger.open(place / "ledger.db") as ledger:
        await ledger.put(job="made-up", base_url="https://api.example", items=str(items), invocations="1",
                         state="running", started_ms="1795435200000")  # fmt: skip
        for number in (1, 2):
            await ledger.settle(result(number))
        with (
            read_ledger(place / "ledger.db") as reader,
            open_journal(place, run="made-up-1", masker=MASKER, clock=lambda: Instant(0.0, 0.0)) as journal,
        ):
            yield RunFiles(place=place, ledger=ledger, reader=reader, journal=journal)


def invocation(stopped: StopReason | None = None) -> LastInvocation:
    """Return what an invocation did."""
    return LastInvocation(
        number=1,
        started_ms=1_795_435_200_000,
        finished_ms=1_795_435_202_500,
        done_before=0,
        resent=0,
        quota={"limit": None, "remaining": None, "requests": 2, "refused": 0, "waited_s": {}},
        stopped=stopped,
    )


async def ended(place: Path, observer: Told, *, stopped: StopReason | None = None, items: int = 2) -> Summary:
    """End an invocation."""
    async with opened(place, items=items) as files:
        ending = Ending(MadeUpWork("https://api.example", items), files, [observer], masker=MASKER)
        return await ending.end(invocation(stopped))


def state(place: Path) -> str | None:
    """Return what the ledger says of the run."""
    with read_ledger(place / "ledger.db") as reader:
        return reader.meta().get("state")


async def test_ended_is_written_last(tmp_path: Path) -> None:
    """When the observers are told, the views are there, and the run has not ended yet."""
    observer = Told(tmp_path)

    summary = await ended(tmp_path, observer)

    assert observer.summaries == [summary]
    assert observer.states == ["running"]
    assert state(tmp_path) == "ended"
    assert {path.name for path in tmp_path.iterdir()} >= {
        "results.jsonl",
        "succeeded.csv",
        "summary.json",
        "report.html",
    }


async def test_nobody_is_told_twice(tmp_path: Path) -> None:
    """After a kill behind that step, the same ending writes the rest and tells nothing again."""
    observer = Told(tmp_path)
    async with opened(tmp_path) as files:
        ending = Ending(MadeUpWork("https://api.example", 2), files, [observer], masker=MASKER)
        await ending.end(invocation())
        await files.ledger.put(state="running")

        await ending.end(invocation())

    assert len(observer.summaries) == 1
    assert (tmp_path / "events.jsonl").read_text().count('"run.ended"') == 1
    assert state(tmp_path) == "ended"


async def test_stopped_run_can_be_resumed(tmp_path: Path) -> None:
    """Its state says so, and its exit code is kept."""
    summary = await ended(tmp_path, Told(tmp_path), stopped=StopReason(StopKind.SIGTERM, "terminated"), items=3)

    assert (summary["resumable"], summary["exit_code"]) == (True, Exit.TERMINATED)
    assert state(tmp_path) == "stopped"


async def test_notice_that_failed_is_an_event(tmp_path: Path) -> None:
    """It does not change how the run ended."""
    summary = await ended(tmp_path, Told(tmp_path, says=["the command exited with 1"]))

    assert summary["exit_code"] == Exit.OK
    assert '"notice.failed"' in (tmp_path / "events.jsonl").read_text()
    assert "the command exited with 1" in (tmp_path / "events.jsonl").read_text()


async def test_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Every item has succeeded, and the ledger knows: the run can be ended once the file can be written."""
    (tmp_path / "succeeded.csv").mkdir()

    summary = await ended(tmp_path, Told(tmp_path))

    assert (summary["resumable"], state(tmp_path)) == (True, "stopped")
    assert summary["exit_code"] == Exit.STOPPED


async def test_ledger_that_takes_nothing_is_not_asked(tmp_path: Path) -> None:
    """A run that stopped for its ledger leaves the state as it was."""
    await ended(tmp_path, Told(tmp_path), stopped=StopReason(StopKind.LEDGER, "the disk is full"))

    assert state(tmp_path) == "running"
