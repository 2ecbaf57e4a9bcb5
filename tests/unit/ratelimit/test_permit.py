"""A permit takes an answer of any HTTP client once, and gives its slot back whatever happens."""

from collections.abc import Iterator, Mapping
from random import Random

import pytest
import virtual_time

from migrator.messages import Answer, Clock, Instant, Reply
from migrator.ratelimit.headers import Dialect, QuotaReader, RateLimitSignal
from migrator.ratelimit.key_queue import KeyQueue
from migrator.ratelimit.model import PacerSettings, Ticket
from migrator.ratelimit.pacer import Pacer
from migrator.ratelimit.permit import Permit
from migrator.ratelimit.shared.model import SharedKey

TICKET = Ticket(sent=103.0, probe=False, epoch=0, window=0, answers=0, number=1, on_trust=False)


class Opened:
    """Lets a request go three seconds later, or never, and keeps what it is told."""

    def __init__(self, ticket: Ticket | None = TICKET) -> None:
        self.ticket = ticket
        self.answers: list[tuple[Answer, str]] = []
        self.slots: list[bool] = []
        self._times: Iterator[float] = iter((100.0, 104.5))

    def now(self) -> Instant:
        """Read both clocks."""
        mono = next(self._times)
        return Instant(mono, 1_795_435_200.0 + mono)

    async def enter(self, _queue: KeyQueue, _now: float, _order: int, *, writes: bool) -> Ticket | None:
        """Return the ticket."""
        return self.ticket

    def answered(self, _queue: KeyQueue, _ticket: Ticket, answer: Answer, kind: str) -> RateLimitSignal:
        """Keep the answer."""
        self.answers.append((answer, kind))
        return RateLimitSignal(throttled=True)

    def left(self, _queue: KeyQueue, _ticket: Ticket, *, told: bool) -> None:
        """Keep whether the answer was told."""
        self.slots.append(told)


def reply_to(headers: Mapping[str, str], *, body: bytes = b"") -> Reply:
    """Return what the throttle is told of an answer with these headers."""
    gate = Opened()

    async def main(_clock: Clock) -> None:
        async with Permit(gate, queue(), 0, writes=True) as permit:
            assert permit.granted
            assert permit.waited_s == 3.0
            assert permit.answered(status=429, headers=headers, body=body).throttled

    virtual_time.run(main)
    assert gate.slots == [True]
    ((answer, _),) = gate.answers
    assert isinstance(answer, Reply)
    return answer


def queue() -> KeyQueue:
    """Return a queue in which no one waits."""
    return KeyQueue(Pacer(PacerSettings(), rng=Random(1)), QuotaReader(Dialect()), SharedKey("api.example", None))


def test_an_answer_has_the_time_at_which_it_was_sent() -> None:
    """Both clocks agree on it: the server's clock is compared with the wall clock's."""
    answer = reply_to({})

    assert answer.status == 429
    assert answer.sent == Instant(103.0, 1_795_435_303.0)
    assert answer.received == Instant(104.5, 1_795_435_304.5)


def test_headers_are_found_in_any_case_and_repeated_ones_are_joined() -> None:
    """`items()` of aiohttp's and httpx's headers gives a repeated header more than once (RFC 9110, section 5.3)."""

    class Repeated(dict[str, str]):
        def items(self) -> list[tuple[str, str]]:  # type: ignore[override]
            return [("RateLimit-Policy", '"a";q=5'), ("ratelimit-policy", '"b";q=9'), ("Date", "x")]

    answer = reply_to(Repeated(), body=b"secondary rate limit")

    assert answer.headers == {"ratelimit-policy": '"a";q=5, "b";q=9', "date": "x"}
    assert answer.body == b"secondary rate limit"


def test_only_the_first_answer_counts() -> None:
    """A client that tells twice does not spend twice."""
    gate = Opened()

    async def main(_clock: Clock) -> None:
        now = Instant(104.0, 0.0)
        answer = Reply(status=200, headers={}, body=b"", sent=now, received=now)
        async with Permit(gate, queue(), 0, writes=True) as permit:
            assert permit.received(answer, kind="PATCH").throttled
            assert not permit.received(answer, kind="PATCH").throttled

    virtual_time.run(main)
    assert [kind for _, kind in gate.answers] == ["PATCH"]


def test_a_stopped_throttle_grants_nothing() -> None:
    """There is no slot to give back, and an answer says nothing."""
    gate = Opened(ticket=None)

    async def main(_clock: Clock) -> None:
        async with Permit(gate, queue(), 0, writes=True) as permit:
            assert not permit.granted
            assert permit.answered(status=200, headers={}) == RateLimitSignal()

    virtual_time.run(main)
    assert gate.slots == []
    assert gate.answers == []


def test_an_error_gives_the_slot_back() -> None:
    """The request counts as one whose answer was lost."""
    gate = Opened()

    async def main(_clock: Clock) -> None:
        with pytest.raises(OSError, match="cable"):
            async with Permit(gate, queue(), 0, writes=True):
                raise OSError("the cable was cut")

    virtual_time.run(main)
    assert gate.slots == [False]
