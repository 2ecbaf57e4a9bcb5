"""The driver's side of a worker: what it records is durable before it is told so, and what it held is lost with it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from cluster_stand_in import Pipe, connected
from driven_run import requests
from result_rows import result

from migrator.cluster import wire
from migrator.cluster.link import Assigned, Link, Lost
from migrator.errors import ReadingError, WaitTooLong
from migrator.ratelimit.model import ThrottleStatistics
from migrator.ratelimit.shared.model import Report, ReportKind, Share
from migrator.results import ErrorKind, ItemError, ItemResult, StopKind, StopReason
from migrator.store.item_record import encoded, record
from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_writer import Ledger

pytestmark = pytest.mark.anyio

SILENCE_S = 20.0


@dataclass
class Told:
    """Keeps what is heard of a worker: events, stops, repeated attempts, quota."""

    heard: list[Any] = field(default_factory=list)

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Keep an event."""
        self.heard.append((event, level, fields))

    def stands(self, name: str, throttle: ThrottleStatistics) -> None:
        """Keep how a worker stands."""
        self.heard.append((name, throttle.slots))

    def used_up(self, limiter_key: str, wait_s: float) -> None:
        """Keep a wait for the quota."""
        self.heard.append((limiter_key, wait_s))

    def retried(self, *, throttled: bool) -> None:
        """Keep an attempt that is made again."""
        self.heard.append(("retried", throttled))

    def stop(self, reason: StopReason) -> None:
        """Keep a stop."""
        self.heard.append(reason)


@dataclass
class ThreeShares:
    """A quota of three requests; the fourth has to wait."""

    left: int = 3
    reports: list[Report] = field(default_factory=list)

    async def take(self, _limiter_key: str) -> Share:
        """Say how long to wait."""
        return Share(7.0, 0)

    def take_at_once(self, _limiter_key: str) -> int | None:
        """Give one of three shares, of window 5."""
        self.left -= 1
        return 5 if self.left >= 0 else None

    def report(self, report: Report) -> None:
        """Keep a report."""
        self.reports.append(report)

    def together(self) -> AbstractContextManager[None]:
        """Group nothing."""
        return nullcontext()


@dataclass
class Bench:
    """A link, and the worker's end of it.

    Attributes:
        link: the driver's side.
        worker: the worker's end.
        told: what the driver heard.
        quota: what is shared.
        path: the ledger.
        items: what was given to the worker.
        gone: what the link returned when it ended.
    """

    link: Link
    worker: Pipe
    told: Told
    quota: ThreeShares
    path: Path
    items: list[Assigned] = field(default_factory=list)
    gone: list[tuple[int, str]] = field(default_factory=list)

    def assign(self, count: int) -> list[Assigned]:
        """Give the worker so many items."""
        self.items = [Assigned(request) for request in requests(count)]
        for item in self.items:
            self.link.assign(item, canary=False)
        return self.items

    async def says(self, *messages: wire.Message) -> None:
        """Let the worker say something."""
        await self.worker.write(wire.encode(messages))

    async def hears(self, kind: Callable[..., Any]) -> Any:
        """Return the next message of a kind to the worker."""
        with anyio.fail_after(30):
            while True:
                for message in wire.decode_to_worker(await self.worker.read()):
                    if message.__class__ is kind:
                        return message


@asynccontextmanager
async def bench(folder: Path, *, silence_s: float = SILENCE_S) -> AsyncIterator[Bench]:
    """Serve a worker; the pipe breaks on leaving."""
    path = folder / "ledger.db"
    here, there = connected()
    told, quota = Told(), ThreeShares()
    async with Ledger.open(path) as ledger, anyio.create_task_group() as tasks:
        link = Link(
            "worker-1",
            here,
            lanes=8,
            ledger=ledger,
            events=told,
            quota=quota,
            tokens=None,
            listener=told,
            pending=lambda: 42,
        )
        opened = Bench(link, there, told, quota, path)

        async def serve() -> None:
            opened.gone.append(await link.serve(silence_s=silence_s))

        tasks.start_soon(serve)
        yield opened
        there.abort()
    for item in opened.items:
        if item.ended.done():
            # Not every test waits for its items, and the loop warns of errors that no one has seen.
            item.ended.exception()


def line(row: ItemResult) -> bytes:
    """Return a result as a worker tells it."""
    return encoded(record(row, run="run"))


def mine(item: int, **changes: Any) -> ItemResult:
    """Return the result of an item that was given."""
    return result(item, **({"key": f"i-{item}"} | changes))


