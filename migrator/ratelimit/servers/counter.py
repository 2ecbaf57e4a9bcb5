"""A sliding counter: the last window's requests, weighted by how much of it is still covered, and this window's. Pure.

At x seconds into a window of W the server counts `before * (1 - x / W) + used` and allows a request while one more does
not exceed the limit. Where its windows begin it does not tell, or tells in a reset that looks like a fixed window's. So
beginnings all over a window are tried: each predicts what is left from our own requests, and an answer that tells of
more, or of less, ends it. No beginning explains a fixed window or a log for long: those give back at one instant what
a counter gives back evenly. A request may go when all the beginnings that are left allow it.

The tolerance of a prediction is what half a step between two beginnings is worth, and the requests that the server may
have counted on either side of a window's begin or of this answer.
"""

import math
from bisect import bisect_left
from typing import Final

from migrator.ratelimit.servers.report import Report
from migrator.ratelimit.servers.window_length import USUAL_S, WindowLength

__all__ = ["Counter"]

STEPS: Final = 40
"""Beginnings of the window that are tried."""

LEAST_EVIDENCE: Final = 3
"""Answers that a fixed window would not have given, before a counter is believed."""

LARGEST: Final = 10_000

COARSE_S: Final = 2.0
"""Seconds: the resets of longer windows tell when to send."""


class Counter:
    """Our own requests of the last two windows, and the beginnings that no answer has contradicted.

    Each refusal of a request that went on its word makes it a step later.
    """

    __slots__ = (
        "_counted",
        "_evidence",
        "_late_s",
        "_length",
        "_limit",
        "_live",
        "_longest_s",
        "_looked_at",
        "_window_s",
    )

    def __init__(self, length: WindowLength) -> None:
        self._length = length
        self._limit = 0
        self._longest_s = self._window_s = 0.0
        self._counted: list[float] = []
        self._live: list[float] = []
        self._evidence = 0
        self._late_s = 0.0
        self._looked_at = -math.inf

    @property
    def believed(self) -> bool:
        """Whether it may be used."""
        return bool(self._live) and self._evidence >= LEAST_EVIDENCE

    @property
    def shorter(self) -> bool:
        """Whether it explains the answers by a shorter window than their resets, in whole seconds, seem to tell."""
        return self._window_s < self._longest_s

    def answered(self, report: Report) -> None:
        """Take an answer into account."""
        self._limit = report.limit
        window_s = self._length.seconds
        if window_s is not None and window_s != self._longest_s:
            self._longest_s = window_s
            self._try(window_s)
        if report.refused and report.on_trust:
            self._late_s += self._window_s / STEPS
        if not report.refused:
            self._counted.append(0.5 * (report.sent + report.now))
        if not self._live or (report.now < self._looked_at + self._window_s / STEPS and not report.refused):
            return
        self._looked_at = report.now
        oldest = bisect_left(self._counted, report.sent - 2.0 * self._window_s)
        if oldest or len(self._counted) > LARGEST:
            del self._counted[: max(oldest, len(self._counted) - LARGEST)]
        self._live = [begin for begin in self._live if self._explains(begin, report)]
        shorter_s = max((one for one in USUAL_S if one < self._window_s), default=0)
        if not self._live and COARSE_S >= self._longest_s <= 2 * shorter_s:
            # A reset that tells when there is one unit more can be as long as two windows.
            self._try(shorter_s)
        used = self._limit - report.remaining - report.in_flight - report.overtaken - 1
        if report.refused or (report.opening and used > max(2, self._limit // 20)):
            self._evidence += 1

    def next_at(self, now: float, in_flight: int) -> float:
        """Return when the next request may go; infinity where only an answer can tell."""
        return self._late_s + max(
            (self._next_at(begin, now - self._late_s, in_flight) for begin in self._live), default=math.inf
        )

    def _try(self, window_s: float) -> None:
        self._window_s, self._evidence = window_s, 0
        self._live = [window_s * step / STEPS for step in range(STEPS)]

    def _window(self, begin: float, at: float) -> tuple[float, int, int]:
        """Return when the window began, and how many of ours were counted in the one before and in this one."""
        start = begin + math.floor((at - begin) / self._window_s) * self._window_s
        middle = bisect_left(self._counted, start)
        return start, middle - bisect_left(self._counted, start - self._window_s), len(self._counted) - middle

    def _near(self, at: float, near: float) -> int:
        """Return how many of ours the server may have counted on either side of an instant."""
        return bisect_left(self._counted, at + near) - bisect_left(self._counted, at - near)

    def _explains(self, begin: float, report: Report) -> bool:
        start, before, used = self._window(begin, report.sent)
        share = 1.0 - (report.sent - start) / self._window_s
        left = self._limit - before * share - used
        near = 0.5 * self._window_s / STEPS + 0.5 * (report.now - report.sent)
        slack = 1.0 + report.in_flight + report.overtaken + before * near / self._window_s
        slack += self._near(start, near) * (1.0 - share) + self._near(start - self._window_s, near) * share
        if report.now - start >= self._window_s - near or report.sent - start <= near:
            # The answer may belong to either of two windows.
            slack += used + before
        return left - slack <= report.remaining <= left + slack or (report.remaining == 0 and left <= slack)

    def _next_at(self, begin: float, now: float, in_flight: int) -> float:
        start, before, used = self._window(begin, now)
        used += in_flight
        room = self._limit - 1 - used
        if room >= 0:
            at = start + self._window_s * (1.0 - room / before) if before > room else start
            if at < start + self._window_s:
                return at
        late_s = self._window_s * (1.0 - (self._limit - 1) / used) if used >= self._limit else 0.0
        return start + self._window_s + late_s
