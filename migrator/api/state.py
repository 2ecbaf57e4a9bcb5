"""A record's state: where it stands in an answer, how it differs from what is wanted, and how a change is undone. Pure.

A state is compared, kept and restored leaf by leaf. A leaf is what a wanted state has below its objects: an API may
show more members than that, and other writers may change those at any time. Arrays are leaves, as in RFC 7396. An API
that replaces an object as one value names it in `replaced_whole`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec.structs import replace

from migrator.job.encodings import form_text
from migrator.messages import JSON, NO_RULES, AnswerRules, Request
from migrator.secret import has_mask, is_mask

__all__ = [
    "ABSENT",
    "BeforeImage",
    "Change",
    "Restoration",
    "before_image",
    "changes",
    "hidden_members",
    "is_normalised",
    "kept_image",
    "not_the_record",
    "restoration",
    "wanted_of",
]


class _Absent:
    """The place of a member that is not there."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()

SCALAR: Final = (str, bool, int, float)


class Change(msgspec.Struct, frozen=True):
    """A member that does not hold what is wanted.

    Attributes:
        pointer: where (JSON Pointer, RFC 6901).
        before: what it holds, or `ABSENT`.
        after: what is wanted.
        masked: the service shows a mask, so that it cannot be told whether they differ.
    """

    pointer: str
    before: Any
    after: JSON
    masked: bool


def wanted_of(request: Request) -> Mapping[str, JSON] | None:
    """Return the state that a request is to bring about; None where it names none, such as a list of operations."""
    text = request.body if request.wanted is None else request.wanted
    if text is None:
        return None
    try:
        found: JSON = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, Mapping) else None


def changes(wanted: JSON, state: JSON, rules: AnswerRules = NO_RULES, pointer: str = "") -> Iterator[Change]:
    """Yield what differs.

    A member that is wanted as null may be absent, and the state may hold more than is wanted. What the API alone
    writes is not compared.
    """
    if pointer in rules.read_only:
        return
    if isinstance(wanted, Mapping) and isinstance(state, Mapping):
        for name, value in wanted.items():
            below = _below(pointer, name)
            if name in state:
                yield from changes(value, state[name], rules, below)
            elif value is not None and below not in rules.read_only:
                yield Change(below, ABSENT, value, masked=False)
    elif not _equal(wanted, state, rules):
        yield Change(pointer or "/", state, wanted, masked=isinstance(wanted, str) and is_mask(state))


def _equal(wanted: Any, state: Any, rules: AnswerRules) -> bool:
    """Tell whether two values are the same; what was sent as text has lost its type."""
    if isinstance(wanted, list) and isinstance(state, list) and len(wanted) == len(state) and rules.as_text:
        return all(_equal(one, other, rules) for one, other in zip(wanted, state, strict=True))
    if rules.as_text and isinstance(wanted, SCALAR) and isinstance(state, SCALAR):
        return form_text(wanted) == form_text(state)
    return isinstance(wanted, bool) == isinstance(state, bool) and bool(wanted == state)


def is_normalised(change: Change) -> bool:
    """Tell whether a server holds another spelling of what was sent: case, blanks, Unicode forms, a slash, a number."""
    return _spelling(change.before) == _spelling(change.after) and change.before is not ABSENT


