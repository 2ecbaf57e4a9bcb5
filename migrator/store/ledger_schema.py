"""The ledger's file: its tables, its rows, and what SQLite's refusals mean."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from migrator.errors import LedgerError

__all__ = [
    "APPLICATION_ID",
    "BUSY_S",
    "ITEM_INDEX",
    "ITEM_TABLE",
    "SCHEMA",
    "SCHEMA_VERSION",
    "explained",
    "explanation",
    "is_ledger",
]

SCHEMA_VERSION: Final = 2

APPLICATION_ID: Final = int.from_bytes(b"migr", "big")
"""What `file(1)` and we know a ledger by (sqlite.org/pragma.html#pragma_application_id)."""

STRICT: Final = ", STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
"""Column types are enforced where SQLite knows how: the Python 3.11 of RHEL 9 is built on 3.34."""

END: Final = STRICT.replace(",", "")

ITEM_TABLE: Final = f"""
CREATE TABLE item (
    item INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    begun_ms INTEGER,
    status TEXT,
    error_kind TEXT,
    verified INTEGER,
    provisional INTEGER,
    line BLOB,
    sequence INTEGER,
    CHECK (item > 0)
){END}
"""
"""What is queried of an item, beside its record: `line` is the line of `results.jsonl`."""

ITEM_INDEX: Final = "CREATE INDEX item_sequence ON item (sequence, status, error_kind) WHERE sequence IS NOT NULL"
"""It holds all that is counted, so that no record is read for a count."""

SCHEMA: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID{STRICT};
{ITEM_TABLE};
CREATE TABLE before (item INTEGER PRIMARY KEY, url TEXT NOT NULL, image BLOB NOT NULL){END};
{ITEM_INDEX};
"""

BUSY_S: Final = 5.0
"""Seconds to wait for a lock; only a backup tool or a curious reader could hold one."""


def is_ledger(connection: sqlite3.Connection, path: Path) -> bool:
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
def explained(path: Path) -> Iterator[None]:
    """Say what SQLite's words mean, and of which ledger."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {explanation(error)}") from None


EXPLANATIONS: Final = (
    ("SQLITE_FULL", "the disk is full; make room and give the same command again"),
    ("SQLITE_IOERR", "the disk does not take or give the ledger's pages; look at its space, quota and health"),
    (("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN"), "the ledger cannot be opened; look at its owner and mode"),
    (("SQLITE_CORRUPT", "SQLITE_NOTADB"), "it is damaged; results.jsonl says what was done, --fresh starts a new run"),
    (("SQLITE_BUSY", "SQLITE_LOCKED"), "the ledger is locked by another program"),
)
"""What SQLite's result codes, with their extended forms (sqlite.org/rescode.html), mean for the person on call."""


def explanation(error: sqlite3.Error) -> str:
    """Return what a refusal of SQLite means, and what to do."""
    name = getattr(error, "sqlite_errorname", "")
    for codes, meaning in EXPLANATIONS:
        if name.startswith(codes):
            return meaning
    return f"the ledger cannot be used ({name or type(error).__name__})"
