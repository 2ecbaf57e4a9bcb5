"""Old runs go, as a whole and only those that have ended; nothing else in the state folder or out of it is touched."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock
from result_rows import result

from migrator.commands.prune import prune
from migrator.errors import FolderError
from migrator.store.files import private_folder
from migrator.store.ledger_writer import Ledger
from migrator.store.state_folder import StateFolder
from migrator.times import timestamp

NOON = 1_795_435_200.0
DAY = 86_400.0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return an empty state folder."""
    return private_folder(tmp_path / "state")


def make_run(state: Path, number: int, /, *, job: str = "rotate", **meta: str) -> Path:
    """Make the folder of a run that ended so many days before noon, unless `meta` says otherwise."""
    ended = NOON - number * DAY
    started = datetime.fromtimestamp(ended, UTC).strftime("%Y%m%dT%H%M%SZ")
    place = private_folder(state / "runs" / f"{job}-{started}-{len(list((state / 'runs').glob('*'))):04x}")
    facts = {"job": job, "dry_run": "false", "state": "ended", "finished": timestamp(round(ended * 1000))}

    async def write() -> None:
        async with Ledger.open(place / "ledger.db") as ledger:
            await ledger.put(**(facts | meta))
            await ledger.settle(result(1))

    asyncio.run(write())
    (place / "summary.json").write_text("{}")
    return place


def left(state: Path) -> list[str]:
    """Return the names of all that is in the folder of runs."""
    return sorted(path.name for path in (state / "runs").iterdir())


def names(*places: Path) -> list[str]:
    """Return folders' names."""
    return sorted(place.name for place in places)


def test_latest_runs_of_each_job_are_kept(state: Path) -> None:
    """Each job keeps its latest runs, however many another has, and what was removed is returned, the oldest first."""
    rotate = [make_run(state, number) for number in range(4)]
    rename = make_run(state, 9, job="rename")

    removed = prune(state, keep_last=2, older_than_s=None, now=NOON, dry_run=False)

    assert removed == [rotate[3], rotate[2]]
    assert left(state) == names(rotate[0], rotate[1], rename)


def test_old_runs_are_removed(state: Path) -> None:
    """By age alone a run goes once it ended longer ago than that, were it the last of its job."""
    young, edge, old = make_run(state, 1), make_run(state, 2), make_run(state, 3)

    assert prune(state, keep_last=None, older_than_s=2 * DAY, now=NOON, dry_run=False) == [old]
    assert left(state) == names(young, edge)


def test_either_rule_keeps(state: Path) -> None:
    """With both rules a run stays that is young, and one that is among the latest; the rest goes."""
    made = [make_run(state, number) for number in (1, 2, 30, 40)]

    assert prune(state, keep_last=3, older_than_s=10 * DAY, now=NOON, dry_run=False) == [made[3]]
    assert prune(state, keep_last=1, older_than_s=10 * DAY, now=NOON, dry_run=False) == [made[2]]
    assert left(state) == names(made[0], made[1])


def test_nothing_is_kept_on_request(state: Path) -> None:
    """Zero keeps no run that has ended, which is how credentials in succeeded.csv are got rid of."""
    made = make_run(state, 1)

    assert prune(state, keep_last=0, older_than_s=None, now=NOON, dry_run=False) == [made]
    assert left(state) == []


def test_dry_run_only_looks(state: Path) -> None:
    """A rehearsal returns what would go, and leaves every run whole."""
    kept, would_go = make_run(state, 1), make_run(state, 2)

    assert prune(state, keep_last=1, older_than_s=None, now=NOON, dry_run=True) == [would_go]
    assert StateFolder(state).runs() == [would_go, kept]
    assert (would_go / "summary.json").exists()


