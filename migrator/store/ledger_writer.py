"""The ledger: SQLite, the truth about every item, from which every file, display and exit code can be made again.

One thread owns the only connection that writes. All operations that have come up while it was busy are its next
transaction, and only then those who wait go on: a group commit without any artificial delay, and with two changes of
thread for each, which matters more in Python than the disk.

`synchronous=FULL` makes each commit survive a power loss and not only a kill: in WAL mode `NORMAL` leaves out the fsync
at commit (sqlite.org/pragma.html#pragma_synchronous), and a lost result is an item sent twice. With group commits it
costs nothing at the rates of a throttled API. WAL lets readers look on; they open the file read-only and never
checkpoint, since SQLite before 3.51.3 has a corruption race between two connections that do.
"""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from functools import lru_cache
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

import msgspec

from migrator.errors import FolderError, LedgerError, shortage
from migrator.results import ItemResult
from migrator.store.files import open_private
from migrator.store.item_record import encoded, record
from migrator.store.ledger_schema import (
    APPLICATION_ID,
    BUSY_S,
    SCHEMA,
    SCHEMA_VERSION,
    explained,
    explanation,
    is_ledger,
)
from migrator.store.ledger_upgrade import FIRST_VERSION, upgrade

__all__ = ["Ledger"]

RECORD: Final = (
    "INSERT OR REPLACE INTO item "
    "(item, key, status, attempt, begun_ms, error_kind, verified, provisional, line, sequence) VALUES {rows}"
)
WITHDRAW: Final = "DELETE FROM item WHERE status IS NULL AND item IN ({rows})"
REOPEN: Final = "DELETE FROM item WHERE provisional"
KEEP: Final = "INSERT OR IGNORE INTO before (item, url, image) VALUES (?, ?, ?)"
NOTHING: Final = ""
"""In the place of a statement: only the commit is waited for."""
PUT: Final = "INSERT OR REPLACE INTO meta SELECT key, value FROM json_each(?)"

ROWS_A_STATEMENT: Final = 96
"""Rows that one statement writes: Python's lock changes hands once for each statement, and not once for each row, which
would cost the event loop a fifth of its time. SQLite before 3.32 takes 999 parameters, and a row has 10."""

NOTE_S: Final = 0.02
"""Seconds that a note for which no task waits may stay in memory, so that it needs no commit of its own."""

Operation: TypeAlias = tuple[str, tuple[Any, ...], "asyncio.Future[None] | None"]


