"""Files and folders that only their owner can read, written whole or not at all."""

import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeVar

import msgspec

from migrator.errors import FolderError

__all__ = [
    "aside_of",
    "decoded",
    "open_private",
    "private_folder",
    "remove_leftovers",
    "remove_leftovers_of_the_dead",
    "sync",
    "write_atomically",
]

Decoded = TypeVar("Decoded")

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600

ASIDE: Final = ".new-"
"""How the names of unfinished files begin."""


def private_folder(path: Path) -> Path:
    """Make a folder with mode 0700, and those above it too, or make sure that an existing one is ours alone.

    Raises:
        FolderError: it is a link, belongs to another user, may be read by others, or cannot be made.
    """
    try:
        for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
            missing.mkdir(mode=FOLDER_MODE, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise FolderError(f"{path}: {os_error_text(error)}") from None
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
        reason = "is a link, which is not followed" if error.errno == errno.ELOOP else os_error_text(error)
        raise FolderError(f"{path}: {reason}") from None


@contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Write a file whole or not at all: aside, to the disk, then into its place.

    What a process that was killed has left of the same file is deleted.

    Raises:
        FolderError: it cannot be written; what was there before is left as it was.
    """
    aside = aside_of(path)
    remove_leftovers_of_the_dead(path.parent, of=path.name)
    try:
        with open_private(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise FolderError(f"{path} cannot be written: {os_error_text(error)}") from None
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Make a file that is there durable, with its name.

    Raises:
        FolderError: it cannot be.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync_folder(path.parent)
    except OSError as error:
        raise FolderError(f"{path} cannot be written: {os_error_text(error)}") from None


def decoded(data: bytes | str, type_: type[Decoded]) -> Decoded | None:
    """Return what a file of the program's own says, or None where it is damaged. Never raises on any data.

    Args:
        data: the file's JSON.
        type_: what it has to be, as msgspec takes it.
    """
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        # Bytes that are not UTF-8 and documents that are nested too deeply are no errors of msgspec's own.
        return None


def remove_leftovers(folder: Path) -> None:
    """Delete what a process that was killed has left of files it was writing; no other process may be writing there."""
    for leftover in folder.glob(f"{ASIDE}*"):
        leftover.unlink(missing_ok=True)


def aside_of(path: Path) -> Path:
    """Return a new name for a file while it is unfinished; it names the process that writes it."""
    return path.with_name(f"{ASIDE}{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


def remove_leftovers_of_the_dead(folder: Path, *, of: str = "") -> None:
    """Delete what processes that were killed have left of files they were writing; others may be writing there.

    Args:
        folder: where they were writing.
        of: the name of the file; without it, of all files.
    """
    for leftover in folder.glob(f"{ASIDE}{glob.escape(of)}*"):
        writer = leftover.name.split(".")[-2]
        if not writer.isdecimal() or int(writer) == os.getpid() or not _is_alive(int(writer)):
            leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def os_error_text(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _sync_folder(path: Path) -> None:
    """Make a new name in a folder durable; only then has a rename survived a power loss (fsync(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
