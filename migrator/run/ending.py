"""The ending of an invocation: what it did is recorded, the views are written, the observers are told.

The run's state in the ledger becomes ``ended`` last. An invocation that is killed before that leaves a run that the
same command finishes: it sends nothing that has a result, and tells no target of a notice twice.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import anyio
import msgspec

from migrator.errors import FolderError, LedgerError
from migrator.messages import Instant
from migrator.report.observer import Observer
from migrator.report.summary import LastInvocation, Summary, last_invocation_meta, summarise
from migrator.report.views import write_all
from migrator.results import StopKind, StopReason
from migrator.run.engine import Engine
from migrator.run.pool.roles import Controls
from migrator.run.work_list import RunFiles, WorkList
from migrator.secret import Masker
from migrator.store.files import decoded
from migrator.store.ledger_reader import LedgerReader

__all__ = ["Ending", "last_invocation"]

TOLD: Final = "told"
"""The name of the fact that says which observers were told of which invocation's end."""


class Ending:
    """Ends an invocation.

    Args:
        work: what was to be done.
        files: what the run has open.
        observers: are told.
        masker: keeps secrets out of the files.
    """

    def __init__(self, work: WorkList, files: RunFiles, observers: Sequence[Observer], *, masker: Masker) -> None:
        self._work = work
        self._files = files
        self._observers = observers
        self._masker = masker

    async def tell_start(self) -> None:
        """Tell the observers that the run starts."""
        facts = self._work.facts
        told = {"run": self._files.place.name, "job": facts.job, "server": facts.base_url}

        async def tell(observer: Observer) -> None:
            self._note(await observer.started(told))

        await _tell_each(self._observers, tell)

    async def end(self, last: LastInvocation) -> Summary:
        """Record what the invocation did, write the views, tell the observers, and record that the run ended.

        A disk that takes no more files changes how the run ends, but not what the ledger knows.
        """
        writable = last.stopped is None or last.stopped.kind is not StopKind.LEDGER
        if writable:
            await self._files.ledger.put(**last_invocation_meta(last))
        summary, last = self._views(last)
        if writable:
            await self._files.ledger.put(**last_invocation_meta(last))
        await self._tell_end(summary, last.number, writable=writable)
        if writable:
            await self._files.ledger.put(
                state="stopped" if summary["resumable"] else "ended",
                finished=summary["finished"],
                exit_code=str(summary["exit_code"]),
            )
        return summary

    def _views(self, last: LastInvocation) -> tuple[Summary, LastInvocation]:
        """Write the views, and return the summary, and what the invocation did."""
        reader, journal, place = self._files.reader, self._files.journal, self._files.place
        changed = last.stopped is not None and last.stopped.kind is StopKind.INPUT_CHANGED
        journal.flush()
        meta = reader.meta()
        try:
            written = write_all(
                place,
                reader,
                masker=self._masker,
                cells=None if changed else self._work.cells,
                meta={**meta, **last_invocation_meta(last)},
            )
        except FolderError as error:
            last = msgspec.structs.replace(last, stopped=last.stopped or StopReason(StopKind.FILES, str(error)))
            summary = summarise(reader, place, meta={**meta, **last_invocation_meta(last)})
            summary["resumable"] = True
            return summary, last
        if written.problem is not None:
            journal.event("file.unwritten", level="warning", message=written.problem)
        return written.summary, last

    async def _tell_end(self, summary: Summary, number: int, *, writable: bool) -> None:
        """Tell all observers at once how the invocation of this number ended, but those who know it already."""
        known = decoded(self._files.reader.meta().get(TOLD, ""), dict[str, list[str]])
        told = (known or {}).get(str(number))
        names = told or []

        async def note() -> None:
            # A ledger that fails here fails again when the state is written, where that is told.
            with suppress(LedgerError):
                await self._files.ledger.put(**{TOLD: msgspec.json.encode({str(number): names}).decode()})

        async def tell(observer: Observer) -> None:
            problems = await observer.ended(summary)
            self._note(problems)
            if observer.once and writable and not problems:
                names.append(observer.once)
                await note()

        if told is None:
            self._files.journal.event("run.ended", **summary)
            if writable:
                await note()
        await _tell_each([observer for observer in self._observers if observer.once not in names], tell)

    def _note(self, problems: Sequence[str]) -> None:
        for problem in problems:
            self._files.journal.event("notice.failed", level="warning", message=problem)


async def _tell_each(observers: Sequence[Observer], tell: Callable[[Observer], Coroutine[Any, Any, None]]) -> None:
    """Tell the observers in this process one by one, then the others all at once, since each may take its time."""
    for observer in observers:
        if not observer.once:
            await tell(observer)
    async with anyio.create_task_group() as tasks:
        for observer in observers:
            if observer.once:
                tasks.start_soon(tell, observer)


def last_invocation(
    engine: Engine,
    reader: LedgerReader,
    controls: Controls,
    *,
    started: Instant,
    now: Instant,
    resent: int,
    notes: Sequence[str],
    time_s: Mapping[str, float],
) -> LastInvocation:
    """Return what an invocation did, as the ledger keeps it."""
    stands = controls.statistics()
    return LastInvocation(
        number=int(reader.meta()["invocations"]),
        started_ms=round(started.utc * 1000),
        finished_ms=round(now.utc * 1000),
        done_before=reader.counts().total() - engine.finished_here,
        resent=resent,
        quota={
            "limit": stands.limit,
            "remaining": stands.remaining,
            "requests": stands.requests,
            "refused": stands.refused,
            "waited_s": {why: round(seconds, 3) for why, seconds in stands.waited_s.items()},
        },
        stopped=engine.stopped_by,
        note="; ".join(notes) or None,
        time_s={reason: round(seconds, 3) for reason, seconds in time_s.items()},
    )
