"""The rules that stop a run early: with a reason, and so that it can be resumed."""

import math
from collections.abc import Callable
from typing import Final

from migrator.api.outcome import Decision, Retry
from migrator.messages import Request
from migrator.options import Threshold
from migrator.results import ErrorKind, ItemError, ItemResult, Outcome, Status, StopKind, StopReason
from migrator.run.pool.roles import Events
from migrator.secret import Secret

__all__ = ["Breaker", "Outages", "StopRules", "Tenants", "is_exempt", "stop_reason_of"]

DOWN: Final = 10
"""Bad answers in a row that make a server down, if they are of so many items."""

DOWN_ITEMS: Final = 5

LONGEST_HOLD_S: Final = 10.0


class StopRules:
    """Count results, and say when to stop.

    Args:
        threshold: how many items may fail.
        canary: so many items go first and alone, and each has to succeed.
    """

    __slots__ = ("_canary", "_failed", "_finished", "_threshold")

    def __init__(self, threshold: Threshold, *, canary: int) -> None:
        self._threshold = threshold
        self._canary = canary
        self._finished = 0
        self._failed = 0

    @property
    def in_canary(self) -> bool:
        """Whether the next item to finish is one of the first."""
        return self._finished < self._canary

    def check(self, result: ItemResult) -> StopReason | None:
        """Count a finished item, and return the reason to stop, if it is one."""
        self._finished += 1
        if result.status in {Status.SUCCEEDED, Status.UNCHANGED, Status.SKIPPED}:
            return None
        self._failed += 1
        said = result.error.message if result.error is not None else "no reason given"
        if self._finished <= self._canary:
            again = result.item if result.provisional else None
            which = "the first item" if self._canary == 1 else f"one of the first {self._canary} items"
            return StopReason(StopKind.CANARY, f"{which} did not succeed: {said}", again)
        if self._threshold.reached(failed=self._failed, finished=self._finished):
            return StopReason(
                StopKind.FAILURES, f"{self._failed} of {self._finished} items did not succeed; the last: {said}"
            )
        return None

    def __repr__(self) -> str:
        return f"<stop rules: {self._failed} of {self._finished} failed>"


class Tenants:
    """Watches credentials that come with the rows: once they are refused, no further item with them is sent."""

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: dict[Secret, ItemError] = {}

    def refuse(self, request: Request, error: ItemError | None) -> bool:
        """Note that a server refuses a row's credentials; False where the error or the credentials are others."""
        if request.credentials is None or error is None or error.kind is not ErrorKind.AUTH:
            return False
        self._refused[request.credentials[1]] = error
        return True

    def refusal(self, request: Request) -> ItemError | None:
        """Return the error of an item whose credentials were refused, or None."""
        return None if request.credentials is None else self._refused.get(request.credentials[1])


def is_exempt(request: Request, result: ItemResult) -> bool:
    """Tell whether a failure says nothing of other items, since the credentials that were refused are its own."""
    return request.credentials is not None and result.error is not None and result.error.kind is ErrorKind.AUTH


class Breaker:
    """Watches for a server that goes down: holds everything, lets one probe through, and gives up in the end.

    A server that was never reached in this invocation did not go down: there the item's own attempts decide. Nor is a
    server down where all remaining items get bad answers: that may be the items' own fault.

    Args:
        max_outage_s: seconds without a good answer after which the run is stopped.

    Attributes:
        open: whether the server seems to be down.
    """

    __slots__ = ("_bad", "_items", "_last_good", "_max_outage_s", "_probes", "open")

    def __init__(self, max_outage_s: float) -> None:
        self._max_outage_s = max_outage_s
        self._last_good: float | None = None
        self._bad = self._probes = 0
        self._items: set[int] = set()
        self.open = False

    def record_success(self, now: float) -> None:
        """Note an answer that shows the server at work."""
        self._last_good, self._bad, self._probes, self.open = now, 0, 0, False
        self._items.clear()

    def record_failure(self, item: int, now: float, *, pending: int) -> float:
        """Note a 5xx, a time-out or a broken connection; return for how long nothing is to be sent, in seconds.

        The hold doubles with each probe that fails, up to ten seconds; infinity says to give up.

        Args:
            item: the one that got the answer.
            now: seconds of the monotonic clock.
            pending: items that are not finished, this one included.
        """
        self._bad += 1
        self._items.add(item)
        self.open = self._bad >= DOWN and len(self._items) >= DOWN_ITEMS and pending > len(self._items)
        if self._last_good is None or not self.open:
            self.open = False
            return 0.0
        if now - self._last_good >= self._max_outage_s:
            return math.inf
        self._probes += 1
        return min(LONGEST_HOLD_S, 2.0 ** min(self._probes - 1, 10))


class Outages:
    """Says what to do about an answer: a server that went down is waited for, and given up in the end.

    Args:
        max_outage_s: seconds without a good answer after which the run is stopped.
        stop: is told why to stop.
        hold: is told for how many seconds nothing is to be sent.
        events: takes the event of a server that is down.
        pending: returns how many items are not finished.
    """

    def __init__(
        self,
        max_outage_s: float,
        *,
        stop: Callable[[StopReason], None],
        hold: Callable[[float], None],
        events: Events,
        pending: Callable[[], int],
    ) -> None:
        self._breaker = Breaker(max_outage_s)
        self._stop, self._hold, self._events, self._pending = stop, hold, events, pending

    @property
    def down(self) -> bool:
        """Whether the server is taken for down."""
        return self._breaker.open

    def judged(self, item: int, outcome: Outcome, decision: Decision, now: float) -> Decision:
        """Return what to do about an item's answer that came at a time of the monotonic clock, in seconds."""
        if outcome.throttled or not (outcome.transient or outcome.unreachable):
            self._breaker.record_success(now)
            return decision
        hold_s = self._breaker.record_failure(item, now, pending=self._pending())
        if math.isinf(hold_s):
            said = outcome.error.message if outcome.error is not None else "no answer"
            self._stop(StopReason(StopKind.OUTAGE, f"the server went down and did not come back in time; {said}"))
        elif hold_s:
            self._events.event("server.down", level="warning", hold_s=hold_s)
            self._hold(hold_s)
        # It is not the item's fault, which keeps its attempts.
        return Retry(delay_s=0.0, counted=False) if self._breaker.open else decision


def stop_reason_of(error: ItemError | None, *, item: int) -> StopReason:
    """Return the reason to stop after an answer that every other item would get as well."""
    message = error.message if error is not None else "the server refuses"
    auth = error is not None and error.kind is ErrorKind.AUTH
    return StopReason(StopKind.CREDENTIALS if auth else StopKind.UNREACHABLE, message, item)
