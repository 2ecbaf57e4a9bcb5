"""What is wrong with an input, and where: the findings of JSON Schema in words, places in a text.

A message never quotes a value, since any value may be a secret.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, Final

import jsonschema_rs
import msgspec

from migrator.errors import MigratorError
from migrator.messages import JSON

__all__ = [
    "UNKNOWN",
    "Findings",
    "JobError",
    "Place",
    "Problem",
    "compile_schema",
    "did_you_mean",
    "explain",
    "hints",
    "locate",
    "member_names",
]

URI: Final = r"^[hH][tT][tT][pP][sS]?://[^\s/?#\"'<>\\^`{|}@]+(?:[/?#][^\s\"<>\\^`{|}]*)?$"
"""An absolute http or https URL without blanks and quotes; nothing is normalised, since the text itself is sent."""

TOLD: Final = 10
"""Problems that the text of an error names; a notice shows it."""

HINTED: Final = 20
HINT: Final = "; did you mean "
UNKNOWN: Final = "is not known"
"""What is said of a member that a schema does not have."""

Place = tuple[int, int]
"""A line and a column, both from 1."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with an input.

    Attributes:
        file: the input's name.
        line: from 1, where it is known.
        column: the character in the line, from 1, where it is known.
        field: the column of a table, or the path of a member.
        message: what is wrong and what is allowed.
        rows: how many rows have this problem; this one is the first.
    """

    file: str
    line: int | None
    column: int | None
    field: str | None
    message: str
    rows: int = 1

    def __str__(self) -> str:
        parts = [self.file, *(str(number) for number in (self.line, self.column) if number is not None)]
        where, message = ":".join(parts), self.message
        if self.rows > 1:
            what, hint, meant = message.partition(HINT)
            message = f"{what} ({self.rows:,} rows, first: row {self.line}){hint}{meant}"
        return f"{where}: {self.field}: {message}" if self.field else f"{where}: {message}"


class Findings:
    """What is found wrong with a JSON document, one problem after the other."""

    def __init__(self, text: str, source: str) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._source = source

    def refuse(self) -> None:
        """Raise JobError if there is anything wrong."""
        if self.problems:
            raise JobError(tuple(self.problems))

    def wrong(self, path: tuple[str | int, ...], message: str) -> None:
        """Take down a problem with the member at a path."""
        line, column = locate(self._text, path)
        dotted = ".".join(str(step) for step in path)
        self.problems.append(Problem(self._source, line, column, dotted or None, message))

    def take(self, errors: Iterable[jsonschema_rs.ValidationError], schema: Mapping[str, Any]) -> None:
        """Take down what a JSON Schema finds; a misspelt member is told its name."""
        for path, message in explain(errors):
            known = _names_at(schema, path[:-1]) if message == UNKNOWN else ()
            self.wrong(path, message + did_you_mean(str(path[-1]) if path else "", known))


def compile_schema(schema: Mapping[str, JSON]) -> jsonschema_rs.Validator:
    """Return a validator for a JSON Schema, by default of 2020-12; `format` is enforced.

    Raises:
        ValueError: it is no JSON Schema.
    """
    options = jsonschema_rs.RegexOptions()
    return jsonschema_rs.validator_for(
        _with_uris(schema), validate_formats=True, pattern_options=options, offline=True, mask="the value"
    )


def _with_uris(schema: Any) -> Any:
    """Make of the format `uri` a pattern of our own, which neither normalises nor lets blanks through."""
    if isinstance(schema, Mapping):
        inner = {name: _with_uris(value) for name, value in schema.items()}
        if inner.get("format") == "uri" and "pattern" not in inner:
            inner = {name: value for name, value in inner.items() if name != "format"} | {"pattern": URI}
        return inner
    if isinstance(schema, list | tuple):
        return [_with_uris(entry) for entry in schema]
    return schema


def explain(errors: Iterable[jsonschema_rs.ValidationError]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the path and the message of each finding, without the value."""
    for error in errors:
        kind: dict[str, Any] = error.kind.as_dict()
        branches = kind.get("context")
        if error.kind.name in {"oneOf", "anyOf"} and branches and (names := _required_one_of(branches)):
            yield tuple(error.instance_path), f"needs {_listed(names)}"
        elif error.kind.name in {"oneOf", "anyOf"} and branches:
            root = list(error.instance_path)
            yield from explain(min(branches, key=partial(_misfit, root=root)))
        else:
            yield from _finding(tuple(error.instance_path), error.kind.name, kind)


def _required_one_of(branches: Sequence[Sequence[jsonschema_rs.ValidationError]]) -> list[str]:
    """Return the members of which one is needed, where each form says only that; else nothing."""
    found = [error.kind.as_dict().get("property") for branch in branches for error in branch]
    alone = all(len(branch) == 1 and branch[0].kind.name == "required" for branch in branches)
    return [str(name) for name in found] if alone else []


def _misfit(found: Sequence[jsonschema_rs.ValidationError], *, root: list[str | int]) -> tuple[int, int, int]:
    """Rank one of several forms: that one is meant whose kind is right, whose findings lie deep, and are few."""
    wrong_kind = sum(
        error.kind.name == "const" or (error.kind.name == "type" and list(error.instance_path) == root)
        for error in found
    )
    return wrong_kind, -max((len(error.instance_path) for error in found), default=0), len(found)


