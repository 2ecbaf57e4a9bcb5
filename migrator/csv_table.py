"""CSV files (RFC 4180, with `;` and tab allowed): a stream to rows of cells, or to what is wrong with them."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from migrator.problem import Problem

__all__ = ["CSVTable", "as_text"]

DELIMITERS: Final = ",;\t"
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
    """

    def __init__(self, text: io.TextIOWrapper, name: str) -> None:
        self._name = name
        self._line = 0
        self._unreadable: list[Problem] = []
        self._lines = self._inspected(text)
        first = next(self._lines, "")
        self.empty_file = not first.strip()
        delimiter = max(DELIMITERS, key=_outside_quotes(first).count)
        self._reader = csv.reader(self._again(first), strict=True, delimiter=delimiter)
        self.problems: list[Problem] = []
        self.columns: list[str] = []
        try:
            self.columns = [column.strip() for column in next(self._reader, [])]
        except csv.Error as error:
            self.problems.append(Problem(name, 1, None, None, _said(error)))
        self._check_header()

    def _check_header(self) -> None:
        self.problems += self._unreadable
        self._unreadable.clear()
        if self.empty_file:
            self.problems.append(Problem(self._name, 1, None, None, "is empty; the first line has to name the columns"))
            return
        for place, column in enumerate(self.columns):
            if not column:
                self.problems.append(Problem(self._name, 1, None, None, f"column {place + 1} has no name"))
            elif column in self.columns[:place]:
                self.problems.append(Problem(self._name, 1, None, column, "is the name of two columns"))

    def rows(self) -> Iterator[tuple[int, int, list[str]] | Problem]:
        """Yield each row's number, line and cells, or what is wrong with it."""
        number, width, reader, unreadable = 0, len(self.columns), self._reader, self._unreadable
        while True:
            line = reader.line_num + 1
            try:
                for cells in reader:
                    if cells:
                        number += 1
                        if unreadable:
                            yield from unreadable
                            unreadable.clear()
                        elif len(cells) != width:
                            expected = f"the header has {width}"
                            yield Problem(self._name, line, None, None, f"has {len(cells)} cells, {expected}")
                        else:
                            yield number, line, cells
                    line = reader.line_num + 1
            except csv.Error as error:
                number += 1
                yield Problem(self._name, line, None, None, _said(error))
                unreadable.clear()
                if "expected after" in str(error):
                    continue
                # The quote has swallowed what follows: nothing behind it can be trusted.
            return

    def _inspected(self, text: io.TextIOWrapper) -> Iterator[str]:
        for line in text:
            self._line += 1
            if not line.isascii() or "\0" in line:
                found = UNREADABLE.search(line)
                if found:
                    what = "a NUL byte" if found[0] == "\0" else "a byte that is not UTF-8"
                    problem = Problem(self._name, self._line, found.start() + 1, None, f"holds {what}")
                    self._unreadable.append(problem)
            yield line

    def _again(self, first: str) -> Iterator[str]:
        if first:
            yield first
        yield from self._lines


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _said(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text or "field larger" in text:
        return "a quote that opens in this row is not closed; a quote inside a cell is written twice"
    if "expected after" in text:
        return "a quote inside a cell has to be written twice, and the whole cell put in quotes"
    return f"cannot be read: {text}"
