"""The loop that jumps keeps the order of events, and calls a deadlock one."""

import asyncio

import anyio
import pytest
import virtual_time

from migrator.messages import Clock


def test_hours_take_no_time() -> None:
    """Timers fire in the order of their instants, and the clock says when."""

    async def main(clock: Clock) -> list[tuple[int, float]]:
        seen: list[tuple[int, float]] = []

        async def wait(number: int, seconds: float) -> None:
            await anyio.sleep(seconds)
            seen.append((number, round(clock().mono, 6)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, 1, 7200.0)
            tasks.start_soon(wait, 2, 0.5)
            tasks.start_soon(wait, 3, 3600.0)
        return seen

    assert virtual_time.run(main) == [(2, 0.5), (3, 3600.0), (1, 7200.0)]


def test_cancel_scope_ends_on_time() -> None:
    """A time-out is due at its instant, whatever the sums of floats are."""

    async def main(clock: Clock) -> float:
        for _ in range(100):
            with anyio.move_on_after(0.1):
                await anyio.sleep_forever()
        return clock().mono

    assert virtual_time.run(main) == pytest.approx(10.0)


def test_deadlock_is_found() -> None:
    """Tasks that all wait for one another end the test, and do not hang it."""

    async def main(_: Clock) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="deadlock"):
        virtual_time.run(main)
