"""The driver's side of the connection with one worker: items go out, operations on the ledger come in.

What a worker asks to be recorded is written in its order and acknowledged after the commit. A worker whose connection
breaks, or that is silent for longer than a request may take, is given up with all that it holds.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import anyio
import msgspec
from msgspec.structs import replace

from migrator.api.credentials import LiveCredentials, NoToken
from migrator.cluster import wire
from migrator.cluster.parcel import packed
from migrator.cluster.remote import Outbox
from migrator.errors import LedgerError, ReadingError, WaitTooLong
from migrator.messages import Request
from migrator.ratelimit.shared.model import Report, ReportKind, SharedQuota
from migrator.ratelimit.throttle import ThrottleStatistics
from migrator.results import ItemResult, StopReason
from migrator.run.pool.roles import Events
from migrator.run.preconditions import Known
from migrator.secret import Secret
from migrator.store.item_record import decoded
from migrator.store.ledger_writer import Ledger

__all__ = ["Assigned", "Ended", "Link", "Lost"]

FIRST: Final = 16
"""Items that a worker gets before it has told how it stands."""

BEAT_S: Final = 1.0
"""Seconds between two signs of life of the driver."""


class Lost(Exception):
    """A worker is gone, and may have sent what it had."""


Operation: TypeAlias = wire.Begin | wire.Withdraw | wire.Settled | wire.Written | wire.Image

Ended: TypeAlias = wire.Done | wire.Unsent
"""How an item's way on a worker ended."""


class Assigned(msgspec.Struct):
    """An item that is on a worker, or on its way to one.

    Attributes:
        request: what is sent.
        doubtful: whether it was in flight when an earlier process ended.
        written: its result where it was written and is only to be read back, with its line.
        known: what the run knows of it, where it is looked at before it is written.
        started: whether the worker may have sent it.
        result: what was recorded last of it, with its line.
        ended: how it ended; raises `Lost` or what stops the run.
    """

    request: Request
    doubtful: bool = False
    written: tuple[ItemResult, bytes] | None = None
    known: Known | None = None
    started: bool = False
    result: tuple[ItemResult, bytes] | None = None
    ended: "asyncio.Future[Ended]" = msgspec.field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Listener(Protocol):
    """What hears of a worker beside its items."""

    def stands(self, name: str, throttle: ThrottleStatistics) -> None:
        """Take how a worker stands."""

    def used_up(self, limiter_key: str, wait_s: float) -> None:
        """Note that a worker was told to wait for the quota of a key."""

    def retried(self, *, throttled: bool) -> None:
        """Count an attempt that is made again."""

    def stop(self, reason: StopReason) -> None:
        """Stop the run."""


