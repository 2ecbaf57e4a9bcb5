"""A client and a server in virtual time: what the pacer does against the sandbox's own limiters, event by event."""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from itertools import count
from random import Random
from typing import Any, Literal, Protocol

from migrator.messages import Instant, Reply
from migrator.ratelimit.headers import Dialect, Quota, QuotaReader
from migrator.ratelimit.limiter import burst_of
from migrator.ratelimit.model import Ticket
from migrator.ratelimit.pacer import Pacer
from migrator.sandbox.limits import Algorithm, ResetStyle, Rounding, Verdict, limit_headers, make_limiter

EPOCH = 1_795_435_200.0
"""The server's clock at the beginning, in seconds since the epoch."""

RESOLUTION_S = 1e-6

LONGEST = 10**7
"""Seconds after which a simulation is called stuck."""


class Client(Protocol):
    """What decides when to send: the pacer, and what others do."""

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may go."""

    def sent(self, now: float) -> Any:
        """Note that a request goes."""

    def answered(self, ticket: Any, quota: Quota | None, now: float) -> None:
        """Note an answer."""

    def refused(self, ticket: Any, quota: Quota | None, retry_after_s: float | None, now: float) -> None:
        """Note a refusal."""

    def lost(self, ticket: Any, now: float) -> None:
        """Note that no answer came, or one that says nothing of the quota."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A server, the way to it, and who else uses it.

    Attributes:
        algorithm: how it counts.
        limit: requests in a window.
        window_s: the window's length.
        rounding: of its reset.
        style: of its headers; None for a server without any.
        latency_s: the least and the most of a round trip.
        stragglers: share of round trips that take up to two seconds more.
        lost: share of answers that never come.
        errors: share of requests that are counted and answered by a server error without headers.
        rival: share of the limit that somebody else takes.
        phase_s: where in its window the server is at the beginning.
        skew_s: how much the client's clock is ahead.
        retry_after: whether a refusal says how long to wait.
        reset: what the reset tells: what is true of the algorithm, or the end of a window that it does not have.
        affix: what is put behind the headers' names.
        status: of a refusal.
        date: whether answers have a Date.
    """

    algorithm: Algorithm = Algorithm.FIXED
    limit: int = 100
    window_s: float = 60.0
    rounding: Rounding = Rounding.UP
    style: ResetStyle | None = ResetStyle.RELATIVE
    latency_s: tuple[float, float] = (0.02, 0.4)
    stragglers: float = 0.0
    lost: float = 0.0
    errors: float = 0.0
    rival: float = 0.0
    phase_s: float = 0.0
    skew_s: float = 0.0
    retry_after: bool = True
    reset: Literal["true", "first window", "aligned window"] = "true"
    affix: str = ""
    status: int = 429
    date: bool = True


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        seconds: until the last item was done.
        sent: requests.
        refused: those that the server refused.
        accepted: when the server took each of ours.
        others: requests of others that the server took.
        stuck: whether it did not come to an end.
    """

    seconds: float = 0.0
    sent: int = 0
    refused: int = 0
    accepted: list[float] = field(default_factory=list)
    others: int = 0
    stuck: bool = False


