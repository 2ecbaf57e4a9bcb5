"""What stands on a worker for the parts of a run that stay with its driver: ledger, journal, quota and engine.

Each puts messages into the outbox, and is told the answers. Operations on the ledger are counted on both sides in the
order in which they are put, so that one number acknowledges all of them up to there.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import anyio

from migrator.api.credentials import NoToken
from migrator.api.outcome import Decision
from migrator.cluster import wire
from migrator.errors import LedgerError
from migrator.messages import Clock, Request
from migrator.ratelimit.shared.model import Report, ReportKind, Share
from migrator.results import ItemResult, Outcome, StopReason
from migrator.run.stop_rules import Outages
from migrator.secret import Masker, Secret
from migrator.store.item_record import encoded, record

__all__ = ["Outbox", "RemoteEngine", "RemoteEvents", "RemoteLedger", "RemoteQuota", "RemoteTokens"]

LINGER_S: Final = 0.001
"""Seconds that a message waits for others: a frame costs as much as fifty messages in it."""

MOST_SHARES: Final = 32
"""Shares of the quota that are asked for at once."""

FRESH_S: Final = 0.05
"""Seconds after which a share that was not used goes back."""


class Outbox:
    """Messages that wait for the next frame."""

    def __init__(self) -> None:
        self._messages: list[wire.Message] = []
        self._called = anyio.Event()

    def put(self, message: wire.Message) -> None:
        """Send a message with the next frame, in its order."""
        self._messages.append(message)
        self._called.set()

    async def drain(self, stream: wire.Stream) -> None:
        """Write frames until cancelled.

        Raises:
            OSError: the connection is broken.
        """
        while True:
            await self._called.wait()
            await anyio.sleep(LINGER_S)
            self._called = anyio.Event()
            messages, self._messages = self._messages, []
            await stream.write(wire.encode(messages))


class RemoteLedger:
    """The ledger of the driver, as items use it (`run.item.Records`).

    Args:
        run: the run's id.
        out: takes what is recorded.
    """

    def __init__(self, run: str, out: Outbox) -> None:
        self._run = run
        self._out = out
        self._put = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._failure: str | None = None

    def begin(self, item: int, key: str, attempt: int, at_ms: int) -> None:
        """Note that an item is about to be sent; the driver knows its key."""
        del key
        self._record(wire.Begin(item, attempt, at_ms))

    async def begin_durably(self, item: int, key: str, attempt: int, at_ms: int) -> None:
        """Note that an item is about to be sent, and return once that is durable."""
        self.begin(item, key, attempt, at_ms)
        await self._durable()

    def withdraw(self, item: int) -> None:
        """Note that an attempt is known to have had no effect."""
        self._record(wire.Withdraw(item))

    async def keep(self, item: int, url: str, image: bytes) -> None:
        """Keep what a record held before it is written, and return once that is durable."""
        self._record(wire.Image(item, url, image))
        await self._durable()

    async def written(self, row: ItemResult) -> None:
        """Record that an item was written and is to be read back, and return once that is durable."""
        self._record(wire.Written(encoded(record(row, run=self._run))))
        await self._durable()

    async def settle(self, row: ItemResult) -> bytes:
        """Record a result, and return its line once it is durable."""
        line = encoded(record(row, run=self._run))
        self._record(wire.Settled(line, row.provisional))
        await self._durable()
        return line

    def acknowledge(self, count: int) -> None:
        """Take that so many operations are durable."""
        while self._waiting and self._waiting[0][0] <= count:
            _, done = self._waiting.popleft()
            if not done.done():
                done.set_result(None)

    def fail(self, message: str) -> None:
        """Take that the ledger cannot be written."""
        self._failure = message
        for _, done in self._waiting:
            if not done.done():
                done.set_exception(LedgerError(message))
        self._waiting.clear()

    def _record(self, operation: wire.Message) -> None:
        if self._failure is not None:
            raise LedgerError(self._failure)
        self._put += 1
        self._out.put(operation)

    async def _durable(self) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._put, done))
        await done


class RemoteEvents:
    """The journal of the driver, for events, which are masked here, where the worker's credentials are known.

    Args:
        out: takes them.
        masker: keeps secrets out of them.
    """

    def __init__(self, out: Outbox, masker: Masker) -> None:
        self._out = out
        self._masker = masker

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Send an event."""
        self._out.put(wire.Event(event, level, {name: self._masked(value) for name, value in fields.items()}))

    def _masked(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return [self._masked(one) for one in value]
        if isinstance(value, Secret):
            return self._masker.shown(value)
        return self._masker.text(str(value).encode("utf-8", "backslashreplace").decode())


class _Stock:
    """Shares of a limiter key that came with the one that was asked for.

    Attributes:
        windows: of each share, with the number of the answer that brought it.
        count: shares to ask for.
    """

    __slots__ = ("count", "windows")

    def __init__(self) -> None:
        self.windows: deque[tuple[int, int]] = deque()
        self.count = 1


class RemoteQuota:
    """The quota that the driver shares out (`ratelimit.shared.model.SharedQuota`).

    A question takes a round trip, so that a busy worker asks for several shares at once: twice as many each time that
    it has used all, fewer when some were left. What is not used within moments goes back, so that a share is
    never older than a request on its way may be.

    Args:
        out: takes questions and reports.
    """

    def __init__(self, out: Outbox) -> None:
        self._out = out
        self._asked: dict[int, tuple[str, asyncio.Future[Share]]] = {}
        self._stocks: dict[str, _Stock] = {}
        self._number = 0

    async def take(self, limiter_key: str) -> Share:
        """Take one request, or learn when to ask again."""
        if (window := self.take_at_once(limiter_key)) is not None:
            return Share(0.0, window)
        self._number += 1
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Share] = loop.create_future()
        self._asked[self._number] = limiter_key, answer
        stock = self._stocks.setdefault(limiter_key, _Stock())
        self._out.put(wire.Ask(self._number, _bytes(limiter_key), stock.count))
        stock.count = min(MOST_SHARES, 2 * stock.count)
        return await answer

    def take_at_once(self, limiter_key: str) -> int | None:
        """Take one request of the stock; None where it takes a round trip."""
        stock = self._stocks.get(limiter_key)
        return stock.windows.popleft()[0] if stock is not None and stock.windows else None

    def report(self, report: Report) -> None:
        """Say how a request ended."""
        kind = int(report.kind)
        self._out.put(wire.Report(_bytes(report.limiter_key), report.window, kind, report.remaining, report.wait_s))

    def together(self) -> AbstractContextManager[None]:
        """Do nothing: a frame takes all that has gathered anyway."""
        return nullcontext()

    def answer(self, shares: wire.Shares) -> None:
        """Take the answer to a question; what is not wanted any more goes into the stock, and back from there."""
        asked = self._asked.pop(shares.number, None)
        if asked is None:
            return
        limiter_key, answer = asked
        windows = deque(shares.windows)
        if not answer.done():
            answer.set_result(Share(0.0, windows.popleft()) if windows else Share(shares.wait_s, 0))
        if windows:
            self._stocks[limiter_key].windows.extend((window, shares.number) for window in windows)
            asyncio.get_running_loop().call_later(FRESH_S, self._give_back, limiter_key, shares.number)

    def _give_back(self, limiter_key: str, number: int) -> None:
        """Give back what is left of an answer, and of those before it."""
        stock = self._stocks[limiter_key]
        if stock.windows and stock.windows[0][1] <= number:
            stock.count = max(1, stock.count // 4)
        while stock.windows and stock.windows[0][1] <= number:
            window, _ = stock.windows.popleft()
            if window:
                self.report(Report(limiter_key, window, ReportKind.RETURNED))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class RemoteTokens:
    """The token that the driver gets for all workers (`api.credentials.Tokens`).

    Args:
        out: takes questions.
        clock: reads both clocks.
        learn: is told each token, so that it is masked.
    """

    def __init__(self, out: Outbox, *, clock: Clock, learn: Callable[[Secret], None]) -> None:
        self._out, self._clock, self._learn = out, clock, learn
        self._token: Secret | None = None
        self._fresh_until = math.inf
        self._accepted: Secret | None = None
        self._asked: dict[int, asyncio.Future[wire.Token]] = {}
        self._number = 0
        self._asking = anyio.Lock()

    async def current(self) -> Secret:
        """Return the token to send now.

        Raises:
            NoToken: there is none.
        """
        async with self._asking:
            if self._token is None or self._clock().mono >= self._fresh_until:
                await self._ask(None)
        if self._token is None:
            raise NoToken("there is no token", refused=False)
        return self._token

    def accepted(self, token: Secret) -> None:
        """Tell once that the server has taken a token."""
        if token != self._accepted:
            self._accepted = token
            self._out.put(wire.Accepted(_bytes(token.reveal())))

    async def refused(self, token: Secret) -> bool:
        """Tell whether a request whose token was refused has another one to try.

        Raises:
            NoToken: another one cannot be got.
        """
        async with self._asking:
            return self._token != token or await self._ask(token)

    def answer(self, message: wire.Token) -> None:
        """Take the answer to a question."""
        asked = self._asked.pop(message.number, None)
        if asked is not None and not asked.done():
            asked.set_result(message)

    async def _ask(self, refused: Secret | None) -> bool:
        """Ask for the token, and return whether there is one that was not refused."""
        self._number += 1
        answer: asyncio.Future[wire.Token] = asyncio.get_running_loop().create_future()
        self._asked[self._number] = answer
        self._out.put(wire.AskToken(self._number, None if refused is None else _bytes(refused.reveal())))
        said = await answer
        if said.failure is not None:
            raise NoToken(said.failure, refused=said.refused)
        if said.token is None:
            return False
        self._token = Secret(said.token.decode("utf-8", "surrogatepass"))
        self._fresh_until = math.inf if said.fresh_s is None else self._clock().mono + said.fresh_s
        self._learn(self._token)
        return True


class RemoteEngine:
    """The engine of the driver, as items use it (`run.pool.roles.Conductor`).

    The rule of a server that goes down is applied to what this worker sees: it is the worker's throttle that waits.

    Args:
        name: the run's id.
        max_outage_s: seconds without a good answer after which the run is stopped.
        out: takes what items tell.
        events: takes the event of a server that is down.
        hold: is told for how many seconds nothing is to be sent.
        clock: reads both clocks.

    Attributes:
        name: the run's id.
        in_canary: whether the items at hand are the first of the run.
        pending: items of the run that are not finished, as the driver said last.
        told: items that the driver was told are finished.
    """

    def __init__(
        self,
        name: str,
        *,
        max_outage_s: float,
        out: Outbox,
        events: RemoteEvents,
        hold: Callable[[float], None],
        clock: Clock,
    ) -> None:
        self.name = name
        self.in_canary = False
        self.pending = 0
        self.told: set[int] = set()
        self._out, self._clock = out, clock
        self._outages = Outages(max_outage_s, stop=self.stop, hold=hold, events=events, pending=lambda: self.pending)

    def finished(
        self, result: ItemResult, line: bytes, *, stop: StopReason | None = None, exempt: bool = False
    ) -> None:
        """Tell that an item is finished; the driver has its result and its line already."""
        del line
        self.told.add(result.item)
        self._out.put(wire.Done(result.item, stop, exempt))

    def judged(self, request: Request, outcome: Outcome, decision: Decision) -> Decision:
        """Return what to do about an answer."""
        return self._outages.judged(request.item, outcome, decision, self._clock().mono)

    def retried(self, outcome: Outcome) -> None:
        """Tell that an attempt is made again."""
        self._out.put(wire.Retried(outcome.throttled))

    def stop(self, reason: StopReason) -> None:
        """Ask the driver to stop the run."""
        self._out.put(wire.StopRun(reason))
