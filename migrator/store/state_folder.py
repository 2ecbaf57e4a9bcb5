"""The state folder: the runs in it, and how they are named and found."""

import os
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from migrator.errors import FolderError
from migrator.options import IfRunning
from migrator.secret import Fingerprinter, Masker, Secret
from migrator.store.files import (
    aside_of,
    open_private,
    os_error_text,
    private_folder,
    remove_leftovers_of_the_dead,
    sync,
)
from migrator.store.ledger_reader import is_started
from migrator.store.lock import is_held, lock_job, silent

__all__ = ["RUN_ID", "StateFolder", "job_name_in_id", "job_of", "new_run_id", "read_key"]

KEY_BYTES: Final = 32

LONGEST_NAME: Final = 100
"""Characters of a job's name in a run's id: in UTF-8 they fit into the 255 bytes of a file's name."""

NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")

WRITTEN: Final = ("apis", "joins", "locks", "unfinished")
"""Folders in which files are replaced, whatever run is active."""

RUN_ID: Final = re.compile(r"(?P<job>.+)-(?P<started>\d{8}t\d{6}z)-[0-9a-f]{4}", re.IGNORECASE)


def read_key(state: Path) -> bytes:
    """Return the key of the state folder's fingerprints, made with the first run.

    Raises:
        FolderError: it cannot be read or made.
    """
    path = state / "fingerprint.key"
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise FolderError(f"{path}: {os_error_text(error)}") from None
    if len(key) != KEY_BYTES:
        raise FolderError(f"{path} is damaged; delete it, and fingerprints will differ from those of earlier runs")
    return key


def _make_key(path: Path) -> None:
    aside = aside_of(path)
    try:
        with open_private(aside, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole and never replaces: of two first runs at once both take the key of the quicker one.
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path)


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


class StateFolder(msgspec.Struct, frozen=True):
    """The folder in which runs are kept, with their key, their locks and what was learned of servers.

    Attributes:
        path: where it is; `open` makes it, the rest takes it as it is.
    """

    path: Path

    @classmethod
    def open(cls, path: Path) -> "StateFolder":
        """Make the folder with mode 0700, or make sure that an existing one is ours.

        Raises:
            FolderError: it cannot be made, is a link, or is open to other users.
        """
        found = cls(private_folder(path))
        found.remove_leftovers()
        return found

    def remove_leftovers(self) -> None:
        """Delete the unfinished files of processes that were killed, but for those in the folders of runs."""
        for folder in (self.path, *(self.path / name for name in WRITTEN)):
            remove_leftovers_of_the_dead(folder)

    def folder(self, name: str) -> Path:
        """Return a folder in it, which is made with mode 0700.

        Raises:
            FolderError: it cannot be made, is a link, or is open to other users.
        """
        return private_folder(self.path / name)

    def fingerprinter(self) -> Fingerprinter:
        """Return what makes fingerprints under the folder's key, which is made with the first run.

        Raises:
            FolderError: the key cannot be read or made.
        """
        return Fingerprinter(read_key(self.path))

    def masker(self, credentials: Iterable[Secret] = ()) -> Masker:
        """Return what masks secrets, with an API's credentials everywhere.

        Raises:
            FolderError: the key cannot be read or made.
        """
        return Masker(self.fingerprinter(), credentials)

    def learned(self, host: str, credential: str) -> Path:
        """Return the file of what was learned of a server's limit for a credential.

        Raises:
            FolderError: its folder cannot be made.
        """
        return self.folder("apis") / f"{host}-{credential}.json"

    def new_run(self, job_name: str, utc: float) -> Path:
        """Make the folder of a new run.

        Raises:
            FolderError: it cannot be made.
        """
        return private_folder(self.folder("runs") / new_run_id(job_name, utc))

    def lock(
        self, job: str, if_running: IfRunning, *, tell: Callable[[str], None] = silent
    ) -> AbstractAsyncContextManager[str | None]:
        """Hold a job's lock; see `lock_job`."""
        return lock_job(self.path, job, if_running, tell=tell)

    def is_held(self, job: str) -> bool:
        """Return whether a process holds a job's lock."""
        return is_held(self.path, job)

    def runs(self) -> list[Path]:
        """Return the folders of all runs that have a ledger, the latest last.

        Raises:
            FolderError: the state folder cannot be read.
        """
        folder = self.path / "runs"
        try:
            found = [path for path in folder.iterdir() if RUN_ID.fullmatch(path.name) and _is_run(path)]
            return sorted(found, key=_started)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FolderError(f"{folder}: {os_error_text(error)}") from None

    def find(self, run: str) -> Path:
        """Return the folder of the run that is named by its id, its folder, or ``last``.

        A run of which the process ended before it had started is not the last one.

        Raises:
            FolderError: there is no such run.
        """
        started = (place for place in reversed(self.runs()) if is_started(place / "ledger.db"))
        if run == "last" and (latest := next(started, None)) is not None:
            return latest
        for path in (self.path / "runs" / run, Path(run)):
            if _is_run(path):
                return path
        raise FolderError(f"there is no run {run!r} in {self.path}; migrator status lists the runs")


def _is_run(path: Path) -> bool:
    return (path / "ledger.db").is_file() and not path.is_symlink()


def _started(path: Path) -> tuple[str, float]:
    """Order by the time in the id, and within one second by the ledger's own."""
    found = RUN_ID.fullmatch(path.name)
    return (found["started"].upper() if found else ""), (path / "ledger.db").stat().st_mtime
