"""A pool of workers does every request once, never more at a time than it may, and reads no further than it needs."""

from collections.abc import Iterator

import anyio
import pytest
import virtual_time
from driven_run import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import InputChanged
from migrator.messages import Clock, Request
from migrator.results import StopKind, StopReason
from migrator.run.pool.workers import BATCH, Pool


def never(reason: StopReason) -> None:
    """Fail: nothing is to stop this run."""
    raise AssertionError(reason)


def worked(todo: list[Request], *, workers: int, seconds: list[float]) -> tuple[list[int], int, float]:
    """Do requests that take so long each, and return their order, the most at a time, and the time it took."""
    done: list[int] = []
    busy = most = 0

    async def main(clock: Clock) -> float:
        async def work(request: Request) -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await anyio.sleep(seconds[request.item % len(seconds)])
            busy -= 1
            done.append(request.item)

        await Pool(workers=workers, stop=never, clock=clock).run(todo, work)
        return clock().mono

    took = virtual_time.run(main)
    return done, most, took


@settings(max_examples=40)
@given(st.integers(0, 120), st.integers(1, 12), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=4))
def test_every_request_is_done_once(count: int, workers: int, seconds: list[float]) -> None:
    """Whatever each takes, none is left out, none is done twice, and the workers are as many as they may be."""
    done, most, _ = worked(requests(count), workers=workers, seconds=seconds)

    assert sorted(done) == list(range(1, count + 1))
    assert most <= workers


def test_workers_are_never_idle_while_there_is_work() -> None:
    """A hundred requests of one second take ten workers ten seconds."""
    _, most, took = worked(requests(100), workers=10, seconds=[1.0])

    assert most == 10
    assert took == pytest.approx(10.0, abs=0.01)


class Source:
    """Counts how many requests were read of it."""

    def __init__(self, todo: list[Request]) -> None:
        self.todo = todo
        self.read = 0

    def __iter__(self) -> Iterator[Request]:
        for request in self.todo:
            self.read += 1
            yield request


def test_no_more_is_read_than_workers_can_take() -> None:
    """A million rows are not rendered ahead of a slow server."""
    source = Source(requests(1000))
    seen: list[int] = []

    async def main(clock: Clock) -> None:
        async def work(_request: Request) -> None:
            seen.append(source.read)
            await anyio.sleep(1.0)

        await Pool(workers=4, stop=never, clock=clock).run(source, work)

    virtual_time.run(main)

    assert max(read - number for number, read in enumerate(seen)) <= 3 * BATCH
    assert source.read == 1000


def test_close_lets_what_is_taken_finish() -> None:
    """After that nothing new is taken, and the pool ends."""
    done: list[int] = []

    async def main(clock: Clock) -> float:
        pool = Pool(workers=4, stop=never, clock=clock)

        async def work(request: Request) -> None:
            if request.item == 6:
                pool.close()
            await anyio.sleep(1.0)
            done.append(request.item)

        await pool.run(requests(1000), work)
        await pool.run(requests(1000), work)
        return clock().mono

    assert virtual_time.run(main) == pytest.approx(2.0, abs=0.01)
    assert sorted(done) == [1, 2, 3, 4, 5, 6]


def test_input_that_changed_stops_the_run() -> None:
    """What was read before is done; the reason is told, and no error goes through the pool."""
    told: list[StopReason] = []
    done: list[int] = []

    def changing() -> Iterator[Request]:
        yield from requests(BATCH)
        raise InputChanged("items.csv has changed while it was read")

    async def main(clock: Clock) -> None:
        def stop(reason: StopReason) -> None:
            told.append(reason)
            pool.close()

        pool = Pool(workers=4, stop=stop, clock=clock)

        async def work(request: Request) -> None:
            await anyio.sleep(1.0)
            done.append(request.item)

        await pool.run(changing(), work)

    virtual_time.run(main)

    assert [(reason.kind, reason.message) for reason in told] == [
        (StopKind.INPUT_CHANGED, "items.csv has changed while it was read")
    ]
    assert len(done) == len(set(done))


def test_key_that_has_to_wait_takes_no_worker() -> None:
    """Items of a tenant without quota leave the workers to the others, and are done when their time has come."""
    done: list[tuple[str, float]] = []

    async def main(clock: Clock) -> None:
        def wait_s(key: str) -> float:
            return max(0.0, 60.0 - clock().mono) if key == "spent" else 0.0

        async def work(request: Request) -> None:
            await anyio.sleep(1.0)
            done.append((request.limiter_key, clock().mono))

        todo = [
            Request(item=number, key=str(number), method="PATCH", url="", body=b"", limiter_key=key)
            for number, key in enumerate(["spent"] * 8 + ["free"] * 8, start=1)
        ]
        await Pool(workers=2, stop=never, clock=clock, wait_s=wait_s).run(todo, work)

    virtual_time.run(main)

    assert len(done) == 16
    assert all(at < 10.0 for key, at in done if key == "free")
    assert all(at >= 60.0 for key, at in done if key == "spent")
