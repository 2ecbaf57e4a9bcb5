"""What a server sent, read by the words of a profile: JMESPath, and names that are shown for values. Pure."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from msgspec.structs import replace

from migrator.job.json_reader import Unreadable, decode
from migrator.messages import JSON, AnswerRules, BodyLimits, Reply
from migrator.ratelimit.dialect.reset_time import ResetForm, parse_reset
from migrator.ratelimit.headers import InBody, Quota

__all__ = ["ShownNames", "as_written", "body_reader", "quota_in_body", "record_in", "search"]

LARGEST: Final = 1e12
"""Points; what is above is no limit of requests."""


def search(expression: str, document: Any) -> Any:
    """Return what a JMESPath expression finds; None where a value has not the type that its functions need."""
    try:
        return jmespath.search(expression, document)
    except (JMESPathError, RecursionError):
        return None


def body_reader(limits: BodyLimits | None) -> InBody | None:
    """Return what reads a rate limit from bodies; None for an API whose bodies do not tell of it."""
    return None if limits is None else partial(quota_in_body, limits)


def quota_in_body(limits: BodyLimits, reply: Reply) -> Quota | None:
    """Return what an answer's body says of the rate limit, in requests of this one's cost; None where it says nothing.

    Args:
        limits: where it stands.
        reply: the answer.
    """
    document = None if reply.truncated else decode(reply.body)
    if not isinstance(document, Mapping):
        return None
    limit, remaining = _points(limits.limit, document), _points(limits.remaining, document)
    cost = _points(limits.cost, document) or 1.0
    if limit is None or remaining is None or limit < cost:
        return None
    quota = Quota(limit=int(limit / cost), remaining=int(remaining / cost))
    if restored := _points(limits.restored, document):
        return replace(quota, reset_s=max(0.0, limit - remaining) / restored, resolution_s=0.0)
    told = None if limits.reset is None else str(search(limits.reset, document))
    reset = told and parse_reset("reset", told, ResetForm.AUTO, at=reply.received, headers=reply.headers)
    if not reset:
        return quota
    return replace(quota, reset_s=reset.seconds, resolution_s=reset.resolution_s, late_s=reset.late_s)


def _points(expression: str | None, document: Any) -> float | None:
    """Return a number that is not below zero, or None."""
    found = None if expression is None else search(expression, document)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found < LARGEST else None


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
