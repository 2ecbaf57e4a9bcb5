"""The error bodies of REST APIs, read leniently: what a server says of a refusal, in its own words."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from migrator.api.expressions import search
from migrator.job.json_reader import Unreadable, decode
from migrator.messages import JSON, Reply, start_of_body
from migrator.results import ErrorKind, ItemError

__all__ = ["Mask", "read_error"]

Mask: TypeAlias = Callable[[str], str]
"""Makes a server's text fit to be recorded."""

LONGEST_PLAIN_TEXT: Final = 200
"""Characters of a body that is no JSON that are shown; such a body is mostly a proxy's page."""


def read_error(reply: Reply, mask: Mask, kind: ErrorKind, expression: str | None = None) -> ItemError:
    """Build a record's error from the server's own words, whichever envelope they come in.

    Args:
        reply: the answer.
        mask: makes a server's text fit to be recorded.
        kind: the cause, which the status tells.
        expression: where the body says why (JMESPath); None where that is looked for.
    """
    found = _envelopes(reply)
    body = decode(reply.body)
    said = None if expression is None or isinstance(body, Unreadable) else search(expression, body)
    if isinstance(said, str) and said:
        found = [{**(found[0] if found else {}), "title": "", "detail": said}]
    elif isinstance(said, Mapping):
        found = [said]
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
        None if found else mask(start_of_body(reply).strip())[:LONGEST_PLAIN_TEXT]
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
    body = decode(reply.body)
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