class Link:
    """A worker that takes part in the run.

    Args:
        name: its address.
        stream: the connection.
        lanes: items that it can finish at once.
        ledger: takes what is recorded.
        events: takes events.
        quota: is shared out.
        tokens: gets the token for all workers; None where credentials are fixed.
        listener: hears of the worker.
        pending: returns how many items of the run are not finished.

    Attributes:
        name: its address.
        lanes: items that it can ever have of use.
        room: items that it can have now.
        held: the items that it has.
    """

    def __init__(
        self,
        name: str,
        stream: wire.Stream,
        *,
        lanes: int,
        ledger: Ledger,
        events: Events,
        quota: SharedQuota,
        tokens: LiveCredentials | None,
        listener: Listener,
        pending: Callable[[], int],
    ) -> None:
        self.name, self.lanes = name, lanes
        self.room = min(FIRST, lanes)
        self.held: dict[int, Assigned] = {}
        self._stream, self._ledger, self._events, self._quota = stream, ledger, events, quota
        self._tokens, self._listener, self._pending = tokens, listener, pending
        self._out = Outbox()
        self._operations = 0
        self._taken: Counter[tuple[str, int]] = Counter()
        self._recorded = anyio.Event()

    def send(self, message: wire.Message) -> None:
        """Send a message with the next frame."""
        self._out.put(message)

    def assign(self, assigned: Assigned, *, canary: bool) -> None:
        """Give the worker an item."""
        self.held[assigned.request.item] = assigned
        line = None if assigned.written is None else assigned.written[1]
        work = wire.Work(packed(assigned.request), canary, assigned.doubtful, line)
        if (known := assigned.known) is not None:
            # What the plan would change is for people.
            planned = None if known.planned is None else msgspec.structs.replace(known.planned, changes=())
            work = msgspec.structs.replace(work, planned=planned, state=known.state)
        self.send(work)

    async def serve(self, *, silence_s: float) -> tuple[int, str]:
        """Serve the worker until it is gone; then all that it holds is lost. Return how many items, and why.

        Args:
            silence_s: seconds without a word after which it is given up.
        """
        lost, why = 0, "the connection broke"
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write)
                tasks.start_soon(self._acknowledge)
                tasks.start_soon(self._beat)
                why = await self._listen(tasks, silence_s)
                tasks.cancel_scope.cancel()
        finally:
            self._stream.abort()
            lost = len(self.held)
            for (key, window), count in self._taken.items():
                for _ in range(count):
                    # Else the others would wait for the answer of a worker that is gone.
                    self._quota.report(Report(key, window, ReportKind.LOST))
            for item in list(self.held):
                self._end(item, Lost())
        return lost, why

    async def _listen(self, tasks: "anyio.abc.TaskGroup", silence_s: float) -> str:
        while True:
            try:
                with anyio.fail_after(silence_s):
                    messages = wire.decode_from_worker(await self._stream.read())
            except TimeoutError:
                return f"no word for {silence_s:.0f} s"
            except OSError:
                return "the connection broke"
            except msgspec.MsgspecError:
                return "it sent what is no message"
            before = self._operations
            try:
                for message in messages:
                    self._take(message)
                self._renew([one for one in messages if isinstance(one, wire.AskToken)], tasks)
                self._share([one for one in messages if isinstance(one, wire.Ask | wire.Report)], tasks)
            except LedgerError as error:
                self._fail(error)
            if self._operations != before:
                self._recorded.set()

    def _take(self, message: wire.FromWorker) -> None:
        match message:
            case wire.Begin() | wire.Withdraw() | wire.Settled() | wire.Written() | wire.Image():
                self._operations += 1
                self._record(message)
            case wire.Done(item) | wire.Unsent(item):
                self._end(item, message)
            case wire.TooLong(item, wait_s, reason):
                self._end(item, WaitTooLong(wait_s, reason))
            case wire.Unread(item, error):
                self._end(item, ReadingError(error))
            case _:
                self._hear(message)

    def _hear(self, message: wire.FromWorker) -> None:
        """Take what a worker tells of itself and of the run."""
        match message:
            case wire.Standing(throttle):
                self._listener.stands(self.name, throttle)
            case wire.Retried(throttled):
                self._listener.retried(throttled=throttled)
            case wire.Event(name, level, fields):
                self._events.event(name, level=level, **fields)
            case wire.Accepted(token):
                if self._tokens is not None:
                    self._tokens.accepted(Secret(token.decode("utf-8", "surrogatepass")))
            case wire.StopRun(reason):
                self._listener.stop(reason)
            case _:
                pass

    def _record(self, operation: Operation) -> None:
        """Record an operation; those on items that the worker does not hold are not its own."""
        if isinstance(operation, wire.Image):
            if operation.item in self.held:
                self._ledger.note_image(operation.item, operation.url, operation.image)
            return
        if isinstance(operation, wire.Begin | wire.Withdraw):
            if (assigned := self.held.get(operation.item)) is None:
                return
            assigned.started = isinstance(operation, wire.Begin)
            if isinstance(operation, wire.Begin):
                self._ledger.begin(operation.item, assigned.request.key, operation.attempt, operation.at_ms)
            else:
                self._ledger.withdraw(operation.item)
            return
        provisional = isinstance(operation, wire.Settled) and operation.provisional
        row = decoded(operation.line, provisional=provisional)
        if (assigned := self.held.get(row.item)) is None:
            return
        if row.key != assigned.request.key:
            row = replace(row, key=assigned.request.key)
        if isinstance(operation, wire.Settled):
            assigned.result = row, operation.line
            self._ledger.note_result(row, operation.line)
        else:
            assigned.written = row, operation.line
            self._ledger.note_written(row, operation.line)

    def _end(self, item: int, ended: Ended | Exception) -> None:
        """Take an item from the worker, and tell how it ended."""
        assigned = self.held.pop(item, None)
        if assigned is None or assigned.ended.done():
            return
        if isinstance(ended, Exception):
            assigned.ended.set_exception(ended)
        else:
            assigned.ended.set_result(ended)

    def _fail(self, error: LedgerError) -> None:
        self.send(wire.Failed(str(error)))
        for item in list(self.held):
            self._end(item, LedgerError(str(error)))

    def _share(self, messages: "list[wire.Ask | wire.Report]", tasks: "anyio.abc.TaskGroup") -> None:
        """Take reports, and answer questions, in their order."""
        if not messages:
            return
        quota = self._quota
        with quota.together():
            for message in messages:
                key = message.limiter_key.decode("utf-8", "surrogatepass")
                if isinstance(message, wire.Ask):
                    self._answer(quota, key, message, tasks)
                else:
                    kind = ReportKind(message.kind)
                    self._taken[key, message.window] -= 1
                    quota.report(Report(key, message.window, kind, message.remaining, message.wait_s))

    def _answer(self, quota: SharedQuota, key: str, question: wire.Ask, tasks: "anyio.abc.TaskGroup") -> None:
        """Give as many shares as there are at once of those that are wanted."""
        windows: list[int] = []
        while len(windows) < question.count and (window := quota.take_at_once(key)) is not None:
            windows.append(window)
            self._taken[key, window] += bool(window)
        if windows:
            self.send(wire.Shares(question.number, 0.0, tuple(windows)))
        else:
            tasks.start_soon(self._answer_later, quota, key, question.number)

    async def _answer_later(self, quota: SharedQuota, key: str, number: int) -> None:
        share = await quota.take(key)
        if share.wait_s > 0.0:
            self._listener.used_up(key, share.wait_s)
        self._taken[key, share.window] += bool(share.window)
        self.send(wire.Shares(number, share.wait_s, () if share.wait_s > 0.0 else (share.window,)))

    def _renew(self, questions: "list[wire.AskToken]", tasks: "anyio.abc.TaskGroup") -> None:
        for question in questions:
            if self._tokens is not None:
                tasks.start_soon(self._answer_token, self._tokens, question)

    async def _answer_token(self, tokens: LiveCredentials, question: wire.AskToken) -> None:
        """Give the token: a new one where the present one is about to end or was refused."""
        try:
            if question.refused is not None:
                refused = Secret(question.refused.decode("utf-8", "surrogatepass"))
                if not await tokens.refused(refused):
                    self.send(wire.Token(question.number, None, None, None, refused=False))
                    return
            token = (await tokens.current()).reveal().encode("utf-8", "surrogatepass")
            self.send(wire.Token(question.number, token, tokens.fresh_s(), None, refused=False))
        except NoToken as error:
            self.send(wire.Token(question.number, None, None, str(error), refused=error.refused))

    async def _write(self) -> None:
        try:
            await self._out.drain(self._stream)
        except OSError:
            # The reader sees it too.
            self._stream.abort()

    async def _acknowledge(self) -> None:
        """Tell the worker how far its operations are durable."""
        while True:
            await self._recorded.wait()
            self._recorded = anyio.Event()
            count = self._operations
            try:
                await self._ledger.durable()
            except LedgerError as error:
                self._fail(error)
                return
            self.send(wire.Durable(count))

    async def _beat(self) -> None:
        while True:
            self.send(wire.Beat(self._pending()))
            await anyio.sleep(BEAT_S)
