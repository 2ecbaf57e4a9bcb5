"""One attempt over a real socket: what goes over the wire, and what every kind of bad server makes of it."""

import asyncio
import gzip
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
import trustme
from hostile_server import Connection, Serve, answer, hostile

from migrator import __version__
from migrator.api.transport.client import Client
from migrator.api.transport.direct import LONGEST_BODY
from migrator.job.profile.api_profile import ApiProfile
from migrator.job.profile.auth import Auth, AuthKind
from migrator.messages import Answer, Failure, FailureKind, Instant, Reply, Request, Stage
from migrator.secret import Secret

pytestmark = pytest.mark.anyio

BODY = b'{"target":{"kind":"Slack","webhook_url":"https://hooks.slack.example/services/secret-part"}}'


HEADERS: dict[str, str | Secret] = {}


@pytest.fixture(autouse=True, params=["direct", "session"])
def path_of_requests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send requests both ways; a header that says how to send goes through aiohttp's session."""
    if request.param == "session":
        monkeypatch.setitem(HEADERS, "Connection", "keep-alive")


def clock() -> Instant:
    """Read both clocks."""
    return Instant(time.monotonic(), time.time())


@asynccontextmanager
async def client(url: str, *, timeout_s: float = 5.0, reuse: bool = True) -> AsyncIterator[Client]:
    """Open a client with credentials."""
    auth = Auth(kind=AuthKind.BASIC, username="KEY", secret=Secret("s3cret"))
    profile = ApiProfile(name="test", base_url=url, auth=auth, headers=HEADERS)
    async with Client.open(profile, timeout_s=timeout_s, clock=clock, reuse_connections=reuse) as opened:
        yield opened


def request(url: str, path: str = "/items/1", method: str = "PATCH") -> Request:
    """Return a request."""
    return Request(item=1, key="1", method=method, url=url + path, body=BODY)


async def send(serve: Serve, path: str = "/items/1", *, timeout_s: float = 5.0) -> tuple[Answer, list[Connection]]:
    """Send one request to a server."""
    async with hostile(serve) as (url, connections), client(url, timeout_s=timeout_s) as opened:
        return await opened.send(request(url, path)), connections


def once(data: bytes) -> Serve:
    """Answer the first request of a connection with bytes, and keep it open."""

    async def serve(connection: Connection) -> None:
        await connection.request()
        await connection.send(data)
        await asyncio.sleep(30)

    return serve


@pytest.mark.parametrize(
    "path", ["/items/1", "/items/a%2Fb", "/items/%2E%2E", "/items/a%3Fx%3D1", "/items/a%20b+c", "/items/%C3%A9:1"]
)
async def test_the_url_goes_as_it_is(path: str) -> None:
    """No library's idea of a nicer URL changes what was rendered."""
    _, (connection,) = await send(once(answer()), path)

    assert connection.requests[0][0].startswith(f"PATCH {path} HTTP/1.1\r\n")


async def test_headers_and_body() -> None:
    """The body goes byte by byte, with the headers of a JSON API and of an honest client."""
    _, (connection,) = await send(once(answer()))

    head, body = connection.requests[0]
    assert body == BODY
    for line in (
        "Content-Type: application/json",
        "Accept: application/json",
        f"User-Agent: migrator/{__version__}",
        "Authorization: Basic S0VZOnMzY3JldA==",
    ):
        assert f"\r\n{line}\r\n" in head


async def test_reply() -> None:
    """An answer's status, headers in lower case with repeated ones joined, and body."""
    got, _ = await send(once(answer(b'{"a":1}', status="422 No", headers="X-A: 1\r\nx-a: 2\r\nX-Request-Id: r\r\n")))

    assert isinstance(got, Reply)
    assert (got.status, got.body, got.truncated) == (422, b'{"a":1}', False)
    assert (got.headers["x-a"], got.headers["x-request-id"]) == ("1, 2", "r")


