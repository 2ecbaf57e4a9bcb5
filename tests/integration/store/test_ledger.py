"""The ledger keeps what it was told, whatever happens to the process, and says clearly when it cannot."""

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import failure, result, results

from migrator.errors import LedgerError
from migrator.results import ErrorKind, ItemResult, Status
from migrator.store.item_record import encoded, record
from migrator.store.ledger_reader import InFlight, read_ledger
from migrator.store.ledger_writer import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the ledger is."""
    return tmp_path / "ledger.db"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Return the connections to SQLite that are opened from now on."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*arguments: Any, **settings: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **settings))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)
    return opened


async def settled(path: Path, *rows: ItemResult) -> None:
    """Settle results in a ledger, one after the other."""
    async with Ledger.open(path) as ledger:
        for row in rows:
            await ledger.settle(row)


def read_rows(path: Path) -> list[ItemResult]:
    """Return all results in the input's order."""
    with read_ledger(path) as reader:
        return list(reader.rows())


async def test_settled_row_is_readable_at_once(path: Path) -> None:
    """A settled result is there for a reader before the ledger is closed."""
    async with Ledger.open(path) as ledger:
        await ledger.settle(failure(3))

        assert read_rows(path) == [failure(3)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(results(st.integers(1, 10**9)), max_size=20, unique_by=lambda row: row.item))
def test_any_row_comes_back_as_it_was(rows: list[ItemResult]) -> None:
    """Whatever becomes of an item, the ledger gives it back unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(settled(Path(folder, "ledger.db"), *rows))

        assert read_rows(Path(folder, "ledger.db")) == sorted(rows, key=lambda row: row.item)


async def test_begun_and_not_settled_is_in_flight(path: Path) -> None:
    """An item that was started and has no result was in flight when the process ended."""
    async with Ledger.open(path) as ledger:
        ledger.begin(1, "a", 1, 1000)
        ledger.begin(2, "b", 1, 1001)
        ledger.begin(2, "b", 2, 1002)
        await ledger.settle(result(1))

    with read_ledger(path) as reader:
        assert reader.in_flight() == [InFlight(2, "b", 2, 1002)]


async def test_begin_durably_waits_for_the_disk(path: Path) -> None:
    """An intent that was awaited is there for a reader at once."""
    async with Ledger.open(path) as ledger:
        await ledger.begin_durably(7, "x", 1, 1000)

        with read_ledger(path) as reader:
            assert reader.in_flight() == [InFlight(7, "x", 1, 1000)]


async def test_noted_results_are_on_the_disk_once_that_was_waited_for(path: Path) -> None:
    """Results whose lines came from elsewhere can share one wait, and are the same as those that were settled."""
    async with Ledger.open(path) as ledger:
        for number in range(1, 200):
            ledger.note_result(result(number), encoded(record(result(number), run="run")))
        ledger.note_written(result(200), encoded(record(result(200), run="run")))
        await ledger.durable()

        with read_ledger(path) as reader:
            assert list(reader.rows()) == [result(number) for number in range(1, 200)]
            assert reader.unverified() == [result(200)]


async def test_withdrawn_attempt_is_not_in_flight(path: Path) -> None:
    """An attempt that is known to have had no effect does not leave its item in flight, nor undo a result."""
    async with Ledger.open(path) as ledger:
        ledger.begin(1, "a", 1, 1000)
        ledger.withdraw(1)
        await ledger.settle(result(2))
        ledger.withdraw(2)

    with read_ledger(path) as reader:
        assert (reader.in_flight(), list(reader.finished())) == ([], [2])


@pytest.mark.parametrize("missing", [(), (1,), (500,), (1000, 1001, 2500), tuple(range(900, 2100)), (3000,)])
async def test_finished_is_ascending_over_chunks(path: Path, missing: tuple[int, ...]) -> None:
    """The finished items come in the input's order, in whatever order they ended, and none is left out."""
    numbers = [number for start in (3, 1, 2) for number in range(start, 3001, 3) if number not in missing]
    async with Ledger.open(path) as ledger:
        await asyncio.gather(*(ledger.settle(result(number)) for number in numbers))

        with read_ledger(path) as reader:
            assert list(reader.finished()) == sorted(numbers)
            assert [row.item for row in reader.rows()] == sorted(numbers)


async def test_order_of_finishing_goes_on_after_reopening(path: Path) -> None:
    """Results keep the order in which items came to their end, over several invocations and chunks."""
    first, second = [5, 2, 9], [*range(2000, 1000, -1), 1]
    await settled(path, *(result(number) for number in first))
    async with Ledger.open(path) as ledger:
        await asyncio.gather(*(ledger.settle(result(number)) for number in second))

    with read_ledger(path) as reader:
        assert [row.item for row in reader.rows_as_finished()] == first + second


