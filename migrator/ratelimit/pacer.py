"""The pacer: decides when the next request of one limiter key may go, from what was sent and answered.

It is pure: it takes `now` in seconds of a monotonic clock, never waits and never reads one. `throttle` waits for it.

The budget
----------
Let m be the answer with the lowest `remaining` that was received in this window. A request that the server counted
after m is in flight still, or lost, or answered: and an answer that was counted after m in the same window reports less
than m, which m's being the lowest excludes. So the server's true rest is at least m's `remaining` less the requests in
flight and those that were lost after m was sent. A request may go while that is above zero. Refills in between only
add to it. Hence answers that are stale, overtaken or out of order can do no harm: within a window they can only lower
the figure.

The window's edge
-----------------
A reported reset is rounded, and the answer took its time: the true instant lies in [sent + reset - resolution,
received + reset + late]. Every answer of the window narrows that interval, and its latest end is waited for. Then one
request alone goes over the edge, the probe, and its answer opens the new window: nobody knows beforehand whether all
came back. A refill is also recognised by cause: a request that was *sent* after the lowest report had been *received*
and reports more can only have met a refill. A server that rounds down is found out by a probe that is refused, or by
a reset of 0, and remembered.

Requests in flight at the edge are taken off the new window as well, since they may be counted there. What the proof
does not cover is a quota that others use too: for them the user sets a reserve, and refusals raise a learned one,
which decays.

Refusals
--------
A refusal blocks the whole key until Retry-After or the reset, forgets the budget and sends one probe first. A burst
of requests that were in flight together counts once.
"""

import math
from collections import deque
from itertools import takewhile
from random import Random
from typing import Final

from migrator.options import Pace
from migrator.ratelimit.dialect.reset_time import NO_DATE_S
from migrator.ratelimit.headers import Quota
from migrator.ratelimit.model import PacerMemory, PacerSettings, PacerStatistics, Ticket
from migrator.ratelimit.pace.even_pace import EvenPace
from migrator.ratelimit.pace.pauses import FIRST_PAUSE_S, Pauses
from migrator.ratelimit.servers.models import ServerModels
from migrator.ratelimit.servers.report import Report
from migrator.ratelimit.silent.trial import Trial

__all__ = ["QUOTA_WAITS", "Pacer"]

USED_UP: Final = "quota used up"
ASKED: Final = "the server asked to wait"
OPENING: Final = "the first answer of the new window"
QUOTA_WAITS: Final = frozenset({USED_UP, ASKED, OPENING})
"""Why a request waits for its quota, in words for the display."""

MARGIN_S: Final = 0.01
"""Seconds that are waited beyond an instant: the resolution of timers, and a little."""

JITTER_S: Final = 0.05
"""Seconds after a pause are drawn from so many, so that several processes do not wake as one."""

LARGEST_RESERVE: Final = 0.3
"""Share of the limit that refusals may make us leave to others."""

REMEMBERED: Final = 256
"""Answers that are kept, to tell by which ones a probe's answer was overtaken; more than can be in flight."""

LONG_WAIT_S: Final = 5.0
"""Seconds: a longer wait by a clock that no answer tells of is made sure of."""

NO_RESET_S: Final = 1.0
"""Seconds until the next probe of an API that tells what is left, but not until when."""


