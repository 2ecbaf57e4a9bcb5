"""The throttle: waits as the pacers say, owns the queues and the slots.

Each limiter key has a queue, and each queue a dispatcher: the one task that looks at the pacer, waits at the aiolimiter
and lets the head of the queue go. A request that need not wait passes without the dispatcher.
"""

import asyncio
import math
from random import Random, SystemRandom
from time import monotonic, time
from types import TracebackType
from typing import Final, Self

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from migrator.errors import WaitTooLong
from migrator.messages import Answer, Clock, Failure, Instant
from migrator.ratelimit.concurrency import Concurrency
from migrator.ratelimit.headers import Dialect, InBody, QuotaReader, RateLimitSignal
from migrator.ratelimit.key_queue import FASTEST, KeyQueue, Waiter
from migrator.ratelimit.model import PacerMemory, PacerSettings, PacerStatistics, ThrottleStatistics, Ticket
from migrator.ratelimit.pacer import NO_RESET_S, Pacer
from migrator.ratelimit.permit import Permit
from migrator.ratelimit.shared.model import SharedKey, SharedQuota

__all__ = ["PAUSED", "SLOTS", "Permit", "Throttle", "ThrottleStatistics"]

RAMP: Final = 2.0
"""The limiter's rate in pace `fast`, over what the slots can do (slots / latency): a window opens as a ramp, and that
costs no time, since the slots are slower."""

EVEN_PACE: Final = "even pace"
"""Why a request waits at the aiolimiter."""

PAUSED: Final = "paused"
SLOTS: Final = "slots"
"""Why a request waits that the pacer would let go: others are in flight."""

SHARED_USED_UP: Final = "quota used up by several runs"

DEFAULTS: Final = PacerSettings()
FIND_OUT: Final = Dialect()


def system_clock() -> Instant:
    """Read the monotonic clock and the system's; that of an event loop may be a millisecond behind."""
    return Instant(monotonic(), time())


