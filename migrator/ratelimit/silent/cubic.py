"""A rate that is found by trial: the cubic curve of RFC 9438. Pure.

A refusal lowers the rate to a share of the one that was accepted. From there it rises to that value steeply, stays near
it for long, and only then rises beyond it, ever steeper (RFC 9438, section 4.2, with a rate in place of a window). So
it is near the limit most of the time, and finds a limit that has grown.

A refusal at about the same rate as the one before confirms it. Then the curve gets flatter and longer, since a bucket
that is empty needs no room to recover, as a router's queue does, and each visit beyond the limit costs a refusal.
"""

import math
from collections import deque
from typing import Final

__all__ = ["Cubic"]

DEPTH: Final = 0.3
"""The share that the first refusal takes off the rate (RFC 9438, section 4.6)."""

PLATEAU_S: Final = 6.0
"""Seconds from the first refusal until the rate is back where it was (K in RFC 9438)."""

FLATTEST, LONGEST_PLATEAU_S = 0.04, 240.0
SAME: Final = 0.15
"""A refusal at a rate that differs by a smaller share confirms the one before."""

SLOWEST_RATE: Final = 1 / 60

LEAST_COUNTED: Final = 20
"""Requests over which the accepted rate is measured, as far as there were so many since the first refusal."""


class Cubic:
    """The rate of one limiter key.

    Args:
        steady_rate: requests per second that held in an earlier run; None for no limit yet.
    """

    __slots__ = ("_count", "_depth", "_met", "_plateau_s", "_refusals", "_refused_at", "ceiling")

    def __init__(self, steady_rate: float | None) -> None:
        self.ceiling = steady_rate or math.inf
        self._depth, self._plateau_s = DEPTH, PLATEAU_S
        self._refused_at = -PLATEAU_S
        self._met = steady_rate is not None
        self._count = 0
        self._refusals: deque[tuple[float, int]] = deque(maxlen=LEAST_COUNTED)

    def rate(self, now: float) -> float:
        """Return the requests per second to send evenly; infinity where no limit was met."""
        since = (now - self._refused_at) / self._plateau_s
        return max(SLOWEST_RATE, self.ceiling * (1.0 + self._depth * (since - 1.0) ** 3))

    def accepted(self) -> None:
        """Count an accepted request."""
        self._count += 1

    def met(self, now: float) -> None:
        """Note a refusal from which the accepted rate can be measured."""
        self._refusals.append((now, self._count))

    def start(self, rate: float, now: float) -> None:
        """Begin at a rate that is a guess."""
        self.ceiling, self._refused_at, self._met = rate, now - self._plateau_s, False

    def refused(self, now: float) -> None:
        """Lower the rate.

        A bucket has less than one unit at a refusal. So between two refusals it got what was accepted, one unit more or
        less; or more, if it was full for a while. Of the refusals before, the latest is taken that leaves enough
        requests for a good figure. A rate that held before counts on where it was exceeded.
        """
        since, count = next(
            (one for one in reversed(self._refusals) if self._count - one[1] >= LEAST_COUNTED),
            self._refusals[0] if self._refusals else (now - 1.0, 0),
        )
        measured = max(1, self._count - count) / max(now - since, 1e-3)
        if self._met and self.rate(now) >= self.ceiling:
            measured = max(measured, (1.0 - SAME / 3.0) * self.ceiling)
        if abs(measured / self.ceiling - 1.0) < SAME:
            self._depth = max(FLATTEST, self._depth / 3.0)
            self._plateau_s = min(LONGEST_PLATEAU_S, 4.0 * self._plateau_s)
        else:
            self._depth, self._plateau_s = DEPTH, max(PLATEAU_S, 0.5 * self._plateau_s)
        self.ceiling, self._refused_at, self._met = max(SLOWEST_RATE, measured), now, True
        self.met(now)
