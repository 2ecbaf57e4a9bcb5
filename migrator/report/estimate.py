"""How long requests take that are still to be sent, and what holds them back the most. Pure.

What headers say of a quota is rounded, and says little of a server that gives back bit by bit. So the time between two
moments at which requests could go again is measured, with the requests that went between them: a cycle. The headers
count until a cycle has been seen.
"""

import math
from collections import deque
from typing import Final, NamedTuple

from migrator.options import Verify
from migrator.ratelimit.model import ThrottleStatistics
from migrator.ratelimit.pacer import QUOTA_WAITS

__all__ = [
    "CEILING",
    "OBSERVED",
    "QUOTA",
    "SERVER",
    "SLOTS",
    "Cycle",
    "Cycles",
    "TimeLeft",
    "least_s",
    "requests_of",
    "time_left",
    "told_cycle",
]

QUOTA: Final = "quota"
CEILING: Final = "own ceiling"
SLOTS: Final = "slots"
OBSERVED: Final = "observed rate"
SERVER: Final = "server"
"""What a run may be limited by: the API's quota, its own `--rate`, the requests in flight and their latency, the rate
that was observed (such as with retries), or the server's refusals and outages."""

NEAR: Final = 0.8
"""Share of what the ceiling or the slots allow from which on they are what limits the observed rate."""


REMEMBERED: Final = 16
RECENT: Final = 3
"""Openings that are kept, and those of which the longest wait is taken."""

LEAST_S: Final = 1.0
"""Seconds between two openings that are told apart: a run is looked at a few times a second."""

WINDOWS: Final = 2.5
"""Windows after which a quota that has let nothing wait is taken for none that limits the run."""


class Cycle(NamedTuple):
    """What a quota gives back each time.

    Attributes:
        requests: that go.
        seconds: until so many can go again.
    """

    requests: float
    seconds: float


class Opening(NamedTuple):
    """A moment at which requests could go again.

    Attributes:
        at: in seconds of the monotonic clock.
        waited_s: for how long none could.
        requests: that had gone before.
    """

    at: float
    waited_s: float
    requests: int


class Cycles:
    """When requests could go again that had waited for their quota, and for how long none waited.

    Args:
        started: in seconds of the monotonic clock.

    Attributes:
        active_s: seconds in which no request waited for its quota.
    """

    def __init__(self, started: float) -> None:
        self.active_s = 0.0
        self._started = self._noted = self._since = started
        self._requests, self._waiting = 0, False
        self._openings: deque[Opening] = deque(maxlen=REMEMBERED)

    def note(self, stands: ThrottleStatistics, now: float) -> None:
        """Look at what the throttle does; several times a second."""
        went = stands.requests > self._requests
        # A run may start with a wait, for a quota that an earlier one used up: a window need not begin there.
        if self._waiting and went and self._requests and self._is_new(now):
            self._openings.append(Opening(now, now - self._since, self._requests))
        elif not self._waiting:
            self.active_s += now - self._noted
        if went or not self._waiting:
            self._since = now
        self._noted, self._requests = now, stands.requests
        self._waiting = stands.waiting_for in QUOTA_WAITS

    def _is_new(self, now: float) -> bool:
        return not self._openings or now >= self._openings[-1].at + LEAST_S

    def cycle(self, stands: ThrottleStatistics) -> Cycle | None:
        """Return the mean of the last cycles, or what headers tell before one has ended; None for no limit.

        Short waits within a window, such as for its first answer, end no cycle.
        """
        kept = list(self._openings)
        longest_s = max((one.waited_s for one in kept[-RECENT:]), default=0.0)
        openings = [one for one in kept if one.waited_s >= 0.5 * longest_s]
        if len(openings) > 1:
            first, last, count = openings[0], openings[-1], len(openings) - 1
            requests, seconds = (last.requests - first.requests) / count, (last.at - first.at) / count
            # Of two windows between which the wait was short, each gives back a limit.
            part = min(1.0, stands.limit / requests) if stands.limit and requests else 1.0
            return Cycle(requests * part, seconds * part)
        unlimited = not self.waited and self._noted - self._started > WINDOWS * (stands.window_s or 0.0)
        return None if unlimited else told_cycle(stands)

    @property
    def waited(self) -> bool:
        """Whether a request has waited for its quota."""
        return self.active_s < self._noted - self._started


