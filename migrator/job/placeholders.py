"""Placeholders: `{column}` in a path or a body stands for a row's value, `{{` and `}}` for braces."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["Column", "columns_in", "parse", "placeholders_in"]

TOKEN: Final = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]|[^{}]+")


class Column(NamedTuple):
    """A placeholder."""

    name: str


def parse(text: str) -> tuple[str | Column, ...]:
    """Return a text's literal parts and placeholders.

    Raises:
        ValueError: a brace stands alone.
    """
    parts: list[str | Column] = []
    for found in TOKEN.finditer(text):
        token = found[0]
        if found[1] is not None:
            parts.append(Column(found[1].strip()))
        elif token in {"{", "}"}:
            raise ValueError(
                f"has a single brace at character {found.start() + 1}; a literal one is written {token * 2}"
            )
        else:
            literal = token[0] if token in {"{{", "}}"} else token
            if parts and isinstance(parts[-1], str):
                parts[-1] += literal
            else:
                parts.append(literal)
    return tuple(parts)


def columns_in(value: Any) -> Iterator[str]:
    """Yield the columns that a JSON value's strings name; what cannot be parsed names none."""
    return (name for name in placeholders_in(value) if not name.startswith("@"))


def placeholders_in(value: Any) -> Iterator[str]:
    """Yield all placeholders of a JSON value's strings: columns, and what begins with @ and is filled in by the run."""
    if isinstance(value, str):
        try:
            yield from (part.name for part in parse(value) if isinstance(part, Column))
        except ValueError:
            return
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from placeholders_in(member)
    elif isinstance(value, list):
        for entry in value:
            yield from placeholders_in(entry)
