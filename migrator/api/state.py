"""What a request would change: a wanted state held against the one that a server shows. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from migrator.messages import JSON

__all__ = ["ABSENT", "Change", "before_image", "changes", "has_mask", "is_mask", "is_stand_in"]

MASKED: Final = re.compile(r"[*•·xX]{3,}.{0,4}|\[redacted\]|-- redacted --|\{[a-z_]+\}", re.IGNORECASE)
"""What services write in place of a secret that they do not show; it can be compared with nothing."""


class _Absent:
    """The place of a member that is not there."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Change:
    """A member that does not hold what is wanted.

    Attributes:
        pointer: where (JSON Pointer, RFC 6901).
        before: what it holds, or `ABSENT`.
        after: what is wanted.
        masked: the service shows a mask, so that nobody can tell whether they differ.
    """

    pointer: str
    before: Any
    after: JSON
    masked: bool


def changes(wanted: JSON, state: JSON, pointer: str = "") -> Iterator[Change]:
    """Yield what differs; a member that is wanted as null may be absent, and the state may hold more than is wanted."""
    if isinstance(wanted, Mapping) and isinstance(state, Mapping):
        for name, value in wanted.items():
            below = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            if name in state:
                yield from changes(value, state[name], below)
            elif value is not None:
                yield Change(below, ABSENT, value, masked=False)
    elif isinstance(wanted, bool) != isinstance(state, bool) or wanted != state:
        yield Change(pointer or "/", state, wanted, masked=isinstance(wanted, str) and is_mask(state))


def is_mask(value: JSON) -> bool:
    """Tell whether a value is what a service shows in place of a secret."""
    return isinstance(value, str) and MASKED.fullmatch(value) is not None


def is_stand_in(value: str) -> bool:
    """Tell whether a text stands in a secret's place: a service's mask, or a fingerprint of ours."""
    return "***#" in value or MASKED.fullmatch(value) is not None


def has_mask(value: JSON) -> bool:
    """Tell whether there is a mask anywhere in a value: such a state can never be written back."""
    if isinstance(value, Mapping):
        return any(has_mask(member) for member in value.values())
    if isinstance(value, list | tuple):
        return any(has_mask(member) for member in value)
    return is_mask(value)


def before_image(body: Mapping[str, JSON], state: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return what has to be written to take a body back: each of its members, whole, as the state holds it.

    Members are taken whole since many APIs replace objects whole: half of a target would not be one.
    """
    return {name: state.get(name) for name in body}