@pytest.mark.parametrize("stands", ["stopped", "running", "", "Ended"])
def test_unfinished_run_stays(state: Path, stands: str) -> None:
    """A run that can be resumed, or whose process died, is never removed, and takes no ended run's place."""
    unfinished = [make_run(state, 100, state=stands), make_run(state, 0, state=stands)]
    ended = make_run(state, 50)

    assert prune(state, keep_last=1, older_than_s=None, now=NOON, dry_run=False) == []
    assert prune(state, keep_last=0, older_than_s=0.0, now=NOON, dry_run=False) == [ended]
    assert left(state) == names(*unfinished)


def test_what_is_not_understood_stays(state: Path) -> None:
    """A damaged or empty ledger, a missing or strange time, a time to come and a foreign folder are all left alone."""
    damaged, empty = make_run(state, 10), make_run(state, 11)
    (damaged / "ledger.db").write_bytes(b"SQLite format 3\0" + os.urandom(4096))
    (empty / "ledger.db").write_bytes(b"")
    undated = [make_run(state, 12, finished=text) for text in ("", "yesterday", "2026-11-23T12:00:00")]
    ahead = make_run(state, 1, finished="2099-01-01T00:00:00.000Z")
    foreign = private_folder(state / "runs" / "backup")
    (state / "runs" / "notes.txt").write_text("kept")

    assert prune(state, keep_last=None, older_than_s=0.0, now=NOON, dry_run=False) == []
    assert left(state) == sorted([*names(damaged, empty, *undated, ahead, foreign), "notes.txt"])


def test_other_jobs_name_leads_nowhere(state: Path) -> None:
    """A ledger that names its job by a path is none of ours, and no lock is looked for there."""
    make_run(state, 1)
    strange = make_run(state, 2)

    async def rename() -> None:
        async with Ledger.open(strange / "ledger.db") as ledger:
            await ledger.put(job="../../rotate")

    asyncio.run(rename())
    prune(state, keep_last=0, older_than_s=None, now=NOON, dry_run=False)

    assert left(state) == names(strange)


def test_links_are_not_followed(state: Path, tmp_path: Path) -> None:
    """A link in the place of a run, of a ledger or of a file in a run removes nothing beyond itself."""
    other = private_folder(tmp_path / "other")
    target = make_run(other, 5)
    (state / "runs").mkdir(mode=0o700)
    (state / "runs" / target.name).symlink_to(target)
    borrowed = private_folder(state / "runs" / "rotate-20200101T000000Z-ffff")
    (borrowed / "ledger.db").symlink_to(target / "ledger.db")
    holder = make_run(state, 6)
    (holder / "elsewhere").symlink_to(target)
    (holder / "summary.json").unlink()
    (holder / "summary.json").symlink_to(target / "summary.json")

    assert prune(state, keep_last=0, older_than_s=None, now=NOON, dry_run=False) == [holder]
    assert left(state) == names(borrowed, target)
    assert (target / "summary.json").read_text() == "{}"


@pytest.mark.parametrize("linked", ["state", "runs"])
def test_linked_folders_are_refused(state: Path, tmp_path: Path, linked: str) -> None:
    """A state folder, or a folder of runs, that is a link is refused, and nothing behind it is removed."""
    made = make_run(state, 5)
    elsewhere = tmp_path / "elsewhere"
    if linked == "runs":
        private_folder(elsewhere)
        (elsewhere / "runs").symlink_to(state / "runs")
    else:
        elsewhere.symlink_to(state)

    with pytest.raises(FolderError, match="no folder of its own"):
        prune(elsewhere, keep_last=0, older_than_s=None, now=NOON, dry_run=False)

    assert left(state) == names(made)


def test_job_under_way_is_left_alone(state: Path) -> None:
    """While a run of a job holds its lock that job's runs stay, and other jobs' go."""
    busy, other = make_run(state, 5), make_run(state, 5, job="rename")
    locks = private_folder(state / "locks")

    with FileLock(locks / "rotate.lock"):
        assert prune(state, keep_last=0, older_than_s=None, now=NOON, dry_run=False) == [other]
    assert prune(state, keep_last=0, older_than_s=None, now=NOON, dry_run=False) == [busy]


