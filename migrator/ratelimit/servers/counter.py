"""A sliding counter: the last window's requests, weighted by how much of it is still covered, and this window's. Pure.

At x seconds into a window of W the server counts `before * (1 - x / W) + used` and allows a request while one more does
not exceed the limit. Where its windows begin, and how long they are, its reset tells or does not. So lengths, and
beginnings all over a window, are tried: each predicts what is left from our own requests, and an answer that tells of
more, or of less, ends it. No beginning explains a fixed window or a log for long: those give back at one instant what
a counter gives back evenly. A request may go when all guesses that are left allow it.

A guess stands for a stretch of beginnings. Few that are left are halved, until a stretch is short against the time in
which one unit comes back. The tolerance of a prediction is what half a stretch is worth, and the requests that the
server may have counted on either side of a window's begin or of this answer.
"""

import math
from bisect import bisect_left, insort
from itertools import product
from typing import Final, NamedTuple

from migrator.ratelimit.servers.report import Report
from migrator.ratelimit.servers.window_length import WindowLength

__all__ = ["Counter"]

STEPS: Final = 40
"""Beginnings of the window that are tried."""

READINGS: Final = 12
"""First answers with another reset than the one before, which are kept until guesses can be held against them."""

LOOKS: Final = 8
"""Answers of a window that are looked at, at the least."""

FEW: Final = 8
"""So many guesses that are left are halved."""

FINEST: Final = 0.1
"""A stretch is short enough at this share of the time in which one unit comes back."""

PART: Final = 2
"""An answer that tells of a part that came back weighs as much as so many refusals, which may have other reasons."""

LARGEST: Final = 10_000


class Guess(NamedTuple):
    """A window's length, a stretch of beginnings, and what the reset tells.

    Attributes:
        ends: whether the reset tells when the window ends, and not when there is one unit more.
        window_s: the length.
        begin: the middle of the stretch, in seconds of any clock.
        half_s: half of its length.
    """

    ends: bool
    window_s: float
    begin: float
    half_s: float


