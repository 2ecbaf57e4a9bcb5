"""The state folder: the runs in it, and how they are named and found."""

import os
import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from migrator.errors import FolderError
from migrator.store.files import ASIDE, open_private, os_error_text

__all__ = ["find_run", "job_name_in_id", "job_of", "new_run_id", "read_key", "runs"]

KEY_BYTES: Final = 32

LONGEST_NAME: Final = 100
"""Characters of a job's name in a run's id: in UTF-8 they fit into the 255 bytes of a file's name."""

NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")

RUN_ID: Final = re.compile(r"(?P<job>.+)-(?P<started>\d{8}t\d{6}z)-[0-9a-f]{4}", re.IGNORECASE)


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
        raise FolderError(f"{path}: {os_error_text(error)}") from None
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
        raise FolderError(f"{state / 'runs'}: {os_error_text(error)}") from None


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
    raise FolderError(f"there is no run {run!r} in {state}; migrator status lists the runs")


def _is_run(path: Path) -> bool:
    return (path / "ledger.db").is_file() and not path.is_symlink()


def _started(path: Path) -> tuple[str, float]:
    """Order by the time in the id, and within one second by the ledger's own."""
    found = RUN_ID.fullmatch(path.name)
    return (found["started"].upper() if found else ""), (path / "ledger.db").stat().st_mtime
