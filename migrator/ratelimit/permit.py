"""The permission to send one request, with any HTTP client."""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from migrator.messages import Answer, Instant, Reply
from migrator.ratelimit.headers import RateLimitSignal
from migrator.ratelimit.key_queue import KeyQueue
from migrator.ratelimit.model import Ticket

__all__ = ["Gate", "Permit"]


class Gate(Protocol):
    """What lets requests go: the throttle."""

    def now(self) -> Instant:
        """Read both clocks."""

    async def enter(self, queue: KeyQueue, now: float, order: int, *, writes: bool) -> Ticket | None:
        """Wait until a request may go; return None once the throttle is stopped."""

    def answered(self, queue: KeyQueue, ticket: Ticket, answer: Answer, kind: str) -> RateLimitSignal:
        """Take an answer into account; return what it says of the rate limit."""

    def left(self, queue: KeyQueue, ticket: Ticket, *, told: bool) -> None:
        """Take the slot back."""


class Permit:
    """The permission to send one request; the slot is given back on leaving.

    Attributes:
        granted: False where the throttle was stopped: then nothing may be sent.
        waited_s: how long it took to get here.
    """

    __slots__ = ("_gate", "_order", "_queue", "_ticket", "_told", "_writes", "granted", "waited_s")

    def __init__(self, gate: Gate, queue: KeyQueue, order: int, *, writes: bool) -> None:
        self._gate = gate
        self._order, self._writes = order, writes
        self._queue = queue
        self._ticket: Ticket | None = None
        self._told = False
        self.granted = False
        self.waited_s = 0.0

    async def __aenter__(self) -> Self:
        started = self._gate.now().mono
        self._ticket = await self._gate.enter(self._queue, started, self._order, writes=self._writes)
        if self._ticket is not None:
            self.granted = True
            self.waited_s = self._ticket.sent - started
        return self

    def answered(self, *, status: int, headers: Mapping[str, str], body: bytes = b"") -> RateLimitSignal:
        """Tell the throttle the answer of any HTTP client, as soon as its headers are there.

        Args:
            status: the HTTP status code.
            headers: by name in any case; `items()` may give a repeated header more than once.
            body: its start, where a refusal is known by its text (GitHub's 403).

        Returns:
            What the answer says of the rate limit.
        """
        if self._ticket is None:
            return RateLimitSignal()
        now = self._gate.now()
        sent = Instant(self._ticket.sent, now.utc - (now.mono - self._ticket.sent))
        return self.received(Reply(status=status, headers=_plain(headers), body=body, sent=sent, received=now))

    def received(self, answer: Answer, *, kind: str = "") -> RateLimitSignal:
        """Tell the throttle what came back, or that nothing did; return what it says of the rate limit.

        Args:
            answer: what came back.
            kind: of the request, such as its method: latencies are compared within a kind.
        """
        if self._ticket is None or self._told:
            return RateLimitSignal()
        self._told = True
        return self._gate.answered(self._queue, self._ticket, answer, kind)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticket is not None:
            self._gate.left(self._queue, self._ticket, told=self._told)


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers by lower-case name, the values of repeated ones joined (RFC 9110, section 5.3)."""
    plain: dict[str, str] = {}
    for written, value in headers.items():
        name = written.lower()
        plain[name] = f"{plain[name]}, {value}" if name in plain else value
    return plain
