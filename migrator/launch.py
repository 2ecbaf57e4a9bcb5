"""A run from its lock to its summary: finds or makes its folder, opens what it needs, drives it, sums it up."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from time import time
from typing import Final
from urllib.parse import urlsplit

import anyio
import click
import msgspec
from filelock import FileLock, Timeout

from migrator import folder
from migrator.brakes import Exit, StopKind, StopReason
from migrator.check import Verdict
from migrator.client import Client
from migrator.errors import UserError
from migrator.exchange import Clock, Instant, Request
from migrator.items import read_cells, read_items
from migrator.job import Job, unsafe_url
from migrator.journal import Journal, open_journal, stderr_subscriber, write_results
from migrator.ledger import Ledger, LedgerError, LedgerReader, read_ledger
from migrator.options import IfRunning, Progress, RunOptions
from migrator.outcome import Status
from migrator.pacing import PacerMemory, PacerSettings
from migrator.problem import Problem
from migrator.report import (
    Stopped,
    Summary,
    redactor,
    summarise,
    summary_json,
    summary_text,
    write_result_files,
    write_summary,
)
from migrator.run import BATCH, DRAIN_S, InputChanged, Run
from migrator.secret import Fingerprinter, Masker
from migrator.source import Source
from migrator.template import Template
from migrator.throttle import Throttle

__all__ = ["Ending", "Order", "launch"]

FLUSH_S: Final = 0.5
"""Seconds that a result, durable in the ledger, may wait before it is to be seen in `results.jsonl`."""

STATE_ITEMS: Final = 16
"""Items between two looks at whether somebody writes to their file; a look takes as long as rendering three."""

LOOKAHEAD: Final = 20_000
"""Requests that are read ahead where items draw on many quotas: 20 MB, and four keys of 5,000 items each in a row."""

REMEDIES: Final = {
    StopKind.CREDENTIALS: "mend the credentials",
    StopKind.UNREACHABLE: "see whether the server is up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run."""

    job: Job
    source: Source
    options: RunOptions
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended."""

    exit_code: Exit
    summary: Summary | None

    def text(self) -> str:
        """Return the summary for people."""
        return (
            summary_text(self.summary) if self.summary is not None else "another run of this job is under way: skipped"
        )

    def document(self) -> str:
        """Return the summary as JSON."""
        return "null" if self.summary is None else summary_json(self.summary).decode().rstrip()


def launch(order: Order) -> Ending:
    """Run an order to its end, or to where it was stopped.

    Raises:
        UserError: it cannot be run.
    """
    base_url = order.options.base_url or order.job.api.base_url
    if message := unsafe_url(base_url, credentials=bool(order.job.api.credentials())):
        raise UserError(f"{base_url.partition('?')[0]}: {message}")
    state = folder.private_folder(Path(order.options.state))
    with _lock(state, order) as held:
        if not held:
            return Ending(Exit.OK, None)
        unfinished = None if order.options.fresh or order.options.dry_run else _unfinished(state, order, base_url)
        _confirm(order, base_url, resumed=unfinished is not None)
        place = unfinished or folder.private_folder(state / "runs" / folder.new_run_id(order.job.name, time()))
        folder.private_folder(place)
        try:
            return anyio.run(_Launch(order, base_url=base_url, state=state, place=place).run)
        except LedgerError as error:
            raise UserError(str(error), Exit.STOPPED) from None


@contextmanager
def _lock(state: Path, order: Order) -> Iterator[bool]:
    """Hold the job's lock, which dies with the process; yield False where it is held and that is to be passed over."""
    locks = folder.private_folder(state / "locks")
    lock = FileLock(locks / f"{order.job.name}.lock", mode=0o600)
    holder = locks / f"{order.job.name}.holder"
    try:
        lock.acquire(timeout=-1 if order.options.if_running is IfRunning.WAIT else 0)
    except Timeout:
        if order.options.if_running is IfRunning.SKIP:
            yield False
            return
        who = holder.read_text("utf-8") if holder.exists() else "another process"
        raise UserError(f"another run of {order.job.name} is under way ({who})", Exit.RUNNING) from None
    try:
        with folder.write_atomically(holder) as file:
            file.write(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}".encode())
        yield True
    finally:
        lock.release()


def _unfinished(state: Path, order: Order, base_url: str) -> Path | None:
    """Return the latest run of the job on this server, if it has not come to its end."""
    for place in reversed(folder.runs(state)):
        if not (place / "ledger.db").is_file():
            continue
        try:
            with read_ledger(place / "ledger.db") as ledger:
                meta = ledger.meta()
        except LedgerError as error:
            raise UserError(f"{error}; --fresh starts a new run", Exit.STOPPED) from None
        if (meta.get("job"), meta.get("base_url")) != (order.job.name, base_url) or meta.get("dry_run") == "true":
            continue
        if meta.get("state") == "ended":
            return None
        choice = "Put the old one back to go on with it, or give --fresh to start a new run with all items."
        if meta.get("items_digest") != order.verdict.digest:
            raise UserError(f"{order.source.name} has changed since the unfinished run {place.name} began. {choice}")
        if meta.get("job_digest") != order.job.digest:
            raise UserError(f"{order.job.source} has changed since the unfinished run {place.name} began. {choice}")
        return place
    return None


