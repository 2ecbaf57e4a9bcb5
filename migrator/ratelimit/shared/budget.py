"""The budget of a quota that several runs share: pure transitions on plain numbers.

This class is the specification. `local_quota` applies it to a file that the runs of one host share, and the scripts of
`redis_quota` do the same inside a Redis server; a test runs both on the same histories. All instants are seconds of one
clock, that of the place where the numbers are kept.

The proof is the pacer's, for all runs together. Let m be the lowest `remaining` that was reported in this window. A
request that the server counted after m is in flight still: had it been reported, it would have reported less than m. So
the server's true rest is at least m less the requests in flight, and one more may go while that is above zero. A run
that dies leaves its requests in flight for ever, so no one takes its units a second time, but only until the window
ends.

A window ends when the reset of the report m has passed for certain. Then one request of one run goes alone, and its
answer opens the next window. Requests that are in flight at that instant may be counted in either window, so they are
taken off the new one too: the strays. A stray that was taken more than `TRANSIT_S` ago has been counted, since a server
counts a request when it arrives; it is forgotten. Hence a dead run's requests weigh on others for seconds only. A run
that opens a window and gives no answer for `PROBE_S` is replaced.
"""

from enum import IntEnum
from typing import Final

import msgspec

from migrator.ratelimit.shared.model import Report, ReportKind, Share

__all__ = ["MARGIN_S", "POLL_S", "PROBE_S", "ROUNDING_S", "TRANSIT_S", "UNLIMITED_S", "Budget", "Mode"]

TRANSIT_S: Final = 2.0
"""Seconds after it was taken, at the most, in which the server counts a request."""

PROBE_S: Final = 5.0
"""Seconds that the others wait for the answer of the run that opens a window."""

POLL_S: Final = 0.02
"""Seconds between two questions of a run, where only another run's answer can tell; longer after a long silence."""

PATIENCE: Final = 0.125
"""Part of the time since the last change that a run waits before it asks again."""

MARGIN_S: Final = 0.01
"""Seconds that are waited beyond a window's end: the resolution of timers."""

ROUNDING_S: Final = 1.0
"""Seconds by which two reports of one end may differ: most servers tell whole seconds."""

UNLIMITED_S: Final = 10.0
"""Seconds after which an API without rate-limit headers is looked at again."""


class Mode(IntEnum):
    """What is known of the current window."""

    CLOSED = 0
    """Nothing: the next request goes alone and opens it."""
    PROBING = 1
    """A request is on its way that will open it."""
    OPEN = 2
    """What is left, and until when."""
    UNLIMITED = 3
    """The API says nothing of a quota."""


