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
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

import msgspec

from migrator.envelope import ErrorKind, ItemError
from migrator.folder import FolderError, open_private
from migrator.outcome import Status

__all__ = ["Image", "InFlight", "Ledger", "LedgerError", "LedgerReader", "Row", "is_begun", "read_ledger"]

SCHEMA_VERSION: Final = 1

APPLICATION_ID: Final = int.from_bytes(b"migr", "big")
"""What `file(1)` and we know a ledger by (sqlite.org/pragma.html#pragma_application_id)."""

STRICT: Final = ", STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
"""Column types are enforced where SQLite knows how: the Python 3.11 of RHEL 9 is built on 3.34."""

SCHEMA: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID{STRICT};
CREATE TABLE item (
    item INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    begun_ms INTEGER,
    status TEXT,
    method TEXT,
    url TEXT,
    http_status INTEGER,
    request_id TEXT,
    finished_ms INTEGER,
    duration_ms REAL,
    waited_ms REAL,
    verified INTEGER,
    quota_limit INTEGER,
    quota_remaining INTEGER,
    quota_reset_s REAL,
    error_kind TEXT,
    provisional INTEGER,
    error TEXT,
    sequence INTEGER,
    CHECK (item > 0)
){STRICT.replace(",", "")};
CREATE TABLE before (item INTEGER PRIMARY KEY, url TEXT NOT NULL, image BLOB NOT NULL){STRICT.replace(",", "")};
CREATE INDEX item_sequence ON item (sequence) WHERE sequence IS NOT NULL;
"""

COLUMNS: Final = (
    "item, key, status, method, url, http_status, attempt, request_id, finished_ms, duration_ms, waited_ms, "
    "verified, quota_limit, quota_remaining, quota_reset_s, provisional, error"
)
"""In the order of the fields of `Row`."""

RECORD: Final = f"INSERT OR REPLACE INTO item ({COLUMNS}, error_kind, sequence, begun_ms) VALUES {{rows}}"  # noqa: S608  constants alone
WITHDRAW: Final = "DELETE FROM item WHERE status IS NULL AND item IN ({rows})"
REOPEN: Final = "DELETE FROM item WHERE provisional"
KEEP: Final = "INSERT OR IGNORE INTO before (item, url, image) VALUES (?, ?, ?)"
PUT: Final = "INSERT OR REPLACE INTO meta SELECT key, value FROM json_each(?)"

SELECT: Final = f"SELECT {COLUMNS}, sequence FROM item WHERE status IS NOT NULL"  # noqa: S608  constants alone

ROWS_A_STATEMENT: Final = 48
"""Rows that one statement writes: Python's lock changes hands once for each statement, and not once for each row, which
would cost the event loop a fifth of its time. SQLite before 3.32 takes 999 parameters, and a row has 20."""

NOTE_S: Final = 0.02
"""Seconds that a note for which nobody waits may stay in memory, so that it need not have a commit of its own."""

CHUNK: Final = 1000
"""Rows that are read at a time."""

BUSY_S: Final = 5.0
"""Seconds to wait for a lock; only a backup tool or a curious reader could hold one."""


class LedgerError(Exception):
    """The ledger cannot be read or written; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of an item: all that a record says, and nothing secret.

    Attributes:
        item: the row's number in the input, from 1.
        key: what names the item.
        status: what became of it.
        method: the request's.
        url: the request's, masked.
        http_status: the last answer's.
        attempts: how often it was tried.
        request_id: the server's own id of the last answer.
        finished_ms: milliseconds since the epoch, UTC.
        duration_ms: of the last attempt.
        waited_ms: for the throttle and between attempts.
        verified: whether the answer holds what was sent; None where that was not looked at.
        limit: the quota that the last answer reported.
        remaining: its rest.
        reset_s: seconds until it is renewed.
        provisional: the run was stopped by it, and it is sent again when the run is resumed.
        error: why it did not succeed.
    """

    item: int
    key: str
    status: Status
    method: str
    url: str
    http_status: int | None
    attempts: int
    request_id: str | None
    finished_ms: int
    duration_ms: float
    waited_ms: float
    verified: bool | None
    limit: int | None
    remaining: int | None
    reset_s: float | None
    provisional: bool = False
    error: ItemError | None


@dataclass(frozen=True, slots=True)
class InFlight:
    """An item that was being sent when the process ended: nobody knows whether it took."""

    item: int
    key: str
    attempt: int
    begun_ms: int


@dataclass(frozen=True, slots=True)
class Image:
    """What was there before an item was written, under lock and key."""

    item: int
    key: str
    url: str
    locked: bytes


MAYBE_CHANGED: Final = ("mismatch", "timeout", "connection", "protocol", "server")
"""Errors after which nobody knows whether the server has acted."""

Operation: TypeAlias = tuple[str, tuple[Any, ...], "asyncio.Future[None] | None"]


class Ledger:
    """The writing side; made by `Ledger.open`.

    Every method that writes raises `LedgerError` once a commit has failed: a ledger that could not be written is not
    believed again, so that sending stops at once. What was written is durable in the order in which it was asked for.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
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
        with _explained(path):
            _prepare(path, create=create)
            connection = _connect(path)
        with closing(connection):
            with _explained(path):
                ledger = cls(connection)
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

    async def settle(self, row: Row) -> None:
        """Record an item's end, and return once it is durable."""
        self._sequence += 1
        error_kind = None if row.error is None else row.error.kind
        await self._durably(RECORD, (*_encoded(row), error_kind, self._sequence, None))

    async def reopen(self) -> None:
        """Take back the results by which the run was stopped, so that their items are sent again."""
        await self._durably(REOPEN, ())

    async def keep(self, item: int, url: str, image: bytes) -> None:
        """Keep what a record held before it is written, durably; the first image of an item stays."""
        await self._durably(KEEP, (item, url, image))

    async def put(self, **values: str) -> None:
        """Set facts about the run, all at once."""
        await self._durably(PUT, (msgspec.json.encode(values).decode(),))

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
            if len(statements) == 1:
                self._connection.execute(*statements[0])
                return None
            self._connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._connection.execute(statement, values)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            return _explanation(error)
        except Exception as error:  # noqa: BLE001  a value that SQLite does not take: whoever waits has to be told
            return f"a value cannot be recorded ({type(error).__name__})"
        return None

    def __repr__(self) -> str:
        return f"<ledger: {self._failure or 'open'}, {self._sequence} results>"


