"""The queue of a limiter key: first come, first served, and a wait that ends when something changes."""

import asyncio
import math
from random import Random

import anyio
import virtual_time

from migrator.messages import Clock
from migrator.ratelimit.headers import Dialect, QuotaReader
from migrator.ratelimit.key_queue import KeyQueue
from migrator.ratelimit.model import PacerSettings
from migrator.ratelimit.pacer import Pacer
from migrator.ratelimit.shared.model import SharedKey


def queue() -> KeyQueue:
    """Return a queue in which no one waits."""
    return KeyQueue(Pacer(PacerSettings(), rng=Random(1)), QuotaReader(Dialect()), SharedKey("api.example", None))


def test_the_first_that_is_still_there_is_next() -> None:
    """Those that were cancelled have left; those that have their ticket are done."""

    async def main(_clock: Clock) -> None:
        keys = queue()
        assert keys.head() is None
        first, second, third = (asyncio.get_running_loop().create_future() for _ in range(3))
        for waiter in (first, second, third):
            keys.join(waiter, 0, writes=True)
        assert keys.head() is first
        first.set_result(None)
        second.cancel()
        assert keys.head() is third
        third.cancel()
        assert keys.head() is None
        assert not keys.waiters

    virtual_time.run(main)


def test_a_wait_ends_in_time_or_when_something_has_changed() -> None:
    """A wait for an answer has no end of its own: the call is what ends it."""

    async def main(clock: Clock) -> None:
        keys, ends = queue(), []

        async def wait(delay_s: float) -> None:
            await keys.until_called(delay_s)
            ends.append(round(clock().mono - started, 3))

        started = clock().mono
        await wait(2.5)
        for delay_s in (60.0, math.inf):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait, delay_s)
                await anyio.sleep(1.0)
                keys.called.set()
        assert ends == [2.5, 3.5, 4.5]

    virtual_time.run(main)


def test_the_lowest_order_goes_first() -> None:
    """Of the same order who came first; so an item that was started goes before one that was not."""

    async def main(_clock: Clock) -> None:
        keys = queue()
        later, first, second = (asyncio.get_running_loop().create_future() for _ in range(3))
        keys.join(later, 7, writes=True)
        keys.join(first, 3, writes=True)
        keys.join(second, 3, writes=True)

        for expected in (first, second, later):
            assert keys.head() is expected
            expected.set_result(None)

    virtual_time.run(main)