async def test_counts(path: Path) -> None:
    """Items are counted by what became of them, failures by their cause, and items in flight not at all."""
    async with Ledger.open(path) as ledger:
        ledger.begin(9, "k", 1, 0)
        for row in (result(1), result(2), failure(3), failure(4, ErrorKind.TIMEOUT, status=Status.IN_DOUBT)):
            await ledger.settle(row)

    with read_ledger(path) as reader:
        assert reader.counts() == {Status.SUCCEEDED: 2, Status.FAILED: 1, Status.IN_DOUBT: 1}
        assert reader.error_counts() == {ErrorKind.VALIDATION: 1, ErrorKind.TIMEOUT: 1}


async def test_reopened_provisional_result_is_pending_again(path: Path) -> None:
    """A result that stopped the run leaves no trace when the run is resumed; every other one stays."""
    async with Ledger.open(path) as ledger:
        for row in (failure(1, ErrorKind.AUTH, provisional=True), failure(2)):
            await ledger.settle(row)
        ledger.begin(3, "c", 1, 0)

        await ledger.reopen()

        with read_ledger(path) as reader:
            assert (list(reader.finished()), reader.in_flight()) == ([2], [InFlight(3, "c", 1, 0)])
        await ledger.settle(result(1))
    assert read_rows(path) == [result(1), failure(2)]


async def test_facts_about_the_run(path: Path) -> None:
    """Facts are kept as text, the latest of a name."""
    async with Ledger.open(path) as ledger:
        await ledger.put(state="running", job="j ü \" '")
        await ledger.put(state="ended")

    with read_ledger(path) as reader:
        assert reader.meta() == {"state": "ended", "job": "j ü \" '"}


