"""One HTTP exchange as values: what is sent, and what comes back or does not."""

from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol, TypeAlias, Union
from urllib.parse import urlsplit

import msgspec

from migrator.secret import Secret

__all__ = [
    "JSON",
    "NO_RULES",
    "Answer",
    "AnswerRules",
    "Batch",
    "BodyLimits",
    "Clock",
    "Failure",
    "FailureKind",
    "Instant",
    "Poll",
    "Reply",
    "Request",
    "Sender",
    "Stage",
    "host_of",
    "is_loopback",
    "start_of_body",
    "text_of",
    "unsafe_url",
]

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


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """How several items share a request.

    Attributes:
        size: items in one request at the most.
        body: the request's body, with {@items} in the place of the items' own documents.
        result: where the answer has the items' results (JMESPath); None where a success is that of every item.
        match: the member that names an item, in its document and in its result; None where results stand in order.
        error: what a result has where the item was refused (JMESPath).
    """

    size: int
    body: JSON
    result: str | None = None
    match: str | None = None
    error: str | None = None


class Poll(msgspec.Struct, frozen=True, kw_only=True):
    """How it is found out what became of a request that was accepted (202).

    Attributes:
        url: where the answer names the resource to ask (JMESPath); None for its Location header.
        state: where that one has its state (JMESPath); None where a status other than 202 says that it is finished.
        done: the states of success.
        failed: the states of failure.
        every_s: seconds between two questions.
        at_most_s: seconds after which it is given up.
    """

    url: str | None = None
    state: str | None = None
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    every_s: float = 2.0
    at_most_s: float = 600.0


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bodies of an API's answers tell of its rate limit (JMESPath), as GraphQL servers do that count points.

    Attributes:
        limit: points at the most.
        remaining: points that are left.
        cost: points of this request; None where each request is one.
        reset: when there is more: seconds from now, or a time.
        restored: points that come back per second, where they do bit by bit.
    """

    limit: str
    remaining: str
    cost: str | None = None
    reset: str | None = None
    restored: str | None = None


class AnswerRules(msgspec.Struct, frozen=True, kw_only=True):
    """How the answers of an API are read.

    Attributes:
        record: where the record stands in an answer (JMESPath); None where the answer is the record.
        success: what has to be true of a 2xx answer that counts (JMESPath); None where every one does.
        error: where a refusal says why (JMESPath); None where that is looked for.
        replaced_whole: members that the API replaces as one value (JSON Pointers, RFC 6901).
        read_only: members that the API alone writes (JSON Pointers); they are not compared and not written.
        batch: how several items share a request; None where each has its own.
        poll: how a request that was accepted is followed; None where it stays in doubt.
        as_text: whether values are sent as text, as in a form, so that 7 and "7" are the same.
        shown_as: by JSON Pointer, what an API shows in place of a value, and the value that is written.
    """

    record: str | None = None
    success: str | None = None
    error: str | None = None
    replaced_whole: frozenset[str] = frozenset()
    read_only: frozenset[str] = frozenset()
    batch: Batch | None = None
    poll: Poll | None = None
    as_text: bool = False
    shown_as: Mapping[str, Mapping[str, str]] = msgspec.field(default_factory=dict)


NO_RULES: Final = AnswerRules()
"""The answer is the record, and every member of it is written by itself."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One item's request, rendered.

    Attributes:
        item: the row's number in the input, from 1.
        key: what names the item.
        method: in capitals.
        url: the absolute URL as it goes over the wire, already percent-encoded.
        body: what is sent, or None for a request without a body.
        wanted: the state that the record is to hold, as JSON; None where the body is that state.
        rules: how its answers are read.
        headers: its own, beside those of the session.
        frame: what stands around the document, as JSON with marks for what is filled in later.
        credentials: the name and the value of the header with the row's own; None where the session has them.
        needs_record: whether it is not whole before its record was read.
        members: the requests that share this one, in a batch.
        reading: the request that reads the record; None where that is a GET of the same URL.
        secrets: the item's secrets, to be masked in all that is written about it.
        limiter_key: the quota that this request draws on.
        idempotent: whether sending it twice leaves the same state as sending it once.
    """

    item: int
    key: str
    method: str
    url: str
    body: bytes | None
    wanted: bytes | None = None
    rules: AnswerRules = NO_RULES
    headers: tuple[tuple[str, str], ...] = ()
    frame: bytes | None = None
    credentials: tuple[str, Secret] | None = None
    needs_record: bool = False
    reading: "Request | None" = None
    members: "tuple[Request, ...]" = ()
    secrets: tuple[Secret, ...] = ()
    limiter_key: str = ""
    idempotent: bool = True

    def __repr__(self) -> str:
        return f"<request of item {self.item}: {self.method} {self.url}>"


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


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A server's answer.

    Attributes:
        status: the HTTP status code.
        headers: names in lower case; the values of a repeated header joined by ", " (RFC 9110, section 5.3).
        body: what was read of it.
        truncated: whether the body was longer than what is read at the most.
        resent: whether the connection broke just as it was used again, so that the request went out a second time.
        renewed: whether it is a 401 after which another token was got, so that the request is worth another attempt.
        sent: when the request was handed to the connection.
        received: when the last byte was read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False
    resent: bool = False
    renewed: bool = False
    sent: Instant
    received: Instant

    def __repr__(self) -> str:
        return f"<reply: {self.status}, {len(self.body)} bytes>"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """No whole answer.

    Attributes:
        kind: time-out, connection or protocol.
        stage: how far the exchange had come.
        maybe_sent: False only where the server cannot have seen the request.
        message: what happened, without any secret, URL or body.
        certificate: the server's certificate was not accepted, which no further attempt can mend.
        credentials: a token server refused the credentials, which no further attempt can mend either.
        resent: as in `Reply`.
        sent: when the attempt began.
        received: when it was given up.
    """

    kind: FailureKind
    stage: Stage
    maybe_sent: bool
    message: str
    certificate: bool = False
    credentials: bool = False
    resent: bool = False
    sent: Instant
    received: Instant


Answer: TypeAlias = Reply | Failure


def host_of(url: str) -> str | None:
    """Return a URL's host, if it is one."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        # `unsafe_url` says what is wrong with it.
        return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: the names and addresses of RFC 6761, section 6.3, and RFC 1122."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def unsafe_url(url: str, *, credentials: bool) -> str | None:
    """Return why a server's URL is not used, or None where it is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "has to be an http or https URL without query and fragment"
    if not host or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        return "has to be an http or https URL without query and fragment"
    if parts.username is not None:
        return "may not hold credentials: they belong into auth"
    if parts.scheme == "http" and credentials and not is_loopback(host):
        return "is plain HTTP: credentials go over it only to this machine (localhost, 127.0.0.1)"
    return None


def text_of(data: bytes) -> str:
    """Return bytes as text: UTF-8, or else ISO 8859-1, in which every byte is a character.

    Nothing is replaced, so that a secret in either encoding is still found in the text. A character that is cut off at
    the end is left out.
    """
    try:
        return getincrementaldecoder("utf-8-sig")().decode(data)
    except UnicodeDecodeError:
        return data.decode("latin-1")


def start_of_body(reply: Reply) -> str:
    """Return the first 4 KB of a body as text, to look for phrases in."""
    return text_of(reply.body[:4096])


class Sender(Protocol):
    """What makes one attempt; `client.Client` and the tests' stand-ins."""

    async def send(self, request: Request) -> Answer:
        """Make one attempt, and raise only on cancellation."""
