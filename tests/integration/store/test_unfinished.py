"""The run to resume is found whatever the clock said, and a lost ledger is never taken for a new start."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from migrator.errors import LedgerError, MigratorError
from migrator.results import Exit
from migrator.store.ledger_reader import is_started, read_ledger
from migrator.store.ledger_writer import Ledger
from migrator.store.unfinished import find_unfinished, point_to

SERVER = "https://api.example"
EARLY, LATE = "rotate-20260101T000000Z-0001", "rotate-20990101T000000Z-0002"


def make(state: Path, run: str, *, ended: bool, job: str = "rotate", server: str = SERVER) -> Path:
    """Make a run's folder with its ledger."""
    place = state / "runs" / run
    place.mkdir(parents=True, mode=0o700)

    async def write() -> None:
        async with Ledger.open(place / "ledger.db") as ledger:
            await ledger.put(job=job, base_url=server, state="ended" if ended else "running")

    asyncio.run(write())
    (place / "results.jsonl").write_text('{"item": 1}\n')
    return place


def find(state: Path) -> str | None:
    """Return the name of the run that would be resumed."""
    found = find_unfinished(state, job="rotate", server=SERVER)
    return None if found is None else found.place.name


def test_pointer_beats_the_clock(tmp_path: Path) -> None:
    """An ended run that a wrong clock has dated ahead does not hide the unfinished one."""
    tmp_path.chmod(0o700)
    make(tmp_path, LATE, ended=True)
    place = make(tmp_path, EARLY, ended=False)

    point_to(tmp_path, place, job="rotate", server=SERVER)

    assert find(tmp_path) == EARLY


def test_each_server_has_its_own(tmp_path: Path) -> None:
    """A run on another server does not hide it either."""
    tmp_path.chmod(0o700)
    place = make(tmp_path, EARLY, ended=False)
    other = make(tmp_path, LATE, ended=True, server="https://other.example")
    point_to(tmp_path, place, job="rotate", server=SERVER)
    point_to(tmp_path, other, job="rotate", server="https://other.example")

    assert find(tmp_path) == EARLY


def test_ended_run_is_not_resumed(tmp_path: Path) -> None:
    """What has ended is left alone, even where an earlier run was given up unfinished."""
    tmp_path.chmod(0o700)
    make(tmp_path, EARLY, ended=False)
    place = make(tmp_path, LATE, ended=True)
    point_to(tmp_path, place, job="rotate", server=SERVER)

    assert find(tmp_path) is None


def test_runs_without_a_pointer_are_found(tmp_path: Path) -> None:
    """A folder of version 0.1 has no pointers: the latest run counts."""
    make(tmp_path, EARLY, ended=False)

    assert find(tmp_path) == EARLY


@pytest.mark.parametrize("damage", ["missing", "empty", "not a ledger"])
@pytest.mark.parametrize("pointed", [True, False])
def test_lost_ledger_is_refused(tmp_path: Path, damage: str, pointed: bool) -> None:
    """Beside results, a ledger that is not there any more stops the command, and the message says what to do."""
    tmp_path.chmod(0o700)
    place = make(tmp_path, EARLY, ended=False)
    if pointed:
        point_to(tmp_path, place, job="rotate", server=SERVER)
    (place / "ledger.db").unlink()
    if damage != "missing":
        (place / "ledger.db").write_bytes(b"" if damage == "empty" else b"something else" * 100)

    with pytest.raises(MigratorError, match="--fresh") as caught:
        find(tmp_path)

    assert caught.value.exit_code is Exit.STOPPED


def test_folder_in_which_nothing_started_is_passed_over(tmp_path: Path) -> None:
    """A process that was killed before its first commit has left nothing to resume."""
    tmp_path.chmod(0o700)
    place = tmp_path / "runs" / EARLY
    place.mkdir(parents=True, mode=0o700)
    point_to(tmp_path, place, job="rotate", server=SERVER)

    assert find(tmp_path) is None


HALF: Final = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
connection.execute("CREATE TABLE meta (name TEXT, value TEXT)")
connection.executemany("INSERT INTO meta VALUES (?, ?)", [(str(number), "x" * 1000) for number in range(200)])
os._exit(0)
"""
"""Makes half a ledger: its pages are on the disk, and a journal says that they are to be taken back."""


def test_ledger_that_was_half_made_is_no_run(tmp_path: Path) -> None:
    """A kill while the tables were made leaves a journal, which a reader cannot roll back: nothing has started."""
    tmp_path.chmod(0o700)
    place = tmp_path / "runs" / LATE
    place.mkdir(parents=True, mode=0o700)
    ledger = place / "ledger.db"
    subprocess.run([sys.executable, "-c", HALF, str(ledger)], check=True)
    point_to(tmp_path, place, job="rotate", server=SERVER)
    assert ledger.stat().st_size > 0
    assert (place / "ledger.db-journal").exists()
    with pytest.raises(LedgerError), read_ledger(ledger):
        pass

    assert not is_started(ledger)
    assert find(tmp_path) is None


def test_a_journal_beside_a_ledger_is_rolled_back(tmp_path: Path) -> None:
    """The same where the search for the run to resume is the first to look."""
    tmp_path.chmod(0o700)
    place = tmp_path / "runs" / LATE
    place.mkdir(parents=True, mode=0o700)
    subprocess.run([sys.executable, "-c", HALF, str(place / "ledger.db")], check=True)
    point_to(tmp_path, place, job="rotate", server=SERVER)

    assert find(tmp_path) is None
    assert not (place / "ledger.db-journal").exists()
