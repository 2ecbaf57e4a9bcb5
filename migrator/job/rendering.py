"""Values with columns in them, compiled once and rendered for each item.

What is not known before a request goes out, such as a record's ETag, is rendered as a mark, and filled in later.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from migrator.job.encodings import encode_json
from migrator.job.placeholders import Column, columns_in, parse, placeholders_in
from migrator.secret import Secret

__all__ = [
    "LATER",
    "NOTHING",
    "SPREAD",
    "LackingError",
    "Render",
    "compiled",
    "compiled_text",
    "filled",
    "filled_text",
    "is_plain_segment",
    "path_of",
    "place_of",
    "plain",
    "text_of",
    "unsafe_segment",
    "without_marks",
]

NOTHING: Final = object()
"""What an absent value renders to: the member around it is left out."""

LATER: Final = "\0"
"""Marks what is filled in later: no cell holds it, since control characters are refused."""

SPREAD: Final = "\0*"
"""Stands for the members of the wanted state among others."""

PLAIN_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*")
"""What nearly every id is; such a one needs no closer look."""

is_plain_segment: Final = PLAIN_SEGMENT.fullmatch

Render = Callable[[Mapping[str, Any]], Any]
Places = dict[tuple[str | int, ...], str]


class LackingError(LookupError):
    """A fact that a request needs is not known, such as the ETag of an answer that has none."""


def compiled(value: Any, places: Places, place: tuple[str | int, ...] = ()) -> Render:
    """Return what renders a JSON value with columns in its strings.

    Args:
        value: the value.
        places: takes down which column fills which place.
        place: the value's own.
    """
    if isinstance(value, str):
        return _compiled_text(value, places, place)
    if isinstance(value, Mapping):
        members = {name: compiled(member, places, (*place, name)) for name, member in value.items()}
        return _compiled_object(members, {name for name, member in value.items() if not _has_columns(member)})
    if isinstance(value, list):
        entries = [compiled(entry, places, (*place, index)) for index, entry in enumerate(value)]
        return lambda values: [one for entry in entries if (one := entry(values)) is not NOTHING]
    return lambda _: value


def compiled_text(text: str, *, quoted: bool = False) -> Render:
    """Return what renders a text with columns to a text, also where it is one column and nothing else.

    Args:
        text: the text.
        quoted: whether quotes and backslashes of a column are escaped, as RFC 9651, section 3.3.3, has it.
    """
    parts, as_text = parse(text), _escaped if quoted else text_of
    return lambda values: _joined(parts, values, as_text)


def _compiled_text(text: str, places: Places, place: tuple[str | int, ...]) -> Render:
    parts = parse(text)
    for column in columns_in(text):
        places.setdefault(place, column)
    match parts:
        case (Column(name),) if name.startswith("@") and name != "@item":
            return lambda _: {LATER: name}
        case (Column(name),):

            def filled(values: Mapping[str, Any]) -> Any:
                value = values.get(name, NOTHING)
                return value.reveal() if type(value) is Secret else value

            return filled
        case (str(literal),):
            return lambda _: literal
        case ():
            return lambda _: ""
        case _:
            return lambda values: _joined(parts, values, text_of)


def _compiled_object(members: Mapping[str, Render], constant: set[str]) -> Render:
    """Return what renders an object: a copy of its constant members, with the others put into their places."""
    frame = {name: render({}) if name in constant else None for name, render in members.items()}
    filled = tuple((name, render) for name, render in members.items() if name not in constant)

    def rendered(values: Mapping[str, Any]) -> Any:
        body = frame.copy()
        for name, render in filled:
            value = render(values)
            if value is NOTHING:
                del body[name]
            else:
                body[name] = value
        return body if body or not members else NOTHING

    return rendered


def _has_columns(value: Any) -> bool:
    return any(True for _ in placeholders_in(value))


def _joined(parts: tuple[str | Column, ...], values: Mapping[str, Any], as_text: Callable[[Any], str]) -> Any:
    """Return a text with its placeholders filled, or nothing where one of them is empty."""
    texts = []
    for part in parts:
        if isinstance(part, Column):
            if part.name.startswith("@") and part.name != "@item":
                texts.append(f"{LATER}{part.name}{LATER}")
                continue
            value = values.get(part.name)
            if value is None:
                return NOTHING
            texts.append(as_text(value))
        else:
            texts.append(part)
    return "".join(texts)


def _escaped(value: Any) -> str:
    return text_of(value).replace("\\", "\\\\").replace('"', '\\"')


def text_of(value: Any) -> str:
    """Return a value as text."""
    if type(value) is str:
        return value
    if isinstance(value, Secret):
        return value.reveal()
    return encode_json(value).decode()


def plain(value: Any) -> Any:
    """Return a value in clear."""
    return value.reveal() if isinstance(value, Secret) else value


def filled(value: Any, facts: Mapping[str, Any]) -> Any:
    """Return a rendered value with its marks filled in.

    Raises:
        LackingError: one of them is not known.
    """
    if isinstance(value, Mapping):
        if _is_mark(value):
            return _fact(facts, value[LATER])
        members = {name: filled(member, facts) for name, member in value.items() if name != SPREAD}
        return {**members, **facts["@wanted"]} if SPREAD in value else members
    return [filled(entry, facts) for entry in value] if isinstance(value, list) else value


def place_of(name: str, value: Any) -> str:
    """Return where a rendered value has a mark (JSON Pointer, RFC 6901); the empty pointer where it has none."""
    if isinstance(value, Mapping):
        for member, inner in value.items():
            here = "/" + str(member).replace("~", "~0").replace("/", "~1")
            if _is_mark(inner) and inner[LATER] == name:
                return here
            if below := place_of(name, inner):
                return here + below
    return ""


def without_marks(value: Any) -> Any:
    """Return a rendered value without the members that are filled in later."""
    if isinstance(value, Mapping):
        return {name: without_marks(member) for name, member in value.items() if not _is_mark(member)}
    return value


def _is_mark(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {LATER}


def filled_text(text: str, facts: Mapping[str, Any]) -> str:
    """Return a rendered text with those of its marks filled in that are known."""
    for name, value in facts.items():
        mark = f"{LATER}{name}{LATER}"
        if mark in text:
            text = text.replace(mark, str(value))
    return text


def _fact(facts: Mapping[str, Any], name: str) -> Any:
    if name in facts:
        return facts[name]
    here: Any = facts.get("@record")
    for step in name.removeprefix("@record.").split(".") if name.startswith("@record.") else [name]:
        if not isinstance(here, Mapping) or step not in here:
            raise LackingError(f"{{{name}}} is not known: the answer with the record does not have it")
        here = here[step]
    return here


def path_of(parts: tuple[str | Column, ...], values: Mapping[str, Any]) -> str:
    """Return a path with values in the places of its columns, each percent-encoded as one segment."""
    return "".join(part if isinstance(part, str) else _segment(values[part.name]) for part in parts)


def _segment(value: Any) -> str:
    text = text_of(value)
    return text if is_plain_segment(text) else quote(text, safe="")


def unsafe_segment(value: Any) -> str | None:
    """Return why a value cannot be one segment of a path, or None where it can.

    Percent-encoding keeps slashes and question marks in their segment, but dots are not encoded, and clients and
    proxies fold them: an id of ``..`` would address the collection above (RFC 3986, section 5.2.4).
    """
    if isinstance(value, bool | float | Decimal | list | dict) or value is None:
        return "is part of the path, and has to be a text or a whole number"
    text = text_of(value)
    if not text.strip():
        return "is part of the path, and may not be empty"
    if text.strip() in {".", ".."}:
        return "is part of the path, and may not be . or .."
    if not text.isprintable():
        return "is part of the path, and may not hold control characters"
    return None
