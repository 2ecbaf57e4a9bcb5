"""The throttle with its real pacers, aiolimiters and tasks, in virtual time, against the sandbox's own limiters."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterator
from itertools import pairwise
from random import Random
from typing import Any

import anyio
import pytest
import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from migrator.errors import WaitTooLong
from migrator.messages import Clock, Failure, FailureKind, Reply, Stage
from migrator.options import Pace
from migrator.ratelimit.headers import Dialect
from migrator.ratelimit.model import PacerSettings
from migrator.ratelimit.throttle import Permit, Throttle, ThrottleStatistics
from migrator.sandbox.limits import Algorithm, Limiter, ResetStyle, Rounding, limit_headers, make_limiter


class Server:
    """A server with a quota for each limiter key; time passes in its round trips alone."""

    def __init__(
        self,
        clock: Clock,
        *,
        limit: int = 10,
        window_s: float = 10.0,
        algorithm: Algorithm = Algorithm.FIXED,
        latency_s: float = 0.05,
        told: bool = True,
    ) -> None:
        self.accepted: dict[str, list[float]] = {}
        self.refused = self.in_flight = self.most_in_flight = 0
        self._clock, self._latency_s, self._told = clock, latency_s, told
        self._window_s = window_s
        self._limiters: defaultdict[str, Limiter] = defaultdict(
            lambda: make_limiter(algorithm, limit=limit, window_s=window_s)
        )

    async def send(self, key: str) -> Reply:
        """Answer after a round trip."""
        sent = self._clock()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await anyio.sleep(self._latency_s / 2)
        now = self._clock()
        verdict = self._limiters[key].take(now.mono)
        headers = {}
        if self._told:
            style, up = ResetStyle.RELATIVE, Rounding.UP
            told = limit_headers(verdict, style=style, utc=now.utc, window_s=self._window_s, rounding=up)
            headers = {name.lower(): value for name, value in told.items()}
        if verdict.allowed:
            self.accepted.setdefault(key, []).append(now.mono)
        else:
            self.refused += 1
        await anyio.sleep(self._latency_s / 2)
        self.in_flight -= 1
        status = 200 if verdict.allowed else 429
        return Reply(status=status, headers=headers, body=b"", sent=sent, received=self._clock())


def throttle(clock: Clock, *, concurrency: int | None = 8, max_wait_s: float = 3600.0, **pace: Any) -> Throttle:
    """Return a throttle with a seeded source of jitter."""
    return Throttle(
        settings=PacerSettings(**pace),
        dialect=Dialect(),
        concurrency=concurrency,
        clock=clock,
        rng=Random(1),
        max_wait_s=max_wait_s,
    )


async def one(sender: Throttle, server: Server, key: str = "key") -> None:
    """Send until one request is taken."""
    while True:
        async with sender.permit(key) as permit:
            if not permit.granted:
                return
            answer = await server.send(key)
            permit.received(answer)
        if answer.status == 200:
            return


async def several(sender: Throttle, server: Server, items: Iterator[int]) -> None:
    """Send what several workers share, one after the other."""
    for _ in items:
        await one(sender, server)


async def many(sender: Throttle, server: Server, counts: dict[str, int]) -> None:
    """Send so many requests of each key, all at once."""
    async with anyio.create_task_group() as tasks:
        for key, count in counts.items():
            for _ in range(count):
                tasks.start_soon(one, sender, server, key)


@settings(max_examples=40, deadline=None)
@given(
    algorithm=st.sampled_from([Algorithm.FIXED, Algorithm.FIRST, Algorithm.SLIDING, Algorithm.COUNTER]),
    limit=st.integers(1, 40),
    latency_s=st.sampled_from([0.001, 0.05, 0.7]),
    concurrency=st.sampled_from([1, 3, 16, None]),
    count=st.integers(1, 90),
    pace=st.sampled_from(Pace),
)
def test_all_are_sent_and_none_is_refused(
    algorithm: Algorithm, limit: int, latency_s: float, concurrency: int | None, count: int, pace: Pace
) -> None:
    """Whatever the quota, every request goes, none is refused, and no more are in flight than there are slots.

    A sliding counter, which does not tell where its windows begin, may refuse one that goes to find out, and another.
    """

    async def main(clock: Clock) -> Server:
        server = Server(clock, algorithm=algorithm, limit=limit, latency_s=latency_s)
        async with throttle(clock, concurrency=concurrency, pace=pace) as sender:
            await many(sender, server, {"key": count})
            assert sender.statistics().in_flight == 0
        return server

    server = virtual_time.run(main)

    assert len(server.accepted["key"]) == count
    assert server.refused <= (2 if algorithm is Algorithm.COUNTER else 0)
    assert server.most_in_flight <= (concurrency or 64)


def test_each_key_has_its_own_quota() -> None:
    """Keys are served side by side: ten quotas take no longer than one."""

    async def spend(keys: int) -> tuple[float, Server]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual_time.VirtualTimeLoop)
        began = loop.time()
        server = Server(loop.clock, limit=10, window_s=10.0)
        async with throttle(loop.clock, concurrency=16) as sender:
            await many(sender, server, {f"key {number}": 35 for number in range(keys)})
        return loop.time() - began, server

    alone_s, _ = virtual_time.run(lambda _: spend(1))
    together_s, server = virtual_time.run(lambda _: spend(10))

    assert together_s < alone_s + 2.0
    assert server.refused == 0


def test_a_key_without_quota_starves_no_other() -> None:
    """While one key waits for its window, another one's requests pass, in their turn."""

    async def main(clock: Clock) -> Server:
        server = Server(clock, limit=5, window_s=1000.0)
        async with throttle(clock, concurrency=4) as sender, anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(one, sender, server, "long")
            await anyio.sleep(1.0)
            await many(sender, server, {"short": 5})
            assert clock().mono < 10.0
            sender.stop()
        return server

    server = virtual_time.run(main)

    assert (len(server.accepted["long"]), len(server.accepted["short"])) == (5, 5)


