"""The ledger's file is known by its marks, and SQLite's refusals are put into words."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from migrator.errors import LedgerError
from migrator.store.ledger_schema import (
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_VERSION,
    explained,
    explanation,
    is_ledger,
)

PATH = Path("ledger.db")


def marked(connection: sqlite3.Connection, *, application: int = APPLICATION_ID, version: int = SCHEMA_VERSION) -> None:
    """Make the tables, and mark the file."""
    connection.executescript(SCHEMA)
    connection.execute(f"PRAGMA application_id = {application}")
    connection.execute(f"PRAGMA user_version = {version}")


def test_empty_file_is_not_yet_a_ledger() -> None:
    """A process that died before the schema was written leaves a file that is started again."""
    with closing(sqlite3.connect(":memory:")) as connection:
        assert not is_ledger(connection, PATH)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_ledgers_of_all_versions_are_known(version: int) -> None:
    """An older one is read as well."""
    with closing(sqlite3.connect(":memory:")) as connection:
        marked(connection, version=version)
        assert is_ledger(connection, PATH)


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"application": 0}, "a database of another program"),
        ({"application": 0, "version": 0}, "a database of another program"),
        ({"version": SCHEMA_VERSION + 1}, rf"written by a newer version of migrator \(schema {SCHEMA_VERSION + 1}\)"),
    ],
)
def test_other_databases_are_refused(marks: dict[str, int], message: str) -> None:
    """Nothing is written into a file that is not ours, or newer than we are."""
    with closing(sqlite3.connect(":memory:")) as connection:
        marked(connection, **marks)
        with pytest.raises(LedgerError, match=message):
            is_ledger(connection, PATH)


@pytest.mark.parametrize(
    "row",
    ["INSERT INTO item (item, key, attempt) VALUES (0, 'k', 1)", "INSERT INTO item (item, attempt) VALUES (1, 1)"],
)
def test_tables_take_no_nonsense(row: str) -> None:
    """Items count from 1, and each has a key."""
    with closing(sqlite3.connect(":memory:")) as connection:
        marked(connection)
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(row)


def test_refusal_of_sqlite_names_the_ledger_and_the_remedy(tmp_path: Path) -> None:
    """A file that is no database is told as damaged, with what to do, and without SQLite's own words."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database, though it is long enough to be looked at" * 20)

    with (
        closing(sqlite3.connect(path)) as connection,
        pytest.raises(LedgerError, match=r"ledger\.db: it is damaged; results\.jsonl says what was done"),
        explained(path),
    ):
        connection.execute("SELECT 1 FROM sqlite_master")


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("SQLITE_FULL", "the disk is full"),
        ("SQLITE_IOERR_FSYNC", "the disk does not take or give"),
        ("SQLITE_READONLY_DBMOVED", "cannot be opened"),
        ("SQLITE_CANTOPEN_ISDIR", "cannot be opened"),
        ("SQLITE_CORRUPT_INDEX", "damaged"),
        ("SQLITE_BUSY_SNAPSHOT", "locked by another program"),
        ("SQLITE_TOOBIG", r"cannot be used \(SQLITE_TOOBIG\)"),
    ],
)
def test_codes_have_a_meaning(code: str, meaning: str) -> None:
    """An extended result code means what its family means; an unknown one is named."""
    error = sqlite3.OperationalError("the words of SQLite")
    error.sqlite_errorname = code

    assert meaning.replace("\\", "") in explanation(error)
    assert "the words of SQLite" not in explanation(error)


def test_error_without_a_code_is_named_by_its_type() -> None:
    """Python's own errors of its SQLite module have no code."""
    assert "ProgrammingError" in explanation(sqlite3.ProgrammingError("closed"))
