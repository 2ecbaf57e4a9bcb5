"""How long a window is, from resets in whole seconds. Pure.

A reset is never longer than the window, so the longest lower bound of one is a lower bound of the length. A reset that
was reported as a window began is an upper bound. Between them the next length is taken that servers use, or the upper
bound where none of those fits. One that is too long costs some time, while the window's reported end stays in use; one
that is too short is found out by a refused request, which goes alone. The first answer of all may have met a window
that was half over, so a second window has to begin before the length is used.
"""

import math
from typing import Final

from migrator.ratelimit.servers.report import Report

__all__ = ["WindowLength"]

LEAST_OPENINGS: Final = 2

USUAL_S: Final = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 86400)
"""Lengths that servers use."""

LONGER_S: Final = 0.95
"""Seconds: a reset that is so much longer shows that an earlier one was of a window that was half over."""

FINE_S: Final = 20.0
"""Seconds: shorter windows may have any whole length."""


class WindowLength:
    """The length of the server's windows.

    Attributes:
        seconds: the length; None while it is not known.
    """

    __slots__ = ("_late_s", "_least_s", "_most_s", "_openings", "_rounded_s", "seconds")

    def __init__(self) -> None:
        self._least_s, self._most_s = 0.0, math.inf
        self._late_s = self._rounded_s = 0.0
        self._openings = 0
        self.seconds: float | None = None

    def answered(self, report: Report) -> None:
        """Take an answer into account."""
        if report.window_s is not None:
            self.seconds = self._most_s = report.window_s
        if report.reset_s is None or report.window_s is not None:
            return
        longer = report.reset_s - report.resolution_s > self._least_s > 0.0
        self._least_s = max(self._least_s, report.reset_s - report.resolution_s)
        self._late_s = max(self._late_s, report.late_s)
        # A reset by the clock may have been read when a part of the window was over.
        self._rounded_s = 1.0 if report.resolution_s > 1.0 else 0.0
        if report.reset_s > self._most_s + LONGER_S:
            self._most_s = math.inf
        if report.opening and (longer or report.remaining == report.limit - 1):
            self._most_s = min(self._most_s, report.reset_s)
        self._openings += report.opening and not report.refused
        if self._openings >= LEAST_OPENINGS:
            self._choose()

    def too_short(self) -> bool:
        """Note that a request was refused that the length allowed; return whether a longer one is possible."""
        if self.seconds is None or self.seconds + 1.0 > self._longest():
            return False
        self._least_s = max(self._least_s, self.seconds)
        self._choose()
        return True

    def _longest(self) -> float:
        return math.ceil(self._most_s + self._late_s) + self._rounded_s if math.isfinite(self._most_s) else math.inf

    def _choose(self) -> None:
        least, longest = math.floor(self._least_s) + 1, self._longest()
        length = next((one for one in USUAL_S if one >= least), math.inf)
        if length > longest:
            length = max(least, longest - self._rounded_s)
        self.seconds = float(length) if length < math.inf else None

    def down_to_half(self) -> list[float]:
        """Return the lengths down to half of the longest reset: one that tells of one unit more may be so long."""
        if self.seconds is None:
            return []
        least_s = 0.5 * max(self._least_s, 1.0)
        every = range(1, int(FINE_S) + 1) if self.seconds <= FINE_S else USUAL_S
        return [float(one) for one in every if least_s <= one < self.seconds] + [self.seconds]