class Pacer:
    """The quota of one limiter key.

    Args:
        settings: what the user and the profile say.
        rng: the source of jitter.
        memory: what an earlier run has learned.
    """

    def __init__(self, settings: PacerSettings, *, rng: Random, memory: PacerMemory | None = None) -> None:
        known = memory or PacerMemory()
        self.settings = settings
        self._rng = rng
        self._limit: int | None = None
        self._lowest: int | None = None
        self._lowest_at = -math.inf
        self._lost: list[float] = []
        self._edge_from = self._edge_by = -math.inf
        self._newest = self._opened = -math.inf
        self._recent: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        self._late_s = known.late_s
        self._longest_reset_s = known.longest_reset_s
        self._told_window_s: float | None = None
        self._first = self._answers = self._windows = 0
        self._moving = self._no_clock = False
        self._models = ServerModels()
        self._probing = False
        self._bare_probes = 0
        self._blocked_until = -math.inf if known.ready_at is None else known.ready_at
        self._held_until = -math.inf
        self._pauses = Pauses(rng)
        self._epoch = 0
        self._learned_reserve = 0.0
        self._in_flight = self._requests = self._refused = self._bursts = 0
        self._announced = self._silent = False
        self._even = EvenPace()
        self._trial = Trial(known.steady_rate, rng)

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may go: 0 for now, infinity where only an answer can tell."""
        if now < self._blocked_until:
            return self._blocked_until - now
        if self._silent:
            if self._probing or self._in_flight >= self._trial.most_in_flight():
                return math.inf
            return max(0.0, self._trial.next_at(self._in_flight) + MARGIN_S - now)
        if not self._probing and (self._needs_probe(now) or self._budget() > 0):
            return 0.0
        next_at = self._models.next_at(now, self._in_flight, math.floor(self._reserve()))
        if not self._probing and not self._models.unlike_a_window:
            next_at = min(next_at, self._edge_by if now < self._edge_by + MARGIN_S else math.inf)
        return max(0.0, next_at + MARGIN_S - now)

    def sent(self, now: float) -> Ticket:
        """Note that a request goes now, which `delay` has allowed."""
        probe = not self._silent and not self._probing and self._needs_probe(now)
        on_trust = not self._silent and not probe and self._budget() <= 0
        self._probing = self._probing or probe
        self._models.on_trust += on_trust
        self._in_flight += 1
        self._requests += 1
        self._models.sent(now)
        return Ticket(now, probe, self._epoch, self._windows, self._answers, self._requests, on_trust)

    def cancelled(self, ticket: Ticket) -> None:
        """Take back a request that was let go and never sent."""
        self._requests -= 1
        self._ended(ticket)

    def lost(self, ticket: Ticket, now: float) -> None:
        """Note that a request ended without an answer, or with one that tells nothing: its unit may be spent."""
        self._ended(ticket)
        self._lost.append(now)
        self._models.lost(now)

    def answered(self, ticket: Ticket, quota: Quota | None, now: float) -> None:
        """Note an answer, and what it says of the rate limit."""
        self._pauses.accepted()
        if quota is None or quota.remaining is None:
            self._answered_bare(ticket, now)
            return
        was_probe = ticket.probe and ticket.epoch == self._epoch
        self._in_flight -= 1
        self._models.on_trust -= ticket.on_trust
        self._announced, self._silent, self._bare_probes = True, False, 0
        self._limit = quota.limit or self._limit
        self._told_window_s = quota.window_s or self._told_window_s
        newest_first = reversed(self._recent)
        overtaken = [left for _, left in takewhile(lambda one: one[0] > ticket.sent, newest_first)]
        self._recent.append((now, quota.remaining))
        edge_from, edge_by = self._edge(ticket, quota, now)
        caused = self._lowest is not None and quota.remaining > self._lowest and ticket.sent >= self._lowest_at
        opening = self._lowest is None or was_probe or edge_from > self._edge_by or caused
        met = self._lowest is not None and quota.remaining >= self._lowest and ticket.sent >= self._lowest_at
        self._tell_models(ticket, quota, now, opening=opening or met, overtaken=len(overtaken))
        if ticket.on_trust:
            self._models.kept(met=opening or met)
            # Half a limit at once is a new window; less than that trickles in.
            self._moving = self._moving or (met and 2 * quota.remaining < (self._limit or 0))
        if ticket.epoch != self._epoch or (self._probing and not was_probe):
            # Sent before the refusal or before the probe: it says nothing of the window that is to be opened.
            return
        if self._limit:
            self._learned_reserve *= 1.0 - 1.0 / (10.0 * self._limit)
        if opening:
            self._open_window(ticket, quota.remaining, overtaken, now, caused=caused)
            self._edge_from, self._edge_by = edge_from, edge_by
            self._newest = self._opened = ticket.sent
            self._even.opened(ticket, now, window_s=self._longest_reset_s)
        else:
            self._narrow(ticket, quota.remaining, edge_from, edge_by, now)
        if was_probe:
            self._probing = False

    def refused(self, ticket: Ticket, quota: Quota | None, retry_after_s: float | None, now: float) -> None:
        """Note a refusal for the rate limit: the whole key pauses."""
        self._refused += 1
        asked, self._no_clock = self._no_clock, False
        first, pause_s = ticket.epoch == self._epoch, 0.0
        self._in_flight -= 1
        self._models.on_trust -= ticket.on_trust
        if quota is not None:
            self._limit = quota.limit or self._limit
        if first:
            self._bursts += 1
            self._pauses.refused(now)
            if not self._announced:
                pause_s = self._trial.refused(ticket.sent, retry_after_s, now)
            if not asked:
                self._learn_from_refusal(ticket, quota)
            self._tell_models(ticket, quota, now, opening=ticket.probe, overtaken=0, refused=True)
            self._models.refused()
            self._epoch += 1
            self._probing = False
            self._lowest = None
        if self._announced or quota is not None or retry_after_s is not None:
            pause_s = self._pauses.next_s(quota, retry_after_s, late_s=self._late_s, first=first)
        blocked_until = now + pause_s + MARGIN_S + self._rng.uniform(0.0, JITTER_S)
        self._blocked_until = max(self._blocked_until, blocked_until)

    def hold(self, until: float) -> None:
        """Send nothing until an instant, since the server is down, and then one probe first."""
        self._blocked_until = max(self._blocked_until, until)
        self._held_until = max(self._held_until, until)
        self._trial.held()
        self._epoch += 1
        self._probing = False
        self._lowest = None

    def memory(self) -> PacerMemory:
        """Return what is worth keeping for the next run."""
        steady = self._trial.steady_rate() if self._silent else None
        return PacerMemory(
            late_s=self._late_s, longest_reset_s=self._longest_reset_s, steady_rate=steady, limit=self._limit
        )

    def refused_for_s(self, now: float) -> float:
        """Return for how long each probe has been refused."""
        return self._pauses.refused_for_s(now)

    def window_s(self) -> float | None:
        """Return about how long the quota's window is, once that can be told."""
        return self._told_window_s or self._longest_reset_s or None

    def reset_s(self, now: float) -> float | None:
        """Return the seconds until the window has ended for certain; None where no window is known."""
        known = self._lowest is not None and now < self._edge_by + MARGIN_S
        return max(0.0, self._edge_by - now) if known else None

    def statistics(self, now: float) -> PacerStatistics:
        """Return how things stand."""
        reset_s = self.reset_s(now)
        return PacerStatistics(
            rate=self.rate(now),
            limit=self._limit,
            remaining=max(0, (self._lowest or 0) - self._in_flight - len(self._lost)) if reset_s is not None else None,
            reset_s=reset_s,
            budget=max(0, self._budget()) if self._lowest is not None else None,
            in_flight=self._in_flight,
            reserve=self._reserve(),
            refused=self._refused,
            bursts=self._bursts,
            requests=self._requests,
            waiting_for=self._reason(now),
            even=self._models.believed in {"bucket", "counter"} or self.settings.pace is Pace.SMOOTH,
        )

    def rate(self, now: float) -> float | None:
        """Return the requests per second to send evenly; None for as fast as the budget allows."""
        rates = [self.settings.rate] if self.settings.rate is not None else []
        if self._silent and (tried := self._trial.rate(now)) is not None:
            rates.append(tried)
        elif self.settings.pace is Pace.SMOOTH and self._lowest is not None:
            window_s, requests = self._longest_reset_s, self._requests
            even = self._even.rate(now, budget=self._budget(), ends=self._edge_by, window_s=window_s, requests=requests)
            if even is not None:
                rates.append(even)
        return min(rates, default=None)

    def _needs_probe(self, now: float) -> bool:
        if self._lowest is None:
            return True
        if self._models.unlike_a_window:
            return False
        if self._asks_for_the_clock(now):
            return True
        # Where a log lets requests go, those in flight may have gone over the edge already.
        return now >= self._edge_by + MARGIN_S and not (self._models.believed == "log" and self._in_flight)

    def _asks_for_the_clock(self, now: float) -> bool:
        """Tell whether a request is to be refused: its Retry-After tells of a clock that no answer's Date tells of.

        A clock that is wrong by minutes would cost minutes in each window, and a refusal costs nothing while nothing is
        left. One is asked for.
        """
        return self._no_clock and not self._in_flight and self._budget() <= 0 and self._edge_by - now > LONG_WAIT_S

    def _budget(self) -> int:
        return math.floor((self._lowest or 0) - self._in_flight - len(self._lost) - self._reserve())

    def _reserve(self) -> float:
        return math.floor((self._limit or 0) * self.settings.reserve + max(self._learned_reserve, self._models.room))

    def _reason(self, now: float) -> str | None:
        if now < self._held_until:
            return "the server is down"
        if now < self._blocked_until:
            return ASKED if self._refused else USED_UP
        if self._silent and self.delay(now) > 0.0:
            return "slow start"
        if self._probing:
            return "the first answer" if not self._announced else OPENING
        return USED_UP if self.delay(now) > 0.0 else None

    def _edge(self, ticket: Ticket, quota: Quota, now: float) -> tuple[float, float]:
        """Return the interval in which the reported reset lies."""
        if quota.reset_s is None:
            known = now < self._edge_by
            return (self._edge_from, self._edge_by) if known else (now, now + (quota.window_s or NO_RESET_S))
        if quota.reset_s == 0.0 and quota.resolution_s >= 1.0 and quota.remaining != quota.limit:
            self._late_s = max(self._late_s, _rounding(quota))
        self._longest_reset_s = max(self._longest_reset_s, quota.reset_s)
        self._no_clock = quota.late_s >= NO_DATE_S and not self._refused
        late_s = max(quota.late_s, min(self._late_s, quota.resolution_s))
        return ticket.sent + quota.reset_s - quota.resolution_s, now + quota.reset_s + late_s

    def _open_window(self, ticket: Ticket, remaining: int, overtaken: list[int], now: float, *, caused: bool) -> None:
        """Take the first report of a window, and of what can be said of its rest the most.

        The lowest of the report and those that overtook it is a bound by the proof above, whichever window they are
        of. So is the report less all that may have been counted after it, were it answered since or is it in flight.
        """
        bounds = [min(remaining, *overtaken) if overtaken else remaining]
        bounds.append(remaining - len(overtaken) - self._in_flight)
        if caused and self._lowest is not None:
            bounds.append(self._lowest)
        self._take(max(bounds), ticket, now)
        self._first, self._answers = remaining, 0
        self._windows += 1

    def _tell_models(
        self, ticket: Ticket, quota: Quota | None, now: float, *, opening: bool, overtaken: int, refused: bool = False
    ) -> None:
        if quota is None or quota.remaining is None or not self._limit:
            return
        report = Report(
            limit=self._limit,
            remaining=quota.remaining,
            reset_s=quota.reset_s,
            resolution_s=quota.resolution_s,
            late_s=max(quota.late_s, min(self._late_s, quota.resolution_s)),
            window_s=quota.window_s,
            opening=opening,
            sent=ticket.sent,
            now=now,
            in_flight=self._in_flight,
            overtaken=overtaken,
            refused=refused,
            on_trust=ticket.on_trust,
            shared=bool(ticket.share),
        )
        self._models.answered(report)

    def _narrow(self, ticket: Ticket, remaining: int, edge_from: float, edge_by: float, now: float) -> None:
        """Take a further report of the same window, which can only lower the rest and sharpen the edge."""
        self._answers += ticket.window == self._windows
        # What was sent before the window was opened may have been counted in the one before, and its reset tells.
        same = ticket.sent >= self._opened or edge_by >= self._edge_from
        if self._lowest is not None and remaining <= self._lowest and same:
            self._take(remaining, ticket, now)
        if ticket.sent < self._newest:
            return
        self._newest = ticket.sent
        if ticket.window == self._windows and remaining >= self._first - ticket.answers:
            # More is left than if nothing had come back: quota trickles in, and the reset moves on with it.
            self._moving = True
        if not self._moving and max(self._edge_from, edge_from) <= min(self._edge_by, edge_by):
            self._edge_from, self._edge_by = max(self._edge_from, edge_from), min(self._edge_by, edge_by)
        else:
            self._edge_from, self._edge_by = edge_from, edge_by

    def _answered_bare(self, ticket: Ticket, now: float) -> None:
        """Note an answer without headers: the unit is spent, and an API that never has any is paced by trial."""
        if ticket.probe and ticket.epoch == self._epoch:
            self._bare_probes += 1
        if not self._announced:
            self._ended(ticket)
            self._silent = True
            self._trial.accepted(now, before_refusal=ticket.epoch != self._epoch)
            return
        self.lost(ticket, now)
        if self._bare_probes > (self._limit or 1):
            # The headers have vanished half way, and so many units are gone for certain.
            self._blocked_until, self._bare_probes = now + max(self._longest_reset_s, FIRST_PAUSE_S), 0

    def _ended(self, ticket: Ticket) -> None:
        self._in_flight -= 1
        self._models.on_trust -= ticket.on_trust
        if ticket.probe and ticket.epoch == self._epoch:
            self._probing = False
            self._lowest = None

    def _take(self, lowest: int, ticket: Ticket, now: float) -> None:
        """Take a report for the lowest: it includes what was lost before its request was sent."""
        self._lowest, self._lowest_at = lowest, now
        self._lost = [at for at in self._lost if at > ticket.sent]

    def _learn_from_refusal(self, ticket: Ticket, quota: Quota | None) -> None:
        if self._announced and ticket.on_trust and not self._models.rounds_down:
            return
        if self._announced and (ticket.probe or self._models.rounds_down):
            self._late_s = max(self._late_s, _rounding(quota))
        elif self._announced and (quota is None or not quota.remaining):
            most = max(1.0, LARGEST_RESERVE * (self._limit or 0))
            self._learned_reserve = min(self._learned_reserve + 1.0, most)


def _rounding(quota: Quota | None) -> float:
    """Return what a server may have cut off a reset: a second, or a minute; the rest is doubt about its clock."""
    return quota.resolution_s if quota is not None and not 1.0 <= quota.resolution_s < 60.0 else 1.0