@pytest.mark.parametrize("status", [307, 308])
async def test_redirect_to_the_same_origin_is_followed_once(status: int) -> None:
    """A 307 or 308 to the same origin is followed with method and body, and a second one is the answer."""

    async def serve(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(answer(b"", status=f"{status} Go", headers="Location: /other\r\n"))

    got, (connection,) = await send(serve)

    assert isinstance(got, Reply)
    assert got.status == status
    assert [head.split()[:2] for head, _ in connection.requests] == [["PATCH", "/items/1"], ["PATCH", "/other"]]
    assert {body for _, body in connection.requests} == {BODY}


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (307, "{other}/items/1"),
        (308, "http://localhost:9/x"),
        (307, "https://127.0.0.1/x"),
        (301, "/other"),
        (302, "/other"),
        (303, "/other"),
        (307, "http://[bad"),
        (307, ""),
    ],
)
async def test_other_redirects_are_not_followed(status: int, location: str) -> None:
    """Neither credentials nor body go to another origin, and no PATCH becomes a GET."""
    async with hostile(once(answer())) as (other, others):
        headers = f"Location: {location.format(other=other)}\r\n"
        got, (connection,) = await send(once(answer(b"", status=f"{status} Go", headers=headers)))

    assert isinstance(got, Reply)
    assert got.status == status
    assert len(connection.requests) == 1
    assert others == []


async def closed(connection: Connection) -> None:
    """Close without an answer."""
    await connection.request()


async def reset(connection: Connection) -> None:
    """Reset without an answer."""
    await connection.request()
    await connection.reset()


async def reset_in_head(connection: Connection) -> None:
    """Reset in the middle of the head."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    await connection.reset()


async def cut_body(connection: Connection) -> None:
    """Close in the middle of the body."""
    await connection.request()
    await connection.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":')


async def cut_chunks(connection: Connection) -> None:
    """Close before the last chunk."""
    await connection.request()
    await connection.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n')


@pytest.mark.parametrize(
    ("serve", "kind"),
    [
        (closed, FailureKind.CONNECTION),
        (reset, FailureKind.CONNECTION),
        (reset_in_head, FailureKind.CONNECTION),
        (cut_body, FailureKind.PROTOCOL),
        (cut_chunks, FailureKind.PROTOCOL),
        (once(b"SSH-2.0-OpenSSH_9.6\r\n"), FailureKind.PROTOCOL),
        (once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), FailureKind.PROTOCOL),
        (once(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), FailureKind.PROTOCOL),
        (once(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n"), FailureKind.PROTOCOL),
    ],
    ids=["closed", "reset", "reset in head", "cut body", "cut chunks", "no HTTP", "bad chunk", "bad length", "long"],
)
async def test_broken_answers(serve: Serve, kind: FailureKind) -> None:
    """Whatever the server does after it has the request, it may have acted on it; and no word of ours quotes a URL."""
    got, _ = await send(serve)

    assert isinstance(got, Failure)
    assert (got.kind, got.maybe_sent) == (kind, True)
    assert "http:" not in got.message
    assert "secret" not in repr(got)


async def silence(connection: Connection) -> None:
    """Say nothing."""
    await connection.request()
    await asyncio.sleep(30)


async def drip(connection: Connection) -> None:
    """Send a byte at a time, for ever."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await connection.send(b" ")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("serve", [silence, drip, once(b"HTTP/1.1 200"), once(b"HTTP/1.1 200 OK\r\n\r\n")])
async def test_time_out(serve: Serve) -> None:
    """A server that stalls, at whatever stage, or drips for ever, runs into the time-out of the whole request."""
    got, _ = await send(serve, timeout_s=0.3)

    assert isinstance(got, Failure)
    assert (got.kind, got.stage, got.maybe_sent) == (FailureKind.TIMEOUT, Stage.READ, True)


async def test_connection_refused() -> None:
    """A server that is not there cannot have seen the request."""
    async with hostile(silence) as (url, _):
        pass
    async with client(url) as opened:
        got = await opened.send(request(url))

    assert isinstance(got, Failure)
    assert (got.kind, got.stage, got.maybe_sent) == (FailureKind.CONNECTION, Stage.CONNECT, False)
    assert "refused" in got.message


async def test_unknown_name() -> None:
    """A name that does not exist is said to be so."""
    url = "http://does-not-exist.invalid"
    async with client(url) as opened:
        got = await opened.send(request(url))

    assert isinstance(got, Failure)
    assert (got.stage, got.maybe_sent) == (Stage.CONNECT, False)


