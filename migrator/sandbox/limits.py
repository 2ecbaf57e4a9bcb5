"""Rate limiters as servers have them, and the headers in which they tell of themselves; the clock is passed in."""

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

__all__ = ["Algorithm", "Limiter", "ResetStyle", "Rounding", "Verdict", "limit_headers", "make_limiter"]


class Algorithm(StrEnum):
    """How a server counts."""

    FIXED = "fixed"
    FIRST = "first"
    SLIDING = "sliding"
    COUNTER = "counter"
    GCRA = "gcra"


class ResetStyle(StrEnum):
    """How a server writes its reset."""

    RELATIVE = "relative"
    EPOCH = "epoch"
    DRAFT = "draft"


class Rounding(StrEnum):
    """How a server makes its reset a whole number."""

    UP = "up"
    DOWN = "down"
    NEAREST = "nearest"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a limiter says to one request.

    Attributes:
        allowed: whether it may pass.
        limit: requests in a window.
        remaining: what is left after it.
        reset_s: seconds until there is more.
        retry_after_s: seconds until a request may pass again; 0 where it may at once.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float


class Limiter(Protocol):
    """Counts requests."""

    def take(self, now: float) -> Verdict:
        """Count a request, or refuse it without counting."""

    def peek(self, now: float) -> Verdict:
        """Say how things stand, without counting."""


def make_limiter(algorithm: Algorithm, *, limit: int, window_s: float, start: float = 0.0) -> Limiter:
    """Return a limiter of `limit` requests in `window_s`; `start` is where windows are aligned to."""
    match algorithm:
        case Algorithm.FIXED:
            return FixedWindow(limit, window_s, start)
        case Algorithm.FIRST:
            return FirstRequestWindow(limit, window_s)
        case Algorithm.SLIDING:
            return SlidingLog(limit, window_s)
        case Algorithm.COUNTER:
            return SlidingCounter(limit, window_s, start)
        case Algorithm.GCRA:
            return Gcra(limit, window_s)


class FixedWindow:
    """A count that starts again at each full window of the clock."""

    def __init__(self, limit: int, window_s: float, start: float) -> None:
        self._limit, self._window_s, self._start = limit, window_s, start
        self._window, self._used = -1, 0

    def take(self, now: float) -> Verdict:
        """Count a request, or refuse it without counting."""
        verdict = self.peek(now)
        if verdict.remaining == 0:
            return Verdict(False, self._limit, 0, verdict.reset_s, verdict.reset_s)
        self._used += 1
        return Verdict(True, self._limit, verdict.remaining - 1, verdict.reset_s, 0.0)

    def peek(self, now: float) -> Verdict:
        """Say how things stand, without counting."""
        window = math.floor((now - self._start) / self._window_s)
        if window != self._window:
            self._window, self._used = window, 0
        reset_s = self._start + (window + 1) * self._window_s - now
        left = self._limit - self._used
        return Verdict(left > 0, self._limit, left, reset_s, 0.0 if left else reset_s)


class FirstRequestWindow:
    """A count whose window opens with the first request after the last one ended."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._ends, self._used = -math.inf, 0

    def take(self, now: float) -> Verdict:
        """Count a request, or refuse it without counting."""
        if now >= self._ends:
            self._ends, self._used = now + self._window_s, 0
        if self._used >= self._limit:
            return Verdict(False, self._limit, 0, self._ends - now, self._ends - now)
        self._used += 1
        return Verdict(True, self._limit, self._limit - self._used, self._ends - now, 0.0)

    def peek(self, now: float) -> Verdict:
        """Say how things stand, without counting."""
        if now >= self._ends:
            return Verdict(True, self._limit, self._limit, self._window_s, 0.0)
        left = self._limit - self._used
        return Verdict(left > 0, self._limit, left, self._ends - now, 0.0 if left else self._ends - now)


class SlidingLog:
    """The exact count of the last window; its reset is when the oldest request leaves it."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._log: deque[float] = deque()

    def take(self, now: float) -> Verdict:
        """Count a request, or refuse it without counting."""
        verdict = self.peek(now)
        if not verdict.allowed:
            return verdict
        self._log.append(now)
        return Verdict(True, self._limit, verdict.remaining - 1, self._log[0] + self._window_s - now, 0.0)

    def peek(self, now: float) -> Verdict:
        """Say how things stand, without counting."""
        while self._log and self._log[0] + self._window_s <= now:
            self._log.popleft()
        left = self._limit - len(self._log)
        reset_s = self._log[0] + self._window_s - now if self._log else self._window_s
        return Verdict(left > 0, self._limit, left, reset_s, 0.0 if left else reset_s)


