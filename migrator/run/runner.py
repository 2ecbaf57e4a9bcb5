"""One invocation of a run: opens its files and its session, drives the engine, and ends it."""

import getpass
import os
import shlex
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from msgspec.structs import replace

from migrator import __version__
from migrator.api.session import Session, open_session, system_clock
from migrator.errors import FolderError, LedgerError, ReadingError, WaitTooLong
from migrator.messages import Clock, Instant, Request
from migrator.options import RunOptions, Verify
from migrator.report.journal import Event, Journal, open_journal, write_results
from migrator.report.observer import Observer, RunStatistics
from migrator.report.summary import LastInvocation, Summary, complete_invocation
from migrator.report.time_use import STARTS, Activity, TimeUse, reason_of
from migrator.report.views import RunFacts, write_live_page
from migrator.results import Status, StopKind, StopReason
from migrator.run import control
from migrator.run.ending import Ending, last_invocation
from migrator.run.engine import Engine
from migrator.run.item import ItemResults, Items
from migrator.run.pool.roles import Controls
from migrator.run.stages import Ask, Stages
from migrator.run.stopper import Stopper, flush, watch_deadline
from migrator.run.work_list import Crew, Given, Machines, RunFiles, WorkList
from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_writer import Ledger
from migrator.store.state_folder import StateFolder

__all__ = ["Runner"]

PROGRESS_S: Final = 0.2
"""Seconds between two looks of the observers at the run: quick enough to look alive, slow enough to cost nothing."""

LIVE_PAGE_S: Final = 3.0
"""Seconds between two writes of the live page, at the least."""

PROGRESS_EVENT_S: Final = 10.0
"""Seconds between two progress events."""


