"""Requests below aiohttp's session: the installed version is one whose inside is known, and the wire is the same.

What servers may do to a request is tested both ways in test_client.py.
"""

import asyncio
import time

import aiohttp
import pytest
from hostile_server import Connection, answer, hostile

from migrator.api.transport.client import Client
from migrator.api.transport.connector import TESTED
from migrator.api.transport.direct import LONGEST_WRITE, Direct
from migrator.job.profile.api_profile import ApiProfile
from migrator.job.profile.auth import Auth, AuthKind
from migrator.messages import Failure, Instant, Reply, Request
from migrator.secret import Secret

pytestmark = pytest.mark.anyio


def clock() -> Instant:
    """Read both clocks."""
    return Instant(time.monotonic(), time.time())


def request(url: str, method: str = "PATCH", **changes: object) -> Request:
    """Return a request."""
    wanted: dict[str, object] = {"body": b'{"a": 1}', "headers": (("X-A", "1"), ("accept", "text/plain"))}
    return Request(item=1, key="1", method=method, url=f"{url}/items/1?a=%20", **(wanted | changes))  # type: ignore[arg-type]


async def on_the_wire(wanted: str, body: bytes | None, headers: dict[str, str | Secret]) -> tuple[list[str], bytes]:
    """Return the lines of a request's head, the header fields sorted, and its body."""

    async def serve(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer())
        await asyncio.sleep(30)

    auth = Auth(kind=AuthKind.BASIC, username="KEY", secret=Secret("s3cret"))
    async with hostile(serve) as (url, connections):
        profile = ApiProfile(name="test", base_url=url, auth=auth, headers=headers)
        async with Client.open(profile, timeout_s=5.0, clock=clock) as client:
            assert isinstance(await client.send(request(url, wanted, body=body)), Reply)
        ((head, sent),) = connections[0].requests
        first, *fields = head.replace(url.partition("//")[2], "HOST").split("\r\n")
        return [first, *sorted(field for field in fields if not field.startswith("Connection"))], sent


def test_version() -> None:
    """A new version of aiohttp is looked at before it is used so; until then its session sends every request."""
    assert aiohttp.__version__.startswith(TESTED)


@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", b"{}"), ("PUT", b""), ("POST", None), ("DELETE", None), ("GET", None)]
)
async def test_nothing_else_goes_over_the_wire(method: str, body: bytes | None) -> None:
    """Request line, headers and body are those of aiohttp's session."""
    direct = await on_the_wire(method, body, {"X-B": "2"})

    assert direct == await on_the_wire(method, body, {"X-B": "2", "Connection": "keep-alive"})
    assert "accept: text/plain" in direct[0]


async def test_what_goes_through_the_session() -> None:
    """What is not plain: another origin, a large body, a method or a header that changes how a message is sent."""
    url = "http://127.0.0.1:9"
    connector = aiohttp.TCPConnector()
    async with connector:

        def takes(wanted: Request, *, base_url: str = url, **headers: str) -> bool:
            timeout = aiohttp.ClientTimeout(total=1.0)
            return Direct(connector, base_url=base_url, headers=headers, timeout=timeout).takes(wanted)

        assert takes(request(url))
        assert takes(request(url, body=b"x" * LONGEST_WRITE))
        assert not takes(request(url, body=b"x" * (LONGEST_WRITE + 1)))
        assert not takes(request("http://127.0.0.1:90"))
        assert not takes(request(f"{url}@evil.example"))
        assert not takes(request(url, "HEAD"))
        assert not takes(request(url, headers=(("Expect", "100-continue"),)))
        assert not takes(request(url), Connection="close")
        assert not takes(request(url), base_url="http://user:secret@127.0.0.1:9")


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
async def test_no_header_breaks_the_message(bad: str) -> None:
    """A control character in a header is refused before anything is sent."""

    async def serve(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer())

    async with hostile(serve) as (url, connections):
        profile = ApiProfile(name="test", base_url=url, auth=Auth(kind=AuthKind.NONE))
        async with Client.open(profile, timeout_s=5.0, clock=clock) as client:
            got = await client.send(request(url, headers=(("X-A", bad),)))

    assert isinstance(got, Failure)
    assert not connections


async def test_a_cancelled_request_leaves_no_answer_behind() -> None:
    """The next request gets its own answer, on a connection of its own."""

    async def serve(connection: Connection) -> None:
        await connection.request()
        if connection.number == 1:
            await asyncio.sleep(0.2)
        await connection.send(answer(b"%d" % connection.number))
        await asyncio.sleep(30)

    async with hostile(serve) as (url, _):
        profile = ApiProfile(name="test", base_url=url, auth=Auth(kind=AuthKind.NONE))
        async with Client.open(profile, timeout_s=5.0, clock=clock) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.send(request(url)), 0.1)
            got = await client.send(request(url))

    assert isinstance(got, Reply)
    assert got.body == b"2"
