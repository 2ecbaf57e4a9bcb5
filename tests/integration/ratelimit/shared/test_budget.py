"""Several throttles on one quota, in virtual time, against the sandbox's own limiters."""

from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from random import Random

import anyio
import pytest
import virtual_time

from migrator.messages import Clock
from migrator.ratelimit.shared.budget import Budget
from migrator.ratelimit.shared.model import Report, Share
from migrator.ratelimit.throttle import Throttle
from migrator.sandbox.limits import Algorithm, ResetStyle, Rounding, Verdict, limit_headers, make_limiter

LATENCY_S = 0.05


class Server:
    """A server that says when it took the last request."""

    def __init__(self, clock: Clock, algorithm: Algorithm, *, limit: int, window_s: float) -> None:
        self.refused, self.last_s, self.accepted = 0, 0.0, 0
        self._clock, self._window_s = clock, window_s
        self._limiter = make_limiter(algorithm, limit=limit, window_s=window_s)

    async def send(self) -> tuple[int, dict[str, str]]:
        """Answer after a round trip."""
        await anyio.sleep(LATENCY_S / 2)
        now = self._clock()
        verdict: Verdict = self._limiter.take(now.mono)
        if verdict.allowed:
            self.accepted, self.last_s = self.accepted + 1, now.mono
        else:
            self.refused += 1
        style, up = ResetStyle.RELATIVE, Rounding.UP
        headers = limit_headers(verdict, style=style, utc=now.utc, window_s=self._window_s, rounding=up)
        await anyio.sleep(LATENCY_S / 2)
        return (200 if verdict.allowed else 429), headers


class InMemory:
    """The specification, shared by the throttles of one loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._budgets: defaultdict[str, Budget] = defaultdict(Budget)

    async def take(self, limiter_key: str) -> Share:
        """Ask the budget, as if over a network."""
        await anyio.sleep(0.001)
        return self._budgets[limiter_key].take(self._clock().mono)

    def take_at_once(self, limiter_key: str) -> int | None:
        """Never without the network."""
        return None

    def report(self, report: Report) -> None:
        """Tell the budget."""
        self._budgets[report.limiter_key].tell(report, self._clock().mono)

    def together(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()


async def one(throttle: Throttle, server: Server) -> None:
    """Send until one request is accepted."""
    status = 429
    while status == 429:
        async with throttle.permit("key") as permit:
            status, headers = await server.send()
            permit.answered(status=status, headers=headers)


@pytest.mark.parametrize("algorithm", [Algorithm.FIXED, Algorithm.FIRST, Algorithm.SLIDING, Algorithm.GCRA])
def test_eight_runs_are_never_refused_and_use_the_whole_quota(algorithm: Algorithm) -> None:
    """800 requests at 100 in 5 s take seven windows after the first, and hardly more."""

    async def main(clock: Clock) -> Server:
        server = Server(clock, algorithm, limit=100, window_s=5.0)
        shared = InMemory(clock)

        async def run(number: int) -> None:
            await anyio.sleep(0.03 * number)
            async with (
                Throttle(clock=clock, rng=Random(number), shared=shared) as throttle,
                anyio.create_task_group() as items,
            ):
                for _ in range(100):
                    items.start_soon(one, throttle, server)

        async with anyio.create_task_group() as runs:
            for number in range(8):
                runs.start_soon(run, number)
        return server

    server = virtual_time.run(main)

    assert server.accepted == 800
    assert server.refused == 0
    # The reset of a moving window tells less: one of its rests may be found a window later.
    assert server.last_s < 35.0 * (1.2 if algorithm is Algorithm.SLIDING else 1.08)


def test_a_run_that_dies_takes_no_more_than_it_had_taken() -> None:
    """One of two runs ends in its first burst and reports nothing; the other needs no window more than it has to."""

    class Silent(InMemory):
        def report(self, report: Report) -> None:
            """Say nothing."""

    async def main(clock: Clock) -> Server:
        server = Server(clock, Algorithm.FIRST, limit=50, window_s=5.0)
        shared = InMemory(clock)
        dying = Silent(clock)
        dying._budgets = shared._budgets

        async def run(number: int, quota: InMemory, requests: int) -> None:
            async with (
                Throttle(clock=clock, rng=Random(number), shared=quota) as throttle,
                anyio.create_task_group() as items,
            ):
                for _ in range(requests):
                    items.start_soon(one, throttle, server)

        async with anyio.create_task_group() as runs:
            runs.start_soon(run, 0, shared, 100)
            with anyio.move_on_after(0.16):
                await run(1, dying, 100)
        return server

    server = virtual_time.run(main)

    assert server.refused == 0
    assert 100 < server.accepted <= 150
    assert server.last_s < 2 * 5.0 * 1.08
