"""The gate of one limiter key: its queue, first come, first served, and its aiolimiter.

aiolimiter serves small amounts first and its rate is fixed when it is made (changing `max_rate` leaves the drip as it
was and changing `time_period` has no effect, aiolimiter issue 98). So a limiter is *replaced* when the rate changes.
That is sound because one task alone, the key's keeper, waits at it, and it is that task which replaces it: nobody is
left waiting on an old one. A new limiter starts with a full bucket, so a change of rate grants no burst.
"""

import asyncio
import math
from collections import deque
from typing import Final, TypeAlias

import anyio
from aiolimiter import AsyncLimiter

from migrator.ratelimit.headers import QuotaReader
from migrator.ratelimit.model import Ticket
from migrator.ratelimit.pacer import Pacer

__all__ = ["FASTEST", "Gate", "Turn"]

BURST_S: Final = 0.005
"""Seconds' worth of requests that the aiolimiter lets pass together: late timers are made up within it, and at a
capacity of one it would lose 9 % at 500 requests per second (measured)."""

LEAST_BURST: Final = 2

RETUNE: Final = 0.02
"""A rate that moves by less is left alone."""

FASTEST: Final = 100_000.0
"""Requests per second where no latency is known yet."""


Turn: TypeAlias = "asyncio.Future[Ticket | None]"
"""A place in a queue; None is the answer once the throttle is stopped."""


class Gate:
    """The turnstile of one limiter key."""

    __slots__ = ("called", "limiter", "pacer", "queue", "rate", "reader", "scope", "useful")

    def __init__(self, pacer: Pacer, reader: QuotaReader) -> None:
        self.pacer = pacer
        self.reader = reader
        self.queue: deque[Turn] = deque()
        self.called = anyio.Event()
        self.limiter = AsyncLimiter(FASTEST, 1.0)
        self.rate = self.useful = FASTEST
        self.scope = anyio.CancelScope()

    def head(self) -> "Turn | None":
        """Return who is next; those that were cancelled have left."""
        queue = self.queue
        while queue and queue[0].done():
            del queue[0]
        return queue[0] if queue else None

    async def until_called(self, delay_s: float) -> None:
        """Wait until something has changed, or for so long."""
        self.called = anyio.Event()
        if math.isinf(delay_s):
            await self.called.wait()
            return
        with anyio.move_on_after(delay_s):
            await self.called.wait()

    def is_open(self, rate: float) -> bool:
        """Tell whether a request may pass the aiolimiter at once."""
        return abs(rate - self.rate) <= RETUNE * self.rate and self.limiter.has_capacity()

    async def pace(self, rate: float) -> None:
        """Wait at the aiolimiter, replacing it first where the rate has changed."""
        if abs(rate - self.rate) > RETUNE * self.rate:
            burst = max(LEAST_BURST, math.ceil(rate * BURST_S))
            self.limiter, self.rate = AsyncLimiter(burst, burst / rate), rate
            await self.limiter.acquire(burst - 1)
        if self.limiter.has_capacity():
            await self.limiter.acquire()
            return
        # A slow rate waits for long, and a stop must end it; a cancelled acquire costs no capacity.
        with anyio.CancelScope() as self.scope:
            await self.limiter.acquire()
