"""Workers that take requests from one source: read ahead so far that each limiter key has its share, and no further."""

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from migrator.errors import InputChanged
from migrator.messages import Request
from migrator.results import StopKind, StopReason
from migrator.run.pool.fair_queue import FairQueue

__all__ = ["BATCH", "Pool", "Work"]

BATCH: Final = 32
"""Requests that are rendered at a time: enough for a cheap hand-over, few enough to keep the event loop free."""

Work: TypeAlias = Callable[[Request], Awaitable[None]]
"""Does all that a request needs; it raises only what ends the whole process."""


class Pool:
    """Some workers, each with one request at a time.

    Args:
        workers: how many.
        lookahead: requests that are read ahead at the most.
        stop: is told why no more requests can be read.
    """

    def __init__(self, *, workers: int, lookahead: int, stop: Callable[[StopReason], None]) -> None:
        self._workers = workers
        self._lookahead = lookahead
        self._stop = stop
        self._closed = False
        self._queue: _Queue | None = None

    async def run(self, requests: Iterable[Request], work: Work) -> None:
        """Do the work of every request, or of those that were taken before `close`."""
        if self._closed:
            return
        send, receive = anyio.create_memory_object_stream[list[Request]](max_buffer_size=1)
        with receive:
            queue = self._queue = _Queue(receive, workers=self._workers, lookahead=self._lookahead)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._feed, requests, send)
                for _ in range(self._workers):
                    tasks.start_soon(self._worker, queue, work)

    def close(self) -> None:
        """Take no more requests; those that are taken go on."""
        self._closed = True
        if self._queue is not None:
            self._queue.close()

    async def _feed(self, requests: Iterable[Request], batches: MemoryObjectSendStream[list[Request]]) -> None:
        """Render requests as fast as workers take them, and no faster."""
        remaining = iter(requests)
        with batches:
            try:
                while not self._closed and (batch := list(islice(remaining, BATCH))):
                    await batches.send(batch)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            except InputChanged as change:
                self._stop(StopReason(StopKind.INPUT_CHANGED, str(change)))

    async def _worker(self, queue: "_Queue", work: Work) -> None:
        while not self._closed and (request := await queue.take()) is not None:
            try:
                await work(request)
            finally:
                queue.done(request)


class _Queue:
    """Requests on their way to workers: taken one by one, handed over in batches.

    Args:
        batches: where they come from.
        workers: how many share them.
        lookahead: requests that are read ahead at the most.
    """

    def __init__(self, batches: MemoryObjectReceiveStream[list[Request]], *, workers: int, lookahead: int) -> None:
        self._batches = batches
        self._ready = FairQueue(workers)
        self._lookahead = lookahead
        self._ended = self._full = False
        self._freed = anyio.Event()

    async def take(self) -> Request | None:
        """Return the next request, or None where there is nothing left for this worker to do."""
        while (request := self._ready.take()) is None:
            if self._ended:
                # What is left is of keys that have all the workers of their share; those will take it.
                return None
            if len(self._ready) >= self._lookahead:
                self._full = True
                await self._freed.wait()
                continue
            try:
                for one in await self._batches.receive():
                    self._ready.put(one)
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                self._end()
        return request

    def done(self, request: Request) -> None:
        """Give the worker back to the other keys."""
        self._ready.done(request)
        if self._full:
            self._full = False
            self._freed.set()
            self._freed = anyio.Event()

    def close(self) -> None:
        """Let the feeder and every worker go."""
        self._ready.clear()
        self._batches.close()
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._freed.set()
