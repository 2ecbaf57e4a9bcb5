"""The order of a run: the canary alone, then stage after stage, then the rest; and what stops it.

The engine holds no state beyond one invocation, and knows nothing of requests: what an item needs is the item's own.
A worker is not an in-flight slot: a worker finishes one item, back-off included; a slot is held from before a request
is sent until its result is durable. So no more items than slots can have been sent without a record, at any instant.
"""

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from anyio import CancelScope

from migrator.api.outcome import Decision
from migrator.errors import LedgerError, ReadingError, WaitTooLong
from migrator.messages import Clock, Request
from migrator.options import RunOptions
from migrator.ratelimit.model import ThrottleStatistics
from migrator.report.estimate import SERVER, Cycles, TimeLeft, time_left
from migrator.report.journal import Journal
from migrator.report.observer import RunStatistics
from migrator.results import ItemResult, Outcome, Status, StopKind, StopReason
from migrator.run.pool.roles import Controls
from migrator.run.pool.workers import Pool, Work
from migrator.run.stop_rules import Outages, StopRules, stop_reason_of

__all__ = ["Engine"]

RATE_WINDOW: Final = 200
"""Finished items over which the present rate is taken."""

ETA_FROM: Final = 20
"""Finished items from which on the requests of an item are counted for the time that is left."""

LEAST_S: Final = 0.1
"""Seconds over which a rate is taken at the least: the first item would make any."""

NextStageAllowed: TypeAlias = Callable[[int, int], Awaitable[str | None]]
"""Is given a stage's number and its end, and returns why not to go on; None to go on."""


async def always(_number: int, _end: int) -> None:
    """Go on after every stage."""


