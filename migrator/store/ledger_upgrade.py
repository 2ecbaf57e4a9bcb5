"""Ledgers of version 0.1: they are read as they are, and become this version's when a run goes on with one."""

import sqlite3
from typing import Any, Final

import msgspec

from migrator.results import ItemError, ItemResult, Status
from migrator.store.item_record import encoded, record
from migrator.store.ledger_schema import ITEM_INDEX, ITEM_TABLE, SCHEMA_VERSION

__all__ = ["FIRST_COLUMNS", "FIRST_VERSION", "decoded_first", "upgrade"]

FIRST_VERSION: Final = 1
"""The schema of version 0.1, which had a column for each member of a result."""

FIRST_COLUMNS: Final = (
    "item, key, status, method, url, http_status, attempt, request_id, finished_ms, duration_ms, waited_ms, "
    "verified, quota_limit, quota_remaining, quota_reset_s, provisional, error"
)
FIELDS: Final = ItemResult.__struct_fields__

COPY: Final = (
    "INSERT INTO item (item, key, status, attempt, begun_ms, error_kind, verified, provisional, line, sequence) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def decoded_first(values: tuple[Any, ...]) -> ItemResult:
    """Return the result in a row of `FIRST_COLUMNS`."""
    named = dict(zip(FIELDS, values, strict=True))
    named["status"] = Status(named["status"])
    named["verified"] = None if named["verified"] is None else bool(named["verified"])
    named["provisional"] = bool(named["provisional"])
    named["error"] = None if named["error"] is None else msgspec.json.decode(named["error"], type=ItemError)
    return ItemResult(**named)


def upgrade(connection: sqlite3.Connection, *, run: str) -> None:
    """Bring a ledger of version 0.1 to this version, whole or not at all; nothing of it is lost.

    Args:
        connection: no transaction is open.
        run: the run's id, which stands in every record.
    """
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ALTER TABLE item RENAME TO item_1")
    connection.execute("DROP INDEX item_sequence")
    connection.execute(ITEM_TABLE)
    connection.execute(
        "INSERT INTO item (item, key, attempt, begun_ms) SELECT item, key, attempt, begun_ms FROM item_1 "
        "WHERE status IS NULL"
    )
    rows = connection.execute(f"SELECT {FIRST_COLUMNS}, sequence FROM item_1 WHERE status IS NOT NULL")
    for *values, sequence in rows:
        row = decoded_first(tuple(values))
        kind = None if row.error is None else row.error.kind
        line = encoded(record(row, run=run))
        at = (row.item, row.key, row.status, row.attempts, None, kind, row.verified, row.provisional, line, sequence)
        connection.execute(COPY, at)
    connection.execute("DROP TABLE item_1")
    connection.execute(ITEM_INDEX)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
