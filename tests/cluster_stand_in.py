"""A cluster without Dask: workers are tasks of the test, connected by pipes that can break and freeze."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from migrator.api.session import system_clock
from migrator.cluster import wire
from migrator.cluster.worker import SenderNeeds, serve
from migrator.messages import Answer, Clock, Reply, Request, Sender

__all__ = ["Pipe", "Server", "StandInCluster", "connected"]

LATENCY_S = 0.02


class Pipe:
    """One end of a connection."""

    def __init__(self) -> None:
        self.other: Pipe = self
        self.frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.frozen = False
        self._broken = False

    async def read(self) -> bytes:
        """Return the next frame."""
        frame = None if self._broken else await self.frames.get()
        if frame is None:
            self._broken = True
            raise OSError("broken")
        return frame

    async def write(self, frame: wire.Frame) -> None:
        """Hand a frame to the other end, unless this one is frozen."""
        if self._broken:
            raise OSError("broken")
        if not self.frozen:
            self.other.frames.put_nowait(frame)

    def abort(self) -> None:
        """Break the connection for both."""
        for end in (self, self.other):
            end._broken = True
            end.frames.put_nowait(None)


def connected() -> tuple[Pipe, Pipe]:
    """Return both ends of a connection."""
    one, other = Pipe(), Pipe()
    one.other, other.other = other, one
    return one, other


@dataclass
class Server:
    """Takes everything after a moment, and counts.

    Attributes:
        seen: requests by key.
        headers: of each answer.
        by_worker: requests by worker.
        records: what each URL holds; a GET shows it, and is not counted.
        tokens: requests by the token that they came with.
        revoked: a token that it refuses.
        unanswered: keys whose requests it never answers.
        on_request: called with the worker and the item's key for each request.
    """

    seen: Counter[str] = field(default_factory=Counter)
    headers: dict[str, str] = field(default_factory=dict)
    by_worker: Counter[str] = field(default_factory=Counter)
    records: dict[str, bytes] = field(default_factory=dict)
    tokens: Counter[str] = field(default_factory=Counter)
    revoked: str = ""
    unanswered: frozenset[str] = frozenset()
    on_request: Callable[[str, str], None] = lambda _worker, _key: None

    async def answer(self, worker: str, request: Request, clock: Clock) -> Answer:
        """Answer a worker's request."""
        sent = clock()
        if request.method == "GET":
            await anyio.sleep(LATENCY_S)
            return Reply(status=200, headers={}, body=self.records[request.url], sent=sent, received=clock())
        self.records[request.url] = request.body or b""
        self.seen[request.key] += 1
        self.by_worker[worker] += 1
        self.on_request(worker, request.key)
        if request.key in self.unanswered:
            await anyio.sleep_forever()
        await anyio.sleep(LATENCY_S)
        return Reply(status=200, headers=self.headers, body=b"", sent=sent, received=clock())


@dataclass
class _Client:
    worker: str
    server: Server
    needs: SenderNeeds

    async def send(self, request: Request) -> Answer:
        tokens = self.needs.tokens
        if tokens is not None:
            token = await tokens.current()
            self.server.tokens[token.reveal()] += 1
            if self.server.revoked == token.reveal():
                assert await tokens.refused(token)
                token = await tokens.current()
                self.server.tokens[token.reveal()] += 1
            tokens.accepted(token)
        return await self.server.answer(self.worker, request, self.needs.clock)


class StandInCluster:
    """Some workers that are tasks.

    Args:
        server: what they talk to.
        tasks: runs them.
        workers: how many.

    Attributes:
        address: as a scheduler's.
        names: of the workers that are there.
        pipes: the worker's end of each connection.
        env: the workers' environment.
        gone: whether the scheduler is.
    """

    def __init__(self, server: Server, tasks: TaskGroup, *, workers: int = 2) -> None:
        self.address = "tls://stand-in:8786"
        self.names = [f"worker-{number}" for number in range(1, workers + 1)]
        self.pipes: dict[str, Pipe] = {}
        self.env = {"KEY": "worker-key"}
        self.gone = False
        self._server, self._tasks = server, tasks
        self._scopes: dict[str, anyio.CancelScope] = {}

    async def addresses(self) -> list[str]:
        """Return the workers' names."""
        if self.gone:
            raise OSError("gone")
        return list(self.names)

    async def connect(self, worker: str) -> wire.Stream:
        """Start a worker's part of a run."""
        if worker not in self.names:
            raise OSError("no such worker")
        here, there = connected()
        self.pipes[worker] = there
        scope = self._scopes[worker] = anyio.CancelScope()
        self._tasks.start_soon(self._serve, worker, there, scope)
        return here

    def kill(self, worker: str) -> None:
        """End a worker at once, whatever it is doing."""
        self.names.remove(worker)
        self._scopes[worker].cancel()
        self.pipes[worker].abort()

    def freeze(self, worker: str) -> None:
        """Let nothing more be heard of a worker, which goes on."""
        self.names.remove(worker)
        self.pipes[worker].frozen = True

    async def _serve(self, worker: str, stream: Pipe, scope: anyio.CancelScope) -> None:
        @asynccontextmanager
        async def open_sender(needs: SenderNeeds) -> AsyncIterator[Sender]:
            yield _Client(worker, self._server, needs)

        with scope:
            await serve(stream, env=self.env, open_sender=open_sender, clock=system_clock())