@pytest.mark.parametrize("told", [True, False])
async def test_huge_answer(told: bool) -> None:
    """Of an endless answer a megabyte is read, whether its length is told or not."""

    async def serve(connection: Connection) -> None:
        await connection.request()
        length = f"Content-Length: {10 * LONGEST_BODY}" if told else "Connection: close"
        await connection.send(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        while True:
            await connection.send(b"x" * 65536)

    got, _ = await send(serve)

    assert isinstance(got, Reply)
    assert (len(got.body), got.truncated) == (LONGEST_BODY, True)


async def test_http_1_0_without_keep_alive() -> None:
    """An old server that closes after each answer is served as well."""

    async def serve(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.0 200 OK\r\n\r\n{}")

    async with hostile(serve) as (url, connections), client(url) as opened:
        answers = [await opened.send(request(url)) for _ in range(3)]

    assert [one.body for one in answers if isinstance(one, Reply)] == [b"{}"] * 3
    assert len(connections) == 3


async def test_connections_are_kept() -> None:
    """Requests in a row share a connection, unless that is not wanted."""

    async def serve(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(answer())

    async with hostile(serve) as (url, connections), client(url) as opened:
        for _ in range(3):
            await opened.send(request(url))
        assert len(connections) == 1
        async with client(url, reuse=False) as fresh:
            for _ in range(3):
                await fresh.send(request(url))
        assert len(connections) == 4


async def test_idle_connection_that_the_server_closes() -> None:
    """A request whose connection is closed just as it is used again goes out on a new one, and costs no attempt."""

    async def serve(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer())
        if connection.number == 1:
            await connection.request()
            await connection.reset()

    async with hostile(serve) as (url, connections), client(url) as opened:
        assert isinstance(await opened.send(request(url)), Reply)
        assert isinstance(await opened.send(request(url)), Reply)

    assert len(connections) == 2


@pytest.mark.parametrize("fault", ["unknown authority", "other name", "expired"])
async def test_wrong_certificate(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is not to be trusted ends it, before anything was sent, and says why."""
    authority, name = trustme.CA(), "other.example" if fault == "other name" else "127.0.0.1"
    long_ago = datetime(2020, 1, 1, tzinfo=UTC) if fault == "expired" else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_after=long_ago).configure_cert(context)
    if fault != "unknown authority":
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with hostile(once(answer()), tls=context) as (url, connections), client(url) as opened:
        got = await opened.send(request(url))

    assert isinstance(got, Failure)
    assert (got.stage, got.maybe_sent, got.certificate) == (Stage.TLS, False, True)
    assert "certificate" in got.message
    assert all(not connection.requests for connection in connections)


async def test_right_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of an authority that the machine trusts is accepted."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with hostile(once(answer()), tls=context) as (url, _), client(url) as opened:
        assert isinstance(await opened.send(request(url)), Reply)


@pytest.mark.parametrize("byte", [*range(0x80, 0x100), 0x09])
async def test_bytes_in_headers(byte: int) -> None:
    """A header with any byte is text that can be written to a file."""

    async def serve(connection: Connection) -> None:
        await connection.request()
        raw = b"HTTP/1.1 409 No\r\nContent-Length: 0\r\nX-Request-Id: a" + bytes([byte]) + b"b\r\n\r\n"
        await connection.send(raw)

    got, _ = await send(serve)

    assert isinstance(got, Reply)
    assert got.headers["x-request-id"].encode() == f"a{chr(byte)}b".encode()


@pytest.mark.parametrize(
    "headers",
    ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n", "Content-Encoding: gzip\r\nContent-Length: 3\r\n"],
    ids=["broken off", "no chunk", "no gzip"],
)
async def test_a_broken_body_does_not_hide_the_status(headers: str) -> None:
    """A refusal is known by its status; a success is not believed before its body has come."""
    for status, kind in (("409 No", Reply), ("200 OK", Failure)):

        async def serve(connection: Connection, status: str = status) -> None:
            await connection.request()
            await connection.send(f"HTTP/1.1 {status}\r\n{headers}\r\nabc".encode())

        got, _ = await send(serve)

        assert isinstance(got, kind)
        if isinstance(got, Reply):
            assert (got.status, got.truncated) == (409, True)


BROKEN = {
    "bad chunk": b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "bad chunk end": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n",
    "bad second chunk": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n-1\r\n",
    "no br": b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
    "no zstd": b"Content-Encoding: zstd\r\nContent-Length: 2\r\n\r\n{}",
    "no deflate": b"Content-Encoding: deflate\r\nContent-Length: 2\r\n\r\n{}",
    "no gzip": b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "half gzip": b"Content-Encoding: gzip\r\nContent-Length: 15\r\n\r\n" + gzip.compress(b"{}" * 99)[:15],
    "bad chunk, bare line feeds": b"Transfer-Encoding: chunked\n\nZZ\r\n",
}


def in_pieces(data: bytes, delivery: str) -> Serve:
    """Answer with bytes: all at once, the head before the body, cut within the blank line, or byte by byte."""
    blank = re.search(rb"\n\r?\n(?!HTTP)", data)
    assert blank is not None
    cuts = {"at once": [], "head first": [blank.end()], "cut blank line": [blank.end() - 1]}
    ends = [*cuts.get(delivery, range(1, len(data))), len(data)]

    async def serve(connection: Connection) -> None:
        await connection.request()
        for start, end in pairwise([0, *ends]):
            await connection.send(data[start:end])
            await asyncio.sleep(0.001)
        await asyncio.sleep(30)

    return serve


@pytest.mark.parametrize("delivery", ["at once", "head first", "cut blank line", "byte by byte"])
@pytest.mark.parametrize("rest", BROKEN.values(), ids=BROKEN)
async def test_a_malformed_body_does_not_hide_the_status(rest: bytes, delivery: str) -> None:
    """A refusal is known at once, however the answer comes; a success with such a body is not believed."""
    refused, _ = await send(in_pieces(b"HTTP/1.1 100 Wait\r\n\r\nHTTP/1.1 409 No\r\n" + rest, delivery), timeout_s=3.0)
    done, _ = await send(in_pieces(b"HTTP/1.1 200 OK\r\n" + rest, delivery), timeout_s=3.0)

    assert isinstance(refused, Reply)
    assert (refused.status, refused.truncated, refused.body) == (409, True, b"")
    assert isinstance(done, Failure)
    assert (done.kind, done.maybe_sent) == (FailureKind.PROTOCOL, True)
    assert max(got.received.mono - got.sent.mono for got in (refused, done)) < 2.0


@pytest.mark.parametrize("delivery", ["at once", "head first", "byte by byte"])
async def test_what_follows_a_whole_answer_is_not_part_of_it(delivery: str) -> None:
    """A byte too many ends the connection, and the next request gets its own answer."""
    served = in_pieces(answer(b'{"a":1}', status="422 No") + b"}", delivery)

    async with hostile(served) as (url, connections), client(url) as opened:
        for number in (1, 2):
            got = await opened.send(request(url))

            assert isinstance(got, Reply)
            assert (got.status, got.body, got.truncated) == (422, b'{"a":1}', False)
            assert len(connections) == number
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "bare deflate"])
async def test_content_codings(coding: str) -> None:
    """A body that is compressed unasked is read, and no more of it than of any other."""
    bits = {"gzip": 31, "deflate": 15, "bare deflate": -15}[coding]
    headers = f"Content-Encoding: {coding.rsplit(maxsplit=1)[-1]}\r\n"
    for length, whole in ((9, True), (LONGEST_BODY, True), (8 * LONGEST_BODY, False)):
        packed = zlib.compress(b"x" * length, wbits=bits)

        got, _ = await send(once(answer(packed, headers=headers)))

        assert isinstance(got, Reply)
        assert (got.body == b"x" * min(length, LONGEST_BODY), got.truncated) == (True, not whole)


@pytest.mark.parametrize(("status", "kind"), [("409 No", Reply), ("200 OK", Failure)])
async def test_a_body_that_does_not_come_does_not_hide_the_status(status: str, kind: type) -> None:
    """The same where the server stops in the middle of the body, and keeps the connection open."""
    got, _ = await send(once(f"HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\nabc".encode()), timeout_s=0.3)

    assert isinstance(got, kind)
    assert got.received.mono - got.sent.mono < 2.0


async def test_a_url_that_is_none() -> None:
    """A request whose URL cannot be used fails by itself."""
    async with client("http://127.0.0.1:9") as opened:
        got = await opened.send(request("http://[::1"))

    assert isinstance(got, Failure)
    assert not got.maybe_sent


async def test_tls_to_a_plain_server() -> None:
    """An https URL of a server that speaks http is told so."""

    async def serve(connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with hostile(serve) as (url, _), client(url.replace("http:", "https:")) as opened:
        got = await opened.send(request(url.replace("http:", "https:")))

    assert isinstance(got, Failure)
    assert "does not speak TLS" in got.message
    assert not got.maybe_sent
