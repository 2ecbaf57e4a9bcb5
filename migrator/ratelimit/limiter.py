"""An aiolimiter whose rate can change while requests wait.

`AsyncLimiter` fixes its rate when it is made: a new `max_rate` leaves the drip as it was, and a new `time_period` has
no effect (aiolimiter issue 98). So a change of rate makes a new one. A fresh limiter has an empty bucket and lets a
whole burst pass; with a change at every answer it would hardly ever wait. So the new limiter starts as full as the old
one was: what the old one would still have let pass, and no more, passes the new one. The same sum that aiolimiter keeps
is kept here for that, since it gives no way to read it.

A limiter is replaced only while no task waits at it. The key's dispatcher is the only task that waits, and it is the
one that replaces.
"""

import asyncio
import math
from typing import Final

import anyio
from aiolimiter import AsyncLimiter

__all__ = ["TunableLimiter", "burst_of"]

BURST_S: Final = 0.005
"""Seconds' worth of requests that may pass together: they make up for late timers. With a burst of one, aiolimiter
loses 9 % at 500 requests per second (measured)."""

LEAST_BURST: Final = 2

SAME_RATE: Final = 0.001
"""A rate that changes by a smaller share is left as it is."""


def burst_of(rate: float) -> int:
    """Return how many requests may pass together at a rate."""
    return max(LEAST_BURST, math.ceil(rate * BURST_S))


class TunableLimiter:
    """The aiolimiter of one limiter key. It begins with room for one request."""

    __slots__ = ("_at", "_burst", "_limiter", "_rate", "_room", "_scope")

    def __init__(self) -> None:
        self._limiter: AsyncLimiter | None = None
        self._rate = self._burst = 1.0
        self._room, self._at = 1.0, 0.0
        self._scope: anyio.CancelScope | None = None

    async def pass_now(self, rate: float) -> bool:
        """Let one request pass at this rate if it need not wait; it never suspends."""
        if self._scope is not None or not (limiter := await self._tuned(rate)).has_capacity():
            return False
        await limiter.acquire()
        self._room = max(0.0, self._room - 1.0)
        return True

    async def acquire(self, rate: float) -> float:
        """Let one request pass at this rate; return the seconds that it waited. A stop ends the wait early."""
        if await self.pass_now(rate):
            return 0.0
        limiter = await self._tuned(rate)
        started = self._at
        with anyio.CancelScope() as self._scope:
            # A cancelled acquire costs no capacity.
            await limiter.acquire()
        if not self._scope.cancelled_caught:
            self._drip()
            self._room = max(0.0, self._room - 1.0)
        self._scope = None
        return self._at - started

    def stop_waiting(self) -> None:
        """End a wait at once, without a permit."""
        if self._scope is not None:
            self._scope.cancel()

    async def rest(self, room: float) -> None:
        """Forget what piled up while requests waited for something else, but for so many permits."""
        self._drip()
        if self._room > room:
            self._room = room
            await self._replace(self._rate)

    def _drip(self) -> None:
        """Bring the room up to date: time that has passed counts at the rate that was in force."""
        now = asyncio.get_running_loop().time()
        if self._limiter is not None:
            self._room = min(self._burst, self._room + (now - self._at) * self._rate)
        self._at = now

    async def _tuned(self, rate: float) -> AsyncLimiter:
        self._drip()
        if self._limiter is None or abs(rate - self._rate) > SAME_RATE * self._rate:
            return await self._replace(rate)
        return self._limiter

    async def _replace(self, rate: float) -> AsyncLimiter:
        self._rate, self._burst = rate, burst_of(rate)
        self._room = min(self._room, self._burst)
        self._limiter = AsyncLimiter(self._burst, self._burst / rate)
        # A fresh limiter has room for all of this, so it does not wait.
        await self._limiter.acquire(self._burst - self._room)
        return self._limiter