def test_first_come_first_served() -> None:
    """Requests of a key go in the order in which they asked."""

    async def main(clock: Clock) -> list[int]:
        server, order = Server(clock, limit=3, window_s=5.0), []
        async with throttle(clock, concurrency=1) as sender, anyio.create_task_group() as tasks:

            async def take(number: int) -> None:
                async with sender.permit("key") as permit:
                    order.append(number)
                    permit.received(await server.send("key"))

            for number in range(12):
                tasks.start_soon(take, number)
                await anyio.sleep(0.001)
        return order

    assert virtual_time.run(main) == list(range(12))


def test_own_ceiling() -> None:
    """A rate of the user's holds over any stretch of time but for its burst."""

    async def main(clock: Clock) -> list[float]:
        server = Server(clock, limit=10_000, window_s=60.0, latency_s=0.01)
        async with throttle(clock, rate=5.0) as sender:
            await many(sender, server, {"key": 60})
        return server.accepted["key"]

    times = virtual_time.run(main)

    for start in range(0, 60, 7):
        for end in range(start + 1, 60):
            assert end - start <= 5.0 * (times[end] - times[start]) + 2.001


def test_writes_keep_their_space_and_reads_do_not_wait_for_it() -> None:
    """GitHub asks for a second between two writes, and for none between reads."""

    async def main(clock: Clock) -> tuple[list[float], list[float]]:
        server = Server(clock, limit=10_000, window_s=60.0, latency_s=0.01)
        written: list[float] = []
        read: list[float] = []

        async def item(sender: Throttle, number: int) -> None:
            for times in (read, written):
                async with sender.permit("key", order=number, writes=times is written) as permit:
                    times.append(clock().mono)
                    permit.received(await server.send("key"))

        async with throttle(clock, write_spacing_s=1.0) as sender, anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(item, sender, number)
        return written, read

    written, read = virtual_time.run(main)

    gaps = [later - earlier for earlier, later in pairwise(written)]
    assert min(gaps) >= 1.0
    assert max(gaps) < 1.1
    assert all(before < after for before, after in zip(read, written, strict=True))
    assert read[-1] < written[-1] - 0.9