class Ledger:
    """The writing side; made by `Ledger.open`.

    Every method that writes raises `LedgerError` once a commit has failed: a ledger that could not be written is not
    believed again, so that sending stops at once. What was written is durable in the order in which it was asked for.
    """

    def __init__(self, connection: sqlite3.Connection, *, run: str) -> None:
        self._connection = connection
        self._run = run
        self._pending: list[Operation] = []
        self._committing = False
        self._batches: SimpleQueue[list[Operation] | None] = SimpleQueue()
        self._failure: str | None = None
        self._loop = asyncio.get_running_loop()
        row = connection.execute("SELECT coalesce(max(sequence), 0) FROM item").fetchone()
        self._sequence: int = row[0]
        self._writer = threading.Thread(target=self._write, name="ledger")

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, *, create: bool = True) -> AsyncIterator["Ledger"]:
        """Open the ledger for writing, and close it on leaving; what has been asked for is written first.

        Args:
            path: the file, which is made with mode 0600; SQLite gives the files beside it the same.
            create: whether to make it where there is none.

        Raises:
            LedgerError: it cannot be opened, is damaged, or was written by a newer version.
        """
        with explained(path):
            _prepare(path, create=create)
            connection = _connect(path, run=path.parent.name)
        with closing(connection):
            with explained(path):
                ledger = cls(connection, run=path.parent.name)
            ledger._writer.start()
            try:
                yield ledger
            finally:
                ledger._close()

    def begin(self, item: int, key: str, attempt: int, at_ms: int) -> None:
        """Note that an item is about to be sent, without waiting for the disk."""
        self._enqueue(RECORD, _begun(item, key, attempt, at_ms))

    async def begin_durably(self, item: int, key: str, attempt: int, at_ms: int) -> None:
        """Note that an item is about to be sent, and return once that is durable."""
        await self._durably(RECORD, _begun(item, key, attempt, at_ms))

    def withdraw(self, item: int) -> None:
        """Note that an attempt is known to have had no effect, without waiting for the disk.

        An item that waits for its next attempt after a refusal is not in flight, and must not be in doubt if the
        process ends meanwhile. A result that is there already stays.
        """
        self._enqueue(WITHDRAW, (item,))

    async def settle(self, row: ItemResult) -> bytes:
        """Record a result, and return its line for `results.jsonl` once it is durable."""
        line = encoded(record(row, run=self._run))
        await self._durably(RECORD, self._settled(row, line))
        return line

    def note_result(self, row: ItemResult, line: bytes) -> None:
        """Record a result whose line is encoded already; `durable` returns once it is on the disk."""
        self._enqueue(RECORD, self._settled(row, line))

    def note_written(self, row: ItemResult, line: bytes) -> None:
        """Record that an item was written and has to be read back; `durable` returns once that is on the disk."""
        self._enqueue(RECORD, _written(row, line))

    def note_image(self, item: int, url: str, image: bytes) -> None:
        """Keep what a record held as `keep` does; `durable` returns once that is on the disk."""
        self._enqueue(KEEP, (item, url, image))

    async def durable(self) -> None:
        """Return once all that was recorded before is on the disk."""
        await self._durably(NOTHING, ())

    async def written(self, row: ItemResult) -> None:
        """Record that an item was written and has to be read back, and return once that is durable.

        It has a line and no status: a process that ends here leaves it to be read back by the next one.
        """
        await self._durably(RECORD, _written(row, encoded(record(row, run=self._run))))

    async def reopen(self) -> None:
        """Take back the results by which the run was stopped, so that their items are sent again."""
        await self._durably(REOPEN, ())

    async def keep(self, item: int, url: str, image: bytes) -> None:
        """Keep what a record held before it is written, durably; the first image of an item stays."""
        await self._durably(KEEP, (item, url, image))

    async def put(self, **values: str) -> None:
        """Set facts about the run, all at once."""
        await self._durably(PUT, (msgspec.json.encode(values).decode(),))

    def _settled(self, row: ItemResult, line: bytes) -> tuple[Any, ...]:
        self._sequence += 1
        kind = None if row.error is None else row.error.kind
        end = (row.status, row.attempts, None, kind, row.verified, row.provisional, line, self._sequence)
        return (row.item, row.key, *end)

    async def _durably(self, statement: str, values: tuple[Any, ...]) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._enqueue(statement, values, done)
        await done

    def _enqueue(self, statement: str, values: tuple[Any, ...], done: "asyncio.Future[None] | None" = None) -> None:
        if self._failure is not None:
            raise LedgerError(self._failure)
        self._pending.append((statement, values, done))
        if not self._committing and (done is not None or len(self._pending) == 1):
            # At the end of this turn of the loop, so that all it records goes together; a mere note can wait for more.
            self._loop.call_later(0.0 if done is not None else NOTE_S, self._hand_over)

    def _hand_over(self) -> None:
        """Give the writer all that is pending, unless it has something to do: then it gets more when it is done."""
        if self._pending and not self._committing:
            self._committing = True
            self._batches.put(self._pending)
            self._pending = []

    def _close(self) -> None:
        """End the writer, which would keep the process from ending; it does what is pending first."""
        self._batches.put(self._pending)
        self._batches.put(None)
        # The thread ends after two commits at the most; a hung disk would hang any way of closing.
        self._writer.join()
        self._failure = self._failure or "the ledger is closed"

    def _write(self) -> None:
        """Commit batch after batch until told to end: the writer thread's whole life."""
        while (batch := self._batches.get()) is not None:
            if self._failure is None:
                self._failure = self._commit(batch)
            self._loop.call_soon_threadsafe(self._committed, batch)

    def _committed(self, batch: list[Operation]) -> None:
        self._committing = False
        self._hand_over()
        for _, _, done in batch:
            if done is None or done.done():
                continue
            if self._failure is None:
                done.set_result(None)
            else:
                done.set_exception(LedgerError(self._failure))

    def _commit(self, batch: list[Operation]) -> str | None:
        """Write a batch whole or not at all, and return why it could not be."""
        try:
            statements = list(_grouped(batch))
            if not statements:
                return None
            if len(statements) == 1:
                self._connection.execute(*statements[0])
                return None
            self._connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._connection.execute(statement, values)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            return explanation(error)
        except Exception as error:  # noqa: BLE001  a value that SQLite does not take: the task that waits has to be told
            return "memory ran out" if shortage(error) else f"a value cannot be recorded ({type(error).__name__})"
        return None

    def __repr__(self) -> str:
        return f"<ledger: {self._failure or 'open'}, {self._sequence} results>"