class Runner:
    """Drives a run once.

    Args:
        work: what is to be done.
        options: what the user has set.
        state: the state folder.
        place: the run's folder.
        observers: watch it.
        ask: asks a person after a stage; None where there is none.
        stopper: stops the run from outside.
        machines: where items are finished; None for this process.
        given: the command line that started it.
    """

    def __init__(
        self,
        work: WorkList,
        options: RunOptions,
        *,
        state: StateFolder,
        place: Path,
        observers: Sequence[Observer],
        ask: Ask | None,
        stopper: Stopper,
        given: Given,
        machines: Machines | None = None,
    ) -> None:
        self._work, self._facts, self._options = work, work.facts, options
        self._state, self._place = state, place
        self._observers, self._ask, self._stopper = observers, ask, stopper
        self._given = given
        self._masker = state.masker(self._facts.api.credentials())
        self._machines = machines
        self._notes: Sequence[str] = ()
        self._activity, self._use = Activity(), TimeUse(0.0)

    async def run(self) -> Summary:
        """Open everything, drive the run, and end it.

        Raises:
            MigratorError: it cannot start.
            LedgerError: the ledger cannot be used.
            FolderError: the run's folder cannot be used.
        """
        clock = system_clock()
        started = clock()
        self._use = TimeUse(started.mono)
        async with self._opened(clock) as files:
            with self._stopper.heeded():
                ending = Ending(self._work, files, self._observers, masker=self._masker)
                last = complete_invocation(files.reader.meta())
                if last is None:
                    await self._start(files, started)
                    last = await self._drive(files, ending, clock, started)
                return await ending.end(last)

    @asynccontextmanager
    async def _opened(self, clock: Clock) -> AsyncIterator[RunFiles]:
        """Open the run's files."""
        path = self._place / "ledger.db"
        async with Ledger.open(path) as ledger:
            with read_ledger(path) as reader:
                if reader.meta():
                    await ledger.reopen()
                    write_results(self._place / "results.jsonl", reader)
                with open_journal(
                    self._place, run=self._place.name, masker=self._masker, clock=clock, subscribers=[self._observe]
                ) as journal:
                    yield RunFiles(place=self._place, ledger=ledger, reader=reader, journal=journal)

    async def _start(self, files: RunFiles, started: Instant) -> None:
        """Note that the run is being driven."""
        meta = files.reader.meta()
        if not meta:
            await files.ledger.put(**self._identity(started))
        await files.ledger.put(
            **self._view_facts().meta(meta),
            state="running",
            items=str(self._facts.total),
            invocations=str(int(meta.get("invocations", "0")) + 1),
        )

    async def _drive(self, files: RunFiles, ending: Ending, clock: Clock, started: Instant) -> LastInvocation:
        """Send what is left, and return what this invocation did."""
        async with self._session(clock, files.journal) as session, self._crew(files, session) as crew:
            resent = len(files.reader.in_flight()) if self._facts.idempotent else 0
            stages = self._stages(files)
            controls = session.throttle if crew is None else crew.controls
            engine = self._engine(files, clock, controls, stages)
            facts = self._facts
            files.journal.event("run.started", items=facts.total, server=facts.base_url, resent=resent)
            await ending.tell_start()
            async with self._watched(engine, stages, files, clock, controls):
                await self._finish_items(engine, crew, files, session)
            return last_invocation(
                engine,
                files.reader,
                controls,
                started=started,
                now=clock(),
                resent=resent,
                notes=self._notes,
                time_s=self._use.seconds,
            )

    def _observe(self, event: Event) -> None:
        """Show an event or a result to every observer."""
        for observer in self._observers:
            (observer.item if event["event"] == "item" else observer.event)(event)

    def _identity(self, started: Instant) -> dict[str, str]:
        """Return what the ledger keeps of a new run."""
        facts = self._facts
        return {
            **facts.kept,
            "job": facts.job,
            "kind": facts.kind,
            "base_url": facts.base_url,
            "job_digest": facts.job_digest,
            "items_digest": facts.items_digest,
            "items_source": facts.name,
            "started_ms": str(round(started.utc * 1000)),
            "dry_run": "true" if self._options.dry_run else "false",
            "user": _user(),
            "host": socket.gethostname(),
            "version": __version__,
        }

    def _view_facts(self) -> RunFacts:
        facts, options = self._facts, self._options
        named = {"run": self._place.name, "folder": shlex.quote(str(self._place)), "options": self._given.options}
        return RunFacts(
            redact_files=options.redact_files,
            secrets=facts.secrets,
            resume_command=self._given.command or _command(facts.resume_command, **named),
            retry_command=_command(facts.retry_command, **named) or "",
            reconcile_command=_command(facts.reconcile_command, **named),
            settings={
                "Concurrency": str(options.concurrency or "auto"),
                "Pace": str(options.pace),
                "Verification": str(options.verify),
                "Plan": options.plan or "",
            }
            | self._where(),
        )

    def _where(self) -> dict[str, str]:
        """Return where items are finished, for the report."""
        if self._machines is None:
            return {}
        options = self._options
        return {"Workers": f"{options.workers} on this machine" if options.workers else f"of {options.scheduler}"}

    @asynccontextmanager
    async def _session(self, clock: Clock, journal: Journal) -> AsyncIterator[Session]:
        async with open_session(
            self._facts.api,
            self._options,
            base_url=self._facts.base_url,
            state=self._state,
            masker=self._masker,
            clock=clock,
            reuse_connections=self._facts.idempotent,
            tell_sharing=partial(_tell_sharing, journal),
        ) as session:
            yield session

    @asynccontextmanager
    async def _crew(self, files: RunFiles, session: Session) -> AsyncIterator[Crew | None]:
        """Open the workers that finish the items; None where this process does."""
        if self._machines is None:
            yield None
            return
        async with self._machines.opened(session, files, self._state, self._facts) as crew:
            yield crew

    def _stages(self, files: RunFiles) -> Stages:
        return Stages(self._options, self._facts.gate, journal=files.journal, counts=files.reader.counts, ask=self._ask)

    def _engine(self, files: RunFiles, clock: Clock, controls: Controls, stages: Stages) -> Engine:
        facts = self._facts
        return Engine(
            name=self._place.name,
            options=self._options,
            total=self._facts.total,
            done=files.reader.counts(),
            journal=files.journal,
            throttle=controls,
            clock=clock,
            batch_size=self._facts.batch_size,
            requests_each=1 / facts.batch_size + facts.reads_first + (self._options.verify is Verify.READ),
            many_keys=self._facts.api.many_keys,
            next_stage_allowed=stages.passed,
        )

    def _items(self, files: RunFiles, session: Session, engine: Engine) -> Items:
        return Items(
            engine=engine,
            session=session,
            results=ItemResults(masker=self._masker, clock=session.clock, secret_path=self._facts.secret_path),
            ledger=files.ledger,
            journal=files.journal,
            observers=self._observers,
            doubtful=frozenset(one.item for one in files.reader.in_flight()),
            unverified={one.item: one for one in files.reader.unverified()},
            verify=self._options.verify,
            first_run=self._facts.first_run or self._place.name,
            activity=self._activity,
        )

    @asynccontextmanager
    async def _watched(
        self, engine: Engine, stages: Stages, files: RunFiles, clock: Clock, controls: Controls
    ) -> AsyncIterator[None]:
        """Let what stops, controls and shows a run do so until the block is left."""
        use = self._use
        use.note(STARTS, clock().mono)

        def statistics() -> RunStatistics:
            now, mono = engine.statistics(), clock().mono
            found = reason_of(
                now.throttle, self._activity, now=mono, since=use.noted, down=now.down, question=stages.question
            )
            if use.note(found, mono):
                files.journal.event("run.waiting", waiting_for=found.text)
            return replace(now, question=stages.question, reason=found)

        async with anyio.create_task_group() as watchers:
            watchers.start_soon(self._stopper.watch, engine)
            watchers.start_soon(flush, files.journal, engine, self._place / "ledger.db")
            watchers.start_soon(_show, self._observers, statistics)
            watchers.start_soon(_note_progress, files.journal, statistics)
            if self._options.deadline is not None:
                watchers.start_soon(watch_deadline, engine, self._options.deadline)
            if self._options.live_report:
                watchers.start_soon(_show_live_page, self._place, files.journal)
            watchers.start_soon(control.serve, self._place, engine, controls, files.journal, statistics)
            yield
            watchers.cancel_scope.cancel()
        for observer in self._observers:
            observer.progress(statistics())

    async def _finish_items(self, engine: Engine, crew: Crew | None, files: RunFiles, session: Session) -> None:
        items, requests = self._items(files, session, engine), self._work.requests(files.reader.finished())
        if crew is not None:
            crew.engine = engine
        try:
            async with self._work.precondition(session, files) as precondition:
                items.precondition = precondition
                if crew is not None:
                    crew.look_first(precondition)
                if self._options.dry_run:
                    self._notes = await self._rehearse(engine, items, requests)
                else:
                    await engine.drive(requests, items.finish if crew is None else crew.finish)
            if engine.stopped_by is None and not self._options.dry_run:
                self._notes = await self._work.after(session, files)
        except FolderError as error:
            files.journal.event("file.unwritten", level="warning", message=str(error))
        except ReadingError as error:
            engine.stop(StopReason(StopKind.UNREADABLE, str(error)))
        except WaitTooLong as wait:
            engine.stop(StopReason(StopKind.QUOTA_WAIT, str(wait)))

    async def _rehearse(self, engine: Engine, items: Items, requests: Iterator[Request]) -> Sequence[str]:
        """Do everything but the writes; the record of the first item is read, where records can be."""
        read = bool(self._facts.api.readable) and self._facts.method != "POST"
        await engine.rehearse(requests, first=partial(items.rehearse, read=read), finish=items.rehearse)
        return () if read else ("the credentials were not tried: the profile has no read request for these records",)


