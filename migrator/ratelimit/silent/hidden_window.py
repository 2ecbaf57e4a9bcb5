"""A window that nothing tells of but refusals: its limit and its length from the requests that passed. Pure.

Let a run be what passes between two refusals. If the server has a window, a run is its limit, and nothing passes until
the window ends. With Retry-After the length is the age of the run's first request plus that. Without, a probe goes at
each length that servers use, counted from the run's first request: the last one that was refused and the first one that
passed are the bounds. While the length is right, our own log of such a window never asks too much of it, nor of a
sliding log.

A run that is much shorter than the one before ends the guess: then the quota trickles in.
"""

import math
from typing import Final

__all__ = ["SHORT_S", "HiddenWindow"]

PROBES_S: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200)
"""Ages at which a window may end. After the last one each is twice the one before."""

WIDE: Final = 1.3
"""Bounds whose ratio is larger are halved by one probe more."""

SAME_LIMIT: Final = 0.5
"""A run that is a smaller share of the limit contradicts the window."""

PATIENCE: Final = 4
"""Windows without a refusal before more than the limit is tried; doubled after each refusal of that."""

QUICK_S: Final = 0.25

SHORT_S: Final = 0.5
"""A shorter window is as good as a rate."""

EXPLORED_S: Final = 30.0
"""Seconds that so many windows count for at the least."""


class HiddenWindow:
    """The guess.

    Args:
        limit: requests that passed in a window.
        began: when the first one of the run was answered.
        ended: when the last one was: the run may have met two windows, of which the later one ends after its length.

    Attributes:
        limit: requests that passed in a window.
        began: when the first one of the run was answered.
        most_s: how long the window is at the most; infinity where no request has passed after its end.
        confirmed: whether a second run was about as long as the first.
    """

    __slots__ = ("_ended", "_held", "_least_s", "_patience", "began", "confirmed", "limit", "most_s")

    def __init__(self, limit: int, began: float, ended: float | None = None) -> None:
        self.limit, self.began, self._ended = limit, began, began if ended is None else ended
        self._least_s, self.most_s = 0.0, math.inf
        self._held, self._patience = 0, PATIENCE
        self.confirmed = False

    @property
    def exploring(self) -> bool:
        """Whether the limit has held for so long that more is tried."""
        return self._held >= self._patience * self.limit * max(1.0, EXPLORED_S / max(self.most_s, SHORT_S))

    @property
    def held(self) -> bool:
        """Whether a whole limit has passed since it was taken for one."""
        return self._held >= self.limit

    def allowed(self) -> int:
        """Return the requests that may be in a window."""
        return self.limit + (max(1, self.limit // 10) if self.exploring else 0)

    @property
    def length_s(self) -> float:
        """The length that is used: the most, or the middle of wide bounds; infinity where it is not known."""
        if not self._least_s or math.isinf(self.most_s):
            return self.most_s
        if self._least_s * WIDE < self.most_s:
            return 0.5 * (self._least_s + self.most_s)
        return max((float(one) for one in PROBES_S if self._least_s < one <= self.most_s), default=self.most_s)

    def passed(self, began: float, age_s: float) -> None:
        """Note an accepted request.

        Args:
            began: when the first one of its run was answered.
            age_s: seconds since the one was answered that was accepted as many before it as the limit has.
        """
        if began > self.began:
            age_s, self.began = min(age_s, began - self.began), began
        self.most_s = min(self.most_s, max(age_s, self._least_s))
        self._held += 1
        self.confirmed = self.confirmed or self._held >= SAME_LIMIT * self.limit

    def refused(
        self, run: int, sent: float, now: float, retry_after_s: float | None, *, last: float = -math.inf
    ) -> bool:
        """Note a refusal after a run; return whether the guess still stands.

        Args:
            run: how many were accepted since the refusal before.
            last: when the one was answered that was accepted as many before as the limit has.
            sent: when the refused request was sent.
            now: when its refusal was received.
            retry_after_s: what it says.
        """
        if run and run < SAME_LIMIT * self.limit:
            return False
        self.began = max(self.began, last)
        self._ended = max(self._ended, self.began)
        met_begin = run >= 2 * self.limit and not self.exploring and run % self.limit < SAME_LIMIT * self.limit
        if run > self.limit and not met_begin:
            if self.exploring:
                self._patience *= 2
            else:
                self.limit -= max(1, self.limit // 20)
            self._held = 0
            return self.limit > 0
        if 0 < run <= self.limit:
            self.limit, self._held = run, 0
        if retry_after_s is not None:
            known_s = self.most_s if math.isfinite(self.most_s) else 1.0
            self.most_s = max(known_s, math.floor(now - self.began + retry_after_s))
        else:
            self._least_s = max(self._least_s, sent - (self.began if run else self._ended))
            if self.most_s <= self._least_s:
                self.most_s = math.inf
        return True

    def probe_at(self, now: float, *, first: bool) -> float:
        """Return when the next probe goes, where a refusal does not say when.

        The first one goes soon: it passes where the quota trickles in.
        """
        if math.isfinite(self.most_s):
            by_first = self.began + self.length_s
            return by_first if by_first > now else self._ended + self.length_s
        if first:
            return min(now + QUICK_S, self.began + self._next_length(now))
        return self._ended + self._next_length(now)

    def _next_length(self, now: float) -> float:
        age_s = max(now - self.began, self._least_s)
        length_s = next((float(one) for one in PROBES_S if one > age_s), 0.0)
        return length_s or PROBES_S[-1] * 2.0 ** math.ceil(math.log2(age_s / PROBES_S[-1]) + 1e-9)
