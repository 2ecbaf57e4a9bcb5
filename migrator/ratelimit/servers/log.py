"""A quota of `limit` requests in any stretch of W seconds: our own requests of the last window are the mirror. Pure.

A client that never sends more than `limit` in W seconds cannot exceed such a quota, nor that of a fixed window of the
same length, wherever it begins. A request that was answered at r was counted before r, and one that is sent at t is
counted after t; so what was answered W before need not be counted any more. Between either count and what we see of it
lies a part of the round trip; half of the fastest one is taken off as well.

It holds only where no one else draws on the quota, and the length is a conclusion. So each answer is held against it:
one that tells of more use than our own ends it, and so does a refusal.
"""

import math
from collections import deque

from migrator.ratelimit.servers.report import Report
from migrator.ratelimit.servers.window_length import WindowLength

__all__ = ["Log"]

LEAST, LARGEST = 8, 10_000
"""Requests in a window: with fewer an answer has no room to contradict the log, and more are not remembered."""


class Log:
    """Our own requests of the last window.

    Attributes:
        contradicted: whether it may have asked too much.
        exceeded: whether the server gave back sooner, as a window or a counter does.
    """

    __slots__ = ("_answered", "_fastest_s", "_length", "_limit", "contradicted", "exceeded")

    def __init__(self, length: WindowLength) -> None:
        self._length = length
        self._answered: deque[float] = deque(maxlen=LARGEST)
        self._fastest_s = math.inf
        self._limit = 0
        self.contradicted = self.exceeded = False

    @property
    def believed(self) -> bool:
        """Whether it may be used: the window's length is known and no answer has spoken against it."""
        return not self.contradicted and LEAST <= self._limit <= LARGEST and self._length.seconds is not None

    def answered(self, report: Report) -> None:
        """Take an answer into account."""
        self._limit = report.limit
        if report.refused:
            self.contradicted = self.contradicted or (report.on_trust and not self._length.too_short())
            return
        self._fastest_s = min(self._fastest_s, report.now - report.sent)
        # Of the requests that the server has counted beside this one, so many are answered.
        counted = self._limit - 1 - report.remaining - report.in_flight
        if counted > 0 and self.believed and (window_s := self._length.seconds) is not None:
            oldest = self._answered[-counted] if counted <= len(self._answered) else -math.inf
            self.contradicted = oldest <= report.sent - window_s
            full = self._answered[-self._limit] if self._limit <= len(self._answered) else -math.inf
            self.exceeded = self.exceeded or full + 0.0 > report.now - window_s
        self._answered.append(report.now)

    def lost(self, now: float) -> None:
        """Take a request into account that the server may have counted, though its answer does not say so."""
        self._answered.append(now)

    def next_at(self, in_flight: int) -> float:
        """Return when the next request may go by this count; infinity where only an answer can tell."""
        free = self._limit - in_flight
        if free <= 0 or (window_s := self._length.seconds) is None:
            return math.inf
        if free > len(self._answered):
            return -math.inf
        return self._answered[-free] + window_s - 0.5 * self._fastest_s
