"""`succeeded.csv` and `failed.csv`: the input's own cells, and the result of each row."""

import csv
import io
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeAlias

from migrator.job.csv_reader import TYPES, neutralised
from migrator.results import ItemResult, Status
from migrator.secret import Masker, Secret
from migrator.store.files import write_atomically

__all__ = ["Cells", "Redactor", "redactor", "write_result_files"]

OWN_COLUMNS: Final = ("_status", "_http_status", "_error", "_attempts", "_request_id")


Cells: TypeAlias = tuple[Sequence[str], Iterator[tuple[int, Sequence[str]]]]
"""The columns of the input, and the number and the cells of each item."""

Redactor: TypeAlias = Callable[[str, str], str]
"""Takes a column and a cell, and returns what is written of the cell."""


def redactor(masker: Masker, secrets: Container[str]) -> Redactor:
    """Return what masks the cells of secret columns, as `--redact-files` asks for."""

    def shown(column: str, cell: str) -> str:
        return masker.shown(Secret(cell)) if cell and column in secrets else cell

    return shown


def write_result_files(
    folder: Path,
    *,
    columns: Sequence[str],
    cells: Iterable[tuple[int, Sequence[str]]],
    rows: Iterable[ItemResult],
    mask: Redactor | None = None,
    marked: bool = False,
) -> None:
    """Write `succeeded.csv` and `failed.csv`: the input's own columns and order, then each item's result.

    Items without a result are in neither, and neither are those that a dry run did not send. Input cells keep their
    values, so that `failed.csv` can be run again, though one that a spreadsheet would take for a formula is
    neutralised; columns that begin with an underscore are those of an earlier run, and are left out. Constant memory:
    both streams come in the input's order and are merged.

    Args:
        folder: the run's.
        columns: the input's own columns.
        cells: the number and the cells of each item.
        rows: the results, by number.
        mask: what is written of a cell; None for all of it.
        marked: whether the files begin with a byte order mark, since the run was told of another encoding than theirs.

    Raises:
        FolderError: a file cannot be written; earlier ones are left as they were.
    """
    kept = [place for place, column in enumerate(columns) if not column.startswith("_")]
    names = [columns[place] for place in kept]
    last = [place for place, column in enumerate(columns) if column == TYPES]
    with _csv(folder / "succeeded.csv", marked=marked) as good, _csv(folder / "failed.csv", marked=marked) as bad:
        for table in (good, bad):
            table.write((*names, *OWN_COLUMNS, *(columns[place] for place in last)))
        for values, row in _merged(cells, rows):
            if row.status is Status.SKIPPED and row.error is None:
                continue
            shown = [values[place] for place in kept]
            if mask is not None:
                shown = [mask(name, cell) for name, cell in zip(names, shown, strict=True)]
            table = good if row.status.is_success else bad
            table.write((*map(neutralised, shown), *_own_cells(row), *(values[place] for place in last)))


def _merged(
    cells: Iterable[tuple[int, Sequence[str]]], rows: Iterable[ItemResult]
) -> Iterator[tuple[Sequence[str], ItemResult]]:
    """Yield the items that have a result, with it."""
    results = iter(rows)
    row = next(results, None)
    for number, values in cells:
        while row is not None and row.item < number:
            row = next(results, None)
        if row is None:
            return
        if row.item == number:
            yield values, row


class _Table:
    """A CSV file (RFC 4180, but for lines that end as they do on Unix)."""

    def __init__(self, text: IO[str]) -> None:
        self._plain = csv.writer(text, lineterminator="\n")
        self._quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(self, cells: Sequence[str]) -> None:
        # Python before 3.13 leaves a lone carriage return without quotes, and readers then see the end of a row.
        writer = self._quoted if any("\r" in cell for cell in cells) else self._plain
        writer.writerow(cells)


@contextmanager
def _csv(path: Path, *, marked: bool) -> Iterator[_Table]:
    with write_atomically(path) as file:
        encoding = "utf-8-sig" if marked else "utf-8"
        text = io.TextIOWrapper(file, encoding=encoding, errors="backslashreplace", newline="")
        yield _Table(text)
        # The file stays open: write_atomically syncs and closes it.
        text.detach()


def _own_cells(row: ItemResult) -> Iterator[str]:
    error = "" if row.error is None else row.error.message
    for value in (row.status.value, row.http_status, error, row.attempts, row.request_id):
        yield neutralised("" if value is None else str(value))