def test_rehearsals_push_no_run_out(state: Path) -> None:
    """Dry runs are counted for themselves."""
    real = make_run(state, 9)
    rehearsals = [make_run(state, number, dry_run="true") for number in (1, 2)]

    assert prune(state, keep_last=1, older_than_s=None, now=NOON, dry_run=False) == [rehearsals[1]]
    assert left(state) == names(real, rehearsals[0])


def test_removal_that_was_killed_is_finished(state: Path) -> None:
    """What a removal left half done is deleted the next time, and is taken for a run by no one in between."""
    half, kept = make_run(state, 5), make_run(state, 1)
    half.rename(half.with_name(half.name + ".removed"))
    private_folder(state / "runs" / "mine.removed")

    assert StateFolder(state).runs() == [kept]
    assert prune(state, keep_last=1, older_than_s=None, now=NOON, dry_run=False) == []
    assert left(state) == sorted([kept.name, "mine.removed"])


def test_nothing_there(state: Path) -> None:
    """A state folder without runs, and one that is not there, have nothing to remove."""
    assert prune(state, keep_last=0, older_than_s=None, now=NOON, dry_run=False) == []
    assert prune(state / "missing", keep_last=0, older_than_s=None, now=NOON, dry_run=False) == []


@pytest.mark.parametrize(("keep_last", "older_than_s"), [(None, None), (-1, None), (None, -1.0), (1, -1.0)])
def test_rules_that_make_no_sense(state: Path, keep_last: int | None, older_than_s: float | None) -> None:
    """Without a rule, or with a negative one, nothing is removed and the caller is told."""
    made = make_run(state, 5)

    with pytest.raises(ValueError, match=r"rule|negative"):
        prune(state, keep_last=keep_last, older_than_s=older_than_s, now=NOON, dry_run=False)

    assert left(state) == names(made)


@pytest.mark.parametrize("stands", ["running", "stopped", "ended"])
def test_run_that_another_depends_on_stays(state: Path, stands: str) -> None:
    """A run is kept for as long as a retry of it, or a retry of that, is; both read what it did."""
    first = make_run(state, 100)
    second = make_run(state, 90, kind="retry", of=first.name)
    third = make_run(state, 0, kind="retry", of=second.name, state=stands)
    other = make_run(state, 80)

    removed = prune(state, keep_last=None, older_than_s=30 * DAY, now=NOON, dry_run=False)

    assert removed == [other]
    assert left(state) == names(first, second, third)


def test_run_goes_with_the_last_that_depends_on_it(state: Path) -> None:
    """Where the retry goes too, nothing keeps the run that it retried."""
    first = make_run(state, 100)
    second = make_run(state, 90, kind="retry", of=first.name)

    assert prune(state, keep_last=0, older_than_s=30 * DAY, now=NOON, dry_run=False) == [first, second]


def test_leftovers_of_a_kill_are_removed(state: Path) -> None:
    """A file that a dead process was writing goes; one of a process that lives stays."""
    dead = [state / ".new-fingerprint.key.0a1b2c3d", state / f".new-fingerprint.key.{2**22 + 1}.0a1b2c3d"]
    alive = state / f".new-fingerprint.key.{os.getppid()}.0a1b2c3d"
    for path in (*dead, alive):
        path.touch()

    prune(state, keep_last=1, older_than_s=None, now=NOON, dry_run=False)

    assert [path.name for path in state.glob(".new-*")] == [alive.name]


def test_retry_of_a_run_that_has_not_ended_stays(state: Path) -> None:
    """Without it the run would be resumed, and send again what the retry has sent."""
    stopped = make_run(state, 9, state="running")
    retry = make_run(state, 8, kind="retry", of=stopped.name)
    further = make_run(state, 7, kind="retry", of=retry.name)

    assert prune(state, keep_last=0, older_than_s=None, now=NOON, dry_run=False) == []
    assert left(state) == names(stopped, retry, further)