def told_cycle(stands: ThrottleStatistics) -> Cycle | None:
    """Return what the headers tell of a quota; None where they do not."""
    if not stands.limit or not stands.window_s:
        return None
    return Cycle(max(1.0, stands.limit - stands.reserve), stands.window_s)


class TimeLeft(NamedTuple):
    """An estimate.

    Attributes:
        seconds: until the last request is through.
        limited_by: what is the slowest.
    """

    seconds: float
    limited_by: str


def time_left(
    requests: float, stands: ThrottleStatistics, *, rate: float | None = None, cycle: Cycle | None = None
) -> TimeLeft | None:
    """Return how long requests take; None where nothing is known.

    Args:
        requests: those that are still to be sent.
        stands: what the throttle does.
        rate: requests per second that were observed while none waited for its quota; None for none yet, and then the
            slots tell.
        cycle: what the quota gives back each time; None for no limit.
    """
    slots_rate = stands.slots / stands.latency_s if stands.latency_s else None
    rates = [(rate, OBSERVED) if rate else (slots_rate, SLOTS), (stands.ceiling, CEILING)]
    found = [TimeLeft(requests / one, why) for one, why in rates if one]
    if cycle is not None and (by_quota := _by_quota(requests, stands, cycle, slots_rate)) is not None:
        found.append(TimeLeft(by_quota, QUOTA))
    if not found:
        return None
    slowest = max(found)
    if slowest.limited_by == OBSERVED and rate:
        return TimeLeft(slowest.seconds, _why(rate, stands, slots_rate))
    return slowest


def _why(rate: float, stands: ThrottleStatistics, slots_rate: float | None) -> str:
    """Return what explains an observed rate."""
    if stands.ceiling and rate >= NEAR * stands.ceiling:
        return CEILING
    if stands.refused and stands.limit is None:
        return SERVER
    return SLOTS if slots_rate is not None and rate >= NEAR * slots_rate else OBSERVED


def _by_quota(requests: float, stands: ThrottleStatistics, cycle: Cycle, slots_rate: float | None) -> float | None:
    """Return the seconds until the quota lets all requests go; None where it does not hold them up.

    What the last window takes is sent as quickly as the slots can.
    """
    known = stands.remaining is not None and stands.reset_s is not None
    over = requests - stands.in_flight - (max(0.0, (stands.remaining or 0) - stands.reserve) if known else 0.0)
    if over <= 0.0:
        return None
    if stands.even:
        return over * cycle.seconds / cycle.requests
    opens_s = (stands.reset_s or 0.0) if known else stands.wait_s
    full = math.ceil(over / cycle.requests) - 1
    last_s = (over - full * cycle.requests) / slots_rate if slots_rate else 0.0
    return min(opens_s, cycle.seconds) + full * cycle.seconds + last_s


def least_s(
    requests: int,
    *,
    ceiling: float | None,
    cycle: Cycle | None,
    spaced_s: float = 0.0,
    slots_rate: float | None = None,
) -> float | None:
    """Return the seconds that a run takes at the least, if it starts with a whole quota; None where nothing is known.

    Args:
        requests: of the run.
        ceiling: the user's own limit, in requests per second; None for none.
        cycle: what the quota gives back each time; None where that is not known.
        spaced_s: seconds that the API wants between all writes together.
        slots_rate: requests per second that the slots can do; None where that is not known.
    """
    found = [requests / rate for rate in (ceiling, slots_rate) if rate]
    if cycle is not None:
        found.append((math.ceil(requests / cycle.requests) - 1) * cycle.seconds)
    if spaced_s > 0.0:
        found.append(spaced_s)
    return max(found, default=None)


def requests_of(writes: int, *, reads: int, batch_size: int, verify: Verify) -> int:
    """Return how many requests a run takes, if none is sent twice.

    Args:
        writes: items that are written.
        reads: of records before that.
        batch_size: items that share a request.
        verify: whether what was written is read back.
    """
    return math.ceil(writes / batch_size) + reads + writes * (verify is Verify.READ)
