"""The sandbox's server: routes, credentials, limits, faults and statistics over aiohttp.

It answers as Confluent Cloud's reference does, in what hurts as well: 403 for an unknown id, unknown members ignored, a
429 without a body, and a refusal for concurrency while `remaining` is above zero.
"""

import asyncio
import base64
import hmac
import signal
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from random import Random
from time import monotonic, time
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from aiohttp import web

from migrator.sandbox.limits import Algorithm, Limiter, ResetStyle, Rounding, limit_headers, make_limiter
from migrator.sandbox.store import Refusal, Store, check_test

__all__ = ["Algorithm", "ResetStyle", "Rounding", "Sandbox", "Settings", "serve"]

ROOT: Final = "/notifications/v1/integrations"
ERRORS: Final = (500, 502, 503)
JSON_TYPE: Final = "application/json"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the sandbox is to be like; times in seconds, shares from 0 to 1.

    Attributes:
        items: integrations at first.
        limit: requests in a window; 0 for no limit and no headers.
        window_s: the window's length.
        algorithm: how requests are counted.
        reset: how the reset is written.
        rounding: how it is made a whole number.
        latency_s: time that each answer takes.
        jitter_s: up to so much more.
        error_rate: share of requests that get a 5xx.
        concurrency_limit: requests at a time; 0 for no limit.
        unknown_status: 403 as Confluent answers for unknown ids, or 404.
        new_envelope: error bodies in the newer form.
        seed: of latencies and errors.
        api_key: the only key that is let in; None lets everybody in.
        api_secret: its secret.
    """

    items: int = 1000
    limit: int = 100
    window_s: float = 60.0
    algorithm: Algorithm = Algorithm.FIXED
    reset: ResetStyle = ResetStyle.RELATIVE
    rounding: Rounding = Rounding.UP
    latency_s: float = 0.0
    jitter_s: float = 0.0
    error_rate: float = 0.0
    concurrency_limit: int = 0
    unknown_status: int = 403
    new_envelope: bool = False
    seed: int = 1
    api_key: str | None = None
    api_secret: str | None = None


@dataclass(slots=True)
class Statistics:
    """What the sandbox saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    second: deque[float] = field(default_factory=deque)
    highest_rate: int = 0
    in_flight: int = 0
    highest_in_flight: int = 0


