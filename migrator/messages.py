"""One HTTP exchange as values: what is sent, and what comes back or does not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias, Union

from migrator.secret import Secret

__all__ = ["JSON", "Answer", "Clock", "Failure", "FailureKind", "Instant", "Reply", "Request", "Stage"]

JSON: TypeAlias = Union[bool, int, float, str, "Sequence[JSON]", "Mapping[str, JSON]", None]


class Instant(NamedTuple):
    """One reading of both clocks.

    Relative resets need the monotonic clock, epoch and date headers and records the other; read apart they drift.

    Attributes:
        mono: seconds of the event loop's monotonic clock.
        utc: seconds since the epoch, UTC.
    """

    mono: float
    utc: float


Clock: TypeAlias = Callable[[], Instant]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One item's request, rendered.

    Attributes:
        item: the row's number in the input, from 1.
        key: what names the item.
        method: in capitals.
        url: the absolute URL as it goes over the wire, already percent-encoded.
        body: the JSON document, or None for a request without one.
        secrets: the item's secrets, to be masked in all that is written about it.
        limiter_key: the quota that this request draws on.
        idempotent: whether sending it twice leaves the same state as sending it once.
    """

    item: int
    key: str
    method: str
    url: str
    body: bytes | None = field(repr=False)
    secrets: tuple[Secret, ...] = ()
    limiter_key: str = ""
    idempotent: bool = True


class Stage(StrEnum):
    """How far an exchange had come when it failed."""

    CONNECT = "connect"
    TLS = "tls"
    SEND = "send"
    READ = "read"


class FailureKind(StrEnum):
    """Why there is no answer; the words are those of a record's ``error.kind``."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    PROTOCOL = "protocol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A server's answer.

    Attributes:
        status: the HTTP status code.
        headers: names in lower case; the values of a repeated header joined by ", " (RFC 9110, section 5.3).
        body: what was read of it.
        truncated: whether the body was longer than what is read at the most.
        resent: whether the connection broke just as it was used again, so that the request went out a second time.
        sent: when the request was handed to the connection.
        received: when the last byte was read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    truncated: bool = False
    resent: bool = False
    sent: Instant
    received: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """No whole answer.

    Attributes:
        kind: time-out, connection or protocol.
        stage: how far the exchange had come.
        maybe_sent: False only where the server cannot have seen the request.
        message: what happened, without any secret, URL or body.
        certificate: the server's certificate was not accepted, which no further attempt can mend.
        resent: as in `Reply`.
        sent: when the attempt began.
        received: when it was given up.
    """

    kind: FailureKind
    stage: Stage
    maybe_sent: bool
    message: str
    certificate: bool = False
    resent: bool = False
    sent: Instant
    received: Instant


Answer: TypeAlias = Reply | Failure
