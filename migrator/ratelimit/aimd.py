"""The rate for an API that tells nothing of its limit: additive increase, multiplicative decrease, by its refusals.

Pure, as `pacing`, whose part it is: `now` is in seconds of a monotonic clock.
"""

import math
from collections import deque
from typing import Final

__all__ = ["AIMD"]

DECREASE: Final = 0.85
QUICK_GROWTH: Final = 0.005
NEAR: Final = 0.05
SLOW_GROWTH: Final = 0.0005
SLOWEST_RATE: Final = 1 / 60
"""The rate without headers, once a refusal has shown that there is a limit. The ceiling is what was accepted of late; a
refusal puts the rate at 85 % of it, and each answer adds half a hundredth of it, but only a tenth of that within 5 % of
it, where each attempt at more ends in a refusal (RFC 9438 does so with windows of data)."""

SLOW_START: Final = 16
SLOW_START_ANSWERS: Final = 200
"""Without headers, and before any refusal, one request more may be in flight for each answer, up to 16; after 200 good
answers as many as there are slots. A first limit is met by so many at the most: 16 of 1,000 are below 2 %."""

ACCEPTED_S: Final = 60.0
"""Seconds over which accepted requests are counted, for the rate to fall back to."""


class AIMD:
    """The rate of one limiter key.

    Args:
        steady_rate: requests per second that held in an earlier run; None starts slowly.
    """

    __slots__ = ("_accepted", "_answers", "_ceiling", "_rate", "_since", "_slow_start")

    def __init__(self, steady_rate: float | None) -> None:
        self._rate = self._ceiling = steady_rate or math.inf
        self._slow_start = steady_rate is None
        self._since = 0.0
        self._answers = 0
        self._accepted: deque[float] = deque(maxlen=100_000)

    def rate(self) -> float | None:
        """Return the requests per second to send evenly; None while no refusal has shown that there is a limit."""
        return None if self._slow_start else self._rate

    def most_in_flight(self) -> float:
        """Return how many requests may be in flight as far as the slow start goes."""
        if not self._slow_start or self._answers >= SLOW_START_ANSWERS:
            return math.inf
        return min(SLOW_START, 1 + self._answers)

    def accepted(self, now: float) -> None:
        """Note an answer that was no refusal."""
        if not self._answers:
            self._since = now
        self._accepted.append(now)
        self._answers += 1
        near = abs(self._rate - self._ceiling) <= NEAR * self._ceiling
        self._rate += self._ceiling * (SLOW_GROWTH if near else QUICK_GROWTH)

    def refused(self, retry_after_s: float | None, now: float) -> None:
        """Note a refusal: the rate falls below what was accepted of late."""
        while self._accepted and self._accepted[0] < now - ACCEPTED_S:
            self._accepted.popleft()
        # What was accepted is the quota of the time until now and of that which has to be waited for.
        span_s = min(ACCEPTED_S, now - self._since) + (retry_after_s or 0.0)
        accepted = len(self._accepted) / max(1.0, span_s)
        self._ceiling = max(SLOWEST_RATE, min(self._rate, accepted))
        self._rate = max(SLOWEST_RATE, DECREASE * self._ceiling)
        self._slow_start = False