def test_refusal_pauses_everybody() -> None:
    """After a 429 with Retry-After nothing goes until then, and one request alone is the first."""

    async def main(clock: Clock) -> list[float]:
        times: list[float] = []

        async def answer(permit: Permit) -> None:
            times.append(clock().mono)
            sent = clock()
            await anyio.sleep(0.1)
            limited = len(times) <= 4
            headers = {"retry-after": "30"} if limited else {}
            permit.received(
                Reply(status=429 if limited else 200, headers=headers, body=b"", sent=sent, received=clock())
            )

        async def item(sender: Throttle) -> None:
            async with sender.permit("key") as permit:
                await answer(permit)

        async with throttle(clock) as sender, anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(item, sender)
        return times

    times = virtual_time.run(main)

    assert times[0] < 1.0
    assert all(at >= 30.0 for at in times[1:])
    assert times[2] >= times[1] + 0.1


def test_too_long_a_wait() -> None:
    """A wait beyond the user's limit is refused, with its length, and not slept."""

    async def main(clock: Clock) -> tuple[float, float]:
        server = Server(clock, limit=2, window_s=7200.0)
        async with throttle(clock, max_wait_s=3600.0) as sender:
            await one(sender, server)
            await one(sender, server)
            with pytest.raises(WaitTooLong, match="longer than --max-wait") as caught:
                await one(sender, server)
        return caught.value.wait_s, clock().mono

    wait_s, now = virtual_time.run(main)

    assert 7190.0 < wait_s < 7210.0
    assert now < 10.0


def test_stop_lets_everybody_go_on() -> None:
    """A stop ends every wait without leave to send, at the pacer, at the aiolimiter and for a slot."""

    async def main(clock: Clock) -> tuple[list[bool], float]:
        granted = []

        async def ask(sender: Throttle, key: str) -> None:
            async with sender.permit(key) as permit:
                granted.append(permit.granted)
                await anyio.sleep(5.0)

        async with throttle(clock, concurrency=2, rate=0.01) as sender, anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(ask, sender, f"key {number % 3}")
            await anyio.sleep(1.0)
            sender.stop()
            await anyio.sleep(0.0)
            assert granted.count(False) == 4
            tasks.start_soon(ask, sender, "another")
        return granted, clock().mono

    granted, now = virtual_time.run(main)

    assert granted == [True, True, False, False, False, False, False]
    assert now < 7.0


@settings(max_examples=40, deadline=None)
@given(
    victims=st.lists(st.integers(0, 19), max_size=12, unique=True),
    after_s=st.floats(0.0, 12.0),
    seed=st.integers(0, 2**16),
)
def test_cancellation_gives_the_permit_back(victims: list[int], after_s: float, seed: int) -> None:
    """Requests that are cancelled at any moment leave no slot taken, no budget below zero and no one waiting."""

    async def main(clock: Clock) -> None:
        server, rng = Server(clock, limit=4, window_s=5.0), Random(seed)
        async with throttle(clock, concurrency=3) as sender:

            async def item(scope: anyio.CancelScope) -> None:
                with scope:
                    await one(sender, server)

            async with anyio.create_task_group() as tasks:
                scopes = [anyio.CancelScope() for _ in range(20)]
                for scope in scopes:
                    tasks.start_soon(item, scope)
                await anyio.sleep(after_s)
                for victim in victims:
                    scopes[victim].cancel()
                    if rng.random() < 0.5:
                        await anyio.sleep(rng.random())
            stands = sender.statistics()
            assert stands.in_flight == 0
            assert (stands.remaining or 0) >= 0
            await many(sender, server, {"key": 8})

    virtual_time.run(main)


def test_lost_answers_do_not_stop_the_key() -> None:
    """A probe that never comes back is followed by another one."""

    async def main(clock: Clock) -> int:
        server, failures = Server(clock, limit=5), 3

        async def item(sender: Throttle) -> None:
            nonlocal failures
            async with sender.permit("key") as permit:
                if failures:
                    failures -= 1
                    sent = clock()
                    await anyio.sleep(1.0)
                    kind, stage = FailureKind.TIMEOUT, Stage.READ
                    permit.received(
                        Failure(kind=kind, stage=stage, maybe_sent=True, message="", sent=sent, received=clock())
                    )
                else:
                    permit.received(await server.send("key"))

        async with throttle(clock) as sender, anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(item, sender)
        return len(server.accepted["key"])

    assert virtual_time.run(main) == 6


