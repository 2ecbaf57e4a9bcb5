"""Requests on their way to the lanes: read ahead so far that each limiter key has its turn, and no further."""

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from migrator.messages import Request
from migrator.run.fair_queue import FairQueue

__all__ = ["Supply"]


class Supply:
    """Requests for lanes: taken one by one, handed over in batches.

    Args:
        batches: where they come from.
        lanes: how many lanes share them.
        lookahead: requests that are read ahead at the most.
    """

    def __init__(self, batches: MemoryObjectReceiveStream[list[Request]], *, lanes: int, lookahead: int) -> None:
        self._batches = batches
        self._ready = FairQueue(lanes)
        self._lookahead = lookahead
        self._ended = self._watched = False
        self._freed = anyio.Event()

    async def take(self) -> Request | None:
        """Return the next request, or None where there is nothing left for this lane to do."""
        while (request := self._ready.take()) is None:
            if self._ended:
                # What is left is of keys that have all the lanes of their share; those will take it.
                return None
            if len(self._ready) >= self._lookahead:
                self._watched = True
                await self._freed.wait()
                continue
            try:
                for one in await self._batches.receive():
                    self._ready.put(one)
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                self._end()
        return request

    def done(self, request: Request) -> None:
        """Give the lane back to the others."""
        self._ready.done(request)
        if self._watched:
            self._watched = False
            self._freed.set()
            self._freed = anyio.Event()

    def close(self) -> None:
        """Let the feeder and every lane go."""
        self._ready.clear()
        self._batches.close()
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._freed.set()
