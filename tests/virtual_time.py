"""An event loop whose clock jumps: a sleep of an hour takes no time, and events keep the order of the real loop."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from migrator.messages import Clock, Instant

__all__ = ["EPOCH", "VirtualTimeLoop", "run"]

EPOCH = 1_795_435_200.0
"""The wall clock at the beginning, in seconds since the epoch."""

RESOLUTION_S = 1e-9

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Waits for nothing: the time until the next timer passes at once."""

    def __init__(self, pass_time: Callable[[float], None]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass that the loop would have slept."""
        if timeout is None:
            raise RuntimeError("every task waits for ever: a deadlock")
        self._pass_time(timeout)
        return super().select(0.0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop that jumps to its next timer.

    Each turn takes a nanosecond at the least: a deadline that is due within the clock's resolution, but not yet over,
    makes a cancel scope arm itself again in the same turn, for ever.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jump(self._pass))
        self._clock_resolution = RESOLUTION_S

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self._now

    def clock(self) -> Instant:
        """Return both clocks."""
        return Instant(self._now, EPOCH + self._now)

    def _pass(self, seconds: float) -> None:
        self._now += seconds + RESOLUTION_S


def run(main: Callable[[Clock], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function in virtual time; it is given the clock."""
    loop = VirtualTimeLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop.clock))
