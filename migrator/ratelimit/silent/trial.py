"""When to send to an API that tells nothing of its limit but refusals. Pure.

At first few requests are in flight, and more with each that passes. The first refusal is taken for the end of a window;
when that is contradicted, for that of a bucket, and the rate follows a curve.
"""

import math
from bisect import bisect_left
from collections import deque
from random import Random
from typing import Final

from migrator.ratelimit.silent.cubic import Cubic
from migrator.ratelimit.silent.hidden_window import SHORT_S, HiddenWindow

__all__ = ["Trial"]

FEW: Final = 2
CAREFUL: Final = 100
ONE_MORE: Final = 15
"""So many requests may be in flight until 100 have passed, then one more for every 15: a first limit refuses them."""

FIRST_PAUSE_S, LEAST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 0.1, 60.0
"""Seconds of pause after a refusal that does not say how long. It starts at two requests' worth of the rate, or at a
second where nothing has passed yet, and doubles."""

TRICKLE: Final = 4.0
"""A first run that was so many times as long as the pause after it was no window's burst."""

REMEMBERED: Final = 100_000


class Trial:
    """What is known of one limiter key, and what to send by it.

    Args:
        steady_rate: requests per second that held in an earlier run; None starts slowly.
        rng: the source of jitter.
    """

    __slots__ = ("_accepted", "_cubic", "_rng", "_run", "_run_from", "_steady", "_unheard", "_window")

    def __init__(self, steady_rate: float | None, rng: Random) -> None:
        self._rng = rng
        self._cubic = Cubic(steady_rate)
        self._steady = steady_rate is not None
        self._accepted: deque[float] = deque(maxlen=REMEMBERED)
        self._run, self._run_from = 0, math.inf
        self._window: HiddenWindow | None = None
        self._unheard = 0

    def rate(self, now: float) -> float | None:
        """Return the requests per second to send evenly; None for as fast as the slots allow."""
        rate = math.inf if self._window is not None else self._cubic.rate(now)
        return rate if math.isfinite(rate) else None

    def steady_rate(self) -> float | None:
        """Return the rate that held, for the next run."""
        window = self._window
        rate = self._cubic.ceiling if window is None else window.limit / window.length_s
        return rate if 0.0 < rate < math.inf else None

    def most_in_flight(self) -> float:
        """Return how many requests may be in flight; after a refusal, and beyond a limit, one is the first."""
        if self._unheard:
            return 1
        if self._window is not None and (self._run == self._window.limit or not self._window.confirmed):
            return 1
        if self._window is not None and not self._window.held:
            return min(1 + self._run, FEW)
        if self._steady and self._window is None:
            return 1 + self._run
        return min(1 + self._run, FEW + max(0, len(self._accepted) - CAREFUL) // ONE_MORE)

    def next_at(self, in_flight: int) -> float:
        """Return when the next request may go by the window that is guessed; infinity where only an answer can tell."""
        window, accepted = self._window, self._accepted
        if window is None or self._unheard:
            return -math.inf
        free = window.allowed() - in_flight
        if free <= 0:
            return math.inf
        return accepted[-free] + window.length_s if free <= len(accepted) else -math.inf

    def accepted(self, now: float, *, before_refusal: bool) -> None:
        """Note an answer that was no refusal; one that was sent before the last refusal belongs to its run."""
        self._accepted.append(now)
        self._cubic.accepted()
        if before_refusal:
            if self._window is not None and self._unheard == 1:
                self._window.limit += 1
            return
        if not self._run:
            self._judge_first_run(now)
            self._run_from = now
        self._run += 1
        self._unheard = 0
        if self._window is not None:
            window, accepted = self._window, self._accepted
            before = accepted[-window.limit - 1] if self._run > window.limit < len(accepted) else -math.inf
            window.passed(self._run_from, now - before)
            if window.length_s < SHORT_S or (window.exploring and window.length_s <= 2.0 * SHORT_S):
                self._cubic.start(window.limit / window.length_s, now)
                self._window = None
            elif window.exploring:
                in_window = len(accepted) - bisect_left(accepted, now - window.length_s)
                window.limit = max(window.limit, in_window)

    def _judge_first_run(self, now: float) -> None:
        """Give the window up if something passes soon after a long first run: then the quota trickles in."""
        window = self._window
        if window is not None and len(self._accepted) <= window.limit + 1 > 2:
            last = self._accepted[-2]
            if TRICKLE * (now - last) < last - window.began:
                self._cubic.start(window.limit / (last - window.began), now)
                self._window = None

    def held(self) -> None:
        """Note that nothing goes for a while, since the server is down: one request is the first again."""
        self._run = 0

    def refused(self, sent: float, retry_after_s: float | None, now: float) -> float:
        """Note a refusal; return for how many seconds nothing may go where it does not say so itself."""
        run, self._run = self._run, 0
        self._unheard += 1
        if self._window is not None:
            last = self._accepted[-self._window.limit] if len(self._accepted) >= self._window.limit else -math.inf
            if not self._window.refused(run, sent, now, retry_after_s, last=last):
                self._window = None
                self._cubic.refused(now)
        elif not self._steady and run == len(self._accepted) > 0:
            self._window = HiddenWindow(run, self._run_from, self._accepted[-1])
            self._window.refused(run, sent, now, retry_after_s)
            self._cubic.met(now)
        elif self._accepted or self._steady:
            self._cubic.refused(now)
        if self._window is not None:
            return max(0.0, self._window.probe_at(now, first=len(self._accepted) == run) - now)
        ceiling = self._cubic.ceiling
        least_s = FIRST_PAUSE_S if math.isinf(ceiling) else max(LEAST_PAUSE_S, 2.0 / ceiling)
        grown_s = min(LONGEST_PAUSE_S, least_s * 2.0 ** min(self._unheard - 1, 20))
        return self._rng.uniform(0.5 * grown_s, grown_s)