class Throttle:
    """Says when a request may be sent, for any number of limiter keys that share the slots.

    It is an asynchronous context manager and works with any HTTP client::

        async with Throttle() as throttle:
            async with throttle.permit("api.example.com") as permit:
                async with session.patch(url, json=body) as response:
                    permit.answered(status=response.status, headers=response.headers)

    A permit that is left without an answer counts as a request whose answer was lost.

    Args:
        settings: what the user and the profile say of the pace.
        dialect: how the API writes its rate limit.
        in_body: reads it from an answer's body, where headers say nothing of it.
        concurrency: requests in flight at the most; None finds its own level.
        clock: reads both clocks.
        rng: the source of jitter.
        max_wait_s: a longer wait is refused with `WaitTooLong`; waits for probes that are refused in a row are one.
        memory: what an earlier run has learned of the API.
        shared: the quota that other runs draw on too; asked for each request that the own pacer allows.
    """

    def __init__(
        self,
        *,
        settings: PacerSettings = DEFAULTS,
        dialect: Dialect = FIND_OUT,
        in_body: InBody | None = None,
        concurrency: int | None = None,
        clock: Clock = system_clock,
        rng: Random | None = None,
        max_wait_s: float = 3600.0,
        memory: PacerMemory | None = None,
        shared: SharedQuota | None = None,
    ) -> None:
        self._settings = settings
        self._dialect, self._in_body = dialect, in_body
        self._clock = clock
        self._rng = rng if rng is not None else SystemRandom()
        self._max_wait_s = max_wait_s
        self._memory = memory
        self._shared = shared
        self._queues: dict[str, KeyQueue] = {}
        self._concurrency = Concurrency(concurrency)
        self._in_flight = 0
        self._paused = False
        self._stopped = anyio.Event()
        self._waited_s: dict[str, float] = {}
        self._dispatchers: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._dispatchers = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._dispatchers is not None:
            self._dispatchers.cancel_scope.cancel()
            # An error of the caller is not the dispatchers': they would wrap it in a group.
            await self._dispatchers.__aexit__(None, None, None)

    @property
    def lanes(self) -> int:
        """How many lanes can be of use."""
        return self._concurrency.lanes

    def permit(self, limiter_key: str, *, order: int = 0, writes: bool = True) -> Permit:
        """Return the permit for one request; `async with` waits until it may be sent.

        Args:
            limiter_key: names what has a limit of its own, such as a host.
            order: of those that wait, the lowest goes first, and of the same order who came first.
            writes: False for a request that only reads: it keeps no space from the write before it.

        Raises:
            RuntimeError: the throttle is not open.
            WaitTooLong: on entering, where the wait would be longer than `max_wait_s`.
        """
        return Permit(self, self._queue(limiter_key), order, writes=writes)

    def wait_s(self, limiter_key: str) -> float:
        """Return the seconds until a request of a key can go, as far as is known; infinity while others of it wait."""
        queue = self._queues.get(limiter_key)
        if queue is None:
            return 0.0
        return math.inf if queue.head() is not None else queue.pacer.delay(self._clock().mono)

    def stop(self) -> None:
        """End every wait at once, without a permit."""
        self._stopped.set()
        for queue in self._queues.values():
            while (waiter := queue.head()) is not None:
                waiter.set_result(None)
            queue.limiter.stop_waiting()

    def hold(self, hold_s: float) -> None:
        """Send nothing for so long, and then one probe of each key first."""
        until = self._clock().mono + hold_s
        for queue in self._queues.values():
            queue.pacer.hold(until)

    def pause(self) -> None:
        """Let nothing go until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on after a `pause`."""
        self._paused = False
        self._call_dispatchers()

    def set_rate(self, rate: float | None) -> None:
        """Set the ceiling, in requests per second; None for none."""
        self._settings = replace(self._settings, rate=rate)
        for queue in self._queues.values():
            queue.pacer.settings = self._settings
        self._call_dispatchers()

    def set_concurrency(self, level: int | None) -> None:
        """Set the most requests in flight; None lets it find its own level."""
        self._concurrency.fix(level)
        self._call_dispatchers()

    async def sleep(self, delay_s: float) -> None:
        """Wait between two attempts; a stop ends the wait."""
        if delay_s > 0.0:
            with anyio.move_on_after(delay_s):
                await self._stopped.wait()

    def memory(self) -> PacerMemory | None:
        """Return what is worth keeping of the API for the next run."""
        if not self._queues:
            return None
        pacer, *others = [queue.pacer for queue in self._queues.values()]
        now = self._clock().mono
        delay_s = pacer.delay(now)
        used_up = not others and 0.0 < delay_s < math.inf
        return replace(pacer.memory(), ready_at=now + delay_s if used_up else None)

    def statistics(self) -> ThrottleStatistics:
        """Return how things stand."""
        now = self._clock().mono
        each = [queue.pacer.statistics(now) for queue in self._queues.values()]
        delays = [queue.pacer.delay(now) for queue in self._queues.values()]
        tightest = min(each, key=_left, default=None)
        waited_s = sum(self._waited_s.values())
        return ThrottleStatistics(
            slots=self._concurrency.level,
            in_flight=self._in_flight,
            limit=tightest.limit if tightest else None,
            remaining=tightest.remaining if tightest else None,
            reset_s=tightest.reset_s if tightest else None,
            requests=sum(one.requests for one in each),
            refused=sum(one.refused for one in each),
            bursts=sum(one.bursts for one in each),
            rate=tightest.rate if tightest else None,
            waiting_for=self._waiting_for(now),
            waited_s=dict(self._waited_s),
            limiter_share=self._waited_s.get(EVEN_PACE, 0.0) / waited_s if waited_s else None,
            ceiling=self._settings.rate,
            reserve=tightest.reserve if tightest else 0.0,
            window_s=next(iter(self._queues.values())).pacer.window_s() if len(each) == 1 else None,
            even=tightest.even if tightest else False,
            wait_s=min((one for one in delays if one < math.inf), default=0.0),
            latency_s=self._concurrency.latency_s,
        )

    def _waiting_for(self, now: float) -> str | None:
        if self._paused:
            return PAUSED
        waiting = [queue.pacer.statistics(now) for queue in self._queues.values() if queue.head() is not None]
        if not waiting:
            return None
        if self._in_flight >= self._concurrency.level:
            return SLOTS
        return min(waiting, key=_left).waiting_for or EVEN_PACE

    def _queue(self, limiter_key: str) -> KeyQueue:
        queue = self._queues.get(limiter_key)
        if queue is None:
            pacer = Pacer(self._settings, rng=self._rng, memory=self._memory)
            if self._dispatchers is None:
                raise RuntimeError("the throttle is not open: use it as `async with Throttle() as throttle`")
            queue = self._queues[limiter_key] = KeyQueue(
                pacer, QuotaReader(self._dialect, self._in_body), SharedKey(limiter_key, self._shared)
            )
            self._dispatchers.start_soon(self._dispatch, queue)
        return queue

    async def enter(self, queue: KeyQueue, now: float, order: int, *, writes: bool) -> Ticket | None:
        """Wait for the key's turn, the pacer, the aiolimiter and a slot; return None once the throttle is stopped."""
        free = queue.head() is None and self._may_send(queue, now, writes=writes)
        if free and (share := queue.shared.take_at_once()) is not None:
            if await queue.limiter.pass_now(self._rate(queue, now)):
                # Nothing has to be waited for, and no other task has run since that was found.
                return self._let_go(queue, now, share, writes=writes)
            queue.shared.returned(share)
        if self._stopped.is_set():
            return None
        waiter: Waiter = asyncio.get_running_loop().create_future()
        queue.join(waiter, order, writes=writes)
        queue.called.set()
        try:
            return await waiter
        except asyncio.CancelledError:
            # The dispatcher may have let us go in the same moment.
            if not waiter.cancelled() and waiter.exception() is None and (ticket := waiter.result()) is not None:
                queue.pacer.cancelled(ticket)
                queue.shared.returned(ticket.share)
                self._in_flight -= 1
                self._call_dispatchers()
            raise

    async def _dispatch(self, queue: KeyQueue) -> None:
        """Let the waiters of a key go, one by one: the dispatcher of the key."""
        while True:
            now = self._clock().mono
            if queue.head() is None or self._paused or self._in_flight >= self._concurrency.level:
                await queue.until_called(math.inf)
            elif (delay_s := queue.delay(now, writes=queue.head_writes())) > 0.0:
                await self._wait(queue, delay_s, now)
            else:
                waited_s = await queue.limiter.acquire(self._rate(queue, now))
                self._count_wait(EVEN_PACE, waited_s)
                # An answer may have stopped the key meanwhile: then the permit is lost, which does no harm.
                now = self._clock().mono
                if queue.head() is not None and self._may_send(queue, now, writes=queue.head_writes()):
                    await self._take_and_let_go(queue)

    async def _take_and_let_go(self, queue: KeyQueue) -> None:
        """Let the next waiter go, or wait where the runs that share the quota have used it up."""
        share = await queue.shared.take()
        now = self._clock().mono
        if share.wait_s > 0.0:
            if not self._too_long(queue, share.wait_s, SHARED_USED_UP):
                await queue.until_called(share.wait_s)
                self._count_wait(SHARED_USED_UP, self._clock().mono - now)
            return
        waiter, writes = queue.head(), queue.head_writes()
        if waiter is not None and self._may_send(queue, now, writes=writes):
            waiter.set_result(self._let_go(queue, now, share.window, writes=writes))
        else:
            queue.shared.returned(share.window)

    def _let_go(self, queue: KeyQueue, now: float, share: int, *, writes: bool) -> Ticket:
        self._in_flight += 1
        ticket = queue.sent(now, writes=writes)
        return ticket._replace(share=share) if share else ticket

    def _may_send(self, queue: KeyQueue, now: float, *, writes: bool) -> bool:
        free = self._in_flight < self._concurrency.level and not self._paused and not self._stopped.is_set()
        return free and queue.delay(now, writes=writes) <= 0.0

    def _rate(self, queue: KeyQueue, now: float) -> float:
        rate = queue.pacer.rate(now)
        latency_s = self._concurrency.latency_s
        ramp = min(FASTEST, RAMP * self._concurrency.level / latency_s) if latency_s else FASTEST
        if queue.ramp / 2.0 <= ramp <= queue.ramp * 2.0:
            # The latency moves with every answer, and each change of rate makes a new limiter.
            ramp = queue.ramp
        queue.ramp = ramp
        return ramp if rate is None else min(rate, ramp)

    async def _wait(self, queue: KeyQueue, delay_s: float, now: float) -> None:
        reason = queue.pacer.statistics(now).waiting_for or EVEN_PACE
        if self._too_long(queue, delay_s + queue.pacer.refused_for_s(now), reason):
            return
        await queue.until_called(delay_s)
        # After a pause one request may go at once; one that waits for the probe's answer has its turn after it.
        await queue.limiter.rest(0.0 if math.isinf(delay_s) else 1.0)
        self._count_wait(reason, self._clock().mono - now)

    def _too_long(self, queue: KeyQueue, delay_s: float, reason: str) -> bool:
        """Tell whether a wait is longer than allowed; then all waiters of the key are told so."""
        if not self._max_wait_s < delay_s < math.inf:
            return False
        while (waiter := queue.head()) is not None:
            waiter.set_exception(WaitTooLong(delay_s, reason))
        return True

    def _count_wait(self, reason: str, waited_s: float) -> None:
        if waited_s > 0.0:
            self._waited_s[reason] = self._waited_s.get(reason, 0.0) + waited_s

    def _call_dispatchers(self) -> None:
        """Wake the dispatchers that have waiters: an answer or a free slot may let one go."""
        for queue in self._queues.values():
            if queue.waiters:
                queue.called.set()

    def now(self) -> Instant:
        """Read both clocks."""
        return self._clock()

    def left(self, queue: KeyQueue, ticket: Ticket, *, told: bool) -> None:
        """Take a slot back; without an answer it is not known whether the server has counted the request."""
        if not told:
            queue.pacer.lost(ticket, self._clock().mono)
            queue.shared.lost(ticket.share)
        self._in_flight -= 1
        self._call_dispatchers()

    def answered(self, queue: KeyQueue, ticket: Ticket, answer: Answer, kind: str) -> RateLimitSignal:
        """Take an answer into account; return what it says of the rate limit."""
        signal = self._take(queue, ticket, answer, kind)
        self._call_dispatchers()
        return signal

    def _take(self, queue: KeyQueue, ticket: Ticket, answer: Answer, kind: str) -> RateLimitSignal:
        """Tell the pacer and the concurrency what an answer says."""
        now = answer.received.mono
        if isinstance(answer, Failure):
            queue.pacer.lost(ticket, now)
            queue.shared.lost(ticket.share)
            self._concurrency.troubled(now)
            return RateLimitSignal()
        signal = queue.reader.signal(answer)
        quota = signal.quota
        unavailable = answer.status == 503 and quota is None and signal.retry_after_s is None
        if queue.overload.answered(unavailable=unavailable, sent=answer.sent.mono):
            signal = replace(signal, throttled=True)
        if signal.throttled:
            queue.pacer.refused(ticket, quota, signal.retry_after_s, now)
            queue.shared.refused(ticket.share, queue.pacer.delay(now))
            if quota is not None and quota.remaining:
                self._concurrency.crowded(now)
        elif quota is None and answer.status >= 300:
            # Redirects, proxies' errors and refused credentials often come from before the limiter.
            queue.pacer.lost(ticket, now)
            queue.shared.lost(ticket.share)
        else:
            queue.pacer.answered(ticket, quota, now)
            if ticket.share:
                reset_s = queue.pacer.reset_s(now)
                remaining = quota.remaining if quota is not None else None
                queue.shared.answered(ticket.share, remaining, NO_RESET_S if reset_s is None else reset_s)
        if answer.status >= 500 and not signal.throttled:
            self._concurrency.troubled(now)
        elif not signal.throttled:
            window_s = queue.pacer.window_s()
            allowed = (
                len(self._queues) * quota.limit / window_s if window_s and quota is not None and quota.limit else None
            )
            self._concurrency.answered(now - answer.sent.mono, now, allowed_rate=allowed, kind=kind)
        return signal

    def __repr__(self) -> str:
        return f"<throttle: {self._in_flight} of {self._concurrency.level} slots, {len(self._queues)} keys>"


def _left(one: PacerStatistics) -> float:
    return math.inf if one.remaining is None else one.remaining
