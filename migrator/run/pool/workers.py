"""Workers that take requests from one source: read ahead so far that each limiter key has its share, and no further."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from migrator.errors import InputChanged
from migrator.messages import Clock, Request
from migrator.results import StopKind, StopReason
from migrator.run.pool.fair_queue import FairQueue, no_wait

__all__ = ["BATCH", "Pool", "Work"]

BATCH: Final = 32
"""Requests that are rendered at a time: enough for a cheap hand-over, few enough to keep the event loop free."""

LOOKAHEAD: Final = 50_000
"""Requests that are read ahead where items draw on many quotas: a file sorted by tenant has them far apart."""

MANY: Final = 1_024
"""Workers where items draw on many quotas, so that each has several."""

Work: TypeAlias = Callable[[Request], Awaitable[None]]
"""Does all that a request needs; it raises only what ends the whole process."""


class Pool:
    """Some workers, each with one request at a time. A worker is started when there is a request for it.

    Args:
        workers: how many at the most.
        stop: is told why no more requests can be read.
        clock: reads both clocks.
        wait_s: seconds until a request of a limiter key can go, where items draw on many quotas; one that cannot go yet
            takes no worker. None where all items draw on one quota.
    """

    def __init__(
        self,
        *,
        workers: int,
        stop: Callable[[StopReason], None],
        clock: Clock,
        wait_s: Callable[[str], float] | None = None,
    ) -> None:
        self._workers, self._lookahead = (workers, BATCH) if wait_s is None else (max(workers, MANY), LOOKAHEAD)
        self._stop = stop
        self._clock = clock
        self._wait_s = wait_s or no_wait
        self._closed = self._ended = False
        self._ready = FairQueue(self._workers, self._wait_s)
        self._idle: deque[anyio.Event] = deque()
        self._started = 0
        self._wanted = anyio.Event()

    async def run(self, requests: Iterable[Request], work: Work) -> None:
        """Do the work of every request, or of those that were taken before `close`."""
        if self._closed:
            return
        self._ready, self._ended = FairQueue(self._workers, self._wait_s), False
        self._started = 0
        async with anyio.create_task_group() as tasks:
            await self._feed(iter(requests), tasks, work)

    def close(self) -> None:
        """Take no more requests; those that are taken go on."""
        self._closed = True
        self._ready.clear()
        self._release()

    async def _feed(self, requests: Iterator[Request], tasks: TaskGroup, work: Work) -> None:
        """Render requests as fast as workers take them, and no faster; wake a worker when a key's time has come."""
        while not self._closed and not (self._ended and not len(self._ready)):
            ready = self._ready
            if not self._ended and (len(ready) < BATCH or (self._idle and len(ready) < self._lookahead)):
                self._read(requests)
                self._call_worker(tasks, work)
                await checkpoint()
                continue
            self._wanted = anyio.Event()
            with anyio.move_on_after(ready.wakes_in(self._clock().mono)) as timer:
                await self._wanted.wait()
            if timer.cancelled_caught:
                self._call_worker(tasks, work)
        self._release()

    def _read(self, requests: Iterator[Request]) -> None:
        try:
            batch = list(islice(requests, BATCH))
        except InputChanged as change:
            self._stop(StopReason(StopKind.INPUT_CHANGED, str(change)))
            return
        for request in batch:
            self._ready.put(request)
        self._ended = not batch

    async def _worker(self, tasks: TaskGroup, work: Work) -> None:
        while (request := await self._take()) is not None:
            if len(self._ready):
                self._call_worker(tasks, work)
            if len(self._ready) < BATCH:
                self._wanted.set()
            try:
                await work(request)
            finally:
                self._ready.done(request)

    async def _take(self) -> Request | None:
        """Return the next request; None where there is nothing left to do."""
        while not self._closed:
            if (request := self._ready.take(self._clock().mono)) is not None:
                return request
            if self._ended and not len(self._ready):
                break
            woken = anyio.Event()
            self._idle.append(woken)
            self._wanted.set()
            await woken.wait()
        self._release()
        return None

    def _call_worker(self, tasks: TaskGroup, work: Work) -> None:
        """Have one more worker look for a request: one that is idle, else a new one."""
        if self._idle:
            self._idle.popleft().set()
        elif self._started < self._workers:
            self._started += 1
            tasks.start_soon(self._worker, tasks, work)

    def _release(self) -> None:
        """Let the feeder and every idle worker see that there is nothing more to do."""
        self._wanted.set()
        while self._idle:
            self._idle.popleft().set()
