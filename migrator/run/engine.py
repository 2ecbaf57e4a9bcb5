"""One run: every item's way from its request to its record, and the brakes.

This is the only place that knows the whole way. Lanes and slots are two things: a lane is a worker that sees one item
to its end, back-off included; a slot is leave to have a request in flight, and is held from before the request is sent
until its result is durable. So no more items than slots can have been sent without a record, whenever the process dies.
"""

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Final, TypeAlias, assert_never

import anyio
from anyio import CancelScope
from anyio.streams.memory import MemoryObjectSendStream

from migrator.api.outcome import Decision, Retry, RetryPolicy, Settle, Stop, classify, decide, held
from migrator.api.reader import Reader
from migrator.errors import InputChanged, LedgerError, ReadingError, WaitTooLong
from migrator.job.template import with_run
from migrator.messages import Answer, Clock, Request, Sender
from migrator.options import RunOptions
from migrator.ratelimit.headers import RateLimitSignal
from migrator.ratelimit.throttle import Throttle, ThrottleStatistics
from migrator.report.journal import Journal
from migrator.results import ErrorKind, ItemError, ItemResult, Outcome, Status, StopKind, StopReason
from migrator.run.item import Rows
from migrator.run.pool import Supply
from migrator.run.preconditions import Look
from migrator.run.stop_rules import Brakes, Breaker, stop_reason_of
from migrator.secret import Masker
from migrator.store.ledger_writer import Ledger

__all__ = ["Run", "RunStatistics"]

BATCH: Final = 32
"""Requests that are rendered at a time: enough to make the hand-over cheap, few enough to let the loop breathe."""

RATE_WINDOW: Final = 200
"""Finished items over which the present rate is taken."""


INTERRUPTED: Final = ItemError(
    kind=ErrorKind.CONNECTION,
    message="the program ended while this was being sent; the server may have acted on it, and it is not sent again",
)


