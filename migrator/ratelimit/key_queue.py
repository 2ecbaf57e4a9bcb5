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

    __slots__ = ("called", "limiter", "overload", "pacer", "ramp", "reader", "shared", "waiters")

    def __init__(self, pacer: Pacer, reader: QuotaReader, shared: SharedKey) -> None:
        self.pacer = pacer
        self.reader = reader
        self.shared = shared
        self.limiter = TunableLimiter()
        self.overload = Overload()
        self.waiters: list[tuple[int, Waiter]] = []
        self.called = anyio.Event()
        self.ramp = FASTEST

    def join(self, waiter: Waiter, order: int) -> None:
        """Let a waiter stand in its order, behind those of the same."""
        insort(self.waiters, (order, waiter), key=itemgetter(0))

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