def _spelling(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return str(value).casefold().removesuffix(".0")
    return normalize("NFKC", value).strip().casefold().rstrip("/") if isinstance(value, str) else value


def not_the_record(request: Request, record: Mapping[str, JSON]) -> str | None:
    """Return why an answer is not taken for the record that a request would write, or None where it is.

    A record shows at least one of the wanted members, or a member with its key or the last segment of its own URL.
    """
    wanted = wanted_of(request) or {}
    if not wanted or wanted.keys() & record.keys():
        return None
    own = {unquote(urlsplit((request.reading or request).url).path.rpartition("/")[2]), request.key}
    if any(isinstance(value, str | int) and str(value) in own for value in record.values()):
        return None
    missing = ", ".join(_below("", name) for name in list(wanted)[:5])
    return (
        f"the record that was read has none of the members that would be written ({missing}): say with api.record "
        "where the record stands in an answer, or with request.read how it is read"
    )


def hidden_members(request: Request, record: JSON) -> list[str]:
    """Return the wanted secrets that a record does not show, by their pointers: they could not be put back."""
    secrets = {secret.reveal() for secret in request.secrets}
    return [
        change.pointer
        for change in changes(wanted_of(request), record, request.rules)
        if change.before is ABSENT and any(text in secrets for text in _texts(change.after))
    ]


def _texts(value: JSON) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


class BeforeImage(msgspec.Struct, frozen=True):
    """What a record held of the members that a request writes.

    Attributes:
        state: the leaves, in the wanted state's own nesting; null where there was none.
        absent: the pointers of the members that were not there.
    """

    state: dict[str, JSON]
    absent: tuple[str, ...]


def before_image(wanted: Mapping[str, JSON], record: Mapping[str, JSON], rules: AnswerRules = NO_RULES) -> BeforeImage:
    """Return what has to be kept to undo a change: the wanted leaves, and whole what the API replaces whole."""
    absent: list[str] = []
    state = _image(wanted, record, rules, "", absent)
    return BeforeImage(state, tuple(absent))


def kept_image(kept: Mapping[str, Any]) -> BeforeImage:
    """Return an image as a ledger keeps it; before 0.2.0 a top-level null stood for a member that was not there."""
    state = kept["before"]
    absent = kept.get("absent")
    if absent is None:
        absent = [_below("", name) for name, value in state.items() if value is None]
    return BeforeImage(state, tuple(absent))


def _image(
    wanted: Mapping[str, JSON], record: Mapping[str, JSON], rules: AnswerRules, pointer: str, absent: list[str]
) -> dict[str, JSON]:
    image: dict[str, JSON] = {}
    for name, value in wanted.items():
        below = _below(pointer, name)
        if below in rules.read_only:
            continue
        if name not in record:
            absent.append(below)
            image[name] = None
            continue
        held = record[name]
        if below not in rules.replaced_whole and isinstance(value, Mapping) and isinstance(held, Mapping):
            image[name] = _image(value, held, rules, below, absent)
        else:
            image[name] = held
    return image


class Restoration(msgspec.Struct):
    """How a record gets back what it held before a run.

    Attributes:
        wanted: the state to write, leaf by leaf; null where a member is to go.
        removed: the pointers of the members that are to go.
        foreign: the pointers of the members that hold neither what the run wrote nor what was there before.
        masked: the pointers of the members that were masked, so that what they held is not known.
        unseen: the pointers of the members that the API shows neither before nor after the write.
    """

    wanted: dict[str, JSON] = msgspec.field(default_factory=dict)
    removed: list[str] = msgspec.field(default_factory=list)
    foreign: list[str] = msgspec.field(default_factory=list)
    masked: list[str] = msgspec.field(default_factory=list)
    unseen: list[str] = msgspec.field(default_factory=list)


def restoration(
    image: BeforeImage, sent: Mapping[str, JSON], current: Mapping[str, JSON], rules: AnswerRules = NO_RULES
) -> Restoration:
    """Return how a record gets back what it held before a run, with what others have changed since left alone.

    It is a three-way merge of what was there before, what the run wrote and what is there now. A leaf that the run did
    not change is not written.

    Args:
        image: what was there before.
        sent: the state that the run wrote.
        current: the record as it is now.
        rules: what the API replaces whole, and what it alone writes.
    """
    found = Restoration()
    found.wanted = _Merge(found, image, rules).members(image.state, sent, current, "")
    return found


class _Merge:
    def __init__(self, found: Restoration, image: BeforeImage, rules: AnswerRules) -> None:
        self._found = found
        self._absent = frozenset(image.absent)
        self._rules = rules

    def members(self, before: Any, sent: Mapping[str, JSON], current: Any, pointer: str) -> dict[str, JSON]:
        """Return the members that have to be written, each with what it held before."""
        written: dict[str, JSON] = {}
        for name, value in sent.items():
            below = _below(pointer, name)
            if below in self._rules.read_only:
                continue
            was = ABSENT if below in self._absent or not isinstance(before, Mapping) else before.get(name, ABSENT)
            now = current.get(name, ABSENT) if isinstance(current, Mapping) else ABSENT
            put_back = self._whole if below in self._rules.replaced_whole else self._leaves
            restored = put_back(was, value, now, below)
            if restored is now:
                continue
            if restored is ABSENT:
                self._found.removed.append(below)
            written[name] = None if restored is ABSENT else restored
        return written

    def _leaves(self, before: Any, sent: JSON, now: Any, pointer: str) -> Any:
        """Return what has to be written at a pointer: `now` itself for nothing, `ABSENT` for a removal."""
        if isinstance(sent, Mapping) and sent and isinstance(now, Mapping) and (before is ABSENT or _is_object(before)):
            if before is ABSENT and now.keys() <= sent.keys() and not any(changes(sent, now, self._rules, pointer)):
                return ABSENT
            return self.members(before, sent, now, pointer) or now
        return self._leaf(before, sent, now, pointer)

    def _leaf(self, before: Any, sent: Any, now: Any, pointer: str) -> Any:
        """Return what a leaf has to hold: `now` itself where it is left alone."""
        if _holds(now, before, self._rules):
            if before is ABSENT and now is ABSENT and sent is not None:
                self._found.unseen.append(pointer)
            return now
        if before is not ABSENT and _holds(before, sent, self._rules) and _holds(sent, before, self._rules):
            return now
        if before is not ABSENT and has_mask(before):
            self._found.masked.append(pointer)
        elif _holds(now, sent, self._rules) or (isinstance(now, str) and is_mask(now)):
            return before
        else:
            self._found.foreign.append(pointer)
        return now

    def _whole(self, before: Any, sent: Any, now: Any, pointer: str) -> Any:
        """Return the whole value to write at a pointer that the API replaces as one."""
        restored = self._merged(before, sent, now, pointer)
        if restored is now or restored == now:
            return now
        if restored is ABSENT:
            return ABSENT
        if has_mask(restored):
            self._found.masked.append(pointer)
            return now
        return _without(restored, self._rules.read_only, pointer)

    def _merged(self, before: Any, sent: Any, now: Any, pointer: str) -> Any:
        if sent is ABSENT:
            # The run's write has dropped it, if it is not there; else it is the API's own, or another writer's.
            return before if now is ABSENT else now
        if _is_object(before) and _is_object(sent) and _is_object(now):
            names = dict.fromkeys([*before, *sent, *now])
            members = {
                name: self._merged(
                    before.get(name, ABSENT), sent.get(name, ABSENT), now.get(name, ABSENT), _below(pointer, name)
                )
                for name in names
            }
            return {name: value for name, value in members.items() if value is not ABSENT}
        return self._leaf(before, sent, now, pointer)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _holds(state: Any, value: Any, rules: AnswerRules) -> bool:
    """Tell whether a state holds a value; null and absent are the same."""
    if value is ABSENT:
        return state is ABSENT or state is None
    if state is ABSENT:
        return value is None
    return not any(True for _ in changes(value, state, replace(NO_RULES, as_text=rules.as_text)))


def _without(value: Any, pointers: frozenset[str], pointer: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {
        name: _without(member, pointers, below)
        for name, member in value.items()
        if (below := _below(pointer, name)) not in pointers
    }


def _below(pointer: str, name: str) -> str:
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
