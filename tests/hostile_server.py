"""A server that breaks every rule: each test says byte by byte what a connection gets."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

__all__ = ["Connection", "Serve", "answer", "hostile"]


class Connection:
    """One connection of a client.

    Attributes:
        number: of the connection, from 1.
        requests: the heads and bodies that were received on it.
    """

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.requests: list[tuple[str, bytes]] = []
        self._reader = reader
        self._writer = writer

    async def request(self) -> str:
        """Wait for a whole request and return its head."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin1")
        length = next((int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0)
        self.requests.append((head, await self._reader.readexactly(length)))
        return head

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def reset(self) -> None:
        """Break the connection off."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """End the connection."""
        self._writer.close()


Serve = Callable[[Connection], Awaitable[None]]


def answer(body: bytes = b"{}", *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return a whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@asynccontextmanager
async def hostile(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[Connection]]]:
    """Serve each connection as told; yields the server's URL and the connections that it has had."""
    connections: list[Connection] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(len(connections) + 1, reader, writer)
        connections.append(connection)
        try:
            await serve(connection)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}", connections
    finally:
        server.close()