class Budget(msgspec.Struct):
    """What all runs know and have taken of one limiter key's quota.

    Attributes:
        mode: what is known of the window.
        window: names the window; it only grows.
        lowest: the least that was reported to be left in it.
        in_flight: requests of it that were taken and not reported.
        spent: requests that may be counted in it and are in no report: strays when it was opened, and lost answers. A
            later report need not include them, for it may be of a request that was counted before.
        ends: when it has ended for certain.
        blocked_until: nothing may go before, because a request was refused.
        taken_at: when the last request was taken.
        changed_at: when the last report came, or the last probe left.
        strays: requests of windows before this one, from `mark` on, that were not reported.
        old_strays: the same of windows before `mark`, which are forgotten at the next mark.
        mark: a window, at least `TRANSIT_S` after the mark before.
    """

    mode: int = Mode.CLOSED
    window: int = 0
    lowest: int = 0
    in_flight: int = 0
    spent: int = 0
    ends: float = 0.0
    blocked_until: float = 0.0
    taken_at: float = 0.0
    changed_at: float = 0.0
    strays: int = 0
    old_strays: int = 0
    mark: int = 0

    def take(self, now: float) -> Share:
        """Take one request, or say when to ask again."""
        if now < self.blocked_until:
            return Share(self.blocked_until - now, 0)
        self._end(now)
        if self.mode == Mode.CLOSED:
            self._probe(now)
        elif self.mode == Mode.PROBING:
            return Share(self._poll(now, self.ends), 0)
        elif self.mode == Mode.OPEN and self.lowest - self.spent - self.in_flight <= 0:
            # Answers may still show that less was counted than was taken.
            until = self._poll(now, self.ends) if self.lowest > self.spent else self.ends - now
            return Share(until, 0)
        self.in_flight += 1
        self.taken_at = now
        return Share(0.0, self.window)

    def force(self, now: float) -> Share:
        """Take one request in any case: a run that is alone knows better than all that is kept here."""
        self._end(now)
        if self.mode == Mode.CLOSED:
            self._probe(now)
        self.in_flight += 1
        self.taken_at = now
        return Share(0.0, self.window)

    def tell(self, report: Report, now: float) -> None:
        """Apply a report by its kind."""
        match report.kind:
            case ReportKind.RETURNED:
                self.returned(report.window, now)
            case ReportKind.LOST:
                self.lost(report.window, now)
            case ReportKind.ANSWERED:
                self.opened(report.window, report.remaining, report.wait_s, now)
            case ReportKind.REFUSED:
                self.refused(report.window, report.wait_s, now)
            case ReportKind.UNLIMITED:
                self.unlimited(report.window, now)

    def opened(self, window: int, remaining: int, ends_in_s: float, now: float) -> None:
        """Note an answer that says what is left: the first of a window opens it, later ones only lower it."""
        if window != self.window:
            self._land_stray(window)
            return
        self._land(now)
        ends = now + ends_in_s + MARGIN_S
        if self.mode == Mode.PROBING:
            self.mode, self.lowest, self.ends = Mode.OPEN, remaining, ends
        elif self.mode == Mode.OPEN and remaining <= self.lowest:
            self.lowest = remaining
            if ends < self.ends or ends > self.ends + ROUNDING_S:
                # In a moving window this end counts, and no earlier one: what ended earlier has been used again.
                self.ends = ends

    def unlimited(self, window: int, now: float) -> None:
        """Note an answer of an API that says nothing of a quota."""
        if window != self.window:
            self._land_stray(window)
            return
        self._land(now)
        if self.mode == Mode.PROBING:
            self.mode, self.ends = Mode.UNLIMITED, now + UNLIMITED_S
        else:
            self.spent += 1

    def refused(self, window: int, pause_s: float, now: float) -> None:
        """Note a refusal: all runs pause, and what was known of the window is forgotten."""
        if window != self.window:
            self._land_stray(window)
            return
        self._land(now)
        self.mode = Mode.CLOSED
        self.blocked_until = max(self.blocked_until, now + pause_s)

    def lost(self, window: int, now: float) -> None:
        """Note a request without a report of what is left: its unit may be spent."""
        if window != self.window:
            self._land_stray(window)
            return
        if self.mode == Mode.PROBING:
            # It stays in flight, so that the next window makes room for it.
            self.mode, self.changed_at = Mode.CLOSED, now
            return
        self._land(now)
        self.spent += 1

    def returned(self, window: int, now: float) -> None:
        """Note a request that was taken and never sent."""
        if window != self.window:
            self._land_stray(window)
            return
        self._land(now)
        if self.mode == Mode.PROBING:
            self.mode = Mode.CLOSED

    def _land(self, now: float) -> None:
        self.in_flight = max(0, self.in_flight - 1)
        self.changed_at = now

    def _land_stray(self, window: int) -> None:
        if window >= self.mark:
            self.strays = max(0, self.strays - 1)
        else:
            self.old_strays = max(0, self.old_strays - 1)

    def _end(self, now: float) -> None:
        if self.mode != Mode.CLOSED and now >= self.ends:
            self.mode = Mode.CLOSED

    def _probe(self, now: float) -> None:
        self.mode = Mode.PROBING
        # By the clock, so that a report of a window that was forgotten is never taken for one of this window.
        self.window = max(self.window + 1, int(now * 1000.0))
        if now - self.taken_at <= TRANSIT_S:
            self.strays += self.in_flight
        else:
            self.strays = self.old_strays = 0
        if self.window - self.mark > 1000.0 * TRANSIT_S:
            self.old_strays, self.strays, self.mark = self.strays, 0, self.window
        self.spent = self.strays + self.old_strays
        self.in_flight = 0
        self.ends, self.changed_at = now + PROBE_S, now

    def _poll(self, now: float, until: float) -> float:
        return min(until - now, max(POLL_S, PATIENCE * (now - self.changed_at)))
