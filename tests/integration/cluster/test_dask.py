"""Dask says which workers there are and hands over a connection with each; without it there is one clear message."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dask
import msgspec
import pytest
from distributed import Scheduler, Worker

from migrator.cluster import dask as dask_module
from migrator.cluster import wire
from migrator.cluster.dask import DaskCluster, open_cluster
from migrator.errors import MigratorError
from migrator.options import RunOptions
from migrator.results import Exit

pytestmark = pytest.mark.anyio


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no more than a moment for an answer that does not come."""
    monkeypatch.setattr(dask_module, "ANSWER_S", 0.5)


@asynccontextmanager
async def cluster(workers: int) -> AsyncIterator[tuple[str, list[Worker]]]:
    """Start a scheduler and workers in this event loop; yield the scheduler's address and the workers."""
    quiet = {"distributed.worker.memory.terminate": False, "distributed.admin.log-length": 0}
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(dask.config.set(quiet))
        scheduler = await stack.enter_async_context(
            Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0")
        )
        started = [
            await stack.enter_async_context(Worker(scheduler.address, host="127.0.0.1", nthreads=1, memory_limit=0))
            for _ in range(workers)
        ]
        yield scheduler.address, started


def options(scheduler: str) -> RunOptions:
    """Return the options of a run with a scheduler."""
    return RunOptions(scheduler=scheduler)


async def test_every_worker_takes_the_handler_those_included_that_come_later() -> None:
    """A run asks a worker, and the worker answers in the run's own words."""
    async with cluster(1) as (address, workers), open_cluster(options(address)) as found:
        assert await found.addresses() == [workers[0].address]
        async with Worker(address, host="127.0.0.1", nthreads=1, memory_limit=0) as late:
            assert sorted(await found.addresses()) == sorted([workers[0].address, late.address])
            for worker in (workers[0], late):
                stream = await found.connect(worker.address)
                await stream.write(wire.Frame(msgspec.msgpack.encode({"version": "0.0.0"})))
                (answer,) = wire.decode_from_worker(await asyncio.wait_for(stream.read(), 30))
                assert isinstance(answer, wire.Refused)
                stream.abort()


@pytest.mark.usefixtures("_short")
async def test_a_worker_that_is_gone_cannot_be_connected() -> None:
    """It is an error of the network, after which the run asks for the others."""
    async with cluster(0) as (address, _), open_cluster(options(address)) as found:
        assert isinstance(found, DaskCluster)
        assert await found.addresses() == []
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises((OSError, TimeoutError)):
            await found.connect(f"tcp://127.0.0.1:{port}")


@pytest.mark.usefixtures("_short")
async def test_a_scheduler_that_cannot_be_reached_is_named() -> None:
    """The run can be resumed without it, so its exit code is that of a run that was stopped."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(MigratorError, match=f"the Dask scheduler {address} cannot be reached") as raised:
        async with open_cluster(options(address)):
            pass
    assert raised.value.exit_code is Exit.STOPPED


async def test_certificates_are_asked_for_by_the_variables_that_name_them() -> None:
    """A scheduler on another host is reached over TLS only."""
    with pytest.raises(MigratorError, match="DASK_DISTRIBUTED__COMM__TLS__CA_FILE"):
        async with open_cluster(options("tls://dask.example:8786")):
            pass