def _confirm(order: Order, base_url: str, *, resumed: bool) -> None:
    if order.options.yes or order.options.dry_run or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    what = "items, going on with an unfinished run," if resumed else "items"
    host = urlsplit(base_url).netloc
    answer = click.prompt(
        f"{order.verdict.items} {what} on {host}; type yes", default="no", show_default=False, err=True
    )
    if answer.strip().lower() != "yes":
        raise UserError("not confirmed; nothing was sent")


class _Launch:
    """One invocation of one run."""

    def __init__(self, order: Order, *, base_url: str, state: Path, place: Path) -> None:
        self._job, self._source, self._options = order.job, order.source, order.options
        self._verdict = order.verdict
        self._base_url = base_url
        self._state = state
        self._place = place
        self._masker = Masker(Fingerprinter(folder.read_key(state)), order.job.api.credentials())
        self._template = Template.compile(order.job, base_url=base_url)
        self._total = order.verdict.items
        self._memory_path = state / "apis" / f"{urlsplit(base_url).netloc.replace(':', '_')}.json"
        folder.private_folder(self._memory_path.parent)

    async def run(self) -> Ending:
        """Open everything, drive the run, sum it up."""
        loop = asyncio.get_running_loop()

        def clock() -> Instant:
            return Instant(loop.time(), time())

        started = clock()
        async with AsyncExitStack() as stack:
            ledger = await stack.enter_async_context(Ledger.open(self._place / "ledger.db"))
            reader = stack.enter_context(read_ledger(self._place / "ledger.db"))
            await self._prepare(ledger, reader, started)
            journal = stack.enter_context(self._journal(clock))
            throttle = await stack.enter_async_context(self._throttle(clock))
            client = await stack.enter_async_context(
                Client.open(
                    self._job.api,
                    timeout_s=self._options.timeout,
                    clock=clock,
                    reuse_connections=self._job.request.idempotent,
                )
            )
            doubtful = frozenset(one.item for one in reader.in_flight())
            run = Run(
                name=self._place.name,
                options=self._options,
                total=self._total,
                done=reader.counts(),
                ledger=ledger,
                journal=journal,
                throttle=throttle,
                client=client,
                masker=self._masker,
                clock=clock,
                rng=SystemRandom(),
                doubtful=doubtful,
                secret_path=self._template.path_has_secret,
                lookahead=BATCH if self._job.api.limiter_column is None else LOOKAHEAD,
            )
            journal.event("run.started", items=self._total, server=self._base_url, resent=len(doubtful))
            await self._drive(run, journal, self._requests(reader))
            summary = self._sum_up(run, reader, throttle, started=started, now=clock(), resent=len(doubtful))
            journal.event("run.ended", **summary)
            await self._finish(ledger, reader, summary)
            self._remember(throttle)
        if journal.failure is not None or run.abandoned:
            # A full disk, or results that came in while their items were given up, have left gaps; the ledger has none.
            with read_ledger(self._place / "ledger.db") as reader:
                write_results(self._place / "results.jsonl", reader, run=self._place.name)
        return Ending(Exit(summary["exit_code"]), summary)

    async def _prepare(self, ledger: Ledger, reader: LedgerReader, started: Instant) -> None:
        """Note what the run is, or take an unfinished one up again."""
        meta = reader.meta()
        if not meta:
            await ledger.put(
                job=self._job.name,
                base_url=self._base_url,
                job_digest=self._job.digest,
                items_digest=self._verdict.digest,
                items_source=self._source.name,
                started_ms=str(round(started.utc * 1000)),
                dry_run="true" if self._options.dry_run else "false",
            )
        else:
            await ledger.reopen()
            write_results(self._place / "results.jsonl", reader, run=self._place.name)
        await ledger.put(
            state="running", items=str(self._total), invocations=str(int(meta.get("invocations", "0")) + 1)
        )

    @contextmanager
    def _journal(self, clock: Clock) -> Iterator[Journal]:
        subscribers = []
        if self._kind_of_progress() is not Progress.BAR:
            subscribers.append(stderr_subscriber(self._options.log_format, self._level()))
        with open_journal(
            self._place, run=self._place.name, masker=self._masker, clock=clock, subscribers=subscribers
        ) as journal:
            yield journal

    def _level(self) -> str:
        quiet = self._options.progress is Progress.NONE and self._options.log_level == "info"
        return "warning" if quiet else self._options.log_level

    def _kind_of_progress(self) -> Progress:
        if self._options.progress is not Progress.AUTO:
            return self._options.progress
        return Progress.BAR if sys.stderr.isatty() else Progress.PLAIN

    def _throttle(self, clock: Clock) -> Throttle:
        memory = None
        with suppress(OSError, msgspec.MsgspecError):
            memory = msgspec.json.decode(self._memory_path.read_bytes(), type=PacerMemory)
        return Throttle(
            settings=PacerSettings(
                pace=self._options.pace,
                reserve=self._options.reserve,
                rate=self._options.rate,
                write_spacing_s=self._job.api.write_spacing_s,
            ),
            dialect=self._job.api.rate_limit,
            concurrency=self._options.concurrency,
            clock=clock,
            rng=SystemRandom(),
            max_wait_s=self._options.max_wait,
            memory=memory,
        )

    def _remember(self, throttle: Throttle) -> None:
        """Keep what was learned of the API, so that the next run makes no mistake twice."""
        memory = throttle.memory()
        if memory is not None:
            with folder.write_atomically(self._memory_path) as file:
                file.write(msgspec.json.encode(memory))

    def _requests(self, reader: LedgerReader) -> Iterator[Request]:
        """Yield the requests of all items that have no result: a merge of the items with the ledger, both in order."""
        finished = reader.finished()
        done = next(finished, None)
        state = self._source.state()
        for item in read_items(self._source.rewound(), form=self._source.form, job=self._job, name=self._source.name):
            if isinstance(item, Problem) or (item.number % STATE_ITEMS == 0 and self._source.state() != state):
                raise InputChanged(f"{self._source.name} was changed while it was being sent")
            if item.number > self._total:
                return
            while done is not None and done < item.number:
                done = next(finished, None)
            if done != item.number:
                yield self._template.request(item)

    async def _drive(self, run: Run, journal: Journal, requests: Iterator[Request]) -> None:
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(_watch_signals, run)
            helpers.start_soon(_flush, journal)
            helpers.start_soon(self._show_progress, run, journal)
            await (run.rehearse(requests) if self._options.dry_run else run.drive(requests))
            helpers.cancel_scope.cancel()

    async def _show_progress(self, run: Run, journal: Journal) -> None:
        kind = self._kind_of_progress()
        if kind is Progress.NONE:
            return
        # rich takes 60 ms to import, which a cron run need not spend.
        from migrator import progress  # noqa: PLC0415

        if kind is Progress.BAR:
            await progress.show_bar(run.statistics)
        else:
            await progress.show_plain(run.statistics, journal)

    def _sum_up(
        self, run: Run, reader: LedgerReader, throttle: Throttle, *, started: Instant, now: Instant, resent: int
    ) -> Summary:
        counts, reason, stands = reader.counts(), run.stopped_by, throttle.statistics()
        stopped: Stopped | None = None
        if reason is not None:
            stopped = {"reason": reason.kind.value, "message": reason.message}
        summary = summarise(
            reader,
            folder=self._place,
            run=self._place.name,
            job=self._job.name,
            server=self._base_url,
            items=self._total,
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
            exit_code=int(_exit_code(reason, counts, self._total)),
            stopped=stopped,
            resume_command="give the same command again",
            failed_command=f"run it with --items {self._place / 'failed.csv'}",
        )
        if reason is not None and reason.item is not None:
            summary["resumable"] = True
            summary["next_step"] = f"{REMEDIES[reason.kind]}, then give the same command again: it goes on where it was"
        return summary

    async def _finish(self, ledger: Ledger, reader: LedgerReader, summary: Summary) -> None:
        """Write what is written afterwards, then say in the ledger how the run stands."""
        stopped = summary["stopped"]
        if stopped is None or stopped["reason"] != StopKind.INPUT_CHANGED:
            columns, cells = read_cells(self._source.rewound(), form=self._source.form, name=self._source.name)
            write_result_files(
                self._place,
                columns=columns,
                cells=cells,
                rows=reader.rows(),
                mask=redactor(self._masker, self._job.secrets) if self._options.redact_files else None,
            )
        write_summary(self._place, summary)
        if stopped is None or stopped["reason"] != StopKind.LEDGER:
            await ledger.put(
                state="stopped" if summary["resumable"] else "ended",
                finished=summary["finished"],
                exit_code=str(summary["exit_code"]),
            )


def _exit_code(reason: StopReason | None, counts: Counter[Status], total: int) -> Exit:
    if reason is not None:
        return reason.exit_code
    bad = counts[Status.FAILED] + counts[Status.IN_DOUBT]
    return Exit.SOME_FAILED if bad or counts.total() < total else Exit.OK


async def _watch_signals(run: Run) -> None:
    """Stop on the first signal and let what is in flight finish; give up on the second, or after a while."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            kind = StopKind.SIGINT if number == signal.SIGINT else StopKind.SIGTERM
            run.stop(StopReason(kind, f"{signal.Signals(number).name} received"))
            break
        with anyio.move_on_after(DRAIN_S):
            async for _ in signals:
                break
        run.abandon()


async def _flush(journal: Journal) -> None:
    while True:
        await anyio.sleep(FLUSH_S)
        journal.flush()
