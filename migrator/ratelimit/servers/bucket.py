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

from migrator.ratelimit.servers.report import Report

__all__ = ["Bucket"]

LEAST_USED: Final = 5
"""Units by which the rest has to fall while the reset grows, before that is taken for a bucket."""

LEAST_GROWTH: Final = 2.0
"""Resolutions by which the reset has to grow meanwhile: rounding alone can make it grow by one."""

ROOM, MOST_ROOM = 4, 2
"""Units of room that a refusal adds, and the part of the limit beyond which a bucket explains no refusal."""

KEPT: Final = 0.998
"""What is left of the room that is kept for others, after each answer that tells of none."""


class Bucket:
    """The evidence for a bucket, and its mirror."""

    __slots__ = ("_contradicted", "_first", "_full_at", "_limit", "_others", "_unit_most_s", "_unit_s", "proved")

    def __init__(self) -> None:
        self._limit = 0
        self._unit_s, self._unit_most_s = 0.0, math.inf
        self._first: tuple[int, float] | None = None
        self.proved = self._contradicted = False
        self._full_at = math.inf
        self._others = 0.0

    @property
    def believed(self) -> bool:
        """Whether it may be used."""
        return self.proved and not self._contradicted

    @property
    def room(self) -> int:
        """Units that are kept for what others take before the next answer."""
        return math.ceil(self._others) if self.believed else 0

    def answered(self, report: Report) -> None:
        """Take an answer into account."""
        if report.refused:
            self._refused(report)
            return
        if report.reset_s is None:
            return
        limit, remaining, reset_s = report.limit, report.remaining, report.reset_s
        unseen = report.in_flight + report.overtaken
        used = limit - remaining
        if used <= 0 or self._contradicted:
            return
        if limit != self._limit:
            self._limit, self._first = limit, None
        self._unit_s = max(self._unit_s, (reset_s - report.resolution_s) / used)
        if used > 1:
            self._unit_most_s = min(self._unit_most_s, (reset_s + report.late_s) / (used - 1))
        if self._unit_s > self._unit_most_s:
            self.contradict()
            return
        if self._first is None or remaining > self._first[0]:
            self._first = (remaining, reset_s)
        fallen, grown = self._first[0] - remaining, reset_s - self._first[1]
        if fallen >= LEAST_USED and grown >= LEAST_GROWTH * report.resolution_s:
            self.proved = True
        if math.isfinite(self._unit_most_s):
            self._see_others(report, report.sent + (used - 1) * self._unit_s)
            self._full_at = min(self._full_at, report.now + reset_s + report.late_s + unseen * self._unit_most_s)

    def _refused(self, report: Report) -> None:
        """Keep more room after a refusal: less than a unit was there. Give the idea up where much room was kept."""
        self._full_at = max(self._full_at, report.sent + (self._limit - 1) * self._unit_s)
        self._others += ROOM
        self._contradicted = self._contradicted or not self.proved or self._others > self._limit / MOST_ROOM

    def _see_others(self, report: Report, least_full_at: float) -> None:
        """Let an answer that tells of more use than our own raise the mirror, and keep as much room as others took."""
        if report.shared:
            return
        taken = (least_full_at - self._full_at) / self._unit_most_s
        self._others = max(taken + 1.0 if taken > 0.0 else 0.0, KEPT * self._others)
        self._full_at = max(self._full_at, least_full_at)

    def sent(self, now: float) -> None:
        """Add a request to the mirror."""
        if math.isfinite(self._full_at):
            self._full_at = max(self._full_at, now) + self._unit_most_s

    def contradict(self) -> None:
        """Give the idea up: a refusal, or an answer that no bucket gives."""
        self._contradicted = True

    def next_at(self, reserve: int) -> float:
        """Return when the next request may go that leaves a reserve, by the mirror alone; infinity without one."""
        if not self.believed:
            return math.inf
        return self._full_at - (self._limit - 1 - reserve) * self._unit_s
