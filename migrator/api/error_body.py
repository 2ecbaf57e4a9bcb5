"""The error bodies of REST APIs, read leniently: what a server says of a refusal, in its own words."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from migrator.messages import JSON, Reply

__all__ = ["ErrorKind", "ItemError", "Mask", "read_error", "start_of_body"]

Mask: TypeAlias = Callable[[str], str]
"""Makes a server's text fit to be recorded."""

LONGEST_PLAIN_TEXT: Final = 200
"""Characters of a body that is no JSON that are shown; such a body is mostly a proxy's page."""


class ErrorKind(StrEnum):
    """Why an item did not succeed; the contract's own words."""

    VALIDATION = "validation"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    QUOTA = "quota"
    RATE_LIMITED = "rate_limited"
    SERVER = "server"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    PROTOCOL = "protocol"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemError:
    """What a record says of a failure.

    Attributes:
        kind: the cause, in the contract's words.
        status: the HTTP status, where there was an answer.
        code: the server's own error code.
        title: the server's own short text.
        detail: the server's own explanation.
        pointer: the JSON Pointer or the parameter that the server blames.
        message: one sentence for the reader of a report.
    """

    kind: ErrorKind
    status: int | None = None
    code: str | None = None
    title: str | None = None
    detail: str | None = None
    pointer: str | None = None
    message: str = ""


def start_of_body(reply: Reply) -> str:
    """Return the first 4 KB of a body as text, to look for phrases in."""
    return reply.body[:4096].decode("utf-8", "replace")


def read_error(reply: Reply, mask: Mask, kind: ErrorKind) -> ItemError:
    """Build a record's error from the server's own words, whichever envelope they come in.

    Args:
        reply: the answer.
        mask: makes a server's text fit to be recorded.
        kind: the cause, which the status tells.
    """
    found = _envelopes(reply)
    first = found[0] if found else {}

    def member(*names: str) -> str | None:
        for name in names:
            value = first.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                return mask(str(value))
        return None

    source = first.get("source")
    pointer = (source.get("pointer") or source.get("parameter")) if isinstance(source, Mapping) else None
    title, detail = member("title"), member("detail", "message", "details")
    suggestion = member("suggestion", "resolution")
    if reply.status == 401 and detail is None:
        detail = _challenge(reply, mask)
    words = ": ".join(part for part in (title, detail) if part) or (
        None if found else mask(start_of_body(reply).strip()[:LONGEST_PLAIN_TEXT])
    )
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    hint = f"; {suggestion}" if suggestion else ""
    return ItemError(
        kind=kind,
        status=reply.status,
        code=member("code", "error_code"),
        title=title,
        detail=detail,
        pointer=mask(pointer) if isinstance(pointer, str) else None,
        message=f"the server answered {reply.status}" + (f": {words}{more}{hint}" if words else ""),
    )


def _challenge(reply: Reply, mask: Mask) -> str | None:
    """Return what a 401's WWW-Authenticate says, where its body says nothing (Confluent's reference, 401)."""
    found = re.search(r'error_description="([^"]*)"', reply.headers.get("www-authenticate", ""))
    return mask(found[1]) if found else None


def _envelopes(reply: Reply) -> list[Mapping[str, JSON]]:
    """Return the error objects of a body, without repeats.

    Confluent's two envelopes are ``{"errors": [...]}`` and the newer ``{"error": {...}}``; a bare ``message``
    beside them is what its own command line reads as well. Every member is optional, and none is trusted to have its
    type.
    """
    try:
        body = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, RecursionError):
        return []
    if not isinstance(body, Mapping):
        return []
    errors = body.get("errors")
    if isinstance(errors, Sequence) and not isinstance(errors, str):
        found: list[Mapping[str, JSON]] = []
        for error in errors[:100]:
            if isinstance(error, Mapping) and error not in found:
                found.append(error)
        return found
    error = body.get("error")
    if isinstance(error, Mapping):
        return [error]
    if isinstance(error, str):
        return [{"detail": error}]
    return [body] if body.keys() & {"message", "detail", "title"} else []
