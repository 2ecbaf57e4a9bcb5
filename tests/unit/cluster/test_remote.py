"""What stands on a worker for the driver's parts waits for the driver's word, in virtual time."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import virtual_time
from result_rows import result

from migrator.cluster import wire
from migrator.cluster.remote import FRESH_S, Outbox, RemoteEvents, RemoteLedger, RemoteQuota
from migrator.errors import LedgerError
from migrator.messages import Clock
from migrator.ratelimit.shared.model import ReportKind, Share
from migrator.secret import Fingerprinter, Masker, Secret


class Kept(Outbox):
    """Keeps messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[wire.Message] = []

    def put(self, message: wire.Message) -> None:
        """Keep a message."""
        self.messages.append(message)


def run(test: Callable[[Kept], Awaitable[Any]]) -> Any:
    """Run a test in virtual time."""

    async def main(_clock: Clock) -> Any:
        return await test(Kept())

    return virtual_time.run(main)


def test_a_result_is_durable_once_all_up_to_it_is_acknowledged() -> None:
    """Operations are counted in their order, those for which nothing waits too."""

    async def test(out: Kept) -> None:
        ledger, done = RemoteLedger("run", out), []

        async def settle(item: int) -> None:
            await ledger.settle(result(item))
            done.append(item)

        async with anyio.create_task_group() as tasks:
            ledger.begin(1, "a", 1, 1000)
            for item in (1, 2, 3):
                tasks.start_soon(settle, item)
            await anyio.sleep(1)
            ledger.acknowledge(3)
            await anyio.sleep(1)
            assert done == [1, 2]
            ledger.acknowledge(4)
        assert done == [1, 2, 3]
        assert [type(one).__name__ for one in out.messages] == ["Begin", "Settled", "Settled", "Settled"]

    run(test)


def test_a_ledger_that_cannot_be_written_stops_those_that_wait_and_those_that_come() -> None:
    """Nothing is sent after that."""

    async def test(out: Kept) -> None:
        ledger = RemoteLedger("run", out)

        async def fail() -> None:
            await anyio.sleep(1)
            ledger.fail("the disk is full")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            with pytest.raises(LedgerError, match="the disk is full"):
                await ledger.begin_durably(1, "a", 1, 1000)
        with pytest.raises(LedgerError):
            ledger.begin(2, "b", 1, 1000)

    run(test)


def test_shares_that_are_not_used_go_back_soon() -> None:
    """One that was used does not; a worker that used all asks for more the next time."""

    async def test(out: Kept) -> None:
        quota = RemoteQuota(out)

        async def answer(number: int, *windows: int) -> None:
            await anyio.sleep(0.001)
            quota.answer(wire.Shares(number, 0.0, windows))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, 1, 7)
            assert await quota.take("key") == Share(0.0, 7)
            tasks.start_soon(answer, 2, 7, 7)
            assert await quota.take("key") == Share(0.0, 7)
        asked = [one.count for one in out.messages if isinstance(one, wire.Ask)]
        assert asked == [1, 2]
        assert quota.take_at_once("key") == 7
        assert quota.take_at_once("key") is None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, 3, 8, 8, 8)
            await quota.take("key")
        await anyio.sleep(2 * FRESH_S)
        back = [one.window for one in out.messages if isinstance(one, wire.Report)]
        assert back == [8, 8]
        assert {one.kind for one in out.messages if isinstance(one, wire.Report)} == {int(ReportKind.RETURNED)}

    run(test)


def test_a_wait_is_passed_on() -> None:
    """The throttle asks again after it."""

    async def test(out: Kept) -> None:
        quota = RemoteQuota(out)

        async def answer() -> None:
            await anyio.sleep(0.001)
            quota.answer(wire.Shares(1, 2.5, ()))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            assert await quota.take("key") == Share(2.5, 0)

    run(test)


def test_events_are_masked_on_the_worker() -> None:
    """The driver may not know the worker's credentials."""
    out = Kept()
    events = RemoteEvents(out, Masker(Fingerprinter(b"k" * 32), [Secret("worker-credential")]))
    events.event("item.retry", cause="said worker-credential", frames=["worker-credential"], delay_s=0.5)
    (message,) = out.messages
    assert isinstance(message, wire.Event)
    assert "worker-credential" not in str(message.fields)
    assert message.fields["delay_s"] == 0.5
