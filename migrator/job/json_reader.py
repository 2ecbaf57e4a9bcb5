"""The reading of JSON: answers of servers as bytes, job files as text, JSON arrays and JSON Lines as streams.

`decode` is the one way by which bytes that a server sent become values. It is total: it never raises, whatever the
bytes are. An array is read through a window over the standard library's decoder, since repeated members and NaN have to
be refused and lines named.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from json.scanner import make_scanner
from typing import Any, BinaryIO, Final, NoReturn

import msgspec

from migrator.job.problems import Place, Problem
from migrator.messages import JSON

__all__ = ["DEEPEST", "StrictJSONError", "Unreadable", "array_entries", "decode", "json_lines", "read_json"]

CHUNK: Final = 1 << 16
"""Bytes that are read of a JSON array at a time."""

LONGEST_ITEM: Final = 1 << 20
"""Characters of one JSON item; a longer one is more likely a bracket that is missing."""

LONGEST_DOCUMENT: Final = 1 << 24
"""Bytes of one document that `decode` looks at: a page of a thousand long records."""

LONGEST_NUMBER: Final = 1000
"""Digits of a whole number."""

DEEPEST: Final = 100
"""Levels of nesting. RFC 8259, section 9, lets a reader set a limit; those of other readers begin at about 100."""

SHORT: Final = 2 * DEEPEST
"""Characters: a value that is nested too deeply is longer."""

COMMA: Final = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
BLANKS: Final = re.compile(r"[ \t\r\n]*")
ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


class Unreadable(msgspec.Struct, frozen=True):
    """Bytes that are no JSON document that can be relied on.

    Attributes:
        reason: why, to follow "the body": "is no JSON", "is nested too deeply". Nothing of the bytes is in it.
    """

    reason: str


class StrictJSONError(ValueError):
    """A text is no JSON document; `place` says where, where that is known."""

    def __init__(self, message: str, place: Place | None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


def decode(data: bytes) -> JSON | Unreadable:
    """Return the JSON document that a server sent, or why it cannot be read. Never raises on any bytes.

    The rules are those of RFC 8259 with the limits of RFC 7493 (I-JSON): UTF-8, no lone surrogates, no repeated
    members, finite numbers. A byte order mark is skipped (RFC 8259, section 8.1, allows it).
    """
    if len(data) > LONGEST_DOCUMENT:
        return Unreadable("is longer than what is read of it")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        found: JSON = msgspec.json.decode(data)
        if data.count(b"{") + data.count(b"[") > DEEPEST and _too_deep(found):
            return Unreadable("is nested too deeply")
        # A repeated member takes its colon with it. An escape may stand for a colon, so such a text is read again.
        if b"\\u" in data or data.count(b":") != msgspec.json.encode(found).count(b":"):
            STRICT.decode(data.decode())
    except UnicodeDecodeError:
        return Unreadable("is not UTF-8")
    except RecursionError:
        return Unreadable("is nested too deeply")
    except StrictJSONError:
        return Unreadable("has a member twice in one object")
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return Unreadable("is no JSON")
    return found


def _too_deep(document: JSON) -> bool:
    level = _containers([document])
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _containers(one.values() if isinstance(one, dict) else one)]
    return bool(level)


def _containers(values: Iterable[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, dict | list)]


def strict_decoder(parse_float: Callable[[str], Any] | None = None) -> json.JSONDecoder:
    """Return a decoder that refuses what JSON's readers disagree about: repeated members, NaN and infinities."""
    return json.JSONDecoder(
        object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=parse_float, parse_int=_whole
    )


def read_json(text: str, *, parse_float: Callable[[str], Any] | None = None) -> Any:
    """Return a JSON document (RFC 8259), read by `strict_decoder`.

    Raises:
        StrictJSONError: it is no such document, is nested too deeply, or holds a lone surrogate.
    """
    try:
        found = strict_decoder(parse_float).decode(text)
    except json.JSONDecodeError as error:
        raise StrictJSONError(f"is no valid JSON: {error.msg}", (error.lineno, error.colno)) from None
    except RecursionError:
        raise StrictJSONError("is nested too deeply", None) from None
    if message := _not_sendable(found, text, 0, len(text)):
        raise StrictJSONError(message, None)
    return found


def _not_sendable(found: Any, text: str, start: int, end: int) -> str | None:
    """Return why a value that was read from a part of a text cannot be sent, or None where it can."""
    if text.count("{", start, end) + text.count("[", start, end) > DEEPEST and _too_deep(found):
        return f"is nested too deeply: {DEEPEST} levels are allowed"
    if ESCAPED_SURROGATE.search(text, start, end):
        written = json.dumps(found, ensure_ascii=False, default=str)
        if SURROGATE.search(written):
            return "holds a lone surrogate (such as \\ud800), which is no character"
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise StrictJSONError(f"has the member {twice[:100]!a} twice in one object", None)
    return members


def _no_constant(name: str) -> NoReturn:
    raise StrictJSONError(f"holds {name}, which is no JSON number", None)


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise StrictJSONError("holds a number of more than 1,000 digits", None)
    return int(text)