def _command(template: str | None, *, options: str, **named: str) -> str | None:
    """Return a command with the run's names and the options that it needs."""
    return None if template is None else template.format(**named) + options


async def _show(observers: Sequence[Observer], statistics: Callable[[], RunStatistics]) -> None:
    """Look at how the run stands five times a second, and show it."""
    while True:
        now = statistics()
        for observer in observers:
            observer.progress(now)
        await anyio.sleep(PROGRESS_S)


async def _show_live_page(place: Path, journal: Journal) -> None:
    """Write the page again every few seconds, in a thread; a large one seldom, so that it takes a tenth of the time."""
    while True:
        started = anyio.current_time()
        try:
            await anyio.to_thread.run_sync(write_live_page, place)
        except (FolderError, LedgerError) as error:
            journal.event("file.unwritten", level="warning", message=str(error))
        await anyio.sleep(max(LIVE_PAGE_S, 10 * (anyio.current_time() - started)))


async def _note_progress(journal: Journal, statistics: Callable[[], RunStatistics]) -> None:
    """Write an event each ten seconds that says how the run stands."""
    while True:
        await anyio.sleep(PROGRESS_EVENT_S)
        now = statistics()
        journal.event(
            "run.progress",
            finished=now.finished,
            total=now.total,
            failed=now.counts[Status.FAILED] + now.counts[Status.IN_DOUBT],
            retried=now.retried,
            rate=round(now.rate, 1),
            eta_s=None if now.eta_s is None else round(now.eta_s),
            limited_by=now.limited_by,
            quota_remaining=now.throttle.remaining,
            quota_reset_s=None if now.throttle.reset_s is None else round(now.throttle.reset_s, 1),
            waiting_for=now.waiting_for,
        )


def _tell_sharing(journal: Journal, why: str | None) -> None:
    if why is None:
        journal.event("quota.shared", message="the shared quota can be reached again")
    else:
        journal.event(
            "quota.not_shared",
            level="warning",
            message=f"{why}: this run follows the rate limit by itself until it can",
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
