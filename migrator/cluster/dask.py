"""Dask, as far as it is used: it says which workers there are, and hands over a connection with each.

The connection belongs to a handler that a plugin registers on the workers. There are no tasks: Dask would run those of
a lost worker again by itself, which is wrong for what must not be sent twice.
"""

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import anyio
import dask
from distributed import LocalCluster
from distributed.comm.core import connect
from distributed.core import rpc
from distributed.protocol.pickle import dumps
from distributed.security import Security

from migrator.cluster.plugin import HANDLER, CommStream, MigratorPlugin
from migrator.errors import MigratorError
from migrator.options import RunOptions
from migrator.results import Exit

__all__ = ["DaskCluster", "open_cluster"]

ANSWER_S: Final = 15.0
"""Seconds that the scheduler and a worker have to answer a question: a busy machine needs some for TLS alone."""

START_S: Final = 60.0
"""Seconds in which the worker processes of this machine have to be there."""

PREPARE_S: Final = 30.0
"""Seconds that workers have to take the handler: each imports the program then."""

CLOSE_S: Final = 5.0
"""Seconds that the worker processes of this machine have to end."""

QUIET: Final[Mapping[str, Any]] = {
    "distributed.worker.daemon": False,
    "distributed.admin.log-length": 0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "logging.distributed": "critical",
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
}
"""Nothing is written to a disk, no log is kept, and the run's standard error stays its own."""


class DaskCluster:
    """A scheduler, and the workers that it knows.

    Args:
        address: the scheduler's.
        security: certificates and keys.
        local: whether the workers are processes of ours.
    """

    def __init__(self, address: str, security: Security, *, local: bool) -> None:
        self.address = address
        self._local = local
        self._connection = security.get_connection_args("client")

    async def addresses(self) -> list[str]:
        """Return the addresses of the workers; raises OSError or TimeoutError where the scheduler is gone."""
        answer = await self._ask("identity")
        return list(answer["workers"])

    async def prepare(self) -> None:
        """Register the handler on all workers, those included that come later; raises OSError or TimeoutError.

        A worker that is frozen keeps the scheduler from answering, but no other worker from taking the handler.
        """
        await self.addresses()
        plugin = dumps(MigratorPlugin(ignore_interrupt=self._local))
        with suppress(TimeoutError):
            await self._ask("register_worker_plugin", PREPARE_S, plugin=plugin, name=HANDLER, idempotent=False)

    async def connect(self, worker: str) -> CommStream:
        """Return a connection with the handler of a worker; raises OSError or TimeoutError where there is none."""
        with anyio.fail_after(ANSWER_S):
            comm = await connect(worker, timeout=ANSWER_S, **self._connection)
            await comm.write({"op": HANDLER, "reply": False})
        return CommStream(comm)

    async def _ask(self, question: str, within_s: float = ANSWER_S, **arguments: Any) -> Any:
        scheduler = rpc(self.address, timeout=ANSWER_S, connection_args=self._connection)
        try:
            with anyio.fail_after(within_s):
                return await getattr(scheduler, question)(**arguments)
        finally:
            with suppress(OSError), anyio.move_on_after(1.0, shield=True):
                await scheduler.close_rpc()


@asynccontextmanager
async def open_cluster(options: RunOptions) -> AsyncIterator[DaskCluster]:
    """Start worker processes on this machine, or find the scheduler that the user names; let them go on leaving.

    Raises:
        MigratorError: there are no workers to be had.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(dask.config.set(QUIET))
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        if options.scheduler is None:
            cluster = await stack.enter_async_context(_local(options.workers or 1))
        else:
            cluster = DaskCluster(options.scheduler, _security(options.scheduler), local=False)
        try:
            await cluster.prepare()
        except (OSError, TimeoutError) as error:
            why = str(error) or "no answer"
            raise MigratorError(
                f"the Dask scheduler {cluster.address} cannot be reached ({why.splitlines()[0]})", Exit.STOPPED
            ) from None
        yield cluster


def _security(address: str) -> Security:
    """Return the certificates that Dask's own configuration names.

    Raises:
        MigratorError: there are none, and the address needs them.
    """
    if address.startswith("tcp:"):
        return Security(require_encryption=False)
    security = Security(require_encryption=True)
    missing = [
        name
        for name in ("tls_ca_file", "tls_client_cert", "tls_client_key")
        if not os.path.isfile(getattr(security, name) or "")  # noqa: PTH113  Dask's word for it is a text
    ]
    if missing:
        raise MigratorError(
            f"{address} needs certificates: set DASK_DISTRIBUTED__COMM__TLS__CA_FILE and "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and __KEY to their files"
        )
    return security


@asynccontextmanager
async def _local(workers: int) -> AsyncIterator[DaskCluster]:
    """Start a scheduler in this process, and workers in processes of their own, over TLS on the loopback interface."""
    security = Security.temporary()
    try:
        with anyio.fail_after(START_S):
            cluster = await LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                protocol="tls://",
                dashboard_address=None,
                # Without a dashboard the scheduler still serves HTTP, on a port that others may have.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                memory_limit=0,
                security=security,
                silence_logs=logging.CRITICAL,
                asynchronous=True,
            )
    except (OSError, TimeoutError) as error:
        why = str(error) or f"not within {START_S:.0f} s"
        raise MigratorError(f"the worker processes did not start ({why})", Exit.STOPPED) from None
    try:
        yield DaskCluster(cluster.scheduler_address, security, local=True)
    finally:
        closing = cluster.close()
        with anyio.move_on_after(CLOSE_S, shield=True):
            if closing is not None:
                await closing
