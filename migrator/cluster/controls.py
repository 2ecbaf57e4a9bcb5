"""The throttles of all workers as one: what a run's user controls is divided among them, what they tell is added up."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import anyio
from msgspec.structs import replace

from migrator.cluster import wire
from migrator.ratelimit.throttle import ThrottleStatistics

__all__ = ["CrewControls", "divided", "merged"]

IDLE: Final = ThrottleStatistics(
    slots=0,
    in_flight=0,
    limit=None,
    remaining=None,
    reset_s=None,
    requests=0,
    refused=0,
    bursts=0,
    rate=None,
    waiting_for=None,
    waited_s={},
    limiter_share=None,
)
"""What a throttle tells that has done nothing."""

NO_WORKER: Final = "no worker"
"""Why nothing goes while all workers are gone."""


def divided(total: int, parts: int) -> list[int]:
    """Return a whole number in as many parts as equal as can be, the larger ones first."""
    least, more = divmod(total, parts)
    return [least + (place < more) for place in range(parts)]


def merged(each: Sequence[ThrottleStatistics], gone: ThrottleStatistics) -> ThrottleStatistics:
    """Return how all workers stand together.

    Of the quota it tells what the worker says that has seen the least of it left. Waits are those of the average
    worker, since all wait at the same time.

    Args:
        each: of the workers at hand.
        gone: what those did that are gone.
    """
    tightest = min(each, key=lambda one: math.inf if one.remaining is None else one.remaining, default=gone)
    waited: Counter[str] = Counter()
    for one in each:
        waited.update(one.waited_s)
    return ThrottleStatistics(
        slots=sum(one.slots for one in each),
        in_flight=sum(one.in_flight for one in each),
        limit=tightest.limit,
        remaining=tightest.remaining,
        reset_s=tightest.reset_s,
        requests=sum(one.requests for one in each) + gone.requests,
        refused=sum(one.refused for one in each) + gone.refused,
        bursts=sum(one.bursts for one in each) + gone.bursts,
        rate=None,
        waiting_for=tightest.waiting_for if each else NO_WORKER,
        waited_s={why: seconds / len(each) for why, seconds in waited.items()} or dict(gone.waited_s),
        limiter_share=None,
        workers=len(each),
        reserve=tightest.reserve,
        even=tightest.even,
        wait_s=tightest.wait_s,
        latency_s=sum(one.latency_s for one in each) / len(each) if each else 0.0,
    )


class CrewControls:
    """The throttles of all workers (`run.pool.roles.Controls`).

    Args:
        rate: the ceiling of all workers together, in requests per second; None for none.
        concurrency: the most requests in flight of all together; None lets each find its own level.
        lanes: how many items can be under way at once.

    Attributes:
        workers: what is sent to each worker at hand, by its name.
        standing: how each stands.
        idle: those that get no item, since there are more workers than requests in flight allowed.
        on_stop: is told that nothing more is to be started.
    """

    def __init__(self, *, rate: float | None, concurrency: int | None, lanes: int) -> None:
        self.workers: dict[str, Callable[[wire.Message], None]] = {}
        self.standing: dict[str, ThrottleStatistics] = {}
        self._rate, self._concurrency, self._lanes = rate, concurrency, lanes
        self._paused = False
        self.idle: frozenset[str] = frozenset()
        self.on_stop: Callable[[], None] = lambda: None
        self._gone = IDLE
        self._longest_reset_s = 0.0
        self._until: dict[str, float] = {}

    @property
    def lanes(self) -> int:
        """How many items can be under way at once."""
        return self._lanes

    def wait_s(self, limiter_key: str) -> float:
        """Return the seconds until a request of a key can go, as far as a worker was told to wait for its quota."""
        return max(0.0, self._until.get(limiter_key, 0.0) - anyio.current_time())

    def used_up(self, limiter_key: str, wait_s: float) -> None:
        """Note that a worker was told to wait for the quota of a key; its items keep no room from those of others."""
        self._until[limiter_key] = anyio.current_time() + wait_s

    def join(self, name: str, send: Callable[[wire.Message], None]) -> None:
        """Give a new worker its part of all."""
        self.workers[name] = send
        self.standing[name] = IDLE
        self._share()

    def leave(self, name: str) -> None:
        """Give a worker's part to the others."""
        if self.workers.pop(name, None) is not None:
            self._gone = merged([self.standing.pop(name)], self._gone)
            self._gone = replace(self._gone, slots=0, in_flight=0)
            self._share()

    def stop(self) -> None:
        """End every wait at once, without a permit."""
        self._tell_all(wire.Stop())
        self.on_stop()

    def hold(self, hold_s: float) -> None:
        """Send nothing for so long."""
        self._tell_all(wire.Hold(hold_s))

    def pause(self) -> None:
        """Let nothing go until `resume`."""
        self._paused = True
        self._share()

    def resume(self) -> None:
        """Go on after a `pause`."""
        self._paused = False
        self._share()

    def set_rate(self, rate: float | None) -> None:
        """Set the ceiling, in requests per second; None for none."""
        self._rate = rate
        self._share()

    def set_concurrency(self, level: int | None) -> None:
        """Set the most requests in flight; None lets each worker find its own level."""
        self._concurrency = level
        self._share()

    def statistics(self) -> ThrottleStatistics:
        """Return how things stand."""
        found = merged(list(self.standing.values()), self._gone)
        self._longest_reset_s = max(self._longest_reset_s, found.reset_s or 0.0)
        found = replace(found, ceiling=self._rate, window_s=self._longest_reset_s or None)
        return replace(found, waiting_for="paused") if self._paused else found

    def _share(self) -> None:
        """Tell each worker its part."""
        count = max(1, len(self.workers))
        rate = None if self._rate is None else self._rate / count
        parts = [None] * count if self._concurrency is None else divided(self._concurrency, count)
        self.idle = frozenset(name for name, part in zip(self.workers, parts, strict=False) if part == 0)
        for send, part in zip(self.workers.values(), parts, strict=False):
            # A throttle has at least one slot.
            send(wire.Settings(rate, None if part is None else max(1, part), self._paused))

    def _tell_all(self, message: wire.Message) -> None:
        for send in self.workers.values():
            send(message)