async def test_commits_survive_a_power_loss(path: Path, connections: list[sqlite3.Connection]) -> None:
    """Every commit is synced, which WAL mode does with synchronous=FULL (2) alone."""
    async with Ledger.open(path):
        pass
    async with Ledger.open(path):
        names = ("journal_mode", "synchronous")
        found = [connections[-1].execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert found == ["wal", 2]


async def test_commits_in_groups(path: Path, connections: list[sqlite3.Connection]) -> None:
    """Results that are waiting together share a commit."""
    statements: Counter[str] = Counter()
    async with Ledger.open(path) as ledger:
        connections[-1].set_trace_callback(lambda statement: statements.update([statement]))

        await asyncio.gather(*(ledger.settle(result(number)) for number in range(1, 1001)))

    assert 1 <= statements["COMMIT"] < 500


async def test_cancelled_settle_is_recorded(path: Path) -> None:
    """A result that was handed over is recorded, even if no one waits for it any more."""
    async with Ledger.open(path) as ledger, anyio.create_task_group() as lanes:
        lanes.start_soon(ledger.settle, result(1))
        await anyio.lowlevel.checkpoint()
        lanes.cancel_scope.cancel()

    assert read_rows(path) == [result(1)]


async def test_closed_ledger_takes_nothing(path: Path) -> None:
    """A ledger that was left says so in place of waiting for ever, and its thread has ended."""
    async with Ledger.open(path) as ledger:
        pass

    with pytest.raises(LedgerError, match="closed"):
        await ledger.settle(result(1))
    assert "ledger" not in [thread.name for thread in threading.enumerate()]


async def test_left_by_an_error_it_is_closed_too(path: Path) -> None:
    """A bug in the middle of a run neither loses what was started nor leaves the thread behind."""
    with pytest.raises(ZeroDivisionError):
        async with Ledger.open(path) as ledger:
            ledger.begin(1, "a", 1, 0)
            raise ZeroDivisionError

    assert "ledger" not in [thread.name for thread in threading.enumerate()]
    with read_ledger(path) as reader:
        assert reader.in_flight() == [InFlight(1, "a", 1, 0)]


async def test_full_disk_stops_for_good(path: Path, connections: list[sqlite3.Connection]) -> None:
    """When the disk is full every result that waits is told, nothing more is taken, and what was durable stays so."""
    async with Ledger.open(path) as ledger:
        await ledger.settle(result(1))
        pages = connections[-1].execute("PRAGMA page_count").fetchone()[0]
        connections[-1].execute(f"PRAGMA max_page_count = {pages}")

        waiting = [ledger.settle(result(number, url="u" * 900)) for number in range(2, 40)]
        ends = await asyncio.gather(*waiting, return_exceptions=True)

        assert all(isinstance(end, LedgerError) and "disk is full" in str(end) for end in ends)
        with pytest.raises(LedgerError, match="disk is full"):
            ledger.begin(50, "k", 1, 0)

    assert read_rows(path) == [result(1)]


async def test_value_that_cannot_be_stored_is_told(path: Path) -> None:
    """A value that SQLite does not take ends in an error and not in waiting for ever."""
    async with Ledger.open(path) as ledger:
        with pytest.raises(LedgerError, match="cannot be recorded"):
            await ledger.settle(result(1, attempts=2**70))


async def test_locked_ledger(path: Path, connections: list[sqlite3.Connection]) -> None:
    """A ledger that another program holds locked is told as such."""
    async with Ledger.open(path) as ledger:
        connections[-1].execute("PRAGMA busy_timeout = 1")
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(LedgerError, match="locked by another program"):
                await ledger.settle(result(1))
        finally:
            other.close()


async def test_files_are_private_whatever_the_umask(path: Path) -> None:
    """The ledger and SQLite's files beside it have mode 0600 from the beginning."""
    before = os.umask(0)
    try:
        async with Ledger.open(path) as ledger:
            await ledger.settle(result(1))
            with read_ledger(path):
                modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


async def test_reader_never_writes(path: Path, tmp_path: Path, connections: list[sqlite3.Connection]) -> None:
    """A reader cannot write, and leaves a killed process's log where it is."""
    killed = tmp_path / "killed"
    killed.mkdir()
    async with Ledger.open(path) as ledger:
        await ledger.settle(result(1))
        for file in path.parent.glob("ledger.db*"):
            shutil.copy(file, killed)
    before = {name: (killed / name).read_bytes() for name in ("ledger.db", "ledger.db-wal")}

    with read_ledger(killed / "ledger.db") as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        assert list(reader.finished()) == [1]
        connections[-1].execute("DELETE FROM item")

    assert {name: (killed / name).read_bytes() for name in before} == before


def newer(path: Path) -> None:
    """Make a ledger of a version that does not exist yet."""
    asyncio.run(settled(path))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def foreign(path: Path) -> None:
    """Make a database that is someone else's."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE item (a)")
    connection.close()


def damaged(path: Path) -> None:
    """Make a file that is no database."""
    path.write_bytes(b"not a database, by any means. " * 300)


def link(path: Path) -> None:
    """Make a link to a ledger elsewhere."""
    elsewhere = path.with_name("elsewhere.db")
    asyncio.run(settled(elsewhere))
    path.symlink_to(elsewhere)


def folder(path: Path) -> None:
    """Make a folder in its place."""
    path.mkdir()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (newer, r"newer version of migrator \(schema 99\)"),
        (foreign, "database of another program"),
        (damaged, "damaged"),
        (link, "is a link"),
        (folder, "cannot be opened"),
    ],
)
def test_unusable_ledger_is_refused(path: Path, made: Callable[[Path], None], message: str) -> None:
    """What cannot be used as a ledger is refused with its name and the reason."""
    made(path)

    with pytest.raises(LedgerError, match=message) as refused:
        asyncio.run(settled(path, result(1)))
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (newer, "newer version"),
        (foreign, "another program"),
        (damaged, "damaged"),
        (folder, "no ledger"),
        (Path.touch, "the process ended before the run began"),
        (lambda _path: None, "no ledger"),
    ],
)
def test_unusable_ledger_cannot_be_read(path: Path, made: Callable[[Path], None], message: str) -> None:
    """A reader says of a ledger that it cannot use what is the matter, and leaves it as it was."""
    made(path)
    before = path.read_bytes() if path.is_file() else path.exists()

    with pytest.raises(LedgerError, match=message), read_ledger(path):
        pass

    assert before == (path.read_bytes() if path.is_file() else path.exists())


async def test_missing_ledger_is_not_made_unasked(path: Path) -> None:
    """Where a ledger has to be there already, none is made."""
    with pytest.raises(LedgerError, match="no ledger"):
        async with Ledger.open(path, create=False):
            pass

    assert not path.exists()


def test_killed_before_the_schema_was_written(path: Path) -> None:
    """An empty file that a killed process has left becomes a ledger."""
    path.touch()

    asyncio.run(settled(path, result(1)))

    assert read_rows(path) == [result(1)]


def test_path_with_special_characters(tmp_path: Path) -> None:
    """A folder's name may hold what means something in a URI."""
    path = tmp_path / "100% of #1? ü"
    path.mkdir()

    asyncio.run(settled(path / "ledger.db", result(1)))

    assert read_rows(path / "ledger.db") == [result(1)]


SENDER = """
import asyncio, itertools, sys
from pathlib import Path
from result_rows import result
from migrator.store.ledger_writer import Ledger

async def lane(ledger, numbers):
    for number in numbers:
        ledger.begin(number, str(number), 1, 0)
        await ledger.settle(result(number))
        print(number, flush=True)

async def main():
    async with Ledger.open(Path(sys.argv[1])) as ledger:
        numbers = itertools.count(1)
        await asyncio.gather(*(lane(ledger, numbers) for _ in range(8)))

asyncio.run(main())
"""


def test_killed_process_has_lost_nothing_it_spoke_of(path: Path) -> None:
    """After kill -9 every result that was said to be durable is there, and no more than the lanes are in flight."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", SENDER, str(path)], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    told += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]

    with read_ledger(path) as reader:
        finished, in_flight = set(reader.finished()), {started.item for started in reader.in_flight()}
    assert set(told) <= finished
    assert finished.isdisjoint(in_flight)
    assert len(in_flight) <= 8
