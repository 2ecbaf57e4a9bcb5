"""One run: every item's way from its request to its record, and the brakes.

This is the only place that knows the whole way. Lanes and slots are two things: a lane is a worker that sees one item
to its end, back-off included; a slot is leave to have a request in flight, and is held from before the request is sent
until its result is durable. So no more items than slots can have been sent without a record, whenever the process dies.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Final, Protocol, TypeAlias, assert_never

import anyio
from anyio import CancelScope
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from migrator.brakes import Brakes, StopKind, StopReason, fatal
from migrator.envelope import ErrorKind, ItemError
from migrator.exchange import Answer, Clock, Failure, Reply, Request
from migrator.fair import FairQueue
from migrator.journal import Journal
from migrator.ledger import Ledger, LedgerError, Row
from migrator.options import RunOptions
from migrator.outcome import Outcome, Retry, RetryPolicy, Settle, Status, Stop, classify, decide
from migrator.quota import Quota
from migrator.secret import Masker
from migrator.throttle import Throttle, ThrottleStatistics, WaitTooLong

__all__ = ["InputChanged", "Run", "RunStatistics", "Sender"]

BATCH: Final = 32
"""Requests that are rendered at a time: enough to make the hand-over cheap, few enough to let the loop breathe."""

DRAIN_S: Final = 10.0
"""Seconds that requests in flight have to finish after a signal; Kubernetes kills after 30."""

RATE_WINDOW: Final = 200
"""Finished items over which the present rate is taken."""


INTERRUPTED: Final = ItemError(
    kind=ErrorKind.CONNECTION,
    message="the program ended while this was being sent; the server may have acted on it, and it is not sent again",
)


class InputChanged(Exception):  # noqa: N818  it reads as what it is
    """The items file is not what was checked any more."""


BringToEnd: TypeAlias = Callable[[Request], Awaitable[None]]


class Sender(Protocol):
    """What makes one attempt; `client.Client` and the tests' stand-ins."""

    async def send(self, request: Request) -> Answer:
        """Make one attempt, and raise only on cancellation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatistics:
    """How a run stands.

    Attributes:
        total: items of the whole run.
        counts: finished items by status, those of earlier invocations included.
        retried: attempts beyond an item's first in this invocation.
        elapsed_s: since this invocation began.
        rate: items finished per second, of late.
        eta_s: seconds to the end, as far as can be told.
        throttle: what the throttle does and why it waits.
        stopping: the reason, once the run is being stopped.
    """

    total: int
    counts: Counter[Status]
    retried: int
    elapsed_s: float
    rate: float
    eta_s: float | None
    throttle: ThrottleStatistics
    stopping: StopReason | None

    @property
    def finished(self) -> int:
        """Items that have come to their end."""
        return self.counts.total()


class _Source:
    """Requests for lanes: taken one by one, handed over in batches, read ahead so far that each key has its turn."""

    def __init__(self, batches: MemoryObjectReceiveStream[list[Request]], *, lanes: int, lookahead: int) -> None:
        self._batches = batches
        self._ready = FairQueue(lanes)
        self._lookahead = lookahead
        self._ended = self._watched = False
        self._freed = anyio.Event()

    async def take(self) -> Request | None:
        """Return the next request, or None where there is nothing left for this lane to do."""
        while (request := self._ready.take()) is None:
            if self._ended:
                # What is left is of keys that have all the lanes of their share; those will take it.
                return None
            if len(self._ready) >= self._lookahead:
                self._watched = True
                await self._freed.wait()
                continue
            try:
                for one in await self._batches.receive():
                    self._ready.put(one)
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                self._end()
        return request

    def done(self, request: Request) -> None:
        """Give the lane back to the others."""
        self._ready.done(request)
        if self._watched:
            self._watched = False
            self._freed.set()
            self._freed = anyio.Event()

    def close(self) -> None:
        """Let the feeder and every lane go."""
        self._ready.clear()
        self._batches.close()
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._freed.set()


class Run:
    """Sends requests until they are through or a brake says stop; holds no state beyond one invocation.

    Args:
        name: the run's id.
        options: what the user has set.
        total: items of the whole run.
        done: finished items of earlier invocations, by status.
        ledger: the truth.
        journal: what is written while it happens.
        throttle: gives leave to send.
        client: makes the attempts.
        masker: keeps secrets out of what is written.
        clock: reads both clocks.
        rng: the source of jitter.
        doubtful: items that were being sent when an earlier invocation died.
        secret_path: whether a URL's path holds a secret.
        lookahead: requests that are read ahead, so that many limiter keys can be served side by side.
    """

    def __init__(
        self,
        *,
        name: str,
        options: RunOptions,
        total: int,
        done: Counter[Status],
        ledger: Ledger,
        journal: Journal,
        throttle: Throttle,
        client: Sender,
        masker: Masker,
        clock: Clock,
        rng: Random,
        doubtful: frozenset[int] = frozenset(),
        secret_path: bool = False,
        lookahead: int = BATCH,
    ) -> None:
        self.name = name
        self.stopped_by: StopReason | None = None
        self.abandoned = False
        self._options = options
        self._total = total
        self._counts = Counter(done)
        self._ledger = ledger
        self._journal = journal
        self._throttle = throttle
        self._client = client
        self._masker = masker
        self._clock = clock
        self._rng = rng
        self._doubtful = doubtful
        self._secret_path = secret_path
        self._lookahead = lookahead
        self._policy = RetryPolicy(max_attempts=options.max_attempts)
        canary = max(0, options.canary - done[Status.SUCCEEDED] - done[Status.UNCHANGED])
        self._canary = canary
        self._brakes = Brakes(options.max_failures, canary=canary)
        self._source: _Source | None = None
        self._lanes = CancelScope()
        self._started = self._progressed = clock().mono
        self._finishes: deque[float] = deque(maxlen=RATE_WINDOW)
        self._retried = self._settled = 0

    async def drive(self, requests: Iterator[Request]) -> None:
        """Bring every request to its end: the canary alone, then the rest through all lanes."""
        with self._lanes:
            await self._pool(islice(requests, self._canary), self.migrate)
            if self.stopped_by is None:
                await self._pool(requests, self.migrate)

    async def rehearse(self, requests: Iterator[Request]) -> None:
        """Render every request and send none."""
        with self._lanes:
            await self._pool(requests, self._skip)

    @property
    def settled(self) -> int:
        """Items that this invocation has brought to their end."""
        return self._settled

    def stop(self, reason: StopReason) -> None:
        """Begin nothing new; what is in flight goes on to its end. The first reason stays."""
        if self.stopped_by is None:
            self.stopped_by = reason
            self._journal.event("run.stopping", level="warning", reason=reason.kind.value, message=reason.message)
        self._throttle.stop()
        if self._source is not None:
            self._source.close()

    def abandon(self) -> None:
        """Give up what is in flight; its items count as not finished. Results that have come in are still recorded."""
        self.abandoned = True
        self._lanes.cancel()

    def statistics(self) -> RunStatistics:
        """Return how the run stands."""
        now = self._clock().mono
        since = self._finishes[0] if self._finishes else now
        rate = len(self._finishes) / (now - since) if now > since else 0.0
        pending = self._total - self._counts.total()
        return RunStatistics(
            total=self._total,
            counts=Counter(self._counts),
            retried=self._retried,
            elapsed_s=now - self._started,
            rate=rate,
            eta_s=self._throttle.eta_s(pending, rate=rate),
            throttle=self._throttle.statistics(),
            stopping=self.stopped_by,
        )

    async def _pool(self, requests: Iterable[Request], bring_to_end: BringToEnd) -> None:
        send, receive = anyio.create_memory_object_stream[list[Request]](max_buffer_size=1)
        with receive:
            self._source = _Source(receive, lanes=self._throttle.lanes, lookahead=self._lookahead)
            async with anyio.create_task_group() as lanes:
                lanes.start_soon(self._feed, requests, send)
                for _ in range(self._throttle.lanes):
                    lanes.start_soon(self._lane, self._source, bring_to_end)

    async def _feed(self, requests: Iterable[Request], batches: MemoryObjectSendStream[list[Request]]) -> None:
        """Render requests as fast as lanes take them, and no faster."""
        remaining = iter(requests)
        with batches:
            try:
                while self.stopped_by is None and (batch := list(islice(remaining, BATCH))):
                    await batches.send(batch)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            except InputChanged as change:
                self.stop(StopReason(StopKind.INPUT_CHANGED, str(change)))

    async def _lane(self, source: _Source, bring_to_end: BringToEnd) -> None:
        while self.stopped_by is None and (request := await source.take()) is not None:
            try:
                await bring_to_end(request)
            except WaitTooLong as wait:
                self.stop(StopReason(StopKind.QUOTA_WAIT, str(wait)))
            except LedgerError as error:
                self.stop(StopReason(StopKind.LEDGER, str(error)))
            finally:
                source.done(request)

    async def migrate(self, request: Request) -> None:
        """Bring one item to its end: the whole way, in order."""
        attempt, resent, waited_s = 1, 0, 0.0
        if request.item in self._doubtful and not request.idempotent:
            return await self._settle(self._unsent(request, Status.IN_DOUBT, INTERRUPTED))
        while True:
            async with self._throttle.permit(request.limiter_key) as permit:
                waited_s += permit.waited_s
                if self.stopped_by is not None or not permit.granted:
                    return None
                await self._begin(request, attempt + resent)
                answer = await self._client.send(request)
                quota = permit.answered(answer)
                outcome = self._judge(request, answer, quota)
                decision = decide(outcome, attempt=attempt, policy=self._policy, rng=self._rng)
                if isinstance(decision, Settle | Stop):
                    stops = isinstance(decision, Stop)
                    row = self._row(
                        request, answer, outcome, quota, attempts=attempt + resent, waited_s=waited_s, provisional=stops
                    )
                    await self._settle(row)
            match decision:
                case Retry(delay_s, counted):
                    if not request.idempotent:
                        self._ledger.withdraw(request.item)
                    if not resent and isinstance(answer, Failure) and answer.dropped:
                        # The server gave up an idle connection just as it was used again: that is nobody's fault.
                        resent, delay_s = 1, 0.0
                    else:
                        attempt += counted
                    waited_s += await self._back_off(request, outcome, delay_s)
                case Settle():
                    return None
                case Stop(outcome):
                    return self.stop(fatal(outcome.error, item=request.item))
                case never:
                    assert_never(never)

    async def _skip(self, request: Request) -> None:
        await self._settle(self._unsent(request, Status.SKIPPED, None))

    async def _begin(self, request: Request, attempt: int) -> None:
        """Note that the item is about to be sent, and wait for the disk where that decides whether it may be again."""
        now_ms = round(self._clock().utc * 1000)
        if request.idempotent:
            self._ledger.begin(request.item, request.key, attempt, now_ms)
        else:
            await self._ledger.begin_durably(request.item, request.key, attempt, now_ms)

    def _judge(self, request: Request, answer: Answer, quota: Quota | None) -> Outcome:
        remaining = quota.remaining if quota is not None else None
        return classify(
            request,
            answer,
            verify=self._options.verify,
            mask=lambda text: self._masker.server_text(text, request.secrets),
            remaining=remaining,
        )

    async def _settle(self, row: Row) -> None:
        """Record an item's end; from here on it counts. The ledger has it even if the wait for the disk is given up."""
        await self._ledger.settle(row)
        self._journal.item(row)
        self._counts[row.status] += 1
        self._settled += 1
        now = self._progressed = self._clock().mono
        self._finishes.append(now)
        self._throttle.set_pending(self._total - self._counts.total())
        if not row.provisional and (reason := self._brakes.settled(row.status, row.error)) is not None:
            self.stop(reason)

    def _row(
        self,
        request: Request,
        answer: Answer,
        outcome: Outcome,
        quota: Quota | None,
        *,
        attempts: int,
        waited_s: float,
        provisional: bool,
    ) -> Row:
        headers = answer.headers if isinstance(answer, Reply) else {}
        request_id = headers.get("x-request-id")
        return Row(
            item=request.item,
            key=request.key,
            status=outcome.status,
            method=request.method,
            url=self._shown_url(request),
            http_status=answer.status if isinstance(answer, Reply) else None,
            attempts=attempts,
            request_id=None if request_id is None else self._masker.token(request_id, request.secrets),
            finished_ms=round(answer.received.utc * 1000),
            duration_ms=round((answer.received.mono - answer.sent.mono) * 1000, 1),
            waited_ms=round(waited_s * 1000, 1),
            verified=outcome.verified,
            limit=quota.limit if quota is not None else None,
            remaining=quota.remaining if quota is not None else None,
            reset_s=quota.reset_s if quota is not None else None,
            provisional=provisional,
            error=outcome.error,
        )

    def _unsent(self, request: Request, status: Status, error: ItemError | None) -> Row:
        """Return the end of an item for which this invocation sends nothing."""
        return Row(
            item=request.item,
            key=request.key,
            status=status,
            method=request.method,
            url=self._shown_url(request),
            http_status=None,
            attempts=0,
            request_id=None,
            finished_ms=round(self._clock().utc * 1000),
            duration_ms=0.0,
            waited_ms=0.0,
            verified=None,
            limit=None,
            remaining=None,
            reset_s=None,
            error=error,
        )

    def _shown_url(self, request: Request) -> str:
        return self._masker.text(request.url, request.secrets) if self._secret_path else request.url

    async def _back_off(self, request: Request, outcome: Outcome, delay_s: float) -> float:
        """Wait before the next attempt and return for how long; a stop ends the wait."""
        self._retried += 1
        self._journal.event(
            "item.retry",
            level="debug" if outcome.throttled else "info",
            item=request.item,
            key=request.key,
            cause=outcome.error.message if outcome.error is not None else None,
            delay_s=round(delay_s, 3),
        )
        idle_s = self._clock().mono - self._progressed
        if outcome.throttled and idle_s > self._options.max_wait:
            self.stop(StopReason(StopKind.QUOTA_WAIT, f"the server refused every request for {idle_s:.0f} s"))
        await self._throttle.sleep(delay_s)
        return delay_s
