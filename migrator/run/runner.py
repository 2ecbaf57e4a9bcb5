"""One invocation of a run, from its opened ledger to its summary."""

import getpass
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Final

import anyio

from migrator import __version__
from migrator.api.session import Session, open_session, system_clock
from migrator.errors import FolderError, MetricsError, ReadingError, WaitTooLong
from migrator.messages import Clock, Instant, Sender
from migrator.options import Progress, RunOptions
from migrator.report.csv_files import redactor, write_result_files
from migrator.report.journal import Journal, open_journal, stderr_subscriber, write_results
from migrator.report.metrics import write_metrics
from migrator.report.notify import NOTICE_S, Moment, Target, notify, read_targets
from migrator.report.page.render import write_page
from migrator.report.summary import Stopped, Summary, summarise, write_summary
from migrator.report.telemetry import check_telemetry, open_telemetry
from migrator.results import Exit, Status, StopKind, StopReason
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

REMEDIES: Final = {
    StopKind.CREDENTIALS: "mend the credentials",
    StopKind.UNREACHABLE: "see whether the server is up",
}


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
            summary = self._sum_up(run, reader, session, started=started, now=clock(), resent=resent)
            await self._finish(ledger, reader, summary)
            journal.event("run.ended", **summary)
            self._page(reader, summary, journal)
            if telemetry is not None:
                telemetry.ended(summary)
            await self._tell(Moment.SUCCESS if summary["exit_code"] == 0 else Moment.FAILURE, dict(summary), journal)
        if journal.failure is not None or run.abandoned:
            # A full disk, or results that came in while their items were given up, have left gaps; the ledger has none.
            with suppress(FolderError), read_ledger(self._place / "ledger.db") as reader:
                write_results(self._place / "results.jsonl", reader, run=self._name)
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
        await ledger.put(state="running", items=str(self._work.total), invocations=str(invocations))

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

    def _sum_up(
        self, run: Run, reader: LedgerReader, session: Session, *, started: Instant, now: Instant, resent: int
    ) -> Summary:
        counts, reason, stands = reader.counts(), run.stopped_by, session.throttle.statistics()
        stopped: Stopped | None = None
        if reason is not None:
            stopped = {"reason": reason.kind.value, "message": reason.message}
        summary = summarise(
            reader,
            folder=self._place,
            run=self._name,
            job=self._work.job,
            server=self._work.base_url,
            items=self._work.total,
            started_ms=round(started.utc * 1000),
            finished_ms=round(now.utc * 1000),
            invocations=int(reader.meta()["invocations"]),
            done_before=counts.total() - run.settled,
            resent=resent,
            quota={
                "limit": stands.limit,
                "remaining": stands.remaining,
                "requests": stands.requests,
                "refused": stands.refused,
                "waited_s": {why: round(seconds, 3) for why, seconds in stands.waited_s.items()},
            },
            exit_code=int(_exit_code(reason, counts, self._work.total, rehearsed=self._options.dry_run)),
            stopped=stopped,
            resume_command=self._work.resume,
            failed_command=self._work.again.format(run=self._name, folder=self._place),
        )
        if self._note is not None:
            summary["next_step"] = f"{self._note}; {summary['next_step']}"
        if reason is not None and reason.item is not None:
            summary["resumable"] = True
            summary["next_step"] = f"{REMEDIES[reason.kind]}, then {self._work.resume}: it goes on where it was"
        return summary

    async def _finish(self, ledger: Ledger, reader: LedgerReader, summary: Summary) -> None:
        """Write what is written afterwards, then say in the ledger how the run stands.

        A disk that takes no more of it changes the ending, but not what the ledger knows.
        """
        stopped = summary["stopped"]
        try:
            if stopped is None or stopped["reason"] != StopKind.INPUT_CHANGED:
                columns, cells = self._work.cells()
                write_result_files(
                    self._place,
                    columns=columns,
                    cells=cells,
                    rows=reader.rows(),
                    mask=redactor(self._masker, self._work.secrets) if self._options.redact_files else None,
                )
            write_summary(self._place, summary)
        except FolderError as error:
            self._files_failed(summary, str(error))
        if stopped is None or stopped["reason"] != StopKind.LEDGER:
            await ledger.put(
                state="stopped" if summary["resumable"] else "ended",
                finished=summary["finished"],
                exit_code=str(summary["exit_code"]),
            )

    def _files_failed(self, summary: Summary, message: str) -> None:
        summary["exit_code"] = int(Exit.STOPPED)
        summary["stopped"] = summary["stopped"] or {"reason": StopKind.FILES.value, "message": message}
        summary["resumable"] = True

    def _page(self, reader: LedgerReader, summary: Summary, journal: Journal) -> None:
        """Write what is for others than the one at the terminal; what cannot be written is told, and no more."""
        facts = {"Concurrency": str(self._options.concurrency or "auto"), "Pace": str(self._options.pace)}
        try:
            write_page(self._place, reader, summary, facts=facts)
            if self._options.metrics_file is not None and not self._options.dry_run:
                write_metrics(Path(self._options.metrics_file), summary)
        except (FolderError, MetricsError) as error:
            journal.event("file.unwritten", level="warning", message=str(error))

    async def _tell(self, moment: Moment, summary: dict[str, object], journal: Journal) -> None:
        for problem in await notify(self._targets, moment, summary, timeout_s=NOTICE_S) if self._targets else ():
            journal.event("notice.failed", level="warning", message=problem)


def _exit_code(reason: StopReason | None, counts: Counter[Status], total: int, *, rehearsed: bool) -> Exit:
    if reason is not None:
        return reason.exit_code
    bad = counts[Status.FAILED] + counts[Status.IN_DOUBT] + (0 if rehearsed else counts[Status.SKIPPED])
    return Exit.SOME_FAILED if bad or counts.total() < total else Exit.OK


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
