"""A ledger of version 0.1 becomes this version's without losing a thing, or stays as it was."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_schema import SCHEMA_VERSION
from migrator.store.ledger_upgrade import upgrade

RUN = "rotate-20261124T195139Z-a42a"
SAMPLE = Path(__file__).parents[2] / "samples" / "version-0.1"

pytestmark = pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="the sample's tables are STRICT")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the ledger of a run of version 0.1 that was killed half way."""
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.executescript((SAMPLE / "ledger.sql").read_text())
    return tmp_path / "ledger.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection to it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def test_nothing_is_lost(path: Path, connection: sqlite3.Connection) -> None:
    """Results, their order, what was in flight and the facts of the run are what they were."""
    connection.execute("INSERT INTO item (item, key, attempt, begun_ms) VALUES (900, 'i-00900', 2, 7)")
    error = '{"kind":"conflict","status":409,"message":"the server answered 409"}'
    connection.execute("UPDATE item SET status = 'failed', error = ? WHERE item = 1", [error])
    with read_ledger(path) as reader:
        before = (list(reader.rows_as_finished()), reader.in_flight(), dict(reader.meta()), reader.counts())
    assert before[0], "the sample has results"

    upgrade(connection, run=RUN)

    with read_ledger(path) as reader:
        after = (list(reader.rows_as_finished()), reader.in_flight(), dict(reader.meta()), reader.counts())
    assert after == before
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not connection.in_transaction
    assert "item_1" not in str(list(connection.iterdump()))


def test_records_are_those_of_the_results_file(connection: sqlite3.Connection) -> None:
    """The line that is kept for each item is the very line that version 0.1 wrote."""
    upgrade(connection, run=RUN)

    lines = connection.execute("SELECT line FROM item WHERE status IS NOT NULL ORDER BY sequence").fetchall()
    written = (SAMPLE / "results.jsonl").read_bytes().splitlines()
    assert [line.rstrip() for (line,) in lines] == written


def test_upgrade_that_fails_changes_nothing(path: Path, connection: sqlite3.Connection) -> None:
    """A row that cannot be read leaves the ledger as version 0.1 wrote it, once the transaction is given up."""
    connection.execute("UPDATE item SET status = 'odd' WHERE item = (SELECT max(item) FROM item WHERE status NOT NULL)")
    before = list(connection.iterdump())

    with pytest.raises(ValueError, match="odd"):
        upgrade(connection, run=RUN)
    connection.close()

    with closing(sqlite3.connect(path)) as again:
        assert list(again.iterdump()) == before
        assert again.execute("PRAGMA user_version").fetchone() == (1,)