class Engine:
    """Drives a run until every item is finished, or a stop rule says to stop.

    Args:
        name: the run's id.
        options: what the user has set.
        total: items of the whole run.
        done: finished items of earlier invocations, by status.
        journal: what is written while it happens.
        throttle: grants permits.
        clock: reads both clocks.
        batch_size: items that share a request; so many workers are needed for each.
        requests_each: that an item takes, if none is sent twice.
        many_keys: whether items draw on many quotas, which are served side by side.
        next_stage_allowed: decides after each stage.

    Attributes:
        name: the run's id.
        stopped_by: why the run is being stopped; None while it is not.
        abandoned: whether requests in flight were given up.
        finished_here: items that this invocation has finished.
    """

    def __init__(
        self,
        *,
        name: str,
        options: RunOptions,
        total: int,
        done: Counter[Status],
        journal: Journal,
        throttle: Controls,
        clock: Clock,
        batch_size: int = 1,
        requests_each: float = 1.0,
        many_keys: bool = False,
        next_stage_allowed: NextStageAllowed = always,
    ) -> None:
        self.name = name
        self.stopped_by: StopReason | None = None
        self.abandoned = False
        self.finished_here = 0
        self._options = options
        self._total = total
        self._counts = Counter(done)
        self._journal = journal
        self._throttle = throttle
        self._clock = clock
        self._next_stage_allowed = next_stage_allowed
        self._outages = Outages(
            options.max_outage,
            stop=self.stop,
            hold=throttle.hold,
            events=journal,
            pending=lambda: self.pending,
        )
        self._canary = max(0, options.canary - done[Status.SUCCEEDED] - done[Status.UNCHANGED])
        self._rules = StopRules(options.max_failures, canary=self._canary)
        self._pool = Pool(
            workers=max(throttle.lanes, 2 * batch_size),
            stop=self.stop,
            clock=clock,
            wait_s=throttle.wait_s if many_keys else None,
        )
        self._workers, self._asking = CancelScope(), CancelScope()
        self._started = self._progressed = clock().mono
        self._requests_each = requests_each
        self._cycles = Cycles(self._started)
        self._finishes: deque[float] = deque(maxlen=RATE_WINDOW)
        self._retried = self._exempt = 0

    async def drive(self, requests: Iterator[Request], finish: Work) -> None:
        """Finish every request: the canary alone, then stage after stage, then the rest.

        Args:
            requests: one for each item without a result.
            finish: finishes one.
        """
        with self._workers:
            work = self._stopping(finish)
            await self._send_canary(requests, work)
            for number, stage in enumerate(self._options.stages, start=1):
                end, before = stage.items(self._total), self._counts.total()
                if self.stopped_by is None and end > before:
                    await self._pool.run(islice(requests, end - before), work)
                if self.stopped_by is None and before <= end < self._total:
                    await self._end_stage(number, end)
            await self._pool.run(requests, work)

    async def rehearse(self, requests: Iterator[Request], *, first: Work, finish: Work) -> None:
        """Finish every request without canary and stages, as a dry run does.

        Args:
            requests: one for each item.
            first: finishes the first one, before the others.
            finish: finishes one.
        """
        with self._workers:
            await self._pool.run(islice(requests, 1), self._stopping(first))
            await self._pool.run(requests, self._stopping(finish))

    async def _send_canary(self, requests: Iterator[Request], work: Work) -> None:
        """Send the first items alone. Exempt ones prove nothing, so that others take their place."""
        missing = self._canary
        while missing and self.stopped_by is None:
            before = self._exempt
            await self._pool.run(islice(requests, missing), work)
            missing = self._exempt - before

    async def _end_stage(self, number: int, end: int) -> None:
        """Stop after a stage unless the next one is allowed; a stop ends the wait for that."""
        with CancelScope() as self._asking:
            if why := await self._next_stage_allowed(number, end):
                self.stop(StopReason(StopKind.STAGE, f"stage {number} ended after {end} items; {why}"))

    def _stopping(self, finish: Work) -> Work:
        """Return the same work, which stops the run on what no other item would escape."""

        async def work(request: Request) -> None:
            try:
                await finish(request)
            except WaitTooLong as wait:
                self.stop(StopReason(StopKind.QUOTA_WAIT, str(wait)))
            except LedgerError as error:
                self.stop(StopReason(StopKind.LEDGER, str(error)))
            except ReadingError as error:
                if error.error is not None:
                    self.stop(stop_reason_of(error.error, item=request.item))

        return work

    def stop(self, reason: StopReason) -> None:
        """Start nothing new; what is in flight finishes. The first reason stays."""
        if self.stopped_by is None:
            self.stopped_by = reason
            self._journal.event("run.stopping", level="warning", reason=reason.kind.value, message=reason.message)
        self._throttle.stop()
        self._asking.cancel()
        self._pool.close()

    def abandon(self) -> None:
        """Give up what is in flight; its items count as not finished. Results that have come in are still recorded."""
        self.abandoned = True
        self._workers.cancel()

    @property
    def pending(self) -> int:
        """Items of the run that are not finished."""
        return self._total - self._counts.total()

    @property
    def in_canary(self) -> bool:
        """Whether the next item to finish is one of the first, of which each has to succeed."""
        return self._rules.in_canary

    def finished(
        self, result: ItemResult, line: bytes, *, stop: StopReason | None = None, exempt: bool = False
    ) -> None:
        """Count an item whose result is durable; it may be the one that stops the run, unless it is exempt."""
        self._journal.item(result, line)
        self._counts[result.status] += 1
        self.finished_here += 1
        now = self._progressed = self._clock().mono
        self._finishes.append(now)
        self._exempt += exempt
        if not exempt and (reason := stop or self._rules.check(result)):
            self.stop(reason)

    def retried(self, outcome: Outcome) -> None:
        """Count an attempt that is made again; one that was refused for too long stops the run."""
        self._retried += 1
        idle_s = self._clock().mono - self._progressed
        if outcome.throttled and idle_s > self._options.max_wait:
            self.stop(StopReason(StopKind.QUOTA_WAIT, f"the server refused every request for {idle_s:.0f} s"))

    def judged(self, request: Request, outcome: Outcome, decision: Decision) -> Decision:
        """Return what to do about an answer; a server that went down is waited for, and given up in the end."""
        return self._outages.judged(request.item, outcome, decision, self._clock().mono)

    def _time_left(self, now: float, rate: float, stands: ThrottleStatistics) -> TimeLeft | None:
        """Return how long the rest takes; an item may need several requests, or a part of one."""
        answered = stands.requests - stands.in_flight
        if self.finished_here >= ETA_FROM:
            each = answered / self.finished_here
            rate *= each
        else:
            each, rate = self._requests_each, answered / max(now - self._started, LEAST_S)
        if self._cycles.waited:
            rate = answered / self._cycles.active_s if self._cycles.active_s else math.inf
        found = time_left(self.pending * each, stands, rate=rate, cycle=self._cycles.cycle(stands))
        return found._replace(limited_by=SERVER) if found is not None and self._outages.down else found

    def statistics(self) -> RunStatistics:
        """Return how the run stands."""
        now, stands = self._clock().mono, self._throttle.statistics()
        since = self._finishes[0] if len(self._finishes) == RATE_WINDOW else self._started
        rate = len(self._finishes) / (now - since) if now > since else 0.0
        self._cycles.note(stands, now)
        left = self._time_left(now, rate, stands)
        return RunStatistics(
            total=self._total,
            counts=Counter(self._counts),
            retried=self._retried,
            elapsed_s=now - self._started,
            rate=rate,
            eta_s=None if left is None else left.seconds,
            limited_by=None if left is None else left.limited_by,
            throttle=stands,
            stopping=self.stopped_by,
            down=self._outages.down,
        )
