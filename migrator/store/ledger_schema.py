"""The ledger's file: its tables, its rows, and what SQLite's refusals mean."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.errors import LedgerError
from migrator.results import ItemError, ItemResult, Status

__all__ = [
    "APPLICATION_ID",
    "BUSY_S",
    "COLUMNS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "decoded",
    "encoded",
    "explained",
    "explanation",
    "is_ledger",
]

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

BUSY_S: Final = 5.0
"""Seconds to wait for a lock; only a backup tool or a curious reader could hold one."""


ROW_FIELDS: Final = tuple(field.name for field in fields(ItemResult))


def encoded(row: ItemResult) -> tuple[Any, ...]:
    """Return a row's values in the order of `COLUMNS`."""
    *values, error = (getattr(row, name) for name in ROW_FIELDS)
    return (*values, None if error is None else msgspec.json.encode(error).decode())


def decoded(values: tuple[Any, ...]) -> ItemResult:
    """Return the row of such values, to which its sequence is added."""
    named = dict(zip(ROW_FIELDS, values[:-1], strict=True))
    named["status"] = Status(named["status"])
    named["verified"] = None if named["verified"] is None else bool(named["verified"])
    named["provisional"] = bool(named["provisional"])
    named["error"] = None if named["error"] is None else msgspec.json.decode(named["error"], type=ItemError)
    return ItemResult(**named)


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
    (("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN"), "the ledger is closed to us; look at its owner and mode"),
    (("SQLITE_CORRUPT", "SQLITE_NOTADB"), "it is damaged; results.jsonl says what was done, --fresh starts anew"),
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
