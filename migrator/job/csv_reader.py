"""CSV files (RFC 4180, with `;` and tab allowed): a stream to rows of cells, or to what is wrong with them."""

import csv
import io
import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain
from typing import Any, BinaryIO, Final

from migrator.job.json_reader import StrictJSONError, read_json
from migrator.job.problems import Problem

__all__ = ["TYPES", "CSVTable", "as_text", "neutralised", "read_types", "restored", "types_of"]

TYPES: Final = "_types"
"""The column that says which cells of a row are no text, in the files of a run whose items were JSON."""

DELIMITERS: Final = ",;\t"
SEPARATOR: Final = re.compile(r"\"?sep=([,;\t])\"?[,;\t]*", re.IGNORECASE)
"""The line by which Excel names the delimiter. The tab that it may name is no blank to be taken off."""

BATCH: Final = 1 << 16
"""Characters of lines that are looked at together."""

UNREADABLE: Final = re.compile(r"[\x00\ud800-\udfff]")


@contextmanager
def as_text(source: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """Read a stream as UTF-8, with or without a byte order mark; it is not closed."""
    # Bytes that are no UTF-8 become surrogates, so that the line they are on can be named and reading goes on.
    text = io.TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield text
    finally:
        text.detach()


class CSVTable:
    """A CSV file, its header read.

    Attributes:
        columns: the names in the header.
        problems: what is wrong with the header.
        has_apostrophes: whether one has come so far, so that cells may have to be restored.
    """

    def __init__(self, text: io.TextIOWrapper, name: str) -> None:
        self._name = name
        self._line = 0
        self.has_apostrophes = False
        self._unreadable: deque[Problem] = deque()
        lines = chain.from_iterable(self._inspected(text))
        first = next(lines, "")
        told = SEPARATOR.fullmatch(first.rstrip("\r\n"))
        self._skipped = int(told is not None)
        if told is not None:
            first = next(lines, "")
        self.empty_file = not first.strip()
        delimiter = told[1] if told is not None else max(DELIMITERS, key=_outside_quotes(first).count)
        self._reader = csv.reader(chain([first] if first else [], lines), strict=True, delimiter=delimiter)
        self.problems: list[Problem] = []
        self.columns: list[str] = []
        try:
            self.columns = [column.strip() for column in next(self._reader, [])]
        except csv.Error as error:
            self.problems.append(Problem(name, 1 + self._skipped, None, None, _said(error)))
        self._check_header()

    def _check_header(self) -> None:
        self.problems += self._unreadable_so_far()
        if self.empty_file:
            self.problems.append(Problem(self._name, 1, None, None, "is empty; the first line has to name the columns"))
            return
        line = 1 + self._skipped
        for place, column in enumerate(self.columns, start=1):
            if not column:
                self.problems.append(Problem(self._name, line, None, None, f"column {place} has no name"))
        for column, count in Counter(self.columns).items():
            if column and count > 1:
                self.problems.append(Problem(self._name, line, None, column, "is the name of two columns"))

    def rows(self) -> Iterator[tuple[int, int, list[str]] | Problem]:
        """Yield each row's number, line and cells, or what is wrong with it."""
        number, width, reader, unreadable = 0, len(self.columns), self._reader, self._unreadable
        skipped = self._skipped
        while True:
            line = reader.line_num + 1 + skipped
            try:
                for cells in reader:
                    # A spreadsheet writes a row of delimiters for one that was emptied.
                    if any(cells):
                        number += 1
                        if unreadable and (problems := list(self._unreadable_so_far())):
                            yield from problems
                        elif len(cells) != width:
                            expected = f"the header has {width}"
                            yield Problem(self._name, line, None, None, f"has {len(cells)} cells, {expected}")
                        else:
                            yield number, line, cells
                    line = reader.line_num + 1 + skipped
            except csv.Error as error:
                number += 1
                yield Problem(self._name, line, None, None, _said(error))
                deque(self._unreadable_so_far(), maxlen=0)
                if "expected after" in str(error):
                    continue
                # The quote has swallowed what follows: nothing behind it can be trusted.
            return

    def _inspected(self, text: io.TextIOWrapper) -> Iterator[list[str]]:
        """Yield the lines, many at a time, since Python has little to do for those in which nothing is to be found."""
        while lines := text.readlines(BATCH):
            joined = "".join(lines)
            self.has_apostrophes = self.has_apostrophes or "'" in joined
            if not joined.isascii() or "\0" in joined:
                self._unreadable += self._inspect(lines)
            self._line += len(lines)
            yield lines

    def _inspect(self, lines: Sequence[str]) -> Iterator[Problem]:
        for number, line in enumerate(lines, start=self._line + 1):
            if found := UNREADABLE.search(line):
                message = "holds a NUL byte" if found[0] == "\0" else _not_utf_8(line)
                yield Problem(self._name, number, found.start() + 1, None, message)

    def _unreadable_so_far(self) -> Iterator[Problem]:
        """Yield what cannot be read in the lines that the reader has taken, each once."""
        while self._unreadable and (self._unreadable[0].line or 0) <= self._reader.line_num + self._skipped:
            yield self._unreadable.popleft()


def _not_utf_8(line: str) -> str:
    """Return what to do about a line with bytes that are not UTF-8, which are surrogates in it."""
    if line.startswith(UTF_16_MARKS):
        return "is UTF-16, not UTF-8: give --encoding utf-16"
    try:
        line.encode("utf-8", "surrogateescape").decode("windows-1252")
    except UnicodeDecodeError:
        return "holds a byte that is not UTF-8: give --encoding NAME"
    return "holds a byte that is not UTF-8: if Excel wrote the file, give --encoding windows-1252"


UTF_16_MARKS: Final = ("\udcff\udcfe", "\udcfe\udcff")


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _said(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text or "field larger" in text:
        return "a quote that opens in this row is not closed; a quote inside a cell is written twice"
    if "expected after" in text:
        return "a quote inside a cell has to be written twice, and the whole cell put in quotes"
    return f"cannot be read: {text}"


FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n\0]")
NEUTRALISED: Final = re.compile(r"'+[=+\-@\t\r\n\0]")


def neutralised(value: str) -> str:
    """Return a value as it is written into a cell."""
    return f"'{value}" if FORMULA.match(value) else value


def restored(cell: str) -> str:
    """Return the value that a cell was written for."""
    return cell[1:] if NEUTRALISED.match(cell) else cell


def types_of(values: Mapping[str, Any]) -> str:
    """Return what a row has to say beside its cells, so that they are read as the values of a JSON item; often nothing.

    Args:
        values: the item's, by column.
    """
    kinds = {}
    for column, value in values.items():
        if value is None:
            kinds[column] = "null"
        elif not isinstance(value, str):
            kinds[column] = "json"
        elif not value:
            kinds[column] = "text"
    return json.dumps(kinds, ensure_ascii=False) if kinds else ""


def read_types(values: dict[str, Any], types: str) -> tuple[str, str] | None:
    """Make of cells what `types_of` says of them; return the column of one that is none of that kind, and why.

    Args:
        values: the row's cells by column, which are changed; empty ones are left out.
        types: what `types_of` returned.
    """
    try:
        kinds = read_json(types) if types else {}
    except StrictJSONError:
        kinds = None
    if not isinstance(kinds, dict):
        return TYPES, "has to be as the program has written it, or empty"
    for column, kind in kinds.items():
        cell = values.get(column)
        if kind == "json" and isinstance(cell, str):
            try:
                values[column] = read_json(cell, parse_float=Decimal)
            except StrictJSONError:
                return (
                    column,
                    f"has to be JSON, since {TYPES} says so: put texts in quotes, or take the column out there",
                )
        elif cell is None and kind in {"null", "text"}:
            values[column] = None if kind == "null" else ""
    return None
