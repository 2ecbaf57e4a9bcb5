"""The run to resume is found whatever the clock said, and a lost ledger is never taken for a new start."""

import asyncio
from pathlib import Path

import pytest

from migrator.errors import MigratorError
from migrator.results import Exit
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
