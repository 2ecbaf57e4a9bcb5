"""Requests over kept connections: aiohttp's connector and parser, without what its session does around them.

A session takes two thirds of the CPU of a request: it makes a URL, a request, a payload, a response, timers and, on
Python 3.11, a task, of each. Here the headers that all requests share are made once, a request is one write, and one
timer ends it. What this uses of aiohttp's inside is not documented, so that it is done with tested versions only. The
session sends everything else, and what is not plain.
"""

import asyncio
import zlib
from collections.abc import Mapping
from typing import Final, TypeAlias

import aiohttp
from aiohttp import http_writer
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from migrator.api.transport.connector import TESTED
from migrator.messages import Request

__all__ = ["LONGEST_BODY", "Direct", "Received", "read_body"]

Received: TypeAlias = tuple[int, CIMultiDictProxy[str], bytes, bool]
"""Status, headers, body, and whether there was more of it than is read."""

LONGEST_BODY: Final = 1 << 20
"""Bytes of an answer that are read: an integration is about 1 KB, a page of 250 of them 300 KB."""

LONGEST_WRITE: Final = 1 << 15
"""Bytes of a request's body that are written at once; a transport's buffer takes twice as much (asyncio's 64 KiB)."""

CODINGS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS, "br": None, "zstd": None}
"""Content codings, and zlib's window bits for them; None for those that we cannot read."""

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
            body, truncated = await read_body(message.code, message.headers, stream, ends)
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
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
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


async def read_body(
    status: int, headers: Mapping[str, str], stream: aiohttp.StreamReader, ends: float | None = None
) -> tuple[bytes, bool]:
    """Return what is read of an answer's body, without its content coding, and whether there was more.

    Args:
        status: the answer's.
        headers: the answer's.
        stream: gives the body as it was sent.
        ends: when it has to be there, by the event loop's clock; None where the stream itself knows.

    Raises:
        aiohttp.ClientError: it broke off or is malformed, and the answer says that something was done.
        TimeoutError: it took too long, and so.
    """
    chunks, room = [], LONGEST_BODY + 1
    try:
        if stream.is_eof() and stream.total_bytes <= LONGEST_BODY:
            body = stream.read_nowait()
        else:
            async with asyncio.timeout_at(ends):
                while room > 0 and (chunk := await stream.read(room)):
                    chunks.append(chunk)
                    room -= len(chunk)
            body = b"".join(chunks)
        return _decoded(body, headers.get("Content-Encoding", "").lower())
    except (aiohttp.ClientError, TimeoutError, OSError):
        if status < 300:
            raise
        # The status alone says that it was refused, whatever became of the body.
        return b"", True


def _decoded(body: bytes, coding: str) -> tuple[bytes, bool]:
    """Return at most `LONGEST_BODY` bytes of a body without its content coding, and whether there was more.

    A coding of any other name is left as it is. Some servers send "deflate" without the zlib header (RFC 9110,
    section 8.4.1.2).

    Raises:
        aiohttp.ClientPayloadError: it is not in the coding that its header names, or we do not know that one.
    """
    more = len(body) > LONGEST_BODY
    if not body or coding not in CODINGS:
        return body[:LONGEST_BODY], more
    bare = coding == "deflate" and body[0] & 0xF != zlib.DEFLATED
    bits = -zlib.MAX_WBITS if bare else CODINGS[coding]
    if bits is None:
        raise aiohttp.ClientPayloadError("no such coding was asked for")
    stream = zlib.decompressobj(bits)
    try:
        plain = stream.decompress(body, LONGEST_BODY + 1)
    except zlib.error as error:
        raise aiohttp.ClientPayloadError("the body is not in its coding") from error
    more = more or len(plain) > LONGEST_BODY
    if not more and (not stream.eof or stream.unused_data):
        raise aiohttp.ClientPayloadError("the body is not whole in its coding")
    return plain[:LONGEST_BODY], more