def _finding(
    path: tuple[str | int, ...], name: str, kind: Mapping[str, Any]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if name == "additionalProperties":
        for member in kind["unexpected"]:
            yield (*path, member), UNKNOWN
    elif name == "required":
        yield (*path, kind["property"]), "is missing"
    else:
        say = MESSAGES.get(name)
        yield path, f"breaks the schema's rule '{name}'" if say is None else say(kind)


def _listed(values: Sequence[Any]) -> str:
    *first, last = [str(value) for value in values]
    return f"{', '.join(first)} or {last}" if first else last


MESSAGES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "type": lambda kind: f"has to be of type {_listed(_types(kind))}",
    "enum": lambda kind: f"has to be {_listed(_options(kind))}",
    "const": lambda kind: f"has to be {kind.get('expected_value', 'another value')}",
    "format": lambda kind: f"has to be of the format {kind['format']}",
    "maxLength": lambda kind: f"may have {kind['limit']} characters at the most",
    "minLength": lambda kind: f"has to have at least {kind['limit']} character{'s' if kind['limit'] != 1 else ''}",
    "maximum": lambda kind: f"may be {kind['limit']} at the most",
    "minimum": lambda kind: f"has to be at least {kind['limit']}",
    "pattern": lambda kind: (
        "has to be an http or https URL without blanks" if kind["pattern"] == URI else f"has to match {kind['pattern']}"
    ),
    "minProperties": lambda kind: f"has to have at least {kind['limit']} member{'s' if kind['limit'] != 1 else ''}",
    "minItems": lambda kind: f"has to have at least {kind['limit']} entr{'ies' if kind['limit'] != 1 else 'y'}",
    "uniqueItems": lambda _: "may not have an entry twice",
}


def _types(kind: Mapping[str, Any]) -> Sequence[Any]:
    types = kind.get("types", kind.get("kind", "another"))
    return [types] if isinstance(types, str) else list(types)


def _options(kind: Mapping[str, Any]) -> Sequence[Any]:
    options = kind.get("options", [])
    return [options] if isinstance(options, str) else list(options) or ["another value"]


def member_names(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of the members that a JSON Schema names, in all its branches."""
    for name, inner in schema.get("properties", {}).items():
        if isinstance(inner, Mapping):
            yield prefix + name
            yield from member_names(inner, f"{prefix}{name}.")
    for branch in ("if", "then", "else"):
        if isinstance(schema.get(branch), Mapping):
            yield from member_names(schema[branch], prefix)


def hints(words: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield `did_you_mean` of each word, for the first 20: a comparison takes its time."""
    known = list(known)
    for place, word in enumerate(words):
        yield did_you_mean(word, known) if place < HINTED else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean x?``, or nothing."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"{HINT}{close[0]}?" if close else ""


def _names_at(schema: Mapping[str, Any], path: tuple[str | int, ...]) -> list[str]:
    """Return the members that a schema knows at a path."""
    here: Mapping[str, Any] = schema
    for step in path:
        here = here.get("properties", {}).get(step, {})
        for branch in here.get("oneOf", ()):
            here = branch if "$ref" in branch else here
        if "$ref" in here:
            here = schema["$defs"][here["$ref"].rpartition("/")[2]]
    return list(here.get("properties", {}))


def locate(text: str, path: Sequence[str | int]) -> Place:
    """Return where the value at a path stands in a valid JSON text, or the innermost of its parents that is there."""
    position = _skip(text, 0)
    for step in path:
        inner = _member(text, position, step) if isinstance(step, str) else _entry(text, position, step)
        if inner is None:
            break
        position = inner
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def _skip(text: str, position: int) -> int:
    found = BLANK.match(text, position)
    return found.end() if found else position


BLANK: Final = re.compile(r"[ \t\r\n]*")
_decoder: Final = json.JSONDecoder()


def _member(text: str, position: int, name: str) -> int | None:
    if text[position] != "{":
        return None
    position = _skip(text, position + 1)
    while text[position] == '"':
        found, position = _decoder.raw_decode(text, position)
        position = _skip(text, _skip(text, position) + 1)
        if found == name:
            return position
        position = _skip(text, _decoder.raw_decode(text, position)[1])
        if text[position] != ",":
            return None
        position = _skip(text, position + 1)
    return None


def _entry(text: str, position: int, index: int) -> int | None:
    if text[position] != "[":
        return None
    position = _skip(text, position + 1)
    for _ in range(index):
        position = _skip(text, _decoder.raw_decode(text, position)[1])
        if text[position] != ",":
            return None
        position = _skip(text, position + 1)
    return position


class JobError(MigratorError):
    """A job file, or one of its items, is not valid.

    Attributes:
        problems: everything that is wrong with it, in the order of the file; of items, the first hundred.
        count: all of them, each row counted.
        hint: what may help; empty for nothing.
        name: the job's, where it could be read.
        notify: the targets of notices, so that they can be told; one with which something is wrong is empty.
    """

    def __init__(
        self,
        problems: tuple[Problem, ...],
        *,
        count: int | None = None,
        hint: str = "",
        name: str = "",
        notify: tuple[Mapping[str, Any], ...] = (),
    ) -> None:
        self.problems = problems
        self.count = len(problems) if count is None else count
        more = f"; and {self.count - TOLD} more" if self.count > TOLD else ""
        super().__init__("; ".join(str(problem) for problem in problems[:TOLD]) + more)
        self.hint = hint
        self.name = name
        self.notify = notify
