"""What we ourselves have spent in the last window: the way through windows shorter than their own headers. Pure.

A reset in whole seconds says nothing of a window of one second: it is always 1. But a quota of `limit` in any stretch
of W seconds cannot be exceeded by somebody who never sends more than that in W seconds, wherever the windows begin. A
request that was answered at r has been counted before r, and one that is sent at t will be counted after t; so what was
answered W before need not be counted any more. Of the round trip, at least the fastest one lies between either count
and what we see of it; half of that is taken off as well.

W is the longest reset that was seen once some windows have begun before our eyes. That is a guess, where the headers'
resolution hides the truth, and it holds only where nobody else draws on the quota, and for servers that count as they
say. So each answer is held against it: one that tells of more use than we can account for ends it, and so does a
refusal.
"""

import math
from collections import deque
from typing import Final

__all__ = ["Spent"]

LONGEST_S: Final = 10.0
"""Seconds of the longest window for which this is of use: in longer ones the headers tell well enough."""

LEAST_WINDOWS: Final = 3
"""Windows that must have been seen to begin: the first one is seen from its middle on."""

LEAST, LARGEST = 8, 10_000
"""Requests in a window: with fewer an answer has no room to contradict the guess, and more are not remembered."""


class Spent:
    """Our own requests of the last window."""

    __slots__ = ("_answered", "_disproved", "_fastest_s", "_limit", "_window_s", "_windows")

    def __init__(self) -> None:
        self._answered: deque[float] = deque(maxlen=LARGEST)
        self._fastest_s = math.inf
        self._limit = self._windows = 0
        self._window_s = 0.0
        self._disproved = False

    @property
    def known(self) -> bool:
        """Whether the window's length is known, as far as can be told."""
        return (
            not self._disproved and self._windows >= LEAST_WINDOWS and 0.0 < self._window_s <= LONGEST_S
        ) and LEAST <= self._limit <= LARGEST

    def answered(
        self,
        *,
        limit: int | None,
        remaining: int,
        longest_reset_s: float,
        windows: int,
        sent: float,
        now: float,
        in_flight: int,
    ) -> None:
        """Take an answer into account.

        Args:
            limit: requests in a window, where the answer tells.
            remaining: what is left of them.
            longest_reset_s: the longest reset seen, made longer by what may have been rounded off.
            windows: windows that were seen to begin.
            sent: when the request was sent.
            now: when its answer was received.
            in_flight: requests without an answer.
        """
        self._limit = limit or self._limit
        # Servers' windows are whole seconds, and a fraction has been passed since the window began.
        self._window_s, self._windows = float(math.ceil(longest_reset_s)), windows
        self._fastest_s = min(self._fastest_s, now - sent)
        # Of the requests that the server has counted beside this one, so many are answered.
        counted = self._limit - 1 - remaining - in_flight
        if self.known and counted > 0:
            oldest = self._answered[-counted] if counted <= len(self._answered) else -math.inf
            self._disproved = oldest <= sent - self._window_s
        self._answered.append(now)

    def disprove(self) -> None:
        """Give the idea up: a refusal, or somebody else on the quota."""
        self._disproved = True

    def next_at(self, in_flight: int) -> float:
        """Return when the next request may go, by our own count alone; infinity where it knows nothing.

        Args:
            in_flight: requests without an answer.
        """
        if not self.known:
            return math.inf
        free = self._limit - in_flight
        if free <= 0:
            return math.inf
        return (
            self._answered[-free] + self._window_s - 0.5 * self._fastest_s if free <= len(self._answered) else -math.inf
        )