BringToEnd: TypeAlias = Callable[[Request], Awaitable[None]]


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
        question: what the person at the terminal is being asked.
    """

    total: int
    counts: Counter[Status]
    retried: int
    elapsed_s: float
    rate: float
    eta_s: float | None
    throttle: ThrottleStatistics
    stopping: StopReason | None
    question: str | None = None

    @property
    def finished(self) -> int:
        """Items that have come to their end."""
        return self.counts.total()


async def always(_number: int, _end: int) -> None:
    """Go on after every stage."""


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
        reader: reads back what was written; None where that is not wanted.
        passed: says after each stage, by its number and its end, why not to go on; None to go on.
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
        reader: Reader | None = None,
        passed: Callable[[int, int], Awaitable[str | None]] = always,
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
        self._rows = Rows(masker=masker, clock=clock, secret_path=secret_path)
        self._lookahead = lookahead
        self._look: Look | None = None
        self._reader = reader
        self._passed = passed
        self._stages = [stage.items(total) for stage in options.stages]
        self._breaker = Breaker(options.max_outage)
        self._policy = RetryPolicy(max_attempts=options.max_attempts)
        canary = max(0, options.canary - done[Status.SUCCEEDED] - done[Status.UNCHANGED])
        self._canary = canary
        self._brakes = Brakes(options.max_failures, canary=canary)
        self._source: Supply | None = None
        self._lanes = CancelScope()
        self._asking = CancelScope()
        self._started = self._progressed = clock().mono
        self._finishes: deque[float] = deque(maxlen=RATE_WINDOW)
        self._retried = self._settled = 0

    async def drive(self, requests: Iterator[Request], look: Look | None = None) -> None:
        """Bring every request to its end: the canary alone, then stage after stage, then the rest.

        Args:
            requests: one for each item without a result.
            look: looks at an item before it is written.
        """
        self._look = look
        with self._lanes:
            await self._pool(islice(requests, self._canary), self.migrate)
            for number, end in enumerate(self._stages, start=1):
                begun = self._counts.total()
                if self.stopped_by is None and end > begun:
                    await self._pool(islice(requests, end - begun), self.migrate)
                if self.stopped_by is None and begun <= end < self._total:
                    await self._end_stage(number, end)
            if self.stopped_by is None:
                await self._pool(requests, self.migrate)

    async def _end_stage(self, number: int, end: int) -> None:
        """Stop after a stage unless whoever decides says to go on; a stop ends the wait for that."""
        with CancelScope() as self._asking:
            if why := await self._passed(number, end):
                self.stop(StopReason(StopKind.STAGE, f"stage {number} ended after {end} items; {why}"))

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
        self._asking.cancel()
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
            self._source = Supply(receive, lanes=self._throttle.lanes, lookahead=self._lookahead)
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

    async def _lane(self, source: Supply, bring_to_end: BringToEnd) -> None:
        while self.stopped_by is None and (request := await source.take()) is not None:
            try:
                await bring_to_end(request)
            except WaitTooLong as wait:
                self.stop(StopReason(StopKind.QUOTA_WAIT, str(wait)))
            except LedgerError as error:
                self.stop(StopReason(StopKind.LEDGER, str(error)))
            except ReadingError as error:
                if error.error is not None:
                    self.stop(stop_reason_of(error.error, item=request.item))
            finally:
                source.done(request)

    async def migrate(self, request: Request) -> None:
        """Bring one item to its end: the whole way, in order."""
        prepared = await self._prepared(request)
        if isinstance(prepared, ItemResult):
            return await self._settle(request, prepared)
        request, row = prepared, None
        # What an item was spared, for the connection or the whole server was to blame, was sent all the same.
        attempt, spared, waited_s = 1, 0, 0.0
        while True:
            async with self._throttle.permit(request.limiter_key) as permit:
                waited_s += permit.waited_s
                if self.stopped_by is not None or not permit.granted:
                    return None
                await self._begin(request, attempt + spared)
                answer = await self._client.send(request)
                spared += answer.resent
                signal = permit.received(answer)
                outcome = self._judge(request, answer, signal)
                decision = self._decide(request, outcome, attempt)
                if isinstance(decision, Settle | Stop):
                    row = self._rows.answered(
                        request,
                        answer,
                        outcome,
                        signal.quota,
                        attempts=attempt + spared,
                        waited_s=waited_s,
                        provisional=isinstance(decision, Stop),
                    )
                    await self._settle(request, row)
            match decision:
                case Retry(delay_s, counted):
                    if not request.idempotent:
                        self._ledger.withdraw(request.item)
                    attempt += counted
                    spared += not counted and not outcome.throttled
                    waited_s += await self._back_off(request, outcome, delay_s)
                case Settle():
                    if row is not None and self._reader is not None:
                        await self._read_back(self._reader, request, row)
                    return None
                case Stop(outcome):
                    return self.stop(stop_reason_of(outcome.error, item=request.item))
                case never:
                    assert_never(never)

    async def _prepared(self, request: Request) -> ItemResult | Request:
        """Return the end of an item that is not to be sent, or the request to send."""
        if request.item in self._doubtful and not request.idempotent:
            return self._rows.unsent(request, Status.IN_DOUBT, INTERRUPTED)
        request = with_run(request, self.name)
        end = request if self._look is None else await self._look.look(request)
        return end if isinstance(end, Request) else self._rows.unsent(request, end.status, end.error)

    def _decide(self, request: Request, outcome: Outcome, attempt: int) -> Decision:
        """Tell what to do about an outcome; a server that has gone down is waited for, and given up in the end."""
        decision = decide(outcome, attempt=attempt, policy=self._policy, rng=self._rng)
        now = self._clock().mono
        if outcome.throttled or not (outcome.transient or outcome.unreachable):
            self._breaker.good(now)
            return decision
        hold_s = self._breaker.bad(request.item, now, pending=self._total - self._counts.total())
        if math.isinf(hold_s):
            said = outcome.error.message if outcome.error is not None else "no answer"
            self.stop(StopReason(StopKind.OUTAGE, f"the server went down and did not come back in time; {said}"))
        elif hold_s:
            self._journal.event("server.down", level="warning", hold_s=hold_s)
            self._throttle.hold(hold_s)
        # It is not the item's fault, which keeps its attempts.
        return Retry(delay_s=0.0, counted=False) if self._breaker.open else decision

    async def _read_back(self, reader: Reader, request: Request, row: ItemResult) -> None:
        """Look whether the server holds what was written, and say so in place of what the answer said."""
        if row.status is Status.SUCCEEDED:
            record = await reader.record(request)
            if record.document is None:
                said = record.error.message if record.error is not None else "no answer"
                self._journal.event("item.unread", level="warning", item=request.item, key=request.key, cause=said)
                row = replace(row, verified=None)
            else:
                seen = held(request, record.document, status=200)
                row = replace(row, status=seen.status, verified=seen.verified, error=seen.error)
            await self._ledger.settle(row)
        self._count(request, row)

    async def _skip(self, request: Request) -> None:
        await self._settle(request, self._rows.unsent(request, Status.SKIPPED, None))

    async def _begin(self, request: Request, attempt: int) -> None:
        self._masker.remember(request.secrets)
        """Note that the item is about to be sent, and wait for the disk where that decides whether it may be again."""
        now_ms = round(self._clock().utc * 1000)
        if request.idempotent:
            self._ledger.begin(request.item, request.key, attempt, now_ms)
        else:
            await self._ledger.begin_durably(request.item, request.key, attempt, now_ms)

    def _judge(self, request: Request, answer: Answer, signal: RateLimitSignal) -> Outcome:
        return classify(
            request,
            answer,
            verify=self._options.verify,
            mask=lambda text: self._masker.server_text(text, request.secrets),
            signal=signal,
        )

    async def _settle(self, request: Request, row: ItemResult) -> None:
        """Record an item's end; from here on it counts. The ledger has it even if the wait for the disk is given up."""
        await self._ledger.settle(row)
        if row.provisional or self._reader is None or row.attempts == 0:
            self._count(request, row)

    def _count(self, request: Request, row: ItemResult) -> None:
        self._journal.item(row)
        self._counts[row.status] += 1
        self._settled += 1
        now = self._progressed = self._clock().mono
        self._finishes.append(now)
        if self._look is not None and row.status is Status.SUCCEEDED:
            self._look.succeeded(request)
        if not row.provisional and (reason := self._brakes.settled(row.status, row.error)) is not None:
            self.stop(reason)

    async def _back_off(self, request: Request, outcome: Outcome, delay_s: float) -> float:
        """Wait before the next attempt and return for how long; a stop ends the wait."""
        self._retried += 1
        self._journal.event(
            "item.retry",
            level="debug" if outcome.throttled else "info",
            throttled=outcome.throttled,
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
