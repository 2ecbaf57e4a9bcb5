"""A proxy that breaks things between a client and a server, byte by byte and by name.

It runs in a thread of its own, so that real processes on both sides can be watched from a plain test.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

__all__ = ["FAULTS", "Fault", "FaultProxy", "Passage", "Plan", "fault_proxy", "headers", "on_items", "status"]

DRIP_S: Final = 0.001
"""Seconds between the bytes of a slow answer."""


class Passage:
    """One request on its way through the proxy.

    Attributes:
        key: the last part of its path.
        attempt: how often the proxy has had this key, this time included.
        count: of the request on its connection, from 1.
        happened: whether the fault did what it is for; some wait for a connection that has been used.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: "Upstream") -> None:
        self.key = ""
        self.attempt = self.count = 0
        self.happened = True
        self._reader, self._writer, self._upstream = reader, writer, upstream
        self._request = b""

    async def take(self) -> None:
        """Wait for the request."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._request = head + await self._reader.readexactly(_length(head))
        self.key = head.split(b" ", 2)[1].rsplit(b"/", 1)[-1].decode()

    async def forward(self) -> tuple[bytes, bytes]:
        """Let the server have the request, and return the head and the body of its answer."""
        return await self._upstream.exchange(self._request)

    async def send(self, *parts: bytes) -> None:
        """Send bytes to the client."""
        self._writer.writelines(parts)
        await self._writer.drain()

    def reset(self) -> None:
        """Break the client's connection off."""
        self._writer.transport.abort()

    def close(self) -> None:
        """End the client's connection in good order."""
        self._writer.close()

    async def stall(self) -> None:
        """Say nothing until the client has gone."""
        await self._reader.read()
        self.close()


class Upstream:
    """The connection to the server that belongs to one of a client's."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, request: bytes) -> tuple[bytes, bytes]:
        """Send a request and wait for its answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        return head, await reader.readexactly(_length(head))

    def writers(self) -> list[asyncio.StreamWriter]:
        """Return the writing end, where there is one."""
        return [] if self._streams is None else [self._streams[1]]

    def close(self) -> None:
        """Leave the server."""
        for writer in self.writers():
            writer.close()


Fault = Callable[[Passage], Awaitable[None]]
Plan = Callable[[Passage], Fault | None]


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _with_headers(head: bytes, lines: str) -> bytes:
    first, rest = head.split(b"\r\n", 1)
    return first + b"\r\n" + lines.encode("latin1") + rest


async def pass_on(passage: Passage) -> None:
    """Answer as the server does."""
    await passage.send(*await passage.forward())


async def reset_before(passage: Passage) -> None:
    """Reset, and the server never sees the request."""
    passage.reset()


async def reset_instead(passage: Passage) -> None:
    """Reset in the place of an answer, when the server has acted."""
    await passage.forward()
    passage.reset()


async def close_instead(passage: Passage) -> None:
    """Close in the place of an answer, when the server has acted."""
    await passage.forward()
    passage.close()


