"""The ledger's reading side: counts, results and images, while a run goes on or after it."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.errors import LedgerError
from migrator.results import ErrorKind, ItemResult, Status
from migrator.store.item_record import decoded, encoded, record
from migrator.store.ledger_schema import BUSY_S, SCHEMA_VERSION, explained, is_ledger
from migrator.store.ledger_upgrade import FIRST_COLUMNS, FIRST_VERSION, decoded_first

__all__ = ["Image", "InFlight", "LedgerReader", "is_begun", "is_started", "read_ledger"]

SELECT: Final = {
    FIRST_VERSION: f"SELECT {FIRST_COLUMNS}, sequence FROM item WHERE status IS NOT NULL",
    SCHEMA_VERSION: "SELECT item, line, provisional, sequence FROM item WHERE status IS NOT NULL",
}

CHUNK: Final = 1000
"""Rows that are read at a time."""

FINISHED: Final = f"SELECT item FROM item WHERE status IS NOT NULL AND item > ? ORDER BY item LIMIT {CHUNK}"
FINISHED_COUNT: Final = f"SELECT count(*), max(item) FROM ({FINISHED})"

MAYBE_CHANGED: Final = ("mismatch", "timeout", "connection", "protocol", "server", "internal")
"""Errors after which it is not known whether the server has acted."""


class InFlight(msgspec.Struct, frozen=True):
    """An item that was being sent when the process ended: it is not known whether it was applied."""

    item: int
    key: str
    attempt: int
    begun_ms: int


class Image(msgspec.Struct, frozen=True):
    """What was there before an item was written, encrypted; `verified` says whether the write was seen to take."""

    item: int
    key: str
    url: str
    locked: bytes
    verified: int


class LedgerReader:
    """The reading side: any number of them, while a run goes on or after it; made by `read_ledger`."""

    def __init__(self, connection: sqlite3.Connection, *, run: str = "") -> None:
        self._connection = connection
        self._run = run
        (self._version,) = connection.execute("PRAGMA user_version").fetchone()

    def meta(self) -> Mapping[str, str]:
        """Return the facts about the run."""
        return dict(self._connection.execute("SELECT name, value FROM meta"))

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the ledger itself: the database, and records that are not those of their row."""
        for (said,) in self._connection.execute("PRAGMA quick_check"):
            if said != "ok":
                yield f"the ledger is damaged: {said}"
                return
        unfinished = "SELECT count(*) FROM item WHERE (status IS NULL) != (sequence IS NULL)"
        for (count,) in self._connection.execute(unfinished):
            if count:
                yield f"the ledger has {count} results without a place in their order"
        for row in self._chunks(SELECT[self._version].replace("item,", "item, status,", 1), by="item"):
            item, status, *rest = row
            try:
                found = self._result((item, *rest))
            except (msgspec.MsgspecError, ValueError, TypeError):
                yield f"the ledger's record of item {item} cannot be read"
                continue
            if (found.item, found.status) != (item, status):
                yield f"the ledger's record of item {item} says something else than its row"

    def counts(self) -> Counter[Status]:
        """Return how many items have come to which end."""
        rows = self._connection.execute("SELECT status, count(*) FROM item WHERE sequence IS NOT NULL GROUP BY status")
        return Counter({Status(status): count for status, count in rows})

    def error_counts(self) -> Counter[ErrorKind]:
        """Return how many items failed for which cause."""
        rows = self._connection.execute(
            "SELECT error_kind, count(*) FROM item WHERE sequence IS NOT NULL AND error_kind IS NOT NULL GROUP BY 1"
        )
        return Counter({ErrorKind(kind): count for kind, count in rows})

    def last_finished_ms(self) -> int | None:
        """Return when the last item finished, in milliseconds since the epoch; None where there is no result."""
        row = self._connection.execute(
            f"{SELECT[self._version]} AND sequence IS NOT NULL ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        return None if row is None else self._result(row).finished_ms

    def finished(self) -> Iterator[int]:
        """Yield the numbers of the finished items in ascending order, so that a resume is a merge."""
        after = 0
        while True:
            # Most runs finish items one after another, so that the ends of a chunk say which items are in it.
            count, last = self._connection.execute(FINISHED_COUNT, (after,)).fetchone()
            if last is None:
                return
            if last - after == count:
                yield from range(after + 1, last + 1)
            else:
                for (item,) in self._connection.execute(FINISHED, (after,)).fetchall():
                    yield item
            after = last

    def in_flight(self) -> list[InFlight]:
        """Return the items that were started and have no result: those in flight when the process ended."""
        unwritten = "" if self._version == FIRST_VERSION else "AND line IS NULL"
        rows = self._connection.execute(
            f"SELECT item, key, attempt, begun_ms FROM item WHERE status IS NULL {unwritten} ORDER BY item"
        )
        return [InFlight(*row) for row in rows]

    def unverified(self) -> list[ItemResult]:
        """Return the items that were written and not read back when the process ended, as succeeded."""
        if self._version == FIRST_VERSION:
            return []
        rows = self._connection.execute("SELECT line FROM item WHERE status IS NULL AND line IS NOT NULL")
        return [decoded(line, provisional=False) for (line,) in rows]

    def rows(self) -> Iterator[ItemResult]:
        """Yield every result in the input's order."""
        for row in self._chunks(SELECT[self._version], by="item", place=0):
            yield self._result(row)

    def rows_as_finished(self) -> Iterator[ItemResult]:
        """Yield every result in the order in which the items came to their end."""
        for row in self._chunks(SELECT[self._version], by="sequence", place=-1):
            yield self._result(row)

    def lines_as_finished(self) -> Iterator[bytes]:
        """Yield the lines of all records, many at a time, in the order of their ends: the bytes of `results.jsonl`."""
        if self._version == FIRST_VERSION:
            for result in self.rows_as_finished():
                yield encoded(record(result, run=self._run))
            return
        for rows in self._chunked(SELECT[self._version], by="sequence", place=-1):
            yield b"".join([row[1] for row in rows])

    def _result(self, row: tuple[Any, ...]) -> ItemResult:
        if self._version == FIRST_VERSION:
            return decoded_first(row[:-1])
        _, line, provisional, _ = row
        return decoded(line, provisional=bool(provisional))

    def images(self) -> Iterator[Image]:
        """Yield the images of the items that the run has changed, or may have."""
        marks = ", ".join("?" * len(MAYBE_CHANGED))
        kept = (
            "SELECT item, key, url, image, coalesce(verified, 0) "
            "FROM before JOIN (SELECT item, key, status, error_kind, verified FROM item) USING (item)"
            f" WHERE (status IS NULL OR status IN ('succeeded', 'in_doubt') OR error_kind IN ({marks}))"
        )
        for row in self._chunks(kept, MAYBE_CHANGED, by="item"):
            yield Image(*row)

    def _chunks(
        self, statement: str, values: tuple[Any, ...] = (), *, by: str, place: int = 0
    ) -> Iterator[tuple[Any, ...]]:
        return chain.from_iterable(self._chunked(statement, values, by=by, place=place))

    def _chunked(
        self, statement: str, values: tuple[Any, ...] = (), *, by: str, place: int = 0
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Read in chunks ordered by a column and its place: a long read would keep the WAL from being checkpointed."""
        after = 0
        while True:
            rows = self._connection.execute(
                f"{statement} AND {by} > ? ORDER BY {by} LIMIT {CHUNK}", (*values, after)
            ).fetchall()
            yield rows
            if len(rows) < CHUNK:
                return
            after = rows[-1][place]


def is_begun(path: Path) -> bool:
    """Tell whether a run was started in a ledger: a process that ended before the first commit has left nothing.

    It is opened for writing, since a power loss while it was made leaves a journal that has to be rolled back.

    Raises:
        LedgerError: it cannot be read.
    """
    with explained(path):
        if path.stat().st_size == 0:
            return False
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S)) as connection:
            return is_ledger(connection, path)


def is_started(path: Path) -> bool:
    """Tell whether a ledger says what its run is; one that is damaged counts, so that the damage is told."""
    try:
        with read_ledger(path) as reader:
            return bool(reader.meta())
    except LedgerError:
        try:
            return is_begun(path)
        except LedgerError:
            return True


@contextmanager
def read_ledger(path: Path) -> Iterator[LedgerReader]:
    """Open a ledger read-only and close it on leaving.

    Raises:
        LedgerError: it cannot be read.
    """
    with explained(path):
        if not path.is_file():
            raise LedgerError(f"{path}: there is no ledger")
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
            if not is_ledger(connection, path):
                raise LedgerError(f"{path}: the ledger is empty: the process ended before the run began")
            yield LedgerReader(connection, run=path.parent.name)