class Simulation:
    """One job against one server."""

    def __init__(self, world: World, client: Client | None, *, items: int, slots: int, seed: int) -> None:
        self.world = world
        self.client = client
        self.outcome = Outcome()
        self._todo = items
        self._open = items
        self._slots = slots
        self._in_flight = self._undelivered = 0
        self._rng = Random(seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._wake_at = math.inf
        self._window_ends = -math.inf
        self._limiter = make_limiter(world.algorithm, limit=world.limit, window_s=world.window_s, start=-world.phase_s)
        self._reader = QuotaReader(Dialect())

    def run(self) -> Outcome:
        """Run until every item is done."""
        self._at(0.0, self._send)
        if self.world.rival:
            self._at(0.0, self._rival)
        while self._events and self._open:
            now, _, happen, details = heapq.heappop(self._events)
            if now > LONGEST:
                self.outcome.stuck = True
                return self.outcome
            happen(now, *details)
        self.outcome.stuck = self._open > 0
        return self.outcome

    def _at(self, when: float, happen: Callable[..., None], *details: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen, details))

    def _send(self, now: float) -> None:
        """Send as much as may go, and come again when more may."""
        if now >= self._wake_at:
            self._wake_at = math.inf
        while self._todo and self._in_flight < self._slots:
            delay_s = self._oracle(now) if self.client is None else self.client.delay(now)
            if delay_s > 0.0:
                if now + delay_s < self._wake_at:
                    self._wake_at = now + delay_s
                    self._at(self._wake_at, self._send)
                return
            ticket = None if self.client is None else self.client.sent(now)
            self._todo -= 1
            self._in_flight += 1
            self._undelivered += 1
            self.outcome.sent += 1
            trip_s = self._rng.uniform(*self.world.latency_s)
            if self._rng.random() < self.world.stragglers:
                trip_s += self._rng.uniform(1.0, 2.0)
            self._at(now + 0.5 * trip_s, self._arrive, ticket, 0.5 * trip_s)

    def _oracle(self, now: float) -> float:
        """Decide by the server's own state, which no client can see."""
        stands = self._limiter.peek(now)
        if stands.remaining > self._undelivered:
            return 0.0
        return math.inf if self._undelivered else max(stands.retry_after_s, 1e-6)

    def _arrive(self, now: float, ticket: Any, back_s: float) -> None:
        self._undelivered -= 1
        verdict = self._other_reset(self._limiter.take(now), now)
        if self.client is None:
            self._at(now, self._send)
        headers: dict[str, str] = {}
        if self.world.style is not None:
            told = limit_headers(
                verdict,
                style=self.world.style,
                utc=EPOCH + now,
                window_s=self.world.window_s,
                rounding=self.world.rounding,
            )
            affix = self.world.affix
            headers = {name.lower() + affix * ("RateLimit" in name): value for name, value in told.items()}
        elif not verdict.allowed:
            headers["retry-after"] = str(max(1, math.ceil(verdict.retry_after_s)))
        if self.world.date:
            headers["date"] = formatdate(EPOCH + now, usegmt=True)
        if not self.world.retry_after:
            headers.pop("retry-after", None)
        if verdict.allowed:
            self.outcome.accepted.append(now)
        if verdict.allowed and self._rng.random() < self.world.lost:
            self._at(now + 30.0, self._lose, ticket)
        elif verdict.allowed and self._rng.random() < self.world.errors:
            self._at(now + back_s, self._lose, ticket)
        else:
            self._at(now + back_s, self._answer, ticket, verdict.allowed, headers, now - back_s)

    def _other_reset(self, verdict: Verdict, now: float) -> Verdict:
        """Put in the reset of a window that the server does not have."""
        window_s = self.world.window_s
        match self.world.reset:
            case "first window":
                if now >= self._window_ends:
                    self._window_ends = now + window_s
                return replace(verdict, reset_s=round(self._window_ends - now, 6))
            case "aligned window":
                return replace(verdict, reset_s=window_s - (now + self.world.phase_s) % window_s)
            case _:
                return verdict

    def _lose(self, now: float, ticket: Any) -> None:
        self._in_flight -= 1
        self._todo += 1
        if self.client is not None:
            self.client.lost(ticket, now)
        self._send(now)

    def _answer(self, now: float, ticket: Any, allowed: bool, headers: dict[str, str], sent: float) -> None:
        self._in_flight -= 1
        at = Instant(now, EPOCH + now + self.world.skew_s)
        left = Instant(sent, EPOCH + sent + self.world.skew_s)
        reply = Reply(status=200 if allowed else 429, headers=headers, body=b"", sent=left, received=at)
        signal = self._reader.signal(reply)
        quota = signal.quota
        if allowed:
            self._open -= 1
            self.outcome.seconds = now
            if self.client is not None:
                self.client.answered(ticket, quota, now)
        else:
            self._todo += 1
            self.outcome.refused += 1
            if self.client is not None:
                self.client.refused(ticket, quota, signal.retry_after_s, now)
        self._send(now)

    def _rival(self, now: float) -> None:
        self.outcome.others += self._limiter.take(now).allowed
        rate = self.world.rival * self.world.limit / self.world.window_s
        self._at(now + self._rng.expovariate(rate), self._rival)


class Paced:
    """A pacer, and the even pace that the throttle's aiolimiter makes of its rate."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._level = self._drained = 0.0

    def delay(self, now: float) -> float:
        """Return the seconds until both let a request go."""
        rate = self._pacer.rate(now)
        pause_s = 0.0
        if rate is not None:
            burst = burst_of(rate)
            self._level = max(0.0, self._level - (now - self._drained) * rate)
            pause_s = max(0.0, (self._level + 1.0 - burst) / rate)
        else:
            self._level = 0.0
        self._drained = now
        return max(self._pacer.delay(now), pause_s if pause_s > RESOLUTION_S else 0.0)

    def sent(self, now: float) -> Ticket:
        """Note that a request goes."""
        self._level += 1.0
        return self._pacer.sent(now)

    def answered(self, ticket: Ticket, quota: Quota | None, now: float) -> None:
        """Note an answer."""
        self._pacer.answered(ticket, quota, now)

    def refused(self, ticket: Ticket, quota: Quota | None, retry_after_s: float | None, now: float) -> None:
        """Note a refusal."""
        self._pacer.refused(ticket, quota, retry_after_s, now)

    def lost(self, ticket: Ticket, now: float) -> None:
        """Note that no answer came, or one that says nothing of the quota."""
        self._pacer.lost(ticket, now)


def simulate(world: World, client: Client, *, items: int, slots: int, seed: int) -> Outcome:
    """Run a job."""
    if isinstance(client, Pacer):
        client = Paced(client)
    return Simulation(world, client, items=items, slots=slots, seed=seed).run()


def least_seconds(world: World, *, items: int, slots: int, seed: int) -> float:
    """Return how long the job takes who knows the server's state."""
    return Simulation(world, None, items=items, slots=slots, seed=seed).run().seconds


def share_of_the_rest(world: World, outcome: Outcome, *, items: int, slots: int, seed: int) -> float:
    """Return the speed as a share of what others left: the least time for ours and theirs together, over ours."""
    if outcome.stuck:
        return 0.0
    alone = replace(world, rival=0.0)
    return least_seconds(alone, items=items + outcome.others, slots=slots, seed=seed) / outcome.seconds
