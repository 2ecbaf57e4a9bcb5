"""The limiter paces through aiolimiter itself, and a change of its rate gives no permit away."""

import asyncio

import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.messages import Clock
from migrator.ratelimit.limiter import TunableLimiter, burst_of


async def passes(limiter: TunableLimiter, clock: Clock, rate: float, until: float) -> int:
    """Let as many pass as can at a rate until an instant."""
    count = 0
    while True:
        try:
            async with asyncio.timeout(until - clock().mono):
                await limiter.acquire(rate)
        except TimeoutError:
            return count
        count += 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 50.0), st.floats(0.01, 3.0)), min_size=1, max_size=30))
def test_changes_of_rate_grant_nothing(steps: list[tuple[float, float]]) -> None:
    """However often the rate changes, no more pass than the rates allow over their time, and one burst."""

    async def main(clock: Clock) -> tuple[int, float]:
        limiter, passed, allowed = TunableLimiter(), 0, 0.0
        for rate, seconds in steps:
            passed += await passes(limiter, clock, rate, clock().mono + seconds)
            allowed += rate * seconds
        return passed, allowed

    passed, allowed = virtual_time.run(main)

    assert passed <= allowed + 1.0 + 1e-6
    assert passed >= allowed - len(steps) - 1.0


def test_a_new_rate_at_every_request() -> None:
    """With a change at each request the pace is that of the rates, and not a burst: aiolimiter really waits."""

    async def main(clock: Clock) -> list[float]:
        limiter = TunableLimiter()
        return [await limiter.acquire(10.0 if number % 2 else 9.0) + 0.0 * clock().mono for number in range(101)]

    waits = virtual_time.run(main)

    assert waits[0] == 0.0
    assert all(0.09 < wait < 0.12 for wait in waits[1:])


def test_what_piled_up_is_forgotten() -> None:
    """After a pause for another reason one request passes at once, and the next one at the pace."""

    async def main(clock: Clock) -> list[float]:
        limiter = TunableLimiter()
        await limiter.acquire(1000.0)
        await asyncio.sleep(5.0)
        await limiter.rest(1.0)
        start = clock().mono
        waits = []
        for _ in range(3):
            await limiter.acquire(1000.0)
            waits.append(round(clock().mono - start, 6))
        return waits

    assert burst_of(1000.0) == 5
    assert virtual_time.run(main) == [0.0, 0.001, 0.002]


def test_stop_ends_a_wait() -> None:
    """A stop ends a wait at once, and a request that waits takes the place of none that need not."""

    async def main(clock: Clock) -> tuple[float, bool]:
        limiter = TunableLimiter()
        await limiter.acquire(0.01)
        waiting = asyncio.create_task(limiter.acquire(0.01))
        await asyncio.sleep(1.0)
        passed = await limiter.pass_now(100_000.0)
        limiter.stop_waiting()
        await waiting
        return clock().mono, passed

    seconds, passed = virtual_time.run(main)

    assert seconds < 1.1
    assert not passed
