"""What the throttle does about servers that refuse without a word, are down, or never let anything pass again."""

from collections.abc import Callable
from random import Random

import anyio
import pytest
import virtual_time

from migrator.errors import WaitTooLong
from migrator.messages import Clock, Reply
from migrator.ratelimit.throttle import Throttle
from migrator.sandbox.limits import Algorithm, make_limiter

LATENCY_S = 0.02

Answer = Callable[[float], int]
"""The status of an answer, by the time at which the request arrives."""


async def send(clock: Clock, answer: Answer, headers: dict[str, str]) -> Reply:
    """Answer after a round trip."""
    sent = clock()
    await anyio.sleep(LATENCY_S / 2)
    status = answer(clock().mono)
    await anyio.sleep(LATENCY_S / 2)
    return Reply(status=status, headers={} if status == 200 else headers, body=b"", sent=sent, received=clock())


def throttle(clock: Clock, *, max_wait_s: float = 3600.0) -> Throttle:
    """Return a throttle with a seeded source of jitter."""
    return Throttle(concurrency=16, clock=clock, rng=Random(1), max_wait_s=max_wait_s)


def test_a_limiter_that_answers_503() -> None:
    """Nginx's 50 a second with a burst of 10 and its default status: learned, counted as refused, and paced."""

    async def main(clock: Clock) -> tuple[float, int, int]:
        limiter = make_limiter(Algorithm.GCRA, limit=11, window_s=0.22)
        unknown = 0
        items = iter(range(1000))

        async def worker(sender: Throttle) -> None:
            nonlocal unknown
            for _ in items:
                status = 0
                while status != 200:
                    async with sender.permit("key") as permit:
                        reply = await send(clock, lambda now: 200 if limiter.take(now).allowed else 503, {})
                        signal = permit.received(reply)
                        status = reply.status
                        unknown += status == 503 and not signal.throttled

        async with throttle(clock) as sender, anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(worker, sender)
        return clock().mono, unknown, sender.statistics().refused

    seconds, unknown, refused = virtual_time.run(main)

    assert seconds <= 1000 / 50 / 0.9
    assert unknown <= 6
    assert 1 <= refused <= 5 + 0.03 * 1000


def test_after_an_outage_one_request_is_the_first() -> None:
    """A server without headers that was down is not met by all workers at once, but by one, and then by more."""

    async def main(clock: Clock) -> list[float]:
        times: list[float] = []

        def answer(now: float) -> int:
            times.append(now)
            return 200

        items = iter(range(3000))

        async def worker(sender: Throttle) -> None:
            for _ in items:
                async with sender.permit("key") as permit:
                    permit.received(await send(clock, answer, {}))

        async with throttle(clock) as sender, anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(worker, sender)
            await anyio.sleep(2.0)
            sender.hold(30.0)
        return times

    times = [at for at in virtual_time.run(main) if at > 10.0]

    assert times[0] > 30.0
    for trips, most in enumerate([1, 3, 7, 15, 31]):
        assert sum(at < times[0] + (trips + 0.9) * LATENCY_S for at in times) <= most


@pytest.mark.parametrize("retry_after", ["10", None])
def test_refusals_without_an_end(retry_after: str | None) -> None:
    """A server that refuses every probe is asked ever more rarely, and given up after the user's longest wait."""

    async def main(clock: Clock) -> tuple[int, float]:
        asked = 0
        headers = {} if retry_after is None else {"retry-after": retry_after}
        async with throttle(clock, max_wait_s=1800.0) as sender:
            with pytest.raises(WaitTooLong):
                while True:
                    async with sender.permit("key") as permit:
                        asked += 1
                        permit.received(await send(clock, lambda _: 429, headers))
        return asked, clock().mono

    asked, seconds = virtual_time.run(main)

    assert asked <= 45
    assert 600.0 <= seconds <= 1801.0


def test_a_day_s_quota_that_is_used_up_is_not_asked_for_more() -> None:
    """Kong and HubSpot tell of a minute's and of a day's quota, and of no reset: the wait is too long, and is told."""

    async def main(clock: Clock) -> tuple[int, int, float]:
        accepted: list[float] = []
        refused = 0
        async with throttle(clock, max_wait_s=3600.0) as sender:
            with pytest.raises(WaitTooLong):
                while True:
                    async with sender.permit("key") as permit:
                        sent = clock()
                        in_minute = sum(at // 60 == sent.mono // 60 for at in accepted)
                        full = in_minute >= 60 or len(accepted) >= 100
                        if not full:
                            accepted.append(sent.mono)
                        await anyio.sleep(LATENCY_S)
                        headers = {
                            "x-ratelimit-limit-minute": "60",
                            "x-ratelimit-remaining-minute": str(max(0, 59 - in_minute)),
                            "x-ratelimit-limit-day": "100",
                            "x-ratelimit-remaining-day": str(100 - len(accepted)),
                        }
                        refused += full
                        status = 429 if full else 200
                        permit.received(Reply(status=status, headers=headers, body=b"", sent=sent, received=clock()))
        return len(accepted), refused, clock().mono

    accepted, refused, seconds = virtual_time.run(main)

    assert (accepted, refused) == (100, 0)
    assert seconds < 120.0