def _grouped(batch: list[Operation]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the statements of a batch; the last word on an item is all that a batch leaves of it anyway."""
    last: dict[int, tuple[str, tuple[Any, ...]]] = {}
    for statement, values, _ in batch:
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


class LedgerReader:
    """The reading side: any number of them, while a run goes on or after it; made by `read_ledger`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def meta(self) -> Mapping[str, str]:
        """Return the facts about the run."""
        return dict(self._connection.execute("SELECT name, value FROM meta"))

    def counts(self) -> Counter[Status]:
        """Return how many items have come to which end."""
        rows = self._connection.execute("SELECT status, count(*) FROM item WHERE status IS NOT NULL GROUP BY status")
        return Counter({Status(status): count for status, count in rows})

    def error_counts(self) -> Counter[ErrorKind]:
        """Return how many items failed for which cause."""
        rows = self._connection.execute("SELECT error_kind, count(*) FROM item WHERE error_kind IS NOT NULL GROUP BY 1")
        return Counter({ErrorKind(kind): count for kind, count in rows})

    def finished(self) -> Iterator[int]:
        """Yield the numbers of the finished items in ascending order, so that a resume is a merge."""
        for (item,) in self._chunks("SELECT item FROM item WHERE status IS NOT NULL", by="item"):
            yield item

    def in_flight(self) -> list[InFlight]:
        """Return the items that were begun and have no result: those in flight when the process ended."""
        rows = self._connection.execute(
            "SELECT item, key, attempt, begun_ms FROM item WHERE status IS NULL ORDER BY item"
        )
        return [InFlight(*row) for row in rows]

    def rows(self) -> Iterator[Row]:
        """Yield every result in the input's order."""
        for row in self._chunks(SELECT, by="item", place=0):
            yield _decoded(row)

    def rows_as_finished(self) -> Iterator[Row]:
        """Yield every result in the order in which the items came to their end."""
        for row in self._chunks(SELECT, by="sequence", place=-1):
            yield _decoded(row)

    def images(self) -> Iterator[Image]:
        """Yield the images of the items that the run has changed, or may have."""
        marks = ", ".join("?" * len(MAYBE_CHANGED))
        kept = (
            "SELECT item, key, url, image "  # noqa: S608  constants alone
            "FROM before JOIN (SELECT item, key, status, error_kind FROM item) USING (item)"
            f" WHERE (status IS NULL OR status IN ('succeeded', 'in_doubt') OR error_kind IN ({marks}))"
        )
        for row in self._chunks(kept, MAYBE_CHANGED, by="item"):
            yield Image(*row)

    def _chunks(
        self, statement: str, values: tuple[Any, ...] = (), *, by: str, place: int = 0
    ) -> Iterator[tuple[Any, ...]]:
        """Read in chunks ordered by a column and its place: a long read would keep the WAL from being checkpointed."""
        after = 0
        while True:
            rows = self._connection.execute(
                f"{statement} AND {by} > ? ORDER BY {by} LIMIT {CHUNK}", (*values, after)
            ).fetchall()
            yield from rows
            if len(rows) < CHUNK:
                return
            after = rows[-1][place]


def is_begun(path: Path) -> bool:
    """Tell whether a run was begun in a ledger: a process that ended before the first commit has left nothing.

    Raises:
        LedgerError: it cannot be read.
    """
    with _explained(path):
        if path.stat().st_size == 0:
            return False
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
            return _is_ledger(connection, path)


@contextmanager
def read_ledger(path: Path) -> Iterator[LedgerReader]:
    """Open a ledger read-only and close it on leaving.

    Raises:
        LedgerError: it cannot be read.
    """
    with _explained(path):
        if not path.is_file():
            raise LedgerError(f"{path}: there is no ledger")
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
            if not _is_ledger(connection, path):
                raise LedgerError(f"{path}: the ledger is empty: the process ended before the run began")
            yield LedgerReader(connection)


def _prepare(path: Path, *, create: bool) -> None:
    """Make the file with its mode, since SQLite would make it readable by all."""
    if path.is_symlink():
        raise LedgerError(f"{path}: the ledger is a link, which is not followed")
    # An existing file is not opened: closing it would release the locks of SQLite in this process
    # (sqlite.org/howtocorrupt.html, section 2.2).
    if not path.exists():
        if not create:
            raise LedgerError(f"{path}: there is no ledger")
        try:
            open_private(path, "ab").close()
        except FolderError as error:
            raise LedgerError(str(error)) from None


def _connect(path: Path) -> sqlite3.Connection:
    # isolation_level=None: transactions are begun where they are meant.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    try:
        if not _is_ledger(connection, path):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_ledger(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell a ledger from a file that is still empty.

    Raises:
        LedgerError: it is something else, or was written by a newer version.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables == version == 0:
        return False
    if application != APPLICATION_ID:
        raise LedgerError(f"{path}: this is a database of another program")
    if version > SCHEMA_VERSION:
        raise LedgerError(f"{path}: written by a newer version of migrator (schema {version}); use that one")
    return True


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say what SQLite's words mean, and of which ledger."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {_explanation(error)}") from None


EXPLANATIONS: Final = (
    ("SQLITE_FULL", "the disk is full; make room and give the same command again"),
    ("SQLITE_IOERR", "the disk does not take or give the ledger's pages; look at its space, quota and health"),
    (("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN"), "the ledger is closed to us; look at its owner and mode"),
    (("SQLITE_CORRUPT", "SQLITE_NOTADB"), "it is damaged; results.jsonl says what was done, --fresh starts anew"),
    (("SQLITE_BUSY", "SQLITE_LOCKED"), "the ledger is locked by another program"),
)
"""What SQLite's result codes, with their extended forms (sqlite.org/rescode.html), mean for the person on call."""


def _explanation(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    for codes, meaning in EXPLANATIONS:
        if name.startswith(codes):
            return meaning
    return f"the ledger cannot be used ({name or type(error).__name__})"


def _encoded(row: Row) -> tuple[Any, ...]:
    *values, error = (getattr(row, name) for name in ROW_FIELDS)
    return (*values, None if error is None else msgspec.json.encode(error).decode())


def _begun(item: int, key: str, attempt: int, at_ms: int) -> tuple[Any, ...]:
    return (item, key, None, None, None, None, attempt, *[None] * 12, at_ms)


def _decoded(values: tuple[Any, ...]) -> Row:
    named = dict(zip(ROW_FIELDS, values[:-1], strict=True))
    named["status"] = Status(named["status"])
    named["verified"] = None if named["verified"] is None else bool(named["verified"])
    named["provisional"] = bool(named["provisional"])
    named["error"] = None if named["error"] is None else msgspec.json.decode(named["error"], type=ItemError)
    return Row(**named)


ROW_FIELDS: Final = tuple(field.name for field in fields(Row))
