"""The run that a command resumes: a pointer for each job and server, which no clock and no other run can hide.

A run's id holds the time of its start, and a clock can be wrong. So the id of the last run of a job on a server is kept
in a small file, written before the run's first request.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from migrator.errors import FolderError, LedgerError, MigratorError
from migrator.results import Exit
from migrator.store.files import private_folder, write_atomically
from migrator.store.ledger_reader import is_begun, read_ledger
from migrator.store.state_folder import RUN_ID, job_name_in_id, job_of

__all__ = ["Unfinished", "find_unfinished", "point_to"]

FOLDER: Final = "unfinished"
VIEWS: Final = ("results.jsonl", "succeeded.csv", "failed.csv", "summary.json")


class Unfinished(msgspec.Struct, frozen=True):
    """A run that has not ended.

    Attributes:
        place: its folder.
        meta: what its ledger keeps of it.
    """

    place: Path
    meta: Mapping[str, str]


def point_to(state: Path, place: Path, *, job: str, server: str) -> None:
    """Make a run the one that the same command resumes, durably.

    Raises:
        FolderError: the pointer cannot be written.
    """
    private_folder(state / FOLDER)
    with write_atomically(_pointer(state, job, server)) as file:
        file.write(place.name.encode())


def find_unfinished(state: Path, *, job: str, server: str) -> Unfinished | None:
    """Return the last run of a job on a server if it has not ended.

    Raises:
        MigratorError: its ledger is missing, empty or not ours, though other files of the run are there.
    """
    place = _pointed_to(state, job, server)
    candidates = [place] if place is not None else _latest_first(state, job)
    for candidate in candidates:
        meta = _meta(candidate)
        if meta is None:
            continue
        if (meta.get("job"), meta.get("base_url")) == (job, server) and meta.get("dry_run") != "true":
            return None if meta.get("state") == "ended" else Unfinished(candidate, meta)
    return None


def _pointer(state: Path, job: str, server: str) -> Path:
    digest = hashlib.sha256(f"{job}\n{server}".encode()).hexdigest()[:16]
    return state / FOLDER / f"{job_name_in_id(job)}-{digest}"


def _pointed_to(state: Path, job: str, server: str) -> Path | None:
    path = _pointer(state, job, server)
    try:
        name = "" if path.is_symlink() else path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    place = state / "runs" / name
    return place if RUN_ID.fullmatch(name) and place.is_dir() else None


def _latest_first(state: Path, job: str) -> list[Path]:
    """Return the job's runs where there is no pointer: a version before 0.2 wrote none."""

    def started(place: Path) -> str:
        found = RUN_ID.fullmatch(place.name)
        return found["started"].upper() if found else ""

    try:
        found = [place for place in (state / "runs").iterdir() if place.is_dir() and not place.is_symlink()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FolderError(f"{state / 'runs'}: {error.strerror}") from None
    return sorted((place for place in found if job_of(place) == job_name_in_id(job)), key=started, reverse=True)


def _meta(place: Path) -> Mapping[str, str] | None:
    """Return what a run's ledger keeps of it; None for a folder in which no run has started."""
    ledger = place / "ledger.db"
    views = list(_written_views(place))
    choice = "Restore it from a backup to resume the run, or give --fresh to start a new run with all items."
    try:
        if not ledger.is_file() or not is_begun(ledger):
            if not views:
                return None
            what = "is empty" if ledger.is_file() else "is missing"
            raise MigratorError(f"{ledger} {what}, but {views[0]} is there. {choice}", Exit.STOPPED)
        with read_ledger(ledger) as reader:
            return reader.meta()
    except LedgerError as error:
        raise MigratorError(f"{error}. {choice}", Exit.STOPPED) from None


def _written_views(place: Path) -> Iterator[str]:
    for name in VIEWS:
        path = place / name
        if path.is_file() and path.stat().st_size:
            yield name
