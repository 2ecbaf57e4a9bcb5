"""An even pace: what is left of a window, spread over the time to its end. Pure.

In the last tenth of the window the rate is kept: what little is left would make it jump. Half a request is the gap
after the last one, so that none goes at the very end. What the window's first round trip cost is made up soon after.
"""

import math
from typing import Final

from migrator.ratelimit.model import Ticket

__all__ = ["EvenPace"]

RESERVE: Final = 0.1
"""Share of a window at its end in which the rate is kept."""

CATCH_UP: Final = 0.025
"""Share of a window in which the pace makes up for what it is behind."""


class EvenPace:
    """The pace of one window after the other."""

    __slots__ = ("_from", "_rate", "_sent_before", "_trip_s")

    def __init__(self) -> None:
        self._rate = 0.0
        self._from, self._sent_before, self._trip_s = -math.inf, 0, 0.0

    def opened(self, ticket: Ticket, now: float, *, window_s: float) -> None:
        """Note the answer that opened a window; one that follows it soon told of the same window."""
        if ticket.sent - self._from > 0.5 * window_s:
            self._from, self._sent_before = ticket.sent, ticket.number
            self._trip_s = now - ticket.sent

    def rate(self, now: float, *, budget: int, ends: float, window_s: float, requests: int) -> float | None:
        """Return the requests per second to send; None for as fast as the budget allows.

        Args:
            now: in seconds of a monotonic clock.
            budget: requests that are left.
            ends: when the window ends.
            window_s: how long it is.
            requests: how many went so far, in all windows.
        """
        left_s = ends - 0.5 * self._trip_s - now
        if left_s > RESERVE * window_s:
            self._rate = (max(budget, 0) + 0.5) / left_s
        if not self._rate:
            return None
        behind = self._rate * (now - self._from) - (requests - self._sent_before)
        return self._rate + max(0.0, behind) / max(CATCH_UP * window_s, 1.0 / self._rate)
