"""From a wanted state to the document that a request sends: JSON, patches, forms, whole records, GraphQL. Pure.

A state is what a record is to hold, member by member. What differs between APIs is only how that is said.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote_plus

import msgspec
from msgspec.structs import replace

from migrator.messages import NO_RULES, AnswerRules

__all__ = [
    "MEDIA_TYPES",
    "Encoding",
    "encode_document",
    "encode_json",
    "form_text",
    "graphql_rules",
    "graphql_variables",
    "merged",
    "patch",
]

encode_json: Final = msgspec.json.Encoder(decimal_format="number").encode

SCIM_PATCH: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

VARIABLE: Final = re.compile(r"\$([_A-Za-z]\w*)\s*:")
"""A variable where an operation declares it (GraphQL, October 2021, section 2.10)."""


class Encoding(StrEnum):
    """How a wanted state is said; the job file's own words."""

    JSON = "json"
    MERGE_PATCH = "merge-patch"
    JSON_PATCH = "json-patch"
    SCIM_PATCH = "scim-patch"
    FORM = "form"
    PUT_MERGE = "put-merge"
    GRAPHQL = "graphql"


MEDIA_TYPES: Final[Mapping[Encoding, str]] = {
    Encoding.JSON: "application/json",
    Encoding.MERGE_PATCH: "application/merge-patch+json",
    Encoding.JSON_PATCH: "application/json-patch+json",
    Encoding.SCIM_PATCH: "application/scim+json",
    Encoding.FORM: "application/x-www-form-urlencoded",
    Encoding.PUT_MERGE: "application/json",
    Encoding.GRAPHQL: "application/json",
}


def patch(
    encoding: Encoding,
    wanted: Mapping[str, Any],
    *,
    removed: frozenset[str] = frozenset(),
    record: Mapping[str, Any] | None = None,
    rules: AnswerRules = NO_RULES,
) -> Any:
    """Return the document that says a wanted state.

    Args:
        encoding: how.
        wanted: the state; null where a member is to be null or to go.
        removed: the pointers of the members that are to go.
        record: the record as it is; needed where the whole is written, and of use to a JSON Patch.
        rules: what the API replaces whole, and what it alone writes.
    """
    match encoding:
        case Encoding.JSON_PATCH:
            return list(_operations(wanted, record, removed, rules))
        case Encoding.SCIM_PATCH:
            return {"schemas": [SCIM_PATCH], "Operations": list(_scim_operations(wanted, removed, rules))}
        case Encoding.PUT_MERGE:
            return merged(record or {}, wanted, removed=removed, rules=rules)
        case Encoding.JSON | Encoding.MERGE_PATCH | Encoding.FORM | Encoding.GRAPHQL:
            return wanted


def encode_document(encoding: Encoding, document: Any) -> bytes:
    """Return a document as the bytes of a body."""
    if encoding is Encoding.FORM:
        return "&".join(
            f"{quote_plus(name, safe='[]')}={quote_plus(value)}" for name, value in _fields(document)
        ).encode()
    return encode_json(document)


def graphql_rules(rules: AnswerRules) -> AnswerRules:
    """Return how GraphQL's answers are read: a 200 says what went wrong (October 2021, section 7)."""
    return replace(rules, success=rules.success or "!errors", error=rules.error or "errors[0].message")


def graphql_variables(query: str) -> frozenset[str]:
    """Return the variables that a GraphQL operation declares."""
    return frozenset(VARIABLE.findall(query))


def merged(
    record: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    removed: frozenset[str] = frozenset(),
    rules: AnswerRules = NO_RULES,
    pointer: str = "",
) -> dict[str, Any]:
    """Return a record with a wanted state put into it, without what the API alone writes."""
    whole = {name: value for name, value in record.items() if _below(pointer, name) not in rules.read_only}
    for name, value in whole.items():
        if isinstance(value, Mapping) and name not in wanted:
            whole[name] = merged(value, {}, rules=rules, pointer=_below(pointer, name))
    for name, value in wanted.items():
        below = _below(pointer, name)
        if below in rules.read_only:
            continue
        held = record.get(name)
        if below in removed:
            whole.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(held, Mapping) and below not in rules.replaced_whole:
            whole[name] = merged(held, value, removed=removed, rules=rules, pointer=below)
        else:
            whole[name] = value
    return whole


def _leaves(
    wanted: Mapping[str, Any], rules: AnswerRules, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the leaves of a state with their paths; an empty object is one, and so is what is replaced whole."""
    for name, value in wanted.items():
        below = (*path, name)
        pointer = _pointer(below)
        if pointer in rules.read_only:
            continue
        if isinstance(value, Mapping) and value and pointer not in rules.replaced_whole:
            yield from _leaves(value, rules, below)
        else:
            yield below, value


def _operations(
    wanted: Mapping[str, Any], record: Mapping[str, Any] | None, removed: frozenset[str], rules: AnswerRules
) -> Iterator[Mapping[str, Any]]:
    """Yield the operations of a JSON Patch (RFC 6902, section 4).

    `add` replaces a member that is there. Its parent has to be there, so that missing parents are added where the
    record is known.
    """
    made: set[tuple[str, ...]] = set()
    for path, value in _leaves(wanted, rules):
        pointer = _pointer(path)
        if pointer in removed:
            yield {"op": "remove", "path": pointer}
            continue
        for depth in range(1, len(path) if record is not None else 0):
            parent = path[:depth]
            if parent not in made and not isinstance(_held(record, parent), Mapping):
                made.add(parent)
                yield {"op": "add", "path": _pointer(parent), "value": {}}
        if value != {} or pointer in rules.replaced_whole:
            yield {"op": "add", "path": pointer, "value": value}
        elif record is not None and not isinstance(_held(record, path), Mapping):
            # An object that is there already keeps the members of others.
            yield {"op": "add", "path": pointer, "value": value}


def _held(record: Mapping[str, Any] | None, path: tuple[str, ...]) -> Any:
    here: Any = record
    for name in path:
        here = here.get(name) if isinstance(here, Mapping) else None
    return here


def _scim_operations(
    wanted: Mapping[str, Any], removed: frozenset[str], rules: AnswerRules
) -> Iterator[Mapping[str, Any]]:
    """Yield the operations of a SCIM PATCH; `replace` adds what is not there (RFC 7644, section 3.5.2.3)."""
    for path, value in _leaves(wanted, rules):
        # An extension's attributes stand behind its URN and a colon (RFC 7644, section 3.10).
        name = path[0] + "".join(
            (":" if step == 1 and path[0].startswith("urn:") else ".") + part for step, part in enumerate(path[1:], 1)
        )
        if value is None or _pointer(path) in removed:
            yield {"op": "remove", "path": name}
        else:
            yield {"op": "replace", "path": name, "value": value}


def _fields(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields of a form, nested by brackets; an empty one takes a value away (Stripe's API reference)."""
    if isinstance(value, Mapping) and value:
        for member, inner in value.items():
            yield from _fields(inner, f"{name}[{member}]" if name else member)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for index, inner in enumerate(value):
            yield from _fields(inner, f"{name}[{index}]")
    elif name:
        yield name, form_text(value)


def form_text(value: Any) -> str:
    """Return a value as a form has it; empty for what is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | Decimal):
        return encode_json(value).decode()
    return ""


def _pointer(path: tuple[str, ...]) -> str:
    pointer = ""
    for name in path:
        pointer = _below(pointer, name)
    return pointer


def _below(pointer: str, name: str) -> str:
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
