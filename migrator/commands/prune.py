"""Housekeeping: removes the folders of runs that have come to their end, and nothing else."""

import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from filelock import FileLock, Timeout

from migrator.errors import FolderError, LedgerError
from migrator.store.ledger_reader import read_ledger
from migrator.store.state_folder import RUN_ID, StateFolder

__all__ = ["prune"]

GONE: Final = ".removed"
"""What a run's name ends with while it is being deleted: no run's id ends so, and half of one is not taken for it."""


class _Ended(msgspec.Struct, frozen=True):
    """A run that has come to its end.

    Attributes:
        place: its folder.
        job: its job's name.
        rehearsal: whether nothing was sent.
        finished: when it ended, in seconds since the epoch.
    """

    place: Path
    job: str
    rehearsal: bool
    finished: float


def prune(state: Path, *, keep_last: int | None, older_than_s: float | None, now: float, dry_run: bool) -> list[Path]:
    """Remove the folders of ended runs that neither rule keeps, and return them, the oldest first.

    A run is removed with all that it holds, the images of a rollback too. One on which a run that stays depends, as
    a retry does on the run that it retries, stays. So does the retry of a run that has not ended: without it that run
    would be resumed, and send again what the retry has sent. One that was stopped, or whose ledger cannot be read,
    stays, as does what is no run's folder or is reached through a link. The runs of a job that is under way are left
    for another time, since the last of them may still be writing its summary.

    Args:
        state: the state folder.
        keep_last: so many of the latest ended runs of each job stay; dry runs are counted for themselves, so that they
            push no other out. None where this rule keeps nothing.
        older_than_s: runs that ended less than so many seconds ago stay. None where this rule keeps nothing.
        now: seconds since the epoch.
        dry_run: remove nothing, and return what would be removed.

    Raises:
        FolderError: the folder of runs is a link, cannot be read, or something in it cannot be removed.
        ValueError: no rule is given, or one is negative.
    """
    if keep_last is None and older_than_s is None:
        raise ValueError("without a rule every run would be removed")
    if (keep_last or 0) < 0 or (older_than_s or 0.0) < 0.0:
        raise ValueError("neither a number of runs nor an age can be negative")
    _refuse_links(state)
    if not dry_run:
        StateFolder(state).remove_leftovers()
        _finish_removals(state)
    removed: list[_Ended] = []
    found, origins = _by_job(state), _origins(state)
    chosen = {run.place.name for ended in found.values() for run in _superfluous(ended, keep_last, older_than_s, now)}
    needed = _needed(origins, chosen, {run.place.name for ended in found.values() for run in ended})
    for job, ended in found.items():
        with _at_rest(state, job) as at_rest:
            for run in _superfluous(ended, keep_last, older_than_s, now) if at_rest else ():
                if run.place.name in needed:
                    continue
                if not dry_run:
                    _remove(run.place)
                removed.append(run)
    return [run.place for run in sorted(removed, key=_when)]


def _refuse_links(state: Path) -> None:
    for path in (state, state / "runs"):
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise FolderError(f"{path} is no folder of its own; nothing was removed")


def _by_job(state: Path) -> dict[str, list[_Ended]]:
    found = defaultdict(list)
    for place in StateFolder(state).runs():
        run = _ended(place)
        if run is not None:
            found[run.job].append(run)
    return found


def _origins(state: Path) -> dict[str, str | None]:
    """Return each run with the run that it retries or rolls back, if it does."""
    origins: dict[str, str | None] = {}
    for place in StateFolder(state).runs():
        origins[place.name] = None
        with suppress(LedgerError), read_ledger(place / "ledger.db") as reader:
            origins[place.name] = reader.meta().get("of")
    return origins


def _needed(origins: Mapping[str, str | None], chosen: Container[str], ended: Container[str]) -> set[str]:
    """Return the runs on which one that stays depends: a retry and the run that it is of need each other."""
    needed: set[str] = set()
    for run in origins:
        line = list(_line(origins, run))
        if run not in chosen:
            needed.update(line[1:])
        if any(one in origins and one not in ended for one in line):
            needed.update(line)
    return needed


def _line(origins: Mapping[str, str | None], run: str) -> Iterator[str]:
    """Yield a run, the run that it is of, and so on."""
    seen: set[str] = set()
    following: str | None = run
    while following is not None and following not in seen:
        seen.add(following)
        yield following
        following = origins.get(following)


def _ended(place: Path) -> _Ended | None:
    """Return a run that has come to its end, or None where that is not beyond doubt."""
    ledger = place / "ledger.db"
    if ledger.is_symlink():
        return None
    try:
        with read_ledger(ledger) as reader:
            meta = reader.meta()
        finished = datetime.fromisoformat(meta.get("finished", ""))
    except (LedgerError, ValueError):
        return None
    job = meta.get("job", "")
    if meta.get("state") != "ended" or finished.tzinfo is None or Path(job).name != job or not job:
        return None
    return _Ended(place, job, meta.get("dry_run") == "true", finished.timestamp())


def _superfluous(
    ended: list[_Ended], keep_last: int | None, older_than_s: float | None, now: float
) -> Iterator[_Ended]:
    for rehearsal in (False, True):
        latest_first = sorted((run for run in ended if run.rehearsal is rehearsal), key=_when, reverse=True)
        for run in latest_first[keep_last or 0 :]:
            if older_than_s is None or now - run.finished > older_than_s:
                yield run


def _when(run: _Ended) -> tuple[float, str]:
    return run.finished, run.place.name


@contextmanager
def _at_rest(state: Path, job: str) -> Iterator[bool]:
    """Hold the job's lock, and yield False where a run of it has it."""
    path = state / "locks" / f"{job}.lock"
    if not path.exists():
        yield True
        return
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise FolderError(f"{path}: {_reason(error)}") from None
    try:
        yield True
    finally:
        lock.release()


def _remove(place: Path) -> None:
    """Take the run away by one rename, so that a kill in between leaves no half of it, then delete it."""
    gone = place.with_name(place.name + GONE)
    try:
        place.rename(gone)
    except OSError as error:
        raise FolderError(f"{place} cannot be removed: {_reason(error)}") from None
    _delete(gone)


def _finish_removals(state: Path) -> None:
    """Delete what a removal that was killed has left."""
    try:
        with os.scandir(state / "runs") as entries:
            left = [entry for entry in entries if entry.name.endswith(GONE) and entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    except OSError as error:
        raise FolderError(f"{state / 'runs'}: {_reason(error)}") from None
    for entry in left:
        if RUN_ID.fullmatch(entry.name.removesuffix(GONE)):
            _delete(Path(entry.path))


def _delete(gone: Path) -> None:
    """Delete a folder; links in it are deleted and not followed."""
    try:
        shutil.rmtree(gone)
    except FileNotFoundError:
        pass  # another process is deleting it too, and what both leave is deleted the next time
    except OSError as error:
        raise FolderError(f"{gone} cannot be deleted: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
