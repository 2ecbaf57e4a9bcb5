"""One invocation of a run, from its opened ledger to its summary."""

import getpass
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

import anyio

from migrator import __version__
from migrator.api.session import Session, open_session, system_clock
from migrator.errors import FolderError, MetricsError, ReadingError, WaitTooLong
from migrator.messages import Clock, Instant, Sender
from migrator.options import Progress, RunOptions
from migrator.report.journal import Journal, open_journal, stderr_subscriber, write_results
from migrator.report.metrics import write_metrics
from migrator.report.notify import NOTICE_S, Moment, Target, notify, read_targets
from migrator.report.summary import LastInvocation, Summary, last_invocation_meta, summarise
from migrator.report.telemetry import check_telemetry, open_telemetry
from migrator.report.views import RunFacts, write_all
from migrator.results import StopKind, StopReason
from migrator.run import control
from migrator.run.engine import Run
from migrator.run.stages import Ask, Stages
from migrator.run.stopper import Stopper, flush, watch_deadline
from migrator.run.work_list import Work
from migrator.secret import Fingerprinter, Masker
from migrator.store.ledger_reader import LedgerReader, read_ledger
from migrator.store.ledger_writer import Ledger
from migrator.store.state_folder import read_key

__all__ = ["Invocation"]


class Invocation:
    """Drives a run once.

    Args:
        work: what is to be done.
        options: what the user has set.
        state: the state folder.
        place: the run's folder.
        ask: asks a person after a stage; None where there is none.
        stopper: stops the run from outside.

    Raises:
        MigratorError: the job file's notices cannot be used.
    """

    def __init__(
        self, work: Work, options: RunOptions, *, state: Path, place: Path, ask: Ask | None, stopper: Stopper
    ) -> None:
        self._work, self._options = work, options
        self._ask, self._stopper = ask, stopper
        self._state, self._place = state, place
        self._name = place.name
        self._masker = Masker(Fingerprinter(read_key(state)), work.api.credentials())
        self._targets: tuple[Target, ...] = ()
        self._note: str | None = None
        self._traced = not options.dry_run and check_telemetry(os.environ)
        if work.notices and not options.dry_run:
            self._targets = read_targets(work.notices, allow_commands=options.allow_commands)

    async def run(self) -> Summary:
        """Open everything, drive the run, sum it up.

        Raises:
            MigratorError: it cannot be begun.
            LedgerError: the ledger cannot be used.
            FolderError: the run's folder cannot be used.
        """
        clock = system_clock()
        started = clock()
        async with AsyncExitStack() as stack:
            ledger = await stack.enter_async_context(Ledger.open(self._place / "ledger.db"))
            reader = stack.enter_context(read_ledger(self._place / "ledger.db"))
            await self._prepare(ledger, reader, started)
            journal = stack.enter_context(self._journal(clock))
            session = await stack.enter_async_context(
                open_session(
                    self._work.api,
                    self._options,
                    base_url=self._work.base_url,
                    state=self._state,
                    masker=self._masker,
                    clock=clock,
                    reuse_connections=self._work.idempotent,
                )
            )
            telemetry = None
            if self._traced:
                telemetry = stack.enter_context(
                    open_telemetry(run=self._name, job=self._work.job, server=self._work.base_url)
                )
            client = session.client if telemetry is None else telemetry.traced(session.client)
            self._stages = Stages(
                self._options,
                self._work.gate,
                journal=journal,
                counts=reader.counts,
                ask=self._ask,
            )
            run = self._run(ledger, reader, journal, session, client)
            resent = len(reader.in_flight())
            journal.event("run.started", items=self._work.total, server=self._work.base_url, resent=resent)
            stack.enter_context(self._stopper.heeded())
            await self._tell(Moment.START, {"run": self._name, "job": self._work.job}, journal)
            await self._drive(run, session, ledger, reader, journal)
            last = self._last(run, reader, session, started=started, now=clock(), resent=resent)
            summary = await self._finish(ledger, reader, journal, last)
            journal.event("run.ended", **summary)
            self._write_metrics(summary, journal)
            if telemetry is not None:
                telemetry.ended(summary)
            await self._tell(Moment.SUCCESS if summary["exit_code"] == 0 else Moment.FAILURE, dict(summary), journal)
        return summary

    async def _prepare(self, ledger: Ledger, reader: LedgerReader, started: Instant) -> None:
        """Note what the run is, or take an unfinished one up again."""
        meta = reader.meta()
        if not meta:
            await ledger.put(
                **self._work.facts,
                job=self._work.job,
                kind=self._work.kind,
                base_url=self._work.base_url,
                job_digest=self._work.job_digest,
                items_digest=self._work.items_digest,
                items_source=self._work.name,
                started_ms=str(round(started.utc * 1000)),
                dry_run="true" if self._options.dry_run else "false",
                user=_user(),
                host=socket.gethostname(),
                version=__version__,
            )
        else:
            await ledger.reopen()
            write_results(self._place / "results.jsonl", reader, run=self._name)
        invocations = int(meta.get("invocations", "0")) + 1
        await ledger.put(
            **self._facts().meta(meta), state="running", items=str(self._work.total), invocations=str(invocations)
        )

    def _facts(self) -> RunFacts:
        work, options = self._work, self._options
        named = {"run": self._name, "folder": self._place}
        return RunFacts(
            redact_files=options.redact_files,
            secrets=work.secrets,
            resume_command=work.resume,
            retry_command=work.again.format(**named),
            reconcile_command=None if work.reconcile is None else work.reconcile.format(**named),
            settings={"Concurrency": str(options.concurrency or "auto"), "Pace": str(options.pace)},
        )

    @contextmanager
    def _journal(self, clock: Clock) -> Iterator[Journal]:
        subscribers = []
        if self._kind_of_progress() is not Progress.BAR:
            subscribers.append(stderr_subscriber(self._options.log_format, self._level()))
        with open_journal(
            self._place, run=self._name, masker=self._masker, clock=clock, subscribers=subscribers
        ) as journal:
            yield journal

    def _level(self) -> str:
        silent = self._options.quiet or self._options.progress is Progress.NONE
        return "warning" if silent and self._options.log_level == "info" else self._options.log_level

    def _kind_of_progress(self) -> Progress:
        if self._options.quiet:
            return Progress.NONE
        if self._options.progress is not Progress.AUTO:
            return self._options.progress
        return Progress.BAR if sys.stderr.isatty() else Progress.PLAIN

    def _run(
        self,
        ledger: Ledger,
        reader: LedgerReader,
        journal: Journal,
        session: Session,
        client: Sender,
    ) -> Run:
        return Run(
            name=self._name,
            options=self._options,
            total=self._work.total,
            done=reader.counts(),
            ledger=ledger,
            journal=journal,
            throttle=session.throttle,
            client=client,
            masker=self._masker,
            clock=session.clock,
            rng=SystemRandom(),
            doubtful=frozenset(one.item for one in reader.in_flight()),
            secret_path=self._work.secret_path,
            lookahead=self._work.lookahead,
            reader=session.reader if self._work.read_back else None,
            passed=self._stages.passed,
        )

    async def _drive(self, run: Run, session: Session, ledger: Ledger, reader: LedgerReader, journal: Journal) -> None:
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(self._stopper.watch, run)
            helpers.start_soon(flush, journal, run, self._place / "ledger.db")
            helpers.start_soon(self._show_progress, run, journal)
            if self._options.deadline is not None:
                helpers.start_soon(watch_deadline, run, self._options.deadline)
            helpers.start_soon(control.serve, self._place, run, session.throttle, journal)
            if self._options.dry_run:
                await run.rehearse(self._work.requests(reader.finished()))
            else:
                await self._look_and_drive(run, session, ledger, reader, journal)
            helpers.cancel_scope.cancel()

    async def _look_and_drive(
        self, run: Run, session: Session, ledger: Ledger, reader: LedgerReader, journal: Journal
    ) -> None:
        try:
            async with self._work.look(session, ledger, reader, journal) as look:
                await run.drive(self._work.requests(reader.finished()), look)
            if run.stopped_by is None and self._work.after is not None:
                self._note = await self._work.after(self._place, session, reader)
        except FolderError as error:
            journal.event("file.unwritten", level="warning", message=str(error))
        except ReadingError as error:
            run.stop(StopReason(StopKind.UNREADABLE, str(error)))
        except WaitTooLong as wait:
            run.stop(StopReason(StopKind.QUOTA_WAIT, str(wait)))

    async def _show_progress(self, run: Run, journal: Journal) -> None:
        kind = self._kind_of_progress()
        if kind is Progress.NONE:
            return
        # rich takes 60 ms to import, which a cron run need not spend.
        from migrator.cli import progress  # noqa: PLC0415

        if kind is Progress.BAR:
            await progress.show_bar(lambda: replace(run.statistics(), question=self._stages.question))
        else:
            await progress.show_plain(run.statistics, journal)

    def _last(
        self, run: Run, reader: LedgerReader, session: Session, *, started: Instant, now: Instant, resent: int
    ) -> LastInvocation:
        stands = session.throttle.statistics()
        return LastInvocation(
            number=int(reader.meta()["invocations"]),
            started_ms=round(started.utc * 1000),
            finished_ms=round(now.utc * 1000),
            done_before=reader.counts().total() - run.settled,
            resent=resent,
            quota={
                "limit": stands.limit,
                "remaining": stands.remaining,
                "requests": stands.requests,
                "refused": stands.refused,
                "waited_s": {why: round(seconds, 3) for why, seconds in stands.waited_s.items()},
            },
            stopped=run.stopped_by,
            note=self._note,
        )

    async def _finish(self, ledger: Ledger, reader: LedgerReader, journal: Journal, last: LastInvocation) -> Summary:
        """Record how the invocation ended, write the views, then record how the run stands.

        A disk that takes no more files changes how the run ends, but not what the ledger knows.
        """
        writable = last.stopped is None or last.stopped.kind is not StopKind.LEDGER
        if writable:
            await ledger.put(**last_invocation_meta(last))
        changed = last.stopped is not None and last.stopped.kind is StopKind.INPUT_CHANGED
        journal.flush()
        try:
            written = write_all(
                self._place,
                reader,
                masker=self._masker,
                cells=None if changed else self._work.cells,
                meta={**reader.meta(), **last_invocation_meta(last)},
            )
        except FolderError as error:
            last = replace(last, stopped=last.stopped or StopReason(StopKind.FILES, str(error)))
            if writable:
                await ledger.put(**last_invocation_meta(last))
            summary = summarise(reader, self._place, meta={**reader.meta(), **last_invocation_meta(last)})
            summary["resumable"] = True
        else:
            summary = written.summary
            if written.problem is not None:
                journal.event("file.unwritten", level="warning", message=written.problem)
        if writable:
            await ledger.put(
                state="stopped" if summary["resumable"] else "ended",
                finished=summary["finished"],
                exit_code=str(summary["exit_code"]),
            )
        return summary

    def _write_metrics(self, summary: Summary, journal: Journal) -> None:
        if self._options.metrics_file is None or self._options.dry_run:
            return
        try:
            write_metrics(Path(self._options.metrics_file), summary)
        except MetricsError as error:
            journal.event("file.unwritten", level="warning", message=str(error))

    async def _tell(self, moment: Moment, summary: dict[str, object], journal: Journal) -> None:
        for problem in await notify(self._targets, moment, summary, timeout_s=NOTICE_S) if self._targets else ():
            journal.event("notice.failed", level="warning", message=problem)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