class Sandbox:
    """Answers requests; `handle` is a handler for `aiohttp.web.Server`.

    Args:
        settings: what it is to be like.
        clock: seconds of a monotonic clock.
        utc: seconds since the epoch.
    """

    def __init__(
        self, settings: Settings, *, clock: Callable[[], float] = monotonic, utc: Callable[[], float] = time
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._utc = utc
        self._random = Random(settings.seed)  # noqa: S311  faults to order have to be repeatable
        self._ids = count(1)
        self._faults: list[dict[str, Any]] = []
        self.statistics = Statistics()
        self.store = Store(settings.items, now=self._now())
        self._limiter: Limiter | None = None
        if settings.limit:
            # Windows are aligned to the server's clock, as those of real servers are.
            start = clock() - utc() % settings.window_s
            self._limiter = make_limiter(
                settings.algorithm, limit=settings.limit, window_s=settings.window_s, start=start
            )
        self._authorization: str | None = None
        if settings.api_key is not None:
            pair = f"{settings.api_key}:{settings.api_secret or ''}".encode()
            self._authorization = "Basic " + base64.b64encode(pair).decode()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        path = request.rel_url.raw_path
        if path.startswith("/_sandbox/"):
            return await self._control(request, path)
        stats = self.statistics
        stats.in_flight += 1
        stats.highest_in_flight = max(stats.highest_in_flight, stats.in_flight)
        try:
            self._note_rate()
            response = await self._answer(request, path)
        finally:
            stats.in_flight -= 1
        stats.statuses[str(response.status)] += 1
        return response

    def _note_rate(self) -> None:
        second, now = self.statistics.second, self._clock()
        second.append(now)
        while second[0] <= now - 1.0:
            second.popleft()
        self.statistics.highest_rate = max(self.statistics.highest_rate, len(second))

    async def _answer(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        headers = {"X-Request-Id": f"req-{next(self._ids):08d}"}
        body = await request.read()
        given = request.headers.get("Authorization", "")
        if self._authorization is not None and not hmac.compare_digest(given, self._authorization):
            challenge = 'Basic error="invalid_key", error_description="The API Key is invalid"'
            return self._refused(
                Refusal(401, "user_unauthenticated", "Authentication Required", "Valid credentials must be provided"),
                {**headers, "WWW-Authenticate": challenge},
            )
        crowded = 0 < self._settings.concurrency_limit < self.statistics.in_flight
        if self._limiter is not None:
            verdict = self._limiter.peek(self._clock()) if crowded else self._limiter.take(self._clock())
            headers |= limit_headers(
                verdict,
                style=self._settings.reset,
                utc=self._utc(),
                window_s=self._settings.window_s,
                rounding=self._settings.rounding,
            )
            if not verdict.allowed:
                return web.Response(status=429, headers=headers)
        if crowded:
            return web.Response(status=429, headers=headers)
        await self._delay()
        key = path.removeprefix(ROOT + "/") if path.startswith(ROOT + "/") else ""
        fault = self._fault(unquote(key))
        if fault is not None:
            return await self._misbehave(request, fault, body, headers)
        if self._settings.error_rate and self._random.random() < self._settings.error_rate:
            status = self._random.choice(ERRORS)
            return self._refused(Refusal(status, "out_of_gas", "Oops", "Something went wrong."), headers)
        try:
            return self._route(request, path, unquote(key), body, headers)
        except Refusal as refusal:
            return self._refused(refusal, headers)

    async def _delay(self) -> None:
        settings = self._settings
        if settings.latency_s or settings.jitter_s:
            await asyncio.sleep(settings.latency_s + self._random.random() * settings.jitter_s)

    def _route(
        self, request: web.BaseRequest, path: str, key: str, body: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        match request.method:
            case "PATCH" if key:
                return self._update(key, body, headers)
            case "GET" if key:
                return _json(200, self._known(key), headers)
            case "DELETE" if key:
                self._known(key)
                del self.store.integrations[key]
                return web.Response(status=204, headers=headers)
            case "GET" if path == ROOT:
                return self._list(request, headers)
            case "POST" if path == ROOT:
                created = self.store.create(_decoded(body), now=self._now())
                headers["Location"] = created["metadata"]["self"]
                return _json(201, created, headers)
            case "POST" if path == ROOT + ":test":
                check_test(_decoded(body))
                return web.Response(status=204, headers={"X-Request-Id": headers["X-Request-Id"]})
            case _:
                raise Refusal(404, "not_found", "Not Found", "There is no such resource.")

    def _known(self, key: str) -> dict[str, Any]:
        found = self.store.integrations.get(key)
        if found is None:
            if self._settings.unknown_status == 404:
                raise Refusal(404, "not_found", "Not Found", "")
            raise Refusal(403, "forbidden_access", "", "Forbidden Access")
        return found

    def _update(self, key: str, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
        self.statistics.attempts[key] += 1
        self._known(key)
        updated = self.store.update(key, _decoded(body), now=self._now())
        self.statistics.writes[key] += 1
        return _json(200, updated, headers)

    def _list(self, request: web.BaseRequest, headers: dict[str, str]) -> web.StreamResponse:
        size = request.rel_url.query.get("page_size", "100")
        if not size.isdecimal() or not 1 <= int(size) <= 250:
            raise Refusal(400, "invalid_page_size", "Bad Request", "page_size has to be from 1 to 250.")
        found, token = self.store.page(after=request.rel_url.query.get("page_token", ""), size=int(size))
        metadata: dict[str, Any] = {"total_size": len(self.store.integrations)}
        if token is not None:
            metadata["next"] = f"http://{request.host}{ROOT}?page_size={size}&page_token={token}"
        listed = {"api_version": "notifications/v1", "kind": "IntegrationList", "metadata": metadata, "data": found}
        return _json(200, listed, headers)

    def _refused(self, refusal: Refusal, headers: dict[str, str]) -> web.StreamResponse:
        request_id = headers["X-Request-Id"]
        error: dict[str, Any]
        if self._settings.new_envelope:
            error = {"code": refusal.code.upper(), "message": refusal.detail, "timestamp": self._now()}
            return _json(refusal.status, {"status": refusal.status, "error": error, "requestId": request_id}, headers)
        named = {"id": request_id, "status": str(refusal.status), "code": refusal.code}
        words = {"title": refusal.title, "detail": refusal.detail}
        source = {"pointer": refusal.pointer} if refusal.pointer else {}
        error = {**named, **{name: text for name, text in words.items() if text}, "source": source}
        return _json(refusal.status, {"errors": [error]}, headers)

    def _fault(self, key: str) -> dict[str, Any] | None:
        """Return the fault that is ordered for an id, and count it."""
        for fault in self._faults:
            if fault.get("match") in {key, "*"} and fault.get("times", 1) > 0:
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return None

    async def _misbehave(  # noqa: C901  one case a fault
        self, request: web.BaseRequest, fault: dict[str, Any], body: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        headers.update(fault.get("headers", {}))
        match fault.get("fault"):
            case "reset":
                if fault.get("applied"):
                    self._route(request, request.rel_url.raw_path, fault["match"], body, headers)
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=fault.get("status", 500), headers=headers)
            case "stall":
                await asyncio.sleep(fault.get("seconds", 3600.0))
                return web.Response(status=500, headers=headers)
            case "truncate":
                headers["Content-Length"] = "1000"
                response = web.StreamResponse(status=200, headers={**headers, "Content-Type": JSON_TYPE})
                await response.prepare(request)
                await response.write(b'{"id": "')
                if request.transport is not None:
                    request.transport.close()
                return response
            case "huge":
                return web.Response(status=200, body=b" " * (2 << 20), content_type=JSON_TYPE, headers=headers)
            case "garbage":
                return web.Response(status=200, text="<html>not what you wanted</html>", headers=headers)
            case "redirect":
                return web.Response(status=fault.get("status", 302), headers={**headers, "Location": fault["location"]})
            case "echo":
                detail = f"The property is not valid: {body.decode(errors='replace')}"
                return self._refused(Refusal(422, "invalid_configuration", "Validation Failed", detail), headers)
            case "close":
                response = self._route(request, request.rel_url.raw_path, unquote(fault["match"]), body, headers)
                response.force_close()
                return response
            case _:
                status = fault.get("status", 500)
                text = fault.get("text", "Something went wrong.")
                return self._refused(Refusal(status, fault.get("code", "ordered"), "Ordered fault", text), headers)

    async def _control(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if request.method == "POST" and path == "/_sandbox/faults":
            self._faults = msgspec.json.decode(await request.read(), type=list[dict[str, Any]])
            return web.Response(status=204)
        if request.method == "GET" and path == "/_sandbox/stats":
            stats = self.statistics
            document = {
                "requests": stats.statuses.total(),
                "by_status": stats.statuses,
                "refused": stats.statuses["429"],
                "attempts": stats.attempts,
                "writes": stats.writes,
                "highest_rate": stats.highest_rate,
                "highest_in_flight": stats.highest_in_flight,
            }
            return _json(200, document, {})
        return web.Response(status=404)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._utc(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise Refusal(400, "invalid_json", "Bad Request", "The body is no valid JSON.") from None


def _json(status: int, document: Any, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=_encode(document), headers={**headers, "Content-Type": JSON_TYPE})


async def serve(settings: Settings, *, port: int, announce: Callable[[str], None]) -> None:
    """Serve on the loopback interface until SIGINT or SIGTERM.

    Args:
        settings: what the sandbox is to be like.
        port: 0 for a free one.
        announce: called with the server's URL once it listens.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    runner = web.ServerRunner(web.Server(Sandbox(settings).handle, access_log=None))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=0.1)
        await site.start()
        announce(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await stopped.wait()
    finally:
        await runner.cleanup()
