"""The lock of a job: one run at a time, held by the operating system, so that it dies with its process.

It is `flock(2)`: it holds between processes of one machine on every local file system, and on NFS from Linux 2.6.12 on,
which makes it a lock of the server. Two machines that each have a state folder of their own do not see each other.
"""

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import anyio
from filelock import FileLock, Timeout

from migrator.errors import FolderError, MigratorError
from migrator.options import IfRunning
from migrator.results import Exit
from migrator.store.files import private_folder, write_atomically

__all__ = ["holder", "is_held", "lock_job", "silent"]

POLL_S: Final = 0.1
"""Seconds between two attempts to take a lock that another process has."""


def silent(_text: str) -> None:
    """Show nothing."""


@asynccontextmanager
async def lock_job(
    state: Path, job: str, if_running: IfRunning, *, tell: Callable[[str], None] = silent
) -> AsyncIterator[str | None]:
    """Hold a job's lock; yield None, or who has it where the run is to be skipped.

    Args:
        state: the state folder.
        job: the job's name.
        if_running: what to do where another process has it.
        tell: shows the user a sentence about a wait.

    Raises:
        MigratorError: another process has it.
        FolderError: the lock is a link, or cannot be made.
    """
    private_folder(state / "locks")
    lock = _lock(state, job)
    if not _taken(lock):
        who = holder(state, job) or "another process"
        if if_running is IfRunning.SKIP:
            yield who
            return
        if if_running is IfRunning.FAIL:
            raise MigratorError(f"another run of {job} is active ({who})", Exit.RUNNING)
        tell(f"waiting for the active run of {job} ({who})")
        while not _taken(lock):  # noqa: ASYNC110  the operating system has no event for it
            await anyio.sleep(POLL_S)
    try:
        with write_atomically(_holder_file(state, job)) as file:
            file.write(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}".encode())
        yield None
    finally:
        lock.release()


def _taken(lock: FileLock) -> bool:
    """Take a lock if it is free, and return whether it was."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        why = "is a link, which is not followed" if error.errno == errno.ELOOP else error.strerror
        raise FolderError(f"{lock.lock_file}: {why}") from None
    return True


def is_held(state: Path, job: str) -> bool:
    """Tell whether a process holds a job's lock; one that cannot be looked at counts as held."""
    lock = _lock(state, job)
    if not Path(lock.lock_file).exists():
        return False
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def holder(state: Path, job: str) -> str | None:
    """Return who last took a job's lock, as ``process 4711 since 2026-11-23T01:00:00Z``."""
    path = _holder_file(state, job)
    with suppress(OSError, UnicodeDecodeError):
        if not path.is_symlink():
            return path.read_text("utf-8")
    return None


def _lock(state: Path, job: str) -> FileLock:
    return FileLock(state / "locks" / f"{job}.lock", mode=0o600)


def _holder_file(state: Path, job: str) -> Path:
    return state / "locks" / f"{job}.holder"
