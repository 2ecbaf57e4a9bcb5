"""The queue of one limiter key: who waits for a permit, in their order, and what they wait for."""

import asyncio
import math
from bisect import insort
from operator import itemgetter
from typing import Final, TypeAlias

import anyio

from migrator.ratelimit.headers import QuotaReader
from migrator.ratelimit.limiter import TunableLimiter
from migrator.ratelimit.model import Ticket
from migrator.ratelimit.pacer import Pacer
from migrator.ratelimit.shared.model import SharedKey
from migrator.ratelimit.silent.overload import Overload

__all__ = ["FASTEST", "KeyQueue", "Waiter"]

FASTEST: Final = 100_000.0
"""Requests per second where no latency is known yet."""

Waiter: TypeAlias = "asyncio.Future[Ticket | None]"
"""A place in a queue; None is the answer once the throttle is stopped."""


class KeyQueue:
    """The waiters of one limiter key, with its pacer, its aiolimiter and the reader of its headers."""

    __slots__ = ("_write_at", "called", "limiter", "overload", "pacer", "ramp", "reader", "shared", "waiters")

    def __init__(self, pacer: Pacer, reader: QuotaReader, shared: SharedKey) -> None:
        self.pacer = pacer
        self.reader = reader
        self.shared = shared
        self.limiter = TunableLimiter()
        self.overload = Overload()
        self.waiters: list[tuple[int, Waiter, bool]] = []
        self._write_at = -math.inf
        self.called = anyio.Event()
        self.ramp = FASTEST

    def join(self, waiter: Waiter, order: int, *, writes: bool) -> None:
        """Let a waiter stand in its order, behind those of the same."""
        insort(self.waiters, (order, waiter, writes), key=itemgetter(0))

    def delay(self, now: float, *, writes: bool) -> float:
        """Return the seconds until a request may go, by the pacer and by the space between two writes."""
        delay_s = self.pacer.delay(now)
        return max(delay_s, self._write_at - now) if writes else delay_s

    def sent(self, now: float, *, writes: bool) -> Ticket:
        """Note that a request goes now, which `delay` has allowed."""
        if writes:
            self._write_at = now + self.pacer.settings.write_spacing_s
        return self.pacer.sent(now)

    def head_writes(self) -> bool:
        """Tell whether the next one writes."""
        return self.head() is not None and self.waiters[0][2]

    def head(self) -> "Waiter | None":
        """Return who is next; those that were cancelled have left."""
        waiters = self.waiters
        while waiters and waiters[0][1].done():
            del waiters[0]
        return waiters[0][1] if waiters else None

    async def until_called(self, delay_s: float) -> None:
        """Wait until something has changed, or for so long."""
        self.called = anyio.Event()
        if math.isinf(delay_s):
            await self.called.wait()
            return
        with anyio.move_on_after(delay_s):
            await self.called.wait()
