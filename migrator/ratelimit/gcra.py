"""Quotas that trickle in: a bucket that fills evenly (GCRA) is recognised by its reset, and used as it fills. Pure.

Such a server reports as reset the time until its bucket is full, so that the reset *grows* with use, where that of a
window stands still. With T seconds a unit, `used` units owe more than (used - 1) T and at most used T seconds; each
answer narrows T by that, and one that leaves nothing between the bounds shows that the server is of another kind.

Once T is known, the bucket is mirrored: each request adds T to the instant at which it will be full, and each answer
may lower it. A request passes when that instant, T later, is no more than the whole bucket away. Every bound is taken
on the safe side: the instant as late, the bucket as small as they can be.
"""

import math
from typing import Final

__all__ = ["Refill"]

LEAST_USED: Final = 5
"""Units by which the rest has to fall while the reset grows, before that is taken for a bucket."""

LEAST_GROWTH: Final = 2.0
"""Resolutions by which the reset has to grow meanwhile: rounding alone can make it grow by one."""


class Refill:
    """The evidence for a bucket, and its mirror."""

    __slots__ = ("_disproved", "_first", "_full_at", "_limit", "_proved", "_unit_most_s", "_unit_s")

    def __init__(self) -> None:
        self._limit = 0
        self._unit_s, self._unit_most_s = 0.0, math.inf
        self._first: tuple[int, float] | None = None
        self._proved = self._disproved = False
        self._full_at = math.inf

    @property
    def known(self) -> bool:
        """Whether the server fills a bucket, as far as is known."""
        return self._proved and not self._disproved

    @property
    def believed(self) -> bool:
        """Whether it was ever gone by, even if an answer has disproved it since."""
        return self._proved

    def answered(
        self, *, limit: int, remaining: int, reset_s: float, resolution_s: float, late_s: float, now: float, unseen: int
    ) -> None:
        """Take an answer into account.

        Args:
            limit: the bucket's size.
            remaining: what is left in it.
            reset_s: the reported reset.
            resolution_s: how much sooner the truth may be.
            late_s: how much later it may be.
            now: when the answer was received.
            unseen: requests that the server may have counted after this one.
        """
        used = limit - remaining
        if used <= 0 or self._disproved:
            return
        if limit != self._limit:
            self._limit, self._first = limit, None
        self._unit_s = max(self._unit_s, (reset_s - resolution_s) / used)
        if used > 1:
            self._unit_most_s = min(self._unit_most_s, (reset_s + late_s) / (used - 1))
        if self._unit_s > self._unit_most_s:
            self.disprove()
            return
        if self._first is None or remaining > self._first[0]:
            self._first = (remaining, reset_s)
        fallen, grown = self._first[0] - remaining, reset_s - self._first[1]
        if fallen >= LEAST_USED and grown >= LEAST_GROWTH * resolution_s:
            self._proved = True
        if math.isfinite(self._unit_most_s):
            self._full_at = min(self._full_at, now + reset_s + late_s + unseen * self._unit_most_s)

    def sent(self, now: float) -> None:
        """Add a request to the mirror."""
        if math.isfinite(self._full_at):
            self._full_at = max(self._full_at, now) + self._unit_most_s

    def disprove(self) -> None:
        """Give the idea up: a refusal, or an answer that no bucket gives."""
        self._disproved = True

    def next_at(self) -> float:
        """Return when the next request may go, by the mirror alone; infinity where it knows nothing."""
        if not self.known:
            return math.inf
        return self._full_at - (self._limit - 1) * self._unit_s
