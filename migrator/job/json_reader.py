"""JSON arrays and JSON Lines: a stream to documents with their lines, in constant memory.

An array is read through a window over the standard library's decoder, since repeated members and NaN have to be
refused and lines named.
"""

import codecs
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, BinaryIO, Final

from migrator.job.problems import Problem, StrictJSONError, read_json, strict_decoder

__all__ = ["array_entries", "json_lines"]

CHUNK: Final = 1 << 16
"""Bytes that are read of a JSON array at a time."""

LONGEST_ITEM: Final = 1 << 20
"""Characters of one JSON item at the most; a longer one is rather a bracket that is missing."""

BLANKS: Final = re.compile(r"[ \t\r\n]*")
STRICT: Final = strict_decoder(Decimal)


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
        self.line = 1
        self._column = 1
        self.ended = False

    def more(self) -> None:
        """Read a further piece, and forget what lies behind."""
        self.line += self.text.count("\n", 0, self.place)
        last = self.text.rfind("\n", 0, self.place)
        self._column = self.place - last if last >= 0 else self._column + self.place
        raw = self._source.read(CHUNK)
        self.ended = not raw
        self.text = self.text[self.place :] + self._decode(raw, final=self.ended)
        self.place = 0

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
        return self.line + self.text.count("\n", 0, place), column


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
            yield Problem(name, *window.where(window.place), None, "there is text behind the array")
    except UnicodeDecodeError:
        yield Problem(
            name, *window.where(len(window.text)), None, "holds a byte that is not UTF-8, at or behind this place"
        )
    except StrictJSONError as error:
        line, column = error.place or window.where(window.place)
        yield Problem(name, line, column, None, error.message)


def _entries(window: _Window) -> Iterator[tuple[int, Any]]:
    while True:
        window.skip()
        line = window.where(window.place)[0]
        yield line, _entry(window)
        follows = window.skip()
        if follows not in {",", "]"}:
            what = "expected a comma or the array's closing bracket" if follows else "the array is not closed"
            raise StrictJSONError(f"is no valid JSON: {what}", window.where(window.place))
        window.place += 1
        if follows == "]":
            return


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
                window.place = end
                return value
        window.more()