class SlidingCounter:
    """Two aligned counts, the former weighted by how much of it the sliding window still covers."""

    def __init__(self, limit: int, window_s: float, start: float) -> None:
        self._limit, self._window_s, self._start = limit, window_s, start
        self._window, self._used, self._before = -1, 0, 0

    def take(self, now: float) -> Verdict:
        """Count a request, or refuse it without counting."""
        verdict = self.peek(now)
        if not verdict.allowed:
            return verdict
        self._used += 1
        after = self.peek(now)
        return Verdict(True, self._limit, verdict.remaining - 1, after.reset_s, 0.0)

    def peek(self, now: float) -> Verdict:
        """Say how things stand, without counting."""
        window = math.floor((now - self._start) / self._window_s)
        if window != self._window:
            self._before = self._used if window == self._window + 1 else 0
            self._window, self._used = window, 0
        passed_s = now - self._start - window * self._window_s
        weighted = self._before * (1.0 - passed_s / self._window_s) + self._used
        left = max(0, math.floor(self._limit - weighted + 1e-9))
        reset_s = self._one_more_s(passed_s, left)
        return Verdict(left > 0, self._limit, left, reset_s, 0.0 if left else reset_s)

    def _one_more_s(self, passed_s: float, left: int) -> float:
        """Return when the weighted count will have fallen by one unit more."""
        if self._before:
            wanted = self._limit - (left + 1) - self._used
            at = self._window_s * (1.0 - wanted / self._before)
            if wanted >= 0 and at <= self._window_s:
                return max(at - passed_s, 1e-6)
        rest_s = self._window_s - passed_s
        if not self._used:
            return rest_s
        wanted = self._limit - (left + 1)
        return rest_s + max(0.0, self._window_s * (1.0 - wanted / self._used))


class Gcra:
    """A bucket that refills evenly (generic cell rate algorithm); its reset is the time until it is full."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._interval_s = window_s / limit
        self._full_at = -math.inf

    def take(self, now: float) -> Verdict:
        """Count a request, or refuse it without counting."""
        full_at = max(self._full_at, now) + self._interval_s
        if full_at - now > self._window_s + 1e-9:
            return Verdict(False, self._limit, 0, self._full_at - now, full_at - now - self._window_s)
        self._full_at = full_at
        return self._standing(now, allowed=True)

    def peek(self, now: float) -> Verdict:
        """Say how things stand, without counting."""
        return self._standing(now, allowed=None)

    def _standing(self, now: float, *, allowed: bool | None) -> Verdict:
        owed_s = max(0.0, self._full_at - now)
        left = math.floor((self._window_s - owed_s) / self._interval_s + 1e-9)
        wait_s = 0.0 if left else owed_s + self._interval_s - self._window_s
        return Verdict(left > 0 if allowed is None else allowed, self._limit, left, owed_s, wait_s)


def _whole(seconds: float, rounding: Rounding) -> float:
    match rounding:
        case Rounding.UP:
            return math.ceil(seconds)
        case Rounding.DOWN:
            return math.floor(seconds)
        case Rounding.NEAREST:
            return math.floor(seconds + 0.5)
        case Rounding.NONE:
            return round(seconds, 3)


def limit_headers(
    verdict: Verdict, *, style: ResetStyle, utc: float, window_s: float, rounding: Rounding = Rounding.UP
) -> dict[str, str]:
    """Return the headers that tell of a verdict; a refusal also has Retry-After, in whole seconds rounded up.

    Args:
        verdict: what to tell.
        style: Confluent's relative trio, GitHub's with an epoch, or the IETF draft's two fields.
        utc: the server's clock.
        window_s: the window's length.
        rounding: how the reset is made a whole number.
    """
    if style is ResetStyle.DRAFT:
        headers = {
            "RateLimit-Policy": f'"default";q={verdict.limit};w={window_s:g}',
            "RateLimit": f'"default";r={verdict.remaining};t={_whole(verdict.reset_s, rounding):g}',
        }
    else:
        reset = _whole(verdict.reset_s + (utc if style is ResetStyle.EPOCH else 0.0), rounding)
        headers = {
            "X-RateLimit-Limit": str(verdict.limit),
            "X-RateLimit-Remaining": str(verdict.remaining),
            "X-RateLimit-Reset": str(reset),
        }
    if not verdict.allowed:
        headers["Retry-After"] = str(max(1, math.ceil(verdict.retry_after_s)))
    return headers
