"""The lock of a job: one run at a time, held by the operating system, so that it dies with its process.

It is `flock(2)`: it holds between processes of one machine on every local file system, and on NFS from Linux 2.6.12 on,
which makes it a lock of the server. Two machines that each have a state folder of their own do not see each other.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click
from filelock import FileLock, Timeout

from migrator.errors import FolderError, MigratorError
from migrator.options import IfRunning
from migrator.results import Exit, StopKind
from migrator.store.files import private_folder, write_atomically

__all__ = ["holder", "is_held", "lock_job"]


@contextmanager
def lock_job(state: Path, job: str, if_running: IfRunning) -> Iterator[str | None]:
    """Hold a job's lock; yield None, or who has it where that is to be passed over.

    Raises:
        MigratorError: another process has it, or a signal came while we waited.
        FolderError: the lock is a link, or cannot be made.
    """
    private_folder(state / "locks")
    lock = _lock(state, job)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder(state, job) or "another process"
        if if_running is IfRunning.SKIP:
            yield who
            return
        if if_running is IfRunning.FAIL:
            raise MigratorError(f"another run of {job} is under way ({who})", Exit.RUNNING) from None
        click.echo(f"migrator: waiting for the run of {job} that is under way ({who})", err=True)
        with _signals_end_it():
            lock.acquire()
    except OSError as error:
        why = "is a link, which is not followed" if error.errno == errno.ELOOP else error.strerror
        raise FolderError(f"{lock.lock_file}: {why}") from None
    try:
        with write_atomically(_holder_file(state, job)) as file:
            file.write(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}".encode())
        yield None
    finally:
        lock.release()


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


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Let SIGTERM and SIGINT end a wait: the first process of a container has no default for them."""

    def stop(number: int, _frame: FrameType | None) -> None:
        interrupted = number == signal.SIGINT
        kind, code = (StopKind.SIGINT, Exit.INTERRUPTED) if interrupted else (StopKind.SIGTERM, Exit.TERMINATED)
        raise MigratorError(f"{kind.value} while waiting; nothing was sent", code)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
