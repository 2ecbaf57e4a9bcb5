"""How long a window is, from resets in whole seconds. Pure.

A reset is never longer than the window, so the longest lower bound of one is a lower bound of the length. What is above
it stays open where the reset's rounding and our lateness hide it. So the length is taken for the next one that servers
use. One that is too long costs some time, while the window's reported end stays in use; one that is too short is found
out by a refused request, which goes alone. The first answer of all may have met a window that was half over, so a
second window has to begin before the length is used.
"""

import math
from typing import Final

from migrator.ratelimit.servers.report import Report

__all__ = ["USUAL_S", "WindowLength"]

LEAST_OPENINGS: Final = 2

USUAL_S: Final = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 86400)
"""Lengths that servers use."""


class WindowLength:
    """The length of the server's windows.

    Attributes:
        seconds: the length; None while it is not known.
    """

    __slots__ = ("_least_s", "_openings", "seconds")

    def __init__(self) -> None:
        self._least_s = 0.0
        self._openings = 0
        self.seconds: float | None = None

    def answered(self, report: Report) -> None:
        """Take an answer into account."""
        if report.window_s is not None:
            self.seconds = report.window_s
        if report.reset_s is None or report.window_s is not None:
            return
        self._least_s = max(self._least_s, report.reset_s - report.resolution_s)
        self._openings += report.opening
        if self._openings >= LEAST_OPENINGS:
            least = math.floor(self._least_s) + 1
            self.seconds = next((float(one) for one in USUAL_S if one >= least), None)