def test_what_was_waited_for() -> None:
    """The statistics say for how long nothing could go, and why."""

    async def main(clock: Clock) -> Any:
        server = Server(clock, limit=5, window_s=60.0)
        async with throttle(clock) as sender:
            await many(sender, server, {"key": 12})
            return sender.statistics()

    stands = virtual_time.run(main)

    assert stands.limit == 5
    assert stands.requests == 12
    assert sum(stands.waited_s.values()) == pytest.approx(120.0, abs=3.0)
    assert max(stands.waited_s, key=lambda reason: stands.waited_s[reason]) == "quota used up"


@given(st.integers(1, 5))
@settings(max_examples=5, deadline=None)
def test_without_a_limit_nothing_is_waited_for(slots: int) -> None:
    """A server that tells of no limit is sent to as fast as the slots allow, after some seconds of few in flight."""

    async def main(clock: Clock) -> float:
        server = Server(clock, limit=10**6, told=False, latency_s=0.1)
        async with throttle(clock, concurrency=slots) as sender:
            await many(sender, server, {"key": 500})
        return clock().mono

    assert virtual_time.run(main) <= 1.1 * 500 * 0.1 / slots + (5.0 if slots > 2 else 0.0)


@pytest.mark.parametrize(
    ("limit", "window_s"), [(10, 10.0), (10, 60.0), (50, 10.0), (50, 60.0), (333, 10.0), (333, 60.0), (5000, 10.0)]
)
def test_smooth_pace_spreads_every_window(limit: int, window_s: float) -> None:
    """With `smooth` each tenth of a window gets a tenth of the limit, one more or less, and the aiolimiter does it.

    The last tenth is the reserve for the window's end.
    """

    async def main(clock: Clock) -> tuple[Server, ThrottleStatistics]:
        server = Server(clock, limit=limit, window_s=window_s, algorithm=Algorithm.FIRST, latency_s=0.02)
        async with throttle(clock, concurrency=32, pace=Pace.SMOOTH) as sender:
            async with anyio.create_task_group() as tasks:
                items = iter(range(3 * limit))
                for _ in range(64):
                    tasks.start_soon(several, sender, server, items)
            return server, sender.statistics()

    server, stands = virtual_time.run(main)

    times = server.accepted["key"]
    assert server.refused == 0
    opened = times[0]
    for _ in range(2):
        window = [at for at in times if 0.0 <= at - opened < window_s]
        tenths = Counter(int(10.0 * (at - opened) / window_s) for at in window)
        assert len(window) >= 0.99 * limit - 1
        assert all(abs(tenths[tenth] - limit / 10) <= 1.0 for tenth in range(9)), tenths
        opened = next(at for at in times if at >= opened + window_s)
    assert stands.limiter_share is not None
    assert stands.limiter_share >= 0.9
    assert times[-1] - times[0] <= 3.1 * window_s


def test_public_use_with_any_client() -> None:
    """With no argument the throttle takes the status and headers of any client, and keeps to the quota they tell."""

    async def main(clock: Clock) -> tuple[float, int]:
        limiter = make_limiter(Algorithm.FIRST, limit=5, window_s=30.0)
        refused = 0

        async def call(sender: Throttle) -> None:
            nonlocal refused
            async with sender.permit("api.example.com") as permit:
                await asyncio.sleep(0.1)
                verdict = limiter.take(clock().mono)
                refused += not verdict.allowed
                told = limit_headers(verdict, style=ResetStyle.DRAFT, utc=clock().utc, window_s=30.0)
                signal = permit.answered(status=200 if verdict.allowed else 429, headers=CIMultiDict(told))
                assert signal.quota is not None
                assert (signal.throttled, signal.quota.limit) == (not verdict.allowed, 5)

        async with Throttle(clock=clock) as sender, anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(call, sender)
        return clock().mono, refused

    seconds, refused = virtual_time.run(main)

    assert 60.0 < seconds < 62.0
    assert refused == 0


def test_a_throttle_that_is_not_open() -> None:
    """A permit outside of the context manager is a programmer's error, and says what to do."""
    with pytest.raises(RuntimeError, match="async with Throttle"):
        Throttle().permit("key")


def test_an_error_in_the_run_is_not_wrapped() -> None:
    """What ends the run comes out as it is, and not in a group of the keepers' making."""

    async def failing() -> None:
        raise LookupError

    async def main(clock: Clock) -> None:
        step: Coroutine[Any, Any, None] = failing()
        async with throttle(clock) as sender:
            await one(sender, Server(clock))
            await step

    with pytest.raises(LookupError):
        virtual_time.run(main)
