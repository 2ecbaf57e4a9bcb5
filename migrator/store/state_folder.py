"""The state folder: where runs are kept, readable by their owner alone."""

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

__all__ = [
    "FolderError",
    "find_run",
    "job_name_in_id",
    "job_of",
    "new_run_id",
    "open_private",
    "private_folder",
    "read_key",
    "remove_leftovers",
    "runs",
    "write_atomically",
]

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
KEY_BYTES: Final = 32

ASIDE: Final = ".new-"
"""How the names of unfinished files begin."""

LONGEST_NAME: Final = 100
"""Characters of a job's name in a run's id: in UTF-8 they fit into the 255 bytes of a file's name."""

NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")

RUN_ID: Final = re.compile(r"(?P<job>.+)-(?P<started>\d{8}t\d{6}z)-[0-9a-f]{4}", re.IGNORECASE)


class FolderError(Exception):
    """The state folder cannot be used; the text says why and what to do."""


def private_folder(path: Path) -> Path:
    """Make a folder with mode 0700, and those above it alike, or make sure that an existing one is ours alone.

    Raises:
        FolderError: it is a link, belongs to somebody else, may be read by others, or cannot be made.
    """
    try:
        for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
            missing.mkdir(mode=FOLDER_MODE, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise FolderError(f"{path}: {_reason(error)}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise FolderError(f"{path} is no folder of its own; give another with --state")
    if status.st_uid != os.geteuid():
        raise FolderError(f"{path} belongs to another user; give another with --state")
    if status.st_mode & 0o077:
        raise FolderError(f"{path} is open to other users (mode {status.st_mode & 0o777:o}); chmod 700 {path}")
    return path


def open_private(path: Path, mode: str) -> IO[bytes]:
    """Open a file for appending ("ab") or writing ("wb") with mode 0600 from its creation; links are not followed.

    Raises:
        FolderError: it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    flags |= os.O_APPEND if mode == "ab" else os.O_TRUNC
    try:
        return os.fdopen(os.open(path, flags, FILE_MODE), mode)
    except OSError as error:
        reason = "is a link, which is not followed" if error.errno == errno.ELOOP else _reason(error)
        raise FolderError(f"{path}: {reason}") from None


@contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Write a file whole or not at all: aside, to the disk, then into its place.

    Raises:
        FolderError: it cannot be written; what was there before is left as it was.
    """
    aside = path.with_name(f"{ASIDE}{path.name}.{secrets.token_hex(4)}")
    try:
        with open_private(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise FolderError(f"{path} cannot be written: {_reason(error)}") from None
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Delete what a process that was killed has left of files it was writing; nobody else may be writing there."""
    for leftover in folder.glob(f"{ASIDE}*"):
        leftover.unlink(missing_ok=True)


def read_key(state: Path) -> bytes:
    """Return the key of the state folder's fingerprints, made with the first run.

    Raises:
        FolderError: it cannot be read or made.
    """
    path = state / "fingerprint.key"
    aside = path.with_name(f"{ASIDE}{path.name}.{secrets.token_hex(4)}")
    try:
        with open_private(aside, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        # A link appears whole and never replaces: of two first runs at once both take the key of the quicker one.
        with suppress(FileExistsError):
            os.link(aside, path)
        key = path.read_bytes()
    except OSError as error:
        raise FolderError(f"{path}: {_reason(error)}") from None
    finally:
        aside.unlink(missing_ok=True)
    if len(key) != KEY_BYTES:
        raise FolderError(f"{path} is damaged; delete it, and fingerprints will differ from those of earlier runs")
    return key


def new_run_id(job_name: str, utc: float) -> str:
    """Return ``<job-name>-<UTC yyyymmddThhmmssZ>-<4 hex>``; what a file's name cannot hold becomes a hyphen."""
    name = job_name_in_id(job_name)
    started = datetime.fromtimestamp(utc, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{name}-{started}-{secrets.token_hex(2)}"


def job_name_in_id(job_name: str) -> str:
    """Return a job's name as a run's id has it."""
    return NOT_IN_A_NAME.sub("-", job_name)[:LONGEST_NAME].strip(".-") or "job"


def job_of(place: Path) -> str | None:
    """Return the job's name in a run's id."""
    found = RUN_ID.fullmatch(place.name)
    return found["job"] if found else None


def runs(state: Path) -> list[Path]:
    """Return the folders of all runs that have a ledger, the latest last.

    Raises:
        FolderError: the state folder cannot be read.
    """
    try:
        found = [path for path in (state / "runs").iterdir() if RUN_ID.fullmatch(path.name) and _is_run(path)]
        return sorted(found, key=_started)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FolderError(f"{state / 'runs'}: {_reason(error)}") from None


def find_run(state: Path, run: str) -> Path:
    """Return the folder of the run that is named by its id, its folder, or ``last``.

    Raises:
        FolderError: there is no such run.
    """
    known = runs(state)
    if run == "last" and known:
        return known[-1]
    for path in (state / "runs" / run, Path(run)):
        if _is_run(path):
            return path
    raise FolderError(f"there is no run {run!r} in {state}; migrator status lists what there is")


def _is_run(path: Path) -> bool:
    return (path / "ledger.db").is_file() and not path.is_symlink()


def _started(path: Path) -> tuple[str, float]:
    """Order by the time in the id, and within one second by the ledger's own."""
    found = RUN_ID.fullmatch(path.name)
    return (found["started"].upper() if found else ""), (path / "ledger.db").stat().st_mtime


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _sync_folder(path: Path) -> None:
    """Make a new name in a folder durable; only then has a rename survived a power loss (fsync(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
