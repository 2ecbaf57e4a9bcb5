"""Faults to order: what the sandbox does wrong on purpose, for one request or by chance."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Annotated, Final

import msgspec
from aiohttp import web

from migrator.sandbox.store import WRITABLE_KINDS, Complaint, Refusal

__all__ = ["Chance", "Dropped", "Fault", "Faults", "Kind", "Sleep", "misbehave"]

Sleep = Callable[[float], Awaitable[object]]

ERRORS: Final = (500, 502, 503)
LOOK_S: Final = 0.05
"""How often a stalled request looks whether its client is still there."""


class Kind(StrEnum):
    """What goes wrong.

    `status`: a refusal with any status, code, text, headers and, in the place of an error object, any body.
    `reset`: no answer, the connection is reset.
    `stall`: silence for `seconds`; then the request is answered, if the client is still there.
    `truncate`: the answer ends in the middle, and the connection with it.
    `garbage`: 200 with a page of HTML.
    `huge`: 200 with a body of `size` bytes.
    `redirect`: to `location`.
    `echo`: 422 with an error that quotes the URL that was sent.
    `headers`: an answer like any other, with `headers` in the place of its own.
    `close`: an answer that says that the connection closes, and closes it.
    `close_idle`: an answer like any other, but the next request on its connection finds it closed.
    """

    STATUS = "status"
    RESET = "reset"
    STALL = "stall"
    TRUNCATE = "truncate"
    GARBAGE = "garbage"
    HUGE = "huge"
    REDIRECT = "redirect"
    ECHO = "echo"
    HEADERS = "headers"
    CLOSE = "close"
    CLOSE_IDLE = "close_idle"


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """An order for a fault.

    Attributes:
        match: an id, a path, or ``*`` for every request.
        fault: what goes wrong.
        method: only with this method.
        times: for so many requests.
        applied: the request takes effect before its answer goes wrong.
        status: of `status` and `redirect`.
        code: of the error object of `status`.
        text: its detail; it may say "invalid API key".
        body: in the place of an error object.
        headers: more of them, such as Retry-After.
        location: of `redirect`.
        seconds: of `stall`.
        size: of `huge`, in bytes.
    """

    match: str
    fault: Kind
    method: str | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] = 1
    applied: bool = False
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    code: str = "ordered"
    text: str = "Something went wrong."
    body: str | None = None
    headers: dict[str, str] = {}
    location: str | None = None
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    size: Annotated[int, msgspec.Meta(ge=0)] = 2 << 20

    def __post_init__(self) -> None:
        if self.fault is Kind.REDIRECT and self.location is None:
            raise ValueError("redirect needs a location")


@dataclass(slots=True)
class _Order:
    fault: Fault
    left: int


class Faults:
    """The faults that are ordered and have not happened yet."""

    def __init__(self) -> None:
        self._orders: dict[str, list[_Order]] = {}

    def order(self, document: bytes) -> None:
        """Replace all orders by those of a JSON array; raises msgspec.ValidationError or DecodeError."""
        orders: dict[str, list[_Order]] = defaultdict(list)
        for fault in msgspec.json.decode(document, type=list[Fault]):
            orders[fault.match].append(_Order(fault, fault.times))
        self._orders = dict(orders)

    def take(self, *, method: str, path: str, key: str) -> Fault | None:
        """Return what shall go wrong with a request, and count it: the first order for its id, its path, or any."""
        if not self._orders:
            return None
        for name in (key, path, "*"):
            for order in self._orders.get(name, ()):
                if order.left and order.fault.method in {None, method}:
                    order.left -= 1
                    return order.fault
        return None

    def left(self) -> list[Fault]:
        """Return the orders that still wait for their request, with the times that are left."""
        waiting = (order for orders in self._orders.values() for order in orders if order.left)
        return [msgspec.structs.replace(order.fault, times=order.left) for order in waiting]


class Chance:
    """Latencies and errors by chance; the same seed gives the same of both, whatever the other's settings are.

    Args:
        seed: of both.
        latency_s: what each request takes, in seconds.
        jitter_s: up to so much more, evenly spread.
        error_rate: share of requests that get a 5xx, from 0 to 1.
    """

    def __init__(self, *, seed: int, latency_s: float, jitter_s: float, error_rate: float) -> None:
        self._latency_s, self._jitter_s, self._error_rate = latency_s, jitter_s, error_rate
        self._latencies, self._errors = Random(f"{seed} latency"), Random(f"{seed} error")  # noqa: S311  repeatable

    def delay_s(self) -> float:
        """Return the time that a request takes, in seconds."""
        return self._latency_s + self._jitter_s * self._latencies.random() if self._jitter_s else self._latency_s

    def error(self) -> int | None:
        """Return the status of the error that a request meets, or None."""
        if self._error_rate and self._errors.random() < self._error_rate:
            return self._errors.choice(ERRORS)
        return None


class _Sent(msgspec.Struct):
    target: dict[str, str] = {}


class Dropped(Exception):
    """The connection ends without an answer."""


async def misbehave(  # noqa: C901  one case a fault
    fault: Fault, request: web.BaseRequest, *, answer: Callable[[], web.Response], sleep: Sleep
) -> web.StreamResponse:
    """Answer a request wrongly.

    Args:
        fault: in which way.
        request: it.
        answer: does what is asked and returns the answer to it.
        sleep: waits for so many seconds.

    Raises:
        Dropped: there shall be no answer.
        Refusal: the answer is a refusal.
    """
    if fault.applied:
        answer()
    match fault.fault:
        case Kind.STATUS:
            return _status(fault)
        case Kind.RESET:
            raise Dropped
        case Kind.STALL:
            await _stall(request, fault.seconds, sleep)
            return answer()
        case Kind.TRUNCATE:
            return await _truncate(request, answer())
        case Kind.GARBAGE:
            return web.Response(text="<html>not what you wanted</html>", content_type="text/html")
        case Kind.HUGE:
            return web.Response(body=b" " * (fault.size - 2) + b"{}", content_type="application/json")
        case Kind.REDIRECT:
            return web.Response(status=fault.status or 302, headers={"Location": fault.location or ""})
        case Kind.ECHO:
            raise await _echo(request)
        case Kind.HEADERS | Kind.CLOSE_IDLE:
            return answer()
        case Kind.CLOSE:
            response = answer()
            response.force_close()
            return response


def _status(fault: Fault) -> web.Response:
    status = fault.status or 500
    if fault.body is not None or status == 429:
        return web.Response(status=status, text=fault.body, content_type="application/json")
    raise Refusal(status, fault.code, "Ordered Fault", Complaint(fault.text))


async def _stall(request: web.BaseRequest, seconds: float, sleep: Sleep) -> None:
    """Wait; a client that goes away must not hold a place in flight for an hour."""
    while seconds > 0:
        await sleep(min(seconds, LOOK_S))
        seconds -= LOOK_S
        if request.transport is None or request.transport.is_closing():
            raise Dropped


async def _truncate(request: web.BaseRequest, whole: web.Response) -> web.StreamResponse:
    body = whole.body if isinstance(whole.body, bytes) else b""
    part = web.StreamResponse(status=whole.status, headers=whole.headers)
    part.content_length = len(body)
    await part.prepare(request)
    await part.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return part


async def _echo(request: web.BaseRequest) -> Refusal:
    body = await request.read()
    try:
        target = msgspec.json.decode(body, type=_Sent).target
    except msgspec.DecodeError:
        target = {}
    place = WRITABLE_KINDS.get(target.get("kind", ""), "url")
    complaint = Complaint(f"The property '/target/{place}' is not valid: {target.get(place)}", f"/target/{place}")
    return Refusal(422, "invalid_configuration", "Validation Failed", complaint)
