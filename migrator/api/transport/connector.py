"""Connections whose answers keep their status, whatever their bodies are.

aiohttp's parser drops a message where head and broken body come in one packet, and says only that it was no HTTP. Here
it gets the head by itself. What this uses of aiohttp's inside is not documented, so that it is done with tested
versions only.
"""

import asyncio
import re
import ssl
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD

__all__ = ["TESTED", "Connector"]

TESTED: Final = ("3.14.",)
"""Versions of aiohttp whose inside is known; a test holds the installed one against them."""

BLANK_LINE: Final = re.compile(rb"\n\r?\n")
"""The end of a head; aiohttp takes lines that end without a carriage return too."""

NO_FINAL_HEAD: Final = (None, EMPTY_PAYLOAD)
"""The bodies of no answer, and of one that has none, such as 100 Continue."""


class Connector(aiohttp.TCPConnector):
    """aiohttp's connector, with `_Protocol` on its connections."""

    def __init__(self, *, ssl: ssl.SSLContext | bool, **settings: Any) -> None:
        super().__init__(limit=0, ssl=ssl, **settings)
        if aiohttp.__version__.startswith(TESTED):
            protocol: type[ResponseHandler] = _Protocol
            self._factory = partial(protocol, loop=asyncio.get_running_loop())


class _Protocol(ResponseHandler):
    """Gives the parser an answer's head and body one after the other."""

    _before = b""

    def set_response_params(self, **params: Any) -> None:
        self._payload, self._before = None, b""
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        while self._payload in NO_FINAL_HEAD and (blank := BLANK_LINE.search(self._before + data)):
            end = blank.end() - len(self._before)
            self._before = b""
            super().data_received(data[:end])
            data = data[end:]
            if not data:
                return
        # A blank line of three bytes may begin in one packet and end in the next.
        self._before = (self._before + data[-2:])[-2:]
        super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """End the body too: after a fault of its framing aiohttp would let its reader wait until the time-out."""
        super().set_exception(exc, *cause)
        if isinstance(exc, HttpProcessingError) and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError("the body is malformed"))
