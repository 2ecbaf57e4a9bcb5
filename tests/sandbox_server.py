"""A sandbox behind a real server on the loopback interface, with a clock that only tests move."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from migrator.sandbox.app import ROOT, Sandbox, Settings

EPOCH = 1_790_000_000.0
KEY, SECRET = "SANDBOXKEY", "made-up-secret"


class Clock:
    """Time that passes when a test says so, or when someone sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def mono(self) -> float:
        """Return the seconds of a monotonic clock."""
        return self.now

    def utc(self) -> float:
        """Return the seconds since the epoch."""
        return EPOCH + self.now

    async def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def webhook(number: int) -> str:
    """Return a made-up webhook."""
    return f"https://hooks.slack.example/services/TEXAMPLE/BEXAMPLE{number:04d}/new-{number:04d}"


def target(number: int = 1) -> dict[str, Any]:
    """Return the body that puts an integration on a webhook."""
    return {"target": {"kind": "Slack", "webhook_url": webhook(number)}}


class Guest:
    """A sandbox, and a client of it.

    Attributes:
        sandbox: it.
        session: of a client with one connection, so that what happens to a connection can be seen.
        url: the sandbox's.
    """

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession, url: str) -> None:
        self.sandbox = sandbox
        self.session = session
        self.url = url

    async def send(
        self, method: str, path: str, body: Any = None, **options: Any
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Send a request; a path without a slash in front is an integration's id."""
        path = path if path.startswith("/") else f"{ROOT}/{path}"
        async with self.session.request(method, path, json=body, allow_redirects=False, **options) as response:
            return response, await response.read()

    async def patch(self, key: str = "i-00001", number: int = 1) -> tuple[aiohttp.ClientResponse, bytes]:
        """Put an integration on a webhook."""
        return await self.send("PATCH", key, target(number))

    async def order(self, *faults: dict[str, Any]) -> None:
        """Order faults."""
        response, said = await self.send("POST", "/_sandbox/faults", list(faults))
        assert response.status == 204, said


@asynccontextmanager
async def visit(
    settings: Settings | None = None,
    *,
    clock: Clock | None = None,
    connections: int = 1,
    auth: tuple[str, str] | None = None,
) -> AsyncIterator[Guest]:
    """Serve a sandbox; without a clock it has those of the machine."""
    settings = settings if settings is not None else Settings(items=9, limit=0)
    clocks: dict[str, Any] = {} if clock is None else {"clock": clock.mono, "utc": clock.utc, "sleep": clock.sleep}
    sandbox = Sandbox(settings, **clocks)
    runner = web.ServerRunner(web.Server(sandbox.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        connector = aiohttp.TCPConnector(limit=connections)
        headers = {} if auth is None else {"Authorization": aiohttp.encode_basic_auth(*auth)}
        async with aiohttp.ClientSession(url, connector=connector, headers=headers) as session:
            yield Guest(sandbox, session, url)
    finally:
        await runner.cleanup()
