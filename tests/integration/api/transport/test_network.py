"""Requests go through a real proxy, trust a private authority, and show a certificate, as the user has set."""

import asyncio
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from msgspec.structs import replace

from migrator.api.transport.client import Client
from migrator.api.transport.network import Network, Proxy, network_of
from migrator.errors import MigratorError
from migrator.job.profile.api_profile import ApiProfile
from migrator.job.profile.auth import Auth, AuthKind
from migrator.messages import Answer, Failure, Instant, Reply, Request
from migrator.options import RunOptions
from migrator.secret import Secret

pytestmark = pytest.mark.anyio


def clock() -> Instant:
    """Read both clocks."""
    return Instant(time.monotonic(), time.time())


async def sent(url: str, network: Network, learned: list[Secret] | None = None) -> Answer:
    """Send one request with credentials."""
    auth = Auth(kind=AuthKind.BASIC, username="KEY", secret=Secret("s3cret"))
    profile = ApiProfile(name="test", base_url=url, auth=auth)
    learn = (learned if learned is not None else []).append
    async with Client.open(profile, timeout_s=5.0, clock=clock, network=network, learn=learn) as client:
        return await client.send(Request(item=1, key="1", method="PATCH", url=f"{url}/items/1", body=b"{}"))


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def tls_server(authority: trustme.CA, *, client_certificate: bool = False) -> AsyncIterator[str]:
    """Serve HTTPS on localhost, with a certificate of an authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    server = await asyncio.start_server(answer, "localhost", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def connect_proxy(seen: list[bytes]) -> AsyncIterator[str]:
    """Run a proxy that takes CONNECT, and keep what it is asked."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        host, _, port = head.split(b" ")[1].partition(b":")
        inner, outer = await asyncio.open_connection(host.decode(), int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(copy(reader, outer), copy(inner, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_private_authority(tmp_path: Path) -> None:
    """A server of a private authority is trusted with its file, and not without."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async with tls_server(authority) as url:
        trusted = await sent(url, Network(ca_file=str(tmp_path / "ca.pem")))
        refused = await sent(url, Network())

    assert isinstance(trusted, Reply)
    assert isinstance(refused, Failure)
    assert not refused.maybe_sent


async def test_client_certificate(tmp_path: Path) -> None:
    """A server that asks for a certificate gets the user's, and refuses a client without one."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "me.pem"))
    trust = str(tmp_path / "ca.pem")

    async with tls_server(authority, client_certificate=True) as url:
        known = await sent(url, Network(ca_file=trust, client_cert=str(tmp_path / "me.pem")))
        stranger = await sent(url, Network(ca_file=trust))

    assert isinstance(known, Reply)
    assert isinstance(stranger, Failure)


async def test_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go through the proxy that the environment names, with its own credentials, and only if asked."""
    authority, seen, learned = trustme.CA(), list[bytes](), list[Secret]()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trust = str(tmp_path / "ca.pem")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async with tls_server(authority) as url, connect_proxy(seen) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pa%20ss@{proxy}")
        through = await sent(url, Network(ca_file=trust, use_proxy=True), learned)
        direct = await sent(url, Network(ca_file=trust))
        monkeypatch.setenv("NO_PROXY", "localhost")
        around = await sent(url, Network(ca_file=trust, use_proxy=True))

    assert isinstance(through, Reply)
    assert isinstance(direct, Reply)
    assert isinstance(around, Reply)
    (head,) = seen
    assert head.startswith(f"CONNECT {url.removeprefix('https://')} ".encode())
    assert b"Basic " + b64encode(b"me:pa ss") in head
    assert b64encode(b"KEY:s3cret") not in head
    assert [secret.reveal() for secret in learned] == ["pa ss"]


def test_proxy_of_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts without an option, in place of the environment's, with its own credentials, and not on loopback."""
    monkeypatch.setenv("HTTPS_PROXY", "http://other.example")
    profile = ApiProfile(name="acme", base_url="https://api.example", proxy=Secret("http://me:word@proxy.example:3128"))

    network = network_of(RunOptions(), profile)
    proxy = network.proxy_for("https://api.example")

    assert proxy is not None
    assert proxy.url == "http://proxy.example:3128"
    assert proxy.password is not None
    assert proxy.password.reveal() == "word"
    assert "word" not in repr(network)
    assert network.proxy_for("http://127.0.0.1:8080") is None
    assert network_of(RunOptions(), replace(profile, proxy=True)).use_proxy
    with pytest.raises(MigratorError, match="the profile's proxy has to be an http or https URL"):
        network_of(RunOptions(), replace(profile, proxy="socks5://proxy.example")).proxy_for("https://api.example")


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("proxy.example:3128", Proxy(url="http://proxy.example:3128")),
        ("https://[::1]:8080", Proxy(url="https://[::1]:8080")),
        ("socks5://proxy.example", None),
        ("http://proxy.example:port", None),
        ("http://", None),
    ],
)
def test_proxy_variable(variable: str, expected: Proxy | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is an http or https URL, with or without its scheme."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", variable)
    network = Network(use_proxy=True)

    if expected is not None:
        assert network.proxy_for("https://api.example") == expected
    else:
        with pytest.raises(MigratorError, match="HTTPS_PROXY has to be an http or https URL"):
            network.proxy_for("https://api.example")


@pytest.mark.parametrize("option", ["ca_file", "client_cert"])
def test_file_that_cannot_be_used(option: str, tmp_path: Path) -> None:
    """A file that is missing or is no certificate is named with its option."""
    (tmp_path / "text.pem").write_text("text")
    flag = f"--{option.replace('_', '-')}"

    with pytest.raises(MigratorError, match=rf"{flag} .*gone\.pem: No such file"):
        Network(**{option: str(tmp_path / "gone.pem")}).context()  # type: ignore[arg-type]
    with pytest.raises(MigratorError, match=rf"{flag} .*text\.pem: it is not a PEM file"):
        Network(**{option: str(tmp_path / "text.pem")}).context()  # type: ignore[arg-type]