async def test_an_operation_is_acknowledged_once_it_is_durable(tmp_path: Path) -> None:
    """Another reader of the file sees it then."""
    async with bench(tmp_path) as held:
        first, second = held.assign(2)
        await held.says(wire.Begin(1, 1, 1000), wire.Begin(2, 1, 1000), wire.Settled(line(mine(1)), provisional=False))
        count = (await held.hears(wire.Durable)).count
        while count < 3:
            count = (await held.hears(wire.Durable)).count
        assert count == 3
        with read_ledger(held.path) as reader:
            assert [row.key for row in reader.rows()] == ["i-1"]
            assert [found.item for found in reader.in_flight()] == [2]
        await held.says(wire.Done(1, None, exempt=False))
        assert (await first.ended) == wire.Done(1, None, exempt=False)
        assert first.result == (mine(1), line(mine(1)))
        assert second.started
        held.worker.abort()
        with pytest.raises(Lost):
            await second.ended
    assert held.gone == [(1, "the connection broke")]


async def test_a_worker_records_nothing_of_items_that_it_does_not_hold(tmp_path: Path) -> None:
    """One that was given up and speaks again must not undo what another has done."""
    async with bench(tmp_path) as held:
        (item,) = held.assign(1)
        image, settled = wire.Image(9, "u", b"x"), wire.Settled(line(mine(9)), provisional=False)
        strange = (wire.Begin(9, 1, 1), wire.Withdraw(9), image, settled)
        await held.says(*strange, wire.Written(line(mine(9))), wire.Done(9, None, exempt=False))
        assert (await held.hears(wire.Durable)).count == len(strange) + 1
        with read_ledger(held.path) as reader:
            assert list(reader.rows()) == []
            assert reader.in_flight() == []
        await held.says(wire.Written(line(mine(1))))
        await held.hears(wire.Durable)
        assert item.written is not None
        with read_ledger(held.path) as reader:
            assert [row.key for row in reader.unverified()] == ["i-1"]


async def test_the_item_s_own_key_is_recorded(tmp_path: Path) -> None:
    """A lone surrogate in a key is not JSON: the worker's line shows another text."""
    async with bench(tmp_path) as held:
        (item,) = held.assign(1)
        await held.says(wire.Settled(line(mine(1, key="?")), provisional=False))
        await held.hears(wire.Durable)
        assert item.result is not None
        assert item.result[0].key == "i-1"


@pytest.mark.parametrize(
    ("message", "raised"),
    [
        (wire.TooLong(1, 90.0, "quota"), WaitTooLong),
        (wire.Unread(1, ItemError(kind=ErrorKind.AUTH, message="the server answered 401")), ReadingError),
    ],
)
async def test_what_stops_the_run_is_raised_where_the_item_is_awaited(
    tmp_path: Path, message: wire.Message, raised: type[Exception]
) -> None:
    """The crew gets the same error as a run in one process."""
    async with bench(tmp_path) as held:
        (item,) = held.assign(1)
        await held.says(message)
        with pytest.raises(raised):
            await item.ended


async def test_what_a_worker_tells_of_itself_is_handed_on(tmp_path: Path) -> None:
    """In the order in which it was told."""
    reason = StopReason(StopKind.CONTROL, "stopped")
    async with bench(tmp_path) as held:
        await held.says(wire.Event("item.waiting", "warning", {"s": 2}), wire.Retried(throttled=True))
        await held.says(wire.StopRun(reason), wire.Withdraw(1))
        await held.hears(wire.Durable)
        assert held.told.heard == [("item.waiting", "warning", {"s": 2}), ("retried", True), reason]
        assert (await held.hears(wire.Beat)).pending == 42


async def test_shares_of_the_quota_come_back_when_the_worker_is_lost(tmp_path: Path) -> None:
    """Else other runs would wait for answers that never come."""
    async with bench(tmp_path) as held:
        await held.says(wire.Ask(1, b"api", 5))
        assert await held.hears(wire.Shares) == wire.Shares(1, 0.0, (5, 5, 5))
        await held.says(wire.Ask(2, b"api", 1))
        assert await held.hears(wire.Shares) == wire.Shares(2, 7.0, ())
        assert held.told.heard == [("api", 7.0)]
        await held.says(wire.Report(b"api", 5, int(ReportKind.ANSWERED), 9, 1.0))
    lost = Report("api", 5, ReportKind.LOST)
    assert held.quota.reports == [Report("api", 5, ReportKind.ANSWERED, 9, 1.0), lost, lost]


async def test_a_worker_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    """It may be frozen, with the items that it has."""
    async with bench(tmp_path, silence_s=0.2) as held:
        (item,) = held.assign(1)
        with pytest.raises(Lost):
            await asyncio.wait_for(item.ended, 30)
    assert held.gone == [(1, "no word for 0 s")]


@pytest.mark.parametrize("frame", [b"", b"\xc1", msgspec.msgpack.encode([["Begin", "1"]])])
async def test_what_is_no_message_ends_the_worker(tmp_path: Path, frame: bytes) -> None:
    """And not the run."""
    async with bench(tmp_path) as held:
        (item,) = held.assign(1)
        await held.worker.write(wire.Frame(frame))
        with pytest.raises(Lost):
            await asyncio.wait_for(item.ended, 30)
    assert held.gone == [(1, "it sent what is no message")]
