"""The rate for an API that tells nothing of its limit but refusals: the cubic curve of RFC 9438. Pure.

A refusal puts the rate to 70 % of what was accepted. From there it rises to that value steeply, stays near it for
long, and only then rises beyond it, ever steeper (RFC 9438, section 4.2, with a rate in place of a window). So it is
near the limit most of the time, and finds a limit that has grown.

Before that there is a guess: that the server has a window, whose limit is what it accepted before the refusal, and
whose length is the time since the first of those plus Retry-After. While that holds, our own log of such a window says
when to send. A refusal gives a second guess, and one that contradicts that ends it: then only the curve is used.
"""

import math
from collections import deque
from typing import Final

__all__ = ["Cubic"]

DECREASE: Final = 0.7
"""RFC 9438, section 4.6."""

PLATEAU_S: Final = 12.0
"""Seconds from a refusal until the rate is back where it was (K in RFC 9438)."""

SLOWEST_RATE: Final = 1 / 60
SLOW_START: Final = 16
SLOW_START_ANSWERS: Final = 200
"""Before any refusal, one request more may be in flight for each answer, up to 16; after 200 good answers as many as
there are slots. A first limit is met by so many at the most: 16 of 1,000 are below 2 %."""

ACCEPTED_S: Final = 60.0
"""Seconds over which accepted requests are counted, for the rate to fall back to."""

LEAST_SPAN_S: Final = 0.25
"""A first burst is taken for a rate over so many seconds: too high a start costs refusals, too low a one minutes."""

GUESSES: Final = 3
SAME_LIMIT: Final = 0.8
"""A second guess whose limit is a smaller share of the first one's contradicts it."""


class Cubic:
    """The rate of one limiter key.

    Args:
        steady_rate: requests per second that held in an earlier run; None starts slowly.
    """

    __slots__ = ("_accepted", "_ceiling", "_first", "_guesses", "_limit", "_refused_at", "_slow_start", "_window_s")

    def __init__(self, steady_rate: float | None) -> None:
        self._ceiling = steady_rate or math.inf
        self._slow_start = steady_rate is None
        self._refused_at = -math.inf if steady_rate is None else -PLATEAU_S
        self._accepted: deque[float] = deque(maxlen=100_000)
        self._first: float | None = None
        self._guesses = 0
        self._limit, self._window_s = 0, math.inf

    def rate(self, now: float) -> float | None:
        """Return the requests per second to send evenly; None where there is no such limit, or a window is guessed."""
        if self._slow_start or self._limit:
            return None
        since = (now - self._refused_at) / PLATEAU_S
        return max(SLOWEST_RATE, self._ceiling * (1.0 + (1.0 - DECREASE) * (since - 1.0) ** 3))

    def steady_rate(self) -> float | None:
        """Return the rate that held, for the next run."""
        if self._limit:
            return self._limit / self._window_s
        return None if self._slow_start else self._ceiling

    def most_in_flight(self) -> float:
        """Return how many requests may be in flight as far as the slow start goes."""
        if not self._slow_start or len(self._accepted) >= SLOW_START_ANSWERS:
            return math.inf
        return min(SLOW_START, 1 + len(self._accepted))

    def next_at(self, in_flight: int) -> float:
        """Return when the next request may go by the window that is guessed."""
        if not self._limit:
            return -math.inf
        free = self._limit - in_flight
        if free <= 0:
            return math.inf
        return self._accepted[-free] + self._window_s if free <= len(self._accepted) else -math.inf

    def accepted(self, now: float, *, before_refusal: bool) -> None:
        """Note an answer that was no refusal; one that was sent before the last refusal belongs to its window."""
        self._accepted.append(now)
        if before_refusal:
            self._limit += bool(self._limit)
        elif self._first is None:
            self._first = now

    def refused(self, retry_after_s: float | None, now: float) -> None:
        """Note a refusal: the window is guessed anew, or the rate falls below what was accepted."""
        self._guess(retry_after_s, now)
        span_s = min(ACCEPTED_S, now - self._accepted[0] if self._accepted else 0.0) + (retry_after_s or 0.0)
        counted = sum(1 for at in self._accepted if at >= now - ACCEPTED_S)
        rate = self.rate(now)
        self._ceiling = max(SLOWEST_RATE, min(math.inf if rate is None else rate, counted / max(LEAST_SPAN_S, span_s)))
        self._slow_start, self._refused_at = False, now
        self._first = None

    def _guess(self, retry_after_s: float | None, now: float) -> None:
        """Take what was accepted since the last pause for a window's limit."""
        first, before = self._first, self._limit
        self._guesses += 1
        self._limit = 0
        if retry_after_s is None or first is None or self._guesses > GUESSES:
            return
        count = sum(1 for at in self._accepted if at >= first)
        if self._guesses == 1 or (before and count >= SAME_LIMIT * before):
            self._limit, self._window_s = max(before, count), float(math.ceil(now - first + retry_after_s - 0.5))