def _grouped(batch: list[Operation]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the statements of a batch; the last word on an item is all that a batch leaves of it anyway."""
    last: dict[int, tuple[str, tuple[Any, ...]]] = {}
    for statement, values, _ in batch:
        if statement is NOTHING:
            continue
        if statement is WITHDRAW and (known := last.get(values[0])) is not None and known[1][2:3] != (None,):
            # A result stays, and there is nothing more to withdraw.
            continue
        if statement in {RECORD, WITHDRAW}:
            last[values[0]] = statement, values
        else:
            yield from _per_item(last)
            last.clear()
            yield statement, values
    yield from _per_item(last)


def _per_item(last: Mapping[int, tuple[str, tuple[Any, ...]]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for kind in (WITHDRAW, RECORD):
        rows = [values for statement, values in last.values() if statement is kind]
        for start in range(0, len(rows), ROWS_A_STATEMENT):
            chunk = rows[start : start + ROWS_A_STATEMENT]
            yield _for_rows(kind, len(chunk), len(chunk[0])), tuple(chain.from_iterable(chunk))


@lru_cache(maxsize=2 * ROWS_A_STATEMENT)
def _for_rows(statement: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})" if columns > 1 else "?"
    return statement.format(rows=", ".join([row] * rows))


def _begun(item: int, key: str, attempt: int, at_ms: int) -> tuple[Any, ...]:
    return (item, key, None, attempt, at_ms, None, None, None, None, None)


def _written(row: ItemResult, line: bytes) -> tuple[Any, ...]:
    return (row.item, row.key, None, row.attempts, row.finished_ms, None, None, 0, line, None)


def _prepare(path: Path, *, create: bool) -> None:
    """Make the file with its mode, since SQLite would make it readable by all."""
    if path.is_symlink():
        raise LedgerError(f"{path}: the ledger is a link; links are not followed")
    # An existing file is not opened: closing it would release the locks of SQLite in this process
    # (sqlite.org/howtocorrupt.html, section 2.2).
    if not path.exists():
        if not create:
            raise LedgerError(f"{path}: there is no ledger")
        try:
            open_private(path, "ab").close()
        except FolderError as error:
            raise LedgerError(str(error)) from None


def _connect(path: Path, *, run: str) -> sqlite3.Connection:
    # isolation_level=None: transactions start where they are meant.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    try:
        if not is_ledger(connection, path):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        connection.execute("PRAGMA synchronous = FULL")
        if connection.execute("PRAGMA user_version").fetchone() == (FIRST_VERSION,):
            upgrade(connection, run=run)
    except BaseException:
        connection.close()
        raise
    return connection