class Counter:
    """Our own requests of the last two windows, and the guesses that no answer has contradicted.

    Attributes:
        plain: whether one told of a clear part that came back, and not of a unit or two.
        evidence: weight of the answers that a fixed window would not have given.
    """

    __slots__ = (
        "_counted",
        "_guesses",
        "_length",
        "_limit",
        "_looked_at",
        "_looked_left",
        "_readings",
        "_refused",
        "_tried",
        "evidence",
        "plain",
    )

    def __init__(self, length: WindowLength) -> None:
        self._length = length
        self._limit = self.evidence = 0
        self.plain = False
        self._refused = False
        self._tried: list[float] = []
        self._counted: list[float] = []
        self._readings: list[Report] = []
        self._guesses: list[Guess] = []
        self._looked_at, self._looked_left = -math.inf, 0

    @property
    def possible(self) -> bool:
        """Whether any guess is left."""
        return bool(self._guesses)

    def answered(self, report: Report) -> None:
        """Take an answer into account."""
        self._limit = report.limit
        self._refused = self._refused or (report.refused and report.on_trust)
        if not report.refused:
            insort(self._counted, 0.5 * (report.sent + report.now))
        if (lengths := self._length.down_to_half()) != self._tried:
            self._tried, self.evidence = lengths, 0
            self._guesses = [
                one
                for ends, window_s, step in product((True, False), lengths, range(STEPS))
                if self._explains_all(one := Guess(ends, window_s, window_s * step / STEPS, 0.5 * window_s / STEPS))
            ]
        if len(self._readings) < READINGS and (not self._readings or self._readings[-1].reset_s != report.reset_s):
            self._readings.append(report)
        if not self._guesses:
            return
        least_s, most_s = self._tried[0], self._tried[-1]
        used = self._limit - report.remaining - report.in_flight - report.overtaken - 1
        part = 0 if report.refused or not report.opening else PART if used > max(2, self._limit // 20) else used > 0
        seen = abs(report.remaining - self._looked_left) >= self._limit / LOOKS
        if report.now < self._looked_at + least_s / STEPS and not (report.refused or part or seen):
            return
        self._looked_at, self._looked_left = report.now, report.remaining
        oldest = bisect_left(self._counted, report.sent - 2.0 * most_s)
        if oldest or len(self._counted) > LARGEST:
            del self._counted[: max(oldest, len(self._counted) - LARGEST)]
        parts = (part for one in self._guesses for part in self._parts(one, report))
        self._guesses = [one for one in parts if self._explains(one, report)]
        self.evidence += part + report.refused
        self.plain = self.plain or part == PART
        if len(self._guesses) <= FEW:
            self._guesses = [half for one in self._guesses for half in self._halved(one)]

    def next_at(self, now: float, in_flight: int) -> float:
        """Return when the next request may go; infinity where only an answer can tell.

        Until a request on its word was refused, one alone goes when half of the guesses allow it: its answer tells the
        halves apart. Without that slow guesses would never be contradicted.
        """
        by_all = max((self._next_at(one, now, in_flight) for one in self._guesses), default=math.inf)
        if in_flight or self._refused or not self._guesses:
            return by_all
        # With room for one more, a refusal contradicts.
        by_half = sorted(self._next_at(one, now, 1) for one in self._guesses)[len(self._guesses) // 2]
        return min(by_all, by_half)

    def _parts(self, one: Guess, report: Report) -> list[Guess]:
        """Halve a guess that has a window begin just as the answer was given: what is left depends on which part."""
        trip_s = report.now - report.sent
        since_s = (report.sent - one.begin + one.half_s) % one.window_s
        straddles = one.half_s > trip_s and (since_s <= 2.0 * one.half_s or since_s + trip_s >= one.window_s)
        return self._halved(one) if straddles else [one]

    def _halved(self, one: Guess) -> list[Guess]:
        half_s = 0.5 * one.half_s
        if 2.0 * one.half_s <= FINEST * one.window_s / self._limit:
            return [one]
        return [one._replace(begin=one.begin + side * half_s, half_s=half_s) for side in (-1, 1)]

    def _window(self, window_s: float, begin: float, at: float, until: float = math.inf) -> tuple[float, int, int]:
        """Return when the window began, and how many of ours were counted in the one before and in this one."""
        start = begin + math.floor((at - begin) / window_s) * window_s
        middle, end = bisect_left(self._counted, start), bisect_left(self._counted, until)
        return start, middle - bisect_left(self._counted, start - window_s), max(0, end - middle)

    def _near(self, at: float, near: float) -> int:
        """Return how many of ours the server may have counted on either side of an instant."""
        return bisect_left(self._counted, at + near) - bisect_left(self._counted, at - near)

    def _explains_all(self, one: Guess) -> bool:
        return all(self._explains(one, reading) for reading in self._readings)

    def _explains(self, one: Guess, report: Report) -> bool:
        window_s = one.window_s
        start, before, used = self._window(window_s, one.begin, report.sent, report.now)
        share = 1.0 - (report.sent - start) / window_s
        left = self._limit - before * share - used
        near = one.half_s + 0.5 * (report.now - report.sent)
        slack = 1.0 + report.in_flight + report.overtaken + before * near / window_s
        slack += self._near(start, near) * (1.0 - share) + self._near(start - window_s, near) * share
        if report.now - start >= window_s - near or report.sent - start <= near:
            # The answer may belong to either of two windows.
            slack += used + before
        elif not self._explains_reset(one, report, start + window_s, before):
            return False
        return left - slack <= report.remaining <= left + slack or (report.remaining == 0 and left <= slack)

    def _explains_reset(self, one: Guess, report: Report, end: float, before: int) -> bool:
        """Tell whether a guess explains the reset, whatever its rounding."""
        if report.reset_s is None or report.refused or (before and not one.ends):
            return True
        least = report.sent + report.reset_s - report.resolution_s - one.half_s
        most = report.now + report.reset_s + max(report.late_s, min(report.resolution_s, 1.0)) + one.half_s
        one_more = end if one.ends else end + one.window_s / max(1, self._limit - report.remaining)
        return least <= one_more <= most or least <= end <= most

    def _next_at(self, one: Guess, now: float, in_flight: int) -> float:
        window_s = one.window_s
        start, before, used = self._window(window_s, one.begin + one.half_s, now)
        used += in_flight
        room = self._limit - 1 - used
        if room >= 0:
            at = start + window_s * (1.0 - room / before) if before > room else start
            if at < start + window_s:
                return at
        late_s = window_s * (1.0 - (self._limit - 1) / used) if used >= self._limit else 0.0
        return start + window_s + late_s
