"""The sandbox's server: routes, credentials, limits and statistics over aiohttp.

It answers as Confluent Cloud's reference does, in what hurts as well: 403 for an unknown id, unknown members ignored, a
429 without a body, a refusal for concurrency while `remaining` is above zero, and rate-limit headers only where the
reference declares them: on success (but for a test message's 204) and on 429.
"""

import asyncio
import base64
import hmac
import math
import signal
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from time import monotonic, time
from typing import Any, Final, TypeVar
from urllib.parse import unquote
from weakref import WeakSet

import msgspec
from aiohttp import web

from migrator.sandbox.faults import Chance, Dropped, Fault, Faults, Kind, Sleep, misbehave
from migrator.sandbox.limits import Algorithm, Limiter, ResetStyle, Rounding, Verdict, limit_headers, make_limiter
from migrator.sandbox.store import Complaint, Refusal, Store, check_test

__all__ = ["Algorithm", "ResetStyle", "Rounding", "Sandbox", "Settings", "Statistics", "serve"]

ROOT: Final = "/notifications/v1/integrations"
METHODS: Final = {ROOT: "GET, POST", ROOT + ":test": "POST"}
"""What the paths without an id take."""

MASK: Final = "[REDACTED]"
SECRETS: Final = frozenset({"webhook_url", "url"})

JSON_TYPE: Final = "application/json"

NONE: Final[Mapping[str, str]] = {}

_Response = TypeVar("_Response", bound=web.StreamResponse)

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
        masked: whether answers have masks in place of webhooks, as those of many other services do.
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
    masked: bool = False
    unknown_status: int = 403
    new_envelope: bool = False
    seed: int = 1
    api_key: str | None = None
    api_secret: str | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no server; the text of the ValueError goes on from "the sandbox takes"."""
        if not (self.window_s > 0 and math.isfinite(self.window_s)):
            raise ValueError("a window of more than 0 s")
        if not 0 <= self.error_rate <= 1:
            raise ValueError("an error rate from 0 to 100%")
        if not (0 <= self.latency_s < math.inf and 0 <= self.jitter_s < math.inf):
            raise ValueError("a latency and a jitter of 0 s or more")
        if min(self.items, self.limit, self.concurrency_limit) < 0:
            raise ValueError("items and limits of 0 or more")
        if self.api_secret is not None and self.api_key is None:
            raise ValueError("an API secret only with its API key")


@dataclass(slots=True)
class Statistics:
    """What the sandbox saw.

    Attributes:
        statuses: requests by the status of their answer, or "dropped".
        attempts: requests to write, by id, whatever became of them.
        writes: writes that took effect, by id.
        highest_rate: most requests in any second.
        in_flight: requests now.
        highest_in_flight: most requests at a time.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    highest_rate: int = 0
    in_flight: int = 0
    highest_in_flight: int = 0
    _second: deque[float] = field(default_factory=deque)

    def arrived(self, now: float) -> None:
        """Count a request in; `now` in seconds."""
        self.in_flight += 1
        self.highest_in_flight = max(self.highest_in_flight, self.in_flight)
        second = self._second
        second.append(now)
        while second[0] <= now - 1.0:
            second.popleft()
        self.highest_rate = max(self.highest_rate, len(second))

    def document(self) -> dict[str, Any]:
        """Return it all for JSON."""
        return {
            "requests": self.statuses.total(),
            "by_status": self.statuses,
            "refused": self.statuses["429"],
            "attempts": self.attempts,
            "writes": self.writes,
            "highest_rate": self.highest_rate,
            "in_flight": self.in_flight,
            "highest_in_flight": self.highest_in_flight,
        }


