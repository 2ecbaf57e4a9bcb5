"""What is put on a Dask worker: a handler, over a connection of Dask's own."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from distributed.comm.core import Comm, connect, listen
from distributed.protocol.pickle import dumps, loads

from migrator.cluster import wire
from migrator.cluster.plugin import HANDLER, CommStream, MigratorPlugin

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[Comm, Comm]]:
    """Open a connection within this process, and yield both ends."""
    taken: asyncio.Queue[Comm] = asyncio.Queue()
    async with listen("inproc://", taken.put) as listener:
        here = await connect(listener.contact_address)
        there = await taken.get()
        yield here, there
        here.abort()
        there.abort()


async def test_frames_arrive_whole() -> None:
    """What one end writes the other reads."""
    async with connection() as (here, there):
        for frame in (wire.Frame(b"one"), wire.Frame(b"")):
            await CommStream(here).write(frame)
            assert await CommStream(there).read() == frame


async def test_what_is_no_frame_breaks_the_connection() -> None:
    """Another program may talk to the handler."""
    async with connection() as (here, there):
        await here.write({"op": "identity"})
        with pytest.raises(OSError, match="another language"):
            await CommStream(there).read()


async def test_an_aborted_connection_is_broken_for_both() -> None:
    """The other end learns it when it reads."""
    async with connection() as (here, there):
        CommStream(here).abort()
        with pytest.raises(OSError, match=r"^"):
            await CommStream(there).read()
        with pytest.raises(OSError, match=r"^"):
            await CommStream(here).write(wire.Frame(b"late"))


class StandIn:
    """A worker of Dask, as far as a plugin sees it."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}


@pytest.mark.parametrize("own", [True, False])
async def test_the_plugin_survives_the_way_to_a_worker(own: bool) -> None:
    """It registers the handler there; a worker of the run itself leaves Ctrl-C to the run."""
    before = signal.getsignal(signal.SIGINT)
    worker: Any = StandIn()
    try:
        plugin = loads(dumps(MigratorPlugin(ignore_interrupt=own)))
        plugin.setup(worker)
        assert (signal.getsignal(signal.SIGINT) is signal.SIG_IGN) == own
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(worker.handlers) == [HANDLER]


async def test_the_handler_serves_a_run_until_the_connection_ends() -> None:
    """A run of another version is refused in words, and Dask does not answer by itself."""
    worker: Any = StandIn()
    before = signal.getsignal(signal.SIGINT)
    MigratorPlugin(ignore_interrupt=False).setup(worker)
    assert signal.getsignal(signal.SIGINT) is before
    async with connection() as (here, there):
        serving = asyncio.create_task(worker.handlers[HANDLER](there))
        await CommStream(here).write(wire.Frame(msgspec.msgpack.encode({"version": "0.0.0"})))
        (refused,) = wire.decode_from_worker(await CommStream(here).read())
        assert isinstance(refused, wire.Refused)
        assert "0.0.0" in str(refused)
        here.abort()
        assert (await serving).name == "dont_reply"


async def test_a_program_that_is_no_run_is_let_go() -> None:
    """Whatever connects to the worker's port by mistake."""
    worker: Any = StandIn()
    MigratorPlugin(ignore_interrupt=False).setup(worker)
    async with connection() as (here, there):
        await CommStream(here).write(wire.Frame(b"GET / HTTP/1.1"))
        assert (await worker.handlers[HANDLER](there)).name == "dont_reply"
        with pytest.raises(OSError, match=r"^"):
            await CommStream(here).read()
