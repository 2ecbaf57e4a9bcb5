"""What Dask puts on each worker: a handler that takes a connection over for a run."""

import os
import signal
from typing import Final

from distributed.comm.core import Comm
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.worker import Worker

from migrator.cluster import wire
from migrator.cluster.worker import serve

__all__ = ["HANDLER", "CommStream", "MigratorPlugin"]

HANDLER: Final = "migrator"
"""The name of the plugin and of the handler; it says nothing about a run."""


class CommStream:
    """A connection of Dask, in whole frames (`wire.Stream`).

    Args:
        comm: the connection.
    """

    def __init__(self, comm: Comm) -> None:
        self._comm = comm

    async def read(self) -> bytes:
        """Return the next frame."""
        frame = await self._comm.read()
        if not isinstance(frame, bytes):
            raise OSError("the other side speaks another language")
        return frame

    async def write(self, frame: wire.Frame) -> None:
        """Hand a frame to the connection."""
        await self._comm.write(frame)

    def abort(self) -> None:
        """Close the connection at once."""
        self._comm.abort()


class MigratorPlugin(WorkerPlugin):
    """Registers the handler. It holds no secret: Dask keeps it for workers that come later.

    Args:
        ignore_interrupt: whether the worker is a process of the run, which ends it itself after a Ctrl-C.
    """

    name = HANDLER

    def __init__(self, *, ignore_interrupt: bool) -> None:
        self._ignore_interrupt = ignore_interrupt

    def setup(self, worker: Worker) -> None:
        """Register the handler."""
        worker.handlers[HANDLER] = handle
        if self._ignore_interrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


async def handle(comm: Comm) -> Status:
    """Work for one run over a connection, until it is closed."""
    await serve(CommStream(comm), env=os.environ)
    return Status.dont_reply
