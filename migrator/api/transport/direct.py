"""Requests over kept connections: aiohttp's connector and parser, without what its session does around them.

A session takes two thirds of the CPU of a request: it makes a URL, a request, a payload, a response, timers and, on
Python 3.11, a task, of each. Here the headers that all requests share are made once, a request is one write, and one
timer ends it. What this uses of aiohttp's inside is not documented, so that it is done with tested versions only. The
session sends everything else, and what is not plain.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, TypeAlias

import aiohttp
from aiohttp import http_writer
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from migrator.messages import Request

__all__ = ["LONGEST_BODY", "Direct", "Received", "read_body"]

Received: TypeAlias = tuple[int, CIMultiDictProxy[str], bytes, bool]
"""Status, headers, body, and whether there was more of it than is read."""

LONGEST_BODY: Final = 1 << 20
"""Bytes of an answer that are read: an integration is about 1 KB, a page of 250 of them 300 KB."""

LONGEST_WRITE: Final = 1 << 15
"""Bytes of a request's body that are written at once; a transport's buffer takes twice as much (asyncio's 64 KiB)."""

TESTED: Final = ("3.14.",)
"""Versions of aiohttp whose inside is known; a test holds the installed one against them."""

METHODS: Final = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})

FRAMING: Final = frozenset({"connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"})
"""Headers that change how a message is framed or sent (RFC 9110, section 7.6.1): the session's business."""


class Direct:
    """Sends requests to one origin over the kept connections of a connector.

    Args:
        connector: keeps connections; it is open, and its owner closes it.
        base_url: the API's.
        headers: what every request carries.
        timeout: `connect` and `total` count.
    """

    def __init__(
        self,
        connector: aiohttp.TCPConnector,
        *,
        base_url: str,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> None:
        url = URL(base_url)
        self._loop = asyncio.get_running_loop()
        self._connector, self._timeout = connector, timeout
        self._origin = str(url.origin())
        # It stands for all requests: where to connect to, and what aiohttp itself puts into each.
        self._model = aiohttp.ClientRequest("GET", url.origin(), headers=headers, loop=self._loop)
        self._plain = (
            aiohttp.__version__.startswith(TESTED) and url.user is None and FRAMING.isdisjoint(map(str.lower, headers))
        )

    def takes(self, request: Request) -> bool:
        """Tell whether a request is plain enough; the session sends the others."""
        return (
            self._plain
            and request.url.startswith(f"{self._origin}/")
            and "#" not in request.url
            and request.method in METHODS
            and len(request.body or b"") <= LONGEST_WRITE
            and all(name.lower() not in FRAMING for name, _ in request.headers)
        )

    async def send(self, request: Request, headers: Mapping[str, str]) -> Received:
        """Send a request and read its answer.

        Args:
            request: one that `takes` takes.
            headers: what it carries beside those of every request; they take the place of those of the same name.

        Raises:
            aiohttp.ClientError: the exchange failed, as a session would say it.
            TimeoutError: there was no whole answer in time.
            ValueError: a header holds a character that would break the message.
        """
        ends = self._loop.time() + (self._timeout.total or 0.0)
        head = self._head(request, headers)
        try:
            connection = await self._connector.connect(self._model, traces=[], timeout=self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError("no connection in time") from error
        try:
            async with asyncio.timeout_at(ends):
                message, stream = await self._exchanged(connection.protocol, head + (request.body or b""))
            body, truncated = await read_body(message.code, stream, ends)
        except BaseException:
            connection.close()
            raise
        # It is closed where it cannot be kept: where the server wants that, or something was left unread.
        connection.release()
        return message.code, message.headers, body, truncated

    async def _exchanged(
        self, protocol: ResponseHandler | None, request: bytes
    ) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        if protocol is None or protocol.transport is None or protocol.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was closed")
        protocol.set_response_params(read_until_eof=True)
        protocol.transport.write(request)
        try:
            message, stream = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, stream = await protocol.read()
        except HttpProcessingError as error:
            raise aiohttp.ClientResponseError(self._model.request_info, (), status=error.code) from error
        return message, stream

    def _head(self, request: Request, headers: Mapping[str, str]) -> bytes:
        fields = CIMultiDict(self._model.headers)
        fields.update(headers)
        if request.body is not None or request.method != "GET":
            fields["Content-Length"] = str(len(request.body or b""))
        # It refuses control characters in every part.
        line = f"{request.method} {request.url[len(self._origin) :]} HTTP/1.1"
        return http_writer._serialize_headers(line, fields)  # noqa: SLF001  see TESTED


async def read_body(status: int, stream: aiohttp.StreamReader, ends: float | None = None) -> tuple[bytes, bool]:
    """Return what is read of an answer's body, and whether there was more.

    Args:
        status: the answer's.
        stream: gives the body.
        ends: when it has to be there, by the event loop's clock; None where the stream itself knows.

    Raises:
        aiohttp.ClientError: it broke off, and the answer says that something was done.
        TimeoutError: it took too long, and so.
    """
    chunks, room = [], LONGEST_BODY + 1
    try:
        if stream.is_eof() and stream.total_bytes <= LONGEST_BODY:
            return stream.read_nowait(), False
        async with asyncio.timeout_at(ends):
            while room > 0 and (chunk := await stream.read(room)):
                chunks.append(chunk)
                room -= len(chunk)
    except (aiohttp.ClientError, TimeoutError, OSError):
        if status < 300:
            raise
        # The status alone says that it was refused, whatever became of the body.
        return b"", True
    body = b"".join(chunks)
    return body[:LONGEST_BODY], len(body) > LONGEST_BODY