STRICT: Final = strict_decoder(Decimal)
# typeshed takes the scanner's class for its argument.
SCAN: Final[Callable[[str, int], tuple[Any, int]]] = make_scanner(STRICT)  # type: ignore[arg-type]


def json_lines(source: BinaryIO, name: str) -> Iterator[tuple[int, Any] | Problem]:
    """Yield the documents of JSON Lines, each with its line."""
    for line, raw in enumerate(source, start=1):
        try:
            text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
            if text.strip():
                yield line, read_json(text.rstrip("\r\n"), parse_float=Decimal)
        except UnicodeDecodeError as error:
            yield Problem(name, line, error.start + 1, None, "holds a byte that is not UTF-8")
        except StrictJSONError as error:
            yield Problem(name, line, error.place[1] if error.place else None, None, error.message)


class _Window:
    """A text that is read piece by piece, and forgotten behind the place that is looked at."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self.text = ""
        self.place = 0
        self._line = 1
        self._counted = 0
        self._column = 1
        self.ended = False

    def more(self) -> None:
        """Read a further piece, and forget what lies behind."""
        self._line = self.line()
        last = self.text.rfind("\n", 0, self.place)
        self._column = self.place - last if last >= 0 else self._column + self.place
        raw = self._source.read(CHUNK)
        self.ended = not raw
        self.text = self.text[self.place :] + self._decode(raw, final=self.ended)
        self.place = self._counted = 0

    def line(self) -> int:
        """Return the line of the place, counted on from where it was last asked for."""
        self._line += self.text.count("\n", self._counted, self.place)
        self._counted = self.place
        return self._line

    def skip(self) -> str:
        """Go to the next character that is no blank, and return it; an empty string at the end."""
        while True:
            rest = BLANKS.match(self.text, self.place)
            self.place = rest.end() if rest else self.place
            if self.place < len(self.text):
                return self.text[self.place]
            if self.ended:
                return ""
            self.more()

    def where(self, place: int) -> tuple[int, int]:
        """Return the line and the column of a place in the text."""
        last = self.text.rfind("\n", 0, place)
        column = place - last if last >= 0 else self._column + place
        counted = self._counted
        # A place may stand before what was counted.
        behind = self.text.count("\n", counted, place) if place >= counted else -self.text.count("\n", place, counted)
        return self._line + behind, column


def array_entries(source: BinaryIO, name: str) -> Iterator[tuple[int, Any] | Problem]:
    """Yield the entries of a JSON array, each with its line, in constant memory."""
    window = _Window(source)
    try:
        if window.skip() != "[":
            yield Problem(name, *window.where(window.place), None, "has to be a JSON array of objects")
            return
        window.place += 1
        if window.skip() == "]":
            window.place += 1
        else:
            yield from _entries(window)
        if window.skip():
            yield Problem(name, *window.where(window.place), None, "there is text after the array")
    except UnicodeDecodeError:
        yield Problem(
            name, *window.where(len(window.text)), None, "holds a byte that is not UTF-8, at or after this place"
        )
    except StrictJSONError as error:
        line, column = error.place or window.where(window.place)
        yield Problem(name, line, column, None, error.message)


def _entries(window: _Window) -> Iterator[tuple[int, Any]]:
    while True:
        window.skip()
        yield from _whole_entries(window)
        line = window.line()
        yield line, _entry(window)
        follows = window.skip()
        if follows not in {",", "]"}:
            what = "expected a comma or the array's closing bracket" if follows else "the array is not closed"
            raise StrictJSONError(f"is no valid JSON: {what}", window.where(window.place))
        window.place += 1
        if follows == "]":
            return


def _whole_entries(window: _Window) -> Iterator[tuple[int, Any]]:
    """Yield the entries that are whole in what was read: nearly all, and at twice the speed.

    It ends in front of any other, which `_entry` reads, or says what is wrong with it.
    """
    text, place, line = window.text, window.place, window.line()
    if ESCAPED_SURROGATE.search(text, place):
        return
    scan, comma = SCAN, COMMA.match
    try:
        while True:
            value, end = scan(text, place)
            follows = comma(text, end)
            if follows is None or follows.end() == len(text):
                break
            if end - place > SHORT and _not_sendable(value, text, place, end):
                break
            yield line, value
            line += text.count("\n", place, follows.end())
            place = follows.end()
    except (StopIteration, ValueError, RecursionError):
        pass
    window.place = place


def _entry(window: _Window) -> Any:
    """Return the value at the window's place; where it does not end in what was read, more is read."""
    while True:
        try:
            value, end = STRICT.raw_decode(window.text, window.place)
        except json.JSONDecodeError as error:
            if window.ended or len(window.text) - window.place > LONGEST_ITEM:
                raise StrictJSONError(f"is no valid JSON: {error.msg}", window.where(error.pos)) from None
        except RecursionError:
            raise StrictJSONError("is nested too deeply", window.where(window.place)) from None
        else:
            # A number may go on in the next piece.
            if end < len(window.text) or window.ended:
                if message := _not_sendable(value, window.text, window.place, end):
                    raise StrictJSONError(message, window.where(window.place))
                window.place = end
                return value
        window.more()