async def reset_in_head(passage: Passage) -> None:
    """Reset in the middle of the answer's head."""
    head, _ = await passage.forward()
    await passage.send(head[: len(head) // 2])
    passage.reset()


async def reset_in_body(passage: Passage) -> None:
    """Reset in the middle of the answer's body."""
    head, body = await passage.forward()
    await passage.send(head, body[: len(body) // 2])
    passage.reset()


async def reset_after(passage: Passage) -> None:
    """Reset behind a whole answer."""
    await pass_on(passage)
    # The answer has to be on its way: an abort throws away what is still in the buffer.
    await asyncio.sleep(0)
    passage.reset()


async def stall_before(passage: Passage) -> None:
    """Say nothing, and the server never sees the request."""
    await passage.stall()


async def stall_instead(passage: Passage) -> None:
    """Say nothing, when the server has acted."""
    await passage.forward()
    await passage.stall()


async def stall_in_head(passage: Passage) -> None:
    """Fall silent in the middle of the head."""
    head, _ = await passage.forward()
    await passage.send(head[: len(head) // 2])
    await passage.stall()


async def stall_in_body(passage: Passage) -> None:
    """Fall silent in the middle of the body."""
    head, body = await passage.forward()
    await passage.send(head, body[: len(body) // 2])
    await passage.stall()


async def slow(passage: Passage) -> None:
    """Send the answer a few bytes at a time."""
    whole = b"".join(await passage.forward())
    for start in range(0, len(whole), 8):
        await passage.send(whole[start : start + 8])
        await asyncio.sleep(DRIP_S)


async def truncated(passage: Passage) -> None:
    """Close in the middle of the body."""
    head, body = await passage.forward()
    await passage.send(head, body[: len(body) // 2])
    passage.close()


async def oversized(passage: Passage) -> None:
    """Answer with 200 and two megabytes."""
    await passage.forward()
    size = 2 << 20
    await passage.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode(), b" " * (size - 2), b"{}")


async def other_type(passage: Passage) -> None:
    """Say of a good answer that it is plain text."""
    head, body = await passage.forward()
    await passage.send(head.replace(b"application/json", b"text/x-nothing"), body)


async def page(passage: Passage) -> None:
    """Answer with 200 and a page for people, as captive portals do."""
    text = b"<html>Please accept our terms</html>"
    await passage.send(
        f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(text)}\r\n\r\n".encode(), text
    )


async def bad_chunks(passage: Passage) -> None:
    """Answer with chunks whose size is no number."""
    await passage.forward()
    await passage.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")
    passage.close()


async def no_http(passage: Passage) -> None:
    """Answer in another protocol."""
    await passage.forward()
    await passage.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    passage.close()


async def http_1_0(passage: Passage) -> None:
    """Answer as an old server does: no length, and the end of the connection is the end of the body."""
    _, body = await passage.forward()
    await passage.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n", body)
    passage.close()


async def close_idle(passage: Passage) -> None:
    """Answer, and close the connection without a word as soon as it idles."""
    await pass_on(passage)
    passage.close()


async def drop_when_reused(passage: Passage) -> None:
    """Close a connection that has had an answer just as the next request comes, which the server never sees."""
    if passage.count == 1:
        passage.happened = False
        await pass_on(passage)
    else:
        passage.close()


async def reset_when_reused(passage: Passage) -> None:
    """Reset a connection that has had an answer just as the next request comes, which the server never sees."""
    if passage.count == 1:
        passage.happened = False
        await pass_on(passage)
    else:
        passage.reset()


def status(code: int, lines: str = "", body: bytes = b"{}") -> Fault:
    """Return what answers with a status in the server's place."""

    async def answer(passage: Passage) -> None:
        await passage.send(f"HTTP/1.1 {code} No\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode("latin1"), body)

    return answer


def headers(lines: str) -> Fault:
    """Return what adds lines to the head of the server's answer."""

    async def answer(passage: Passage) -> None:
        head, body = await passage.forward()
        await passage.send(_with_headers(head, lines), body)

    return answer


FAULTS: Final[Mapping[str, Fault]] = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        reset_before,
        reset_instead,
        close_instead,
        reset_in_head,
        reset_in_body,
        reset_after,
        stall_before,
        stall_instead,
        stall_in_head,
        stall_in_body,
        slow,
        truncated,
        oversized,
        other_type,
        page,
        bad_chunks,
        no_http,
        http_1_0,
        close_idle,
        drop_when_reused,
        reset_when_reused,
    )
} | {
    "500": status(500),
    "502": status(502, body=b"<html>Bad gateway</html>"),
    "503": status(503),
    "504": status(504),
    "503 with Retry-After": status(503, "Retry-After: 1\r\n"),
    "429": status(429, body=b""),
    "429 with Retry-After": status(429, "Retry-After: 1\r\n", b""),
}
"""Every fault that can be told by a name; `oversized` is the only one of them that costs an idempotent item its end."""


def on_items(fault: Fault, *, every: int, times: int = 1) -> Plan:
    """Return a plan: every so-manieth item, by the number in its key, meets the fault at its first so many attempts."""

    def plan(passage: Passage) -> Fault | None:
        number = int("".join(filter(str.isdigit, passage.key)) or "0")
        return fault if number % every == 0 and passage.attempt <= times else None

    return plan


class FaultProxy:
    """A proxy in a thread of its own; made by `fault_proxy`.

    Attributes:
        met: faults that have happened, and requests that were passed on, as "".
        attempts: requests by key, whether the server has seen them or not.
    """

    def __init__(self, upstream: str, plan: Plan) -> None:
        parts = urlsplit(upstream)
        self.met: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.plan = plan
        self._upstream = parts.hostname or "", parts.port or 0
        self._loop = asyncio.new_event_loop()
        self._port = 0
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._ever: list[asyncio.StreamWriter] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens; the port stays the same when it listens again."""
        return f"http://127.0.0.1:{self._port}"

    def listen(self) -> None:
        """Take connections, again if need be."""
        self._do(self._listen())

    def refuse(self) -> None:
        """Break off all connections and take no more, as a server that has gone away."""
        self._do(self._refuse())

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self.listen()

    def end(self) -> None:
        """Break everything off."""
        self.refuse()
        self._do(self._cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, task: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(task, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._clients):
            writer.transport.abort()

    async def _cancel(self) -> None:
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for writer in self._ever:
            writer.transport.abort()
        # A transport is closed a turn of the loop after it was broken off.
        await asyncio.sleep(0.01)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, count = Upstream(*self._upstream), 0
        self._clients.add(writer)
        self._ever.append(writer)
        try:
            while not writer.is_closing():
                passage = Passage(reader, writer, upstream)
                await passage.take()
                count += 1
                self.attempts[passage.key] += 1
                passage.attempt, passage.count = self.attempts[passage.key], count
                fault = self.plan(passage)
                try:
                    await (fault or pass_on)(passage)
                finally:
                    self.met[getattr(fault, "__name__", "") if passage.happened else ""] += 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._clients.discard(writer)
            self._ever += upstream.writers()
            upstream.close()
            with suppress(RuntimeError):
                writer.close()


@contextmanager
def fault_proxy(upstream: str, plan: Plan = lambda _passage: None) -> Iterator[FaultProxy]:
    """Start a proxy in front of a server, and end it on leaving."""
    proxy = FaultProxy(upstream, plan)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.end()
