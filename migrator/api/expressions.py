"""What a server sent, read by the words of a profile: JMESPath, and names that are shown for values. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from msgspec.structs import replace

from migrator.job.json_reader import Unreadable, decode
from migrator.messages import JSON, AnswerRules

__all__ = ["ShownNames", "as_written", "record_in", "search"]


def search(expression: str, document: Any) -> Any:
    """Return what a JMESPath expression finds; None where a value has not the type that its functions need."""
    try:
        return jmespath.search(expression, document)
    except (JMESPathError, RecursionError):
        return None


def record_in(document: JSON, rules: AnswerRules) -> JSON:
    """Return the record that an answer holds, in the words that the API takes; None where it holds none."""
    found: JSON = document if rules.record is None else search(rules.record, document)
    return as_written(found, rules)


def as_written(record: JSON, rules: AnswerRules) -> JSON:
    """Return a record with the values that are written in place of those that the API shows for them."""
    for pointer, written in rules.shown_as.items():
        record = _renamed(record, pointer.split("/")[1:], written)
    return record


def _renamed(value: JSON, path: Sequence[str], written: Mapping[str, str]) -> JSON:
    if not path:
        return written.get(value, value) if isinstance(value, str) else value
    name = path[0].replace("~1", "/").replace("~0", "~")
    if not isinstance(value, Mapping) or name not in value:
        return value
    return {**value, name: _renamed(value[name], path[1:], written)}


class ShownNames:
    """Notes once of each value that an API shows it under another name than it takes (`shown_as`).

    Attributes:
        told: what was noted.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def see(self, rules: AnswerRules, body: bytes) -> str | None:
        """Return what is new in an answer's body, or None; it is only decoded where such a name stands in it."""
        for pointer, names in rules.shown_as.items():
            for shown, written in names.items():
                text = f"the API shows {shown} at {pointer} for {written}; both are taken for the same"
                if text not in self.told and f'"{shown}"'.encode() in body:
                    document = decode(body)
                    raw = None if isinstance(document, Unreadable) else record_in(document, replace(rules, shown_as={}))
                    if as_written(raw, replace(rules, shown_as={pointer: {shown: written}})) != raw:
                        self.told.append(text)
                        return text
        return None