class Sandbox:
    """Answers requests; `handle` is a handler for `aiohttp.web.Server`.

    Args:
        settings: what it is to be like.
        clock: seconds of a monotonic clock.
        utc: seconds since the epoch.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = monotonic,
        utc: Callable[[], float] = time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._utc = utc
        self._sleep = sleep
        self._ids = count(1)
        self._doomed: WeakSet[asyncio.Transport] = WeakSet()
        self._chance = Chance(
            seed=settings.seed,
            latency_s=settings.latency_s,
            jitter_s=settings.jitter_s,
            error_rate=settings.error_rate,
        )
        self.faults = Faults()
        self.statistics = Statistics()
        self.store = Store(settings.items, now=self._now())
        self._limiter: Limiter | None = None
        if settings.limit:
            # Windows are aligned to the server's clock, as those of real servers are.
            start = clock() - utc() % settings.window_s
            self._limiter = make_limiter(
                settings.algorithm, limit=settings.limit, window_s=settings.window_s, start=start
            )
        self._authorization: bytes | None = None
        if settings.api_key is not None:
            pair = f"{settings.api_key}:{settings.api_secret or ''}".encode()
            self._authorization = b"Basic " + base64.b64encode(pair)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        path = request.rel_url.raw_path
        if path.startswith("/_sandbox/"):
            return await self._control(request, path)
        statistics = self.statistics
        statistics.arrived(self._clock())
        response: web.StreamResponse
        try:
            response = await self._answer(request, path)
            seen = str(response.status)
        except Dropped:
            if request.transport is not None:
                request.transport.abort()
            response, seen = web.Response(), "dropped"
        finally:
            statistics.in_flight -= 1
        statistics.statuses[seen] += 1
        return response

    async def _answer(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if self._doomed and request.transport in self._doomed:
            raise Dropped
        exchange = _Exchange(request, path, request_id=f"req-{next(self._ids):08d}")
        exchange.body = await request.read()
        try:
            self._authenticate(request)
            if exchange.key and request.method in {"PATCH", "DELETE"}:
                self.statistics.attempts[exchange.key] += 1
            if not self._admit(exchange):
                return web.Response(status=429, headers=exchange.headers | exchange.limit_headers)
            response = await self._work(exchange)
        except Refusal as refusal:
            response = self._refused(refusal, exchange)
        return response if response.prepared else exchange.finish(response)

    def _authenticate(self, request: web.BaseRequest) -> None:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if self._authorization is not None and not hmac.compare_digest(given, self._authorization):
            complaint = Complaint("Valid credentials must be provided")
            raise Refusal(401, "user_unauthenticated", "Authentication Required", complaint)

    def _admit(self, exchange: "_Exchange") -> bool:
        """Count a request against the limits; note the headers that tell of them."""
        crowded = 0 < self._settings.concurrency_limit < self.statistics.in_flight
        if self._limiter is None:
            return not crowded
        now = self._clock()
        verdict = self._limiter.peek(now) if crowded else self._limiter.take(now)
        exchange.limit_headers = self._tell(verdict)
        return verdict.allowed and not crowded

    def _tell(self, verdict: Verdict) -> dict[str, str]:
        settings = self._settings
        return limit_headers(
            verdict, style=settings.reset, utc=self._utc(), window_s=settings.window_s, rounding=settings.rounding
        )

    async def _work(self, exchange: "_Exchange") -> web.StreamResponse:
        """Take the time that it takes, and do what is asked or what is ordered instead."""
        delay_s = self._chance.delay_s()
        if delay_s:
            await self._sleep(delay_s)
        request = exchange.request
        fault = self.faults.take(method=request.method, path=exchange.path, key=exchange.key)
        if fault is not None:
            return await self._misbehave(fault, exchange)
        status = self._chance.error()
        if status is not None:
            raise Refusal(status, "out_of_gas", "Oops", Complaint("Something went wrong."))
        return self._route(exchange)

    async def _misbehave(self, fault: Fault, exchange: "_Exchange") -> web.StreamResponse:
        exchange.headers.update(fault.headers)
        request = exchange.request
        if fault.fault is Kind.CLOSE_IDLE and request.transport is not None:
            self._doomed.add(request.transport)
        return await misbehave(fault, request, answer=lambda: exchange.finish(self._route(exchange)), sleep=self._sleep)

    def _route(self, exchange: "_Exchange") -> web.Response:
        match exchange.request.method, exchange.path:
            case "PATCH" | "GET" | "DELETE" as method, _ if exchange.key:
                return self._one(method, exchange)
            case "GET", path if path == ROOT:
                return self._list(exchange.request)
            case "POST", path if path == ROOT:
                created = self.store.create(_decoded(exchange.body), now=self._now())
                self.statistics.writes[created["id"]] += 1
                return _json(201, created, {"Location": created["metadata"]["self"]})
            case "POST", path if path == ROOT + ":test":
                check_test(_decoded(exchange.body))
                return web.Response(status=204)
            case _, path if exchange.key or path in METHODS:
                raise Refusal(405, None, "Method Not Allowed")
            case _:
                raise Refusal(404, None, "Not Found")

    def _one(self, method: str, exchange: "_Exchange") -> web.Response:
        """Read or write one integration."""
        key, store = exchange.key, self.store
        if key not in store.integrations:
            if self._settings.unknown_status == 404:
                raise Refusal(404, None, "Not Found")
            raise Refusal(403, "forbidden_access", None, Complaint("Forbidden Access"))
        if method == "GET":
            return _json(200, self._shown(store.integrations[key]))
        if method == "DELETE":
            store.delete(key)
            response = web.Response(status=204)
        else:
            response = _json(200, self._shown(store.update(key, _decoded(exchange.body), now=self._now())))
        self.statistics.writes[key] += 1
        return response

    def _list(self, request: web.BaseRequest) -> web.Response:
        query = request.rel_url.query
        found, token = self.store.page(size=query.get("page_size"), token=query.get("page_token"))
        here = f"http://{request.host}{ROOT}"
        metadata: dict[str, Any] = {"first": here, "total_size": len(self.store.integrations)}
        if token is not None:
            metadata["next"] = f"{here}?page_token={token}"
        listed = {"api_version": "notifications/v1", "kind": "IntegrationList", "metadata": metadata, "data": []}
        return _json(200, listed | {"data": [self._shown(one) for one in found]})

    def _shown(self, integration: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an integration as it is told of: with masks in place of its secrets, where that was ordered."""
        if not self._settings.masked:
            return integration
        hidden = {name: MASK if name in SECRETS else value for name, value in integration["target"].items()}
        return {**integration, "target": hidden}

    def _refused(self, refusal: Refusal, exchange: "_Exchange") -> web.Response:
        headers = {}
        if refusal.status == 401:
            headers["WWW-Authenticate"] = 'Basic error="invalid_key", error_description="The API Key is invalid"'
        if refusal.status == 405:
            headers["Allow"] = METHODS.get(exchange.path, "GET, PATCH, DELETE")
        if refusal.location is not None:
            headers["Location"] = refusal.location
        if self._settings.new_envelope:
            document = refusal.new_envelope(request_id=exchange.request_id, path=exchange.path, now=self._now())
        else:
            document = refusal.envelope(request_id=exchange.request_id)
        return _json(refusal.status, document, headers)

    async def _control(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Take orders and tell what was seen: neither limited nor counted, open to everybody on this machine."""
        match request.method, path:
            case "POST", "/_sandbox/faults":
                try:
                    self.faults.order(await request.read())
                except msgspec.DecodeError as error:
                    return web.Response(status=400, text=f"{error}\n")
                return web.Response(status=204)
            case "GET", "/_sandbox/faults":
                return _json(200, self.faults.left())
            case "GET", "/_sandbox/stats":
                return _json(200, self.statistics.document())
            case _:
                return web.Response(status=404)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._utc(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Exchange:
    """A request on its way, and the headers that its answer shall have."""

    __slots__ = ("body", "headers", "key", "limit_headers", "path", "request", "request_id")

    def __init__(self, request: web.BaseRequest, path: str, *, request_id: str) -> None:
        self.request = request
        self.path = path
        self.key = unquote(path[len(ROOT) + 1 :]) if path.startswith(ROOT + "/") else ""
        self.body = b""
        self.request_id = request_id
        self.headers = {"X-Request-Id": request_id}
        self.limit_headers: dict[str, str] = {}

    def finish(self, response: _Response) -> _Response:
        """Put the headers on an answer; those that a fault orders come last."""
        if response.status < 300 and self.path != ROOT + ":test":
            response.headers.update(self.limit_headers)
        response.headers.update(self.headers)
        return response


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise Refusal(400, "invalid_json", "Bad Request", Complaint("The body is no valid JSON.")) from None


def _json(status: int, document: Any, headers: Mapping[str, str] = NONE) -> web.Response:
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
    server = web.Server(Sandbox(settings).handle, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        announce(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await stopped.wait()
    finally:
        await runner.cleanup()
