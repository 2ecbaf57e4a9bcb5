"""The workers of a run as one crew: each item goes to the one that has the fewest, and to another one if that is lost.

What a lost worker had is known from what it had recorded. An item with a result is finished. One that may have been
sent and must not be sent twice is in doubt. All others go to another worker, as they would in a run that is resumed.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final

from migrator.cluster import wire
from migrator.cluster.controls import CrewControls
from migrator.cluster.link import Assigned, Ended, Link, Lost
from migrator.messages import Request
from migrator.ratelimit.throttle import ThrottleStatistics
from migrator.results import ErrorKind, ItemError, ItemResult, Outcome, Status, StopReason
from migrator.run.item import ItemResults
from migrator.run.pool.roles import Director
from migrator.run.preconditions import Precondition, Preconditions
from migrator.run.stop_rules import is_exempt, stop_reason_of
from migrator.store.ledger_writer import Ledger

__all__ = ["MOST_LOSSES", "WorkerCrew"]

MOST_LOSSES: Final = 3
"""Workers that may be lost while they send one item; then it may be what kills them."""

FEWEST: Final = 16
AHEAD: Final = 4
"""Items that a worker has in hand at the least, and for each of its slots: one in flight, one next, two in back-off."""

IN_DOUBT: Final = ItemError(
    kind=ErrorKind.CONNECTION,
    message="the worker that sent this was lost; the server may have acted on it, and it is not sent again",
)
DEADLY: Final = ItemError(kind=ErrorKind.CONNECTION, message=f"{MOST_LOSSES} workers were lost while they sent this")


class WorkerCrew:
    """Finishes items on workers (`run.work_list.Crew`).

    Args:
        controls: the throttles of all workers.
        results: makes the results of items that no worker finishes.
        ledger: keeps them.
        doubtful: items that were being sent when an earlier invocation was interrupted.
        unverified: results of items that were written then and not read back, with their lines.
        batch_size: items that share a request.

    Attributes:
        engine: counts the items and stops the run.
        links: the workers at hand.
    """

    def __init__(
        self,
        *,
        controls: CrewControls,
        results: ItemResults,
        ledger: Ledger,
        doubtful: frozenset[int],
        unverified: Mapping[int, tuple[ItemResult, bytes]],
        batch_size: int,
    ) -> None:
        self.engine: Director | None = None
        self.links: dict[str, Link] = {}
        self.controls = controls
        self._results, self._ledger = results, ledger
        self._doubtful, self._unverified, self._batch_size = doubtful, unverified, batch_size
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._stopped = False
        self._preconditions: Preconditions | None = None
        self._look_first: wire.LookFirst | None = None
        controls.on_stop = self.close

    @property
    def pending(self) -> int:
        """Items of the run that are not finished; the rule of a server that is down asks for them."""
        return 0 if self.engine is None else self.engine.pending

    def look_first(self, precondition: Precondition | None) -> None:
        """Let workers look at each item before it is written.

        Raises:
            TypeError: it can only be done by the process of the run.
        """
        if precondition is None:
            return
        if not isinstance(precondition, Preconditions):
            raise TypeError(f"workers cannot look at items as {type(precondition).__name__} does")
        self._preconditions, looks = precondition, precondition.looks
        self._look_first = wire.LookFirst(looks.only_changed, looks.planned, looks.vault_key)
        for link in self.links.values():
            link.send(self._look_first)

    def join(self, link: Link) -> None:
        """Take a worker into the crew."""
        if self._look_first is not None:
            link.send(self._look_first)
        self.links[link.name] = link
        self.controls.join(link.name, link.send)
        self._call_all()

    def leave(self, link: Link) -> None:
        """Take a worker out of the crew."""
        self.links.pop(link.name, None)
        self.controls.leave(link.name)

    def close(self) -> None:
        """Give no more items to workers."""
        self._stopped = True
        self._call_all()

    async def finish(self, request: Request) -> None:
        """Let a worker take one item the whole way.

        Raises:
            LedgerError: its result cannot be recorded.
            ReadingError: nothing can be read, of no item.
            WaitTooLong: the quota needs a longer wait than the user allows.
        """
        assigned = Assigned(
            request, doubtful=request.item in self._doubtful, written=self._unverified.get(request.item)
        )
        if self._preconditions is not None and assigned.written is None and not self._is_in_doubt(assigned):
            known = self._preconditions.known(request)
            if isinstance(known, Outcome):
                await self._finish_unsent(request, known)
                return
            assigned.known = known
        losses = 0
        while losses < MOST_LOSSES:
            if (link := await self._link()) is None:
                return
            link.assign(assigned, canary=self._conductor.in_canary)
            try:
                ended = await assigned.ended
            except Lost:
                if assigned.result is not None or (assigned.started and not request.idempotent):
                    await self._conclude(assigned, IN_DOUBT)
                    return
            else:
                self._finished(assigned, ended)
                return
            finally:
                self._call_one()
            losses += assigned.started
            # The next worker has to tell the lost one's write from a change that others made.
            assigned.doubtful, assigned.started = assigned.doubtful or assigned.started, False
            assigned.ended = asyncio.get_running_loop().create_future()
        assigned.started = True
        await self._conclude(assigned, DEADLY)

    def stands(self, name: str, throttle: ThrottleStatistics) -> None:
        """Take how a worker stands."""
        if (link := self.links.get(name)) is not None:
            self.controls.standing[name] = throttle
            more = link.room
            link.room = min(link.lanes, max(FEWEST, AHEAD * throttle.slots))
            for _ in range(link.room - more):
                self._call_one()

    def used_up(self, limiter_key: str, wait_s: float) -> None:
        """Note that a worker was told to wait for the quota of a key."""
        self.controls.used_up(limiter_key, wait_s)

    def retried(self, *, throttled: bool) -> None:
        """Count an attempt that is made again."""
        self._conductor.retried(Outcome(status=Status.FAILED, throttled=throttled))

    def stop(self, reason: StopReason) -> None:
        """Stop the run."""
        self._conductor.stop(reason)

    @property
    def _conductor(self) -> Director:
        if self.engine is None:
            raise RuntimeError("the crew has no engine yet")
        return self.engine

    def _finished(self, assigned: Assigned, ended: Ended) -> None:
        if isinstance(ended, wire.Done) and assigned.result is not None:
            if self._preconditions is not None and assigned.result[0].status is Status.SUCCEEDED:
                self._preconditions.succeeded(assigned.request)
            self._conductor.finished(*assigned.result, stop=ended.stop, exempt=ended.exempt)

    @staticmethod
    def _is_in_doubt(assigned: Assigned) -> bool:
        return assigned.doubtful and not assigned.request.idempotent

    async def _finish_unsent(self, request: Request, outcome: Outcome) -> None:
        """Finish an item of which the run knows that it is not to be written."""
        row = self._results.unsent(request, outcome.status, outcome.error)
        self._conductor.finished(row, await self._ledger.settle(row))

    async def _conclude(self, assigned: Assigned, error: ItemError) -> None:
        """Finish an item whose worker was lost: with what it had recorded, or as in doubt."""
        if assigned.result is None:
            status = Status.IN_DOUBT if assigned.started else Status.FAILED
            row = self._results.unsent(assigned.request, status, error)
            assigned.result = row, await self._ledger.settle(row)
        else:
            await self._ledger.durable()
        row, line = assigned.result
        stops = row.provisional and not self._conductor.in_canary
        self._conductor.finished(
            row,
            line,
            stop=stop_reason_of(row.error, item=row.item) if stops else None,
            exempt=is_exempt(assigned.request, row),
        )

    async def _link(self) -> Link | None:
        """Return a worker that can take an item; None once the run stops."""
        while not self._stopped:
            idle = self.controls.idle
            free = [link for link in self.links.values() if len(link.held) < link.room and link.name not in idle]
            if free:
                return min(free, key=self._order)
            called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(called)
            await called
        return None

    def _order(self, link: Link) -> tuple[bool, int]:
        """Fill a batch that a worker has started first, then give to the one that has the fewest."""
        return len(link.held) % self._batch_size == 0, len(link.held)

    def _call_one(self) -> None:
        while self._waiting:
            called = self._waiting.popleft()
            if not called.done():
                called.set_result(None)
                return

    def _call_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for called in waiting:
            if not called.done():
                called.set_result(None)
