"""What a request would change: a wanted state held against the one that a server shows. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from migrator.messages import JSON
from migrator.secret import is_mask

__all__ = ["ABSENT", "Change", "before_image", "changes"]


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


def before_image(body: Mapping[str, JSON], state: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return what has to be written to take a body back: each of its members, whole, as the state holds it.

    Members are taken whole since many APIs replace objects whole: half of a target would not be one.
    """
    return {name: state.get(name) for name in body}
