"""Errors that a user can cause and fix: each has one message and an exit code.

The command line shows the message and ends with the code; a Python caller catches `MigratorError`.
"""

import errno
import re
from typing import Final

from migrator.results import ErrorKind, Exit, ItemError

__all__ = [
    "FolderError",
    "InputChanged",
    "LedgerError",
    "MetricsError",
    "MigratorError",
    "NotConfirmedError",
    "NoticeError",
    "OptionError",
    "PagingError",
    "ReadingError",
    "SourceError",
    "VaultError",
    "WaitTooLong",
    "shortage",
]


class MigratorError(Exception):
    """A user can cause and fix this; the text says what, where and what to do.

    Attributes:
        exit_code: what the command line ends with.
    """

    exit_code: Exit = Exit.USAGE

    def __init__(self, message: str, exit_code: Exit | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class OptionError(MigratorError, ValueError):
    """An option has a value that is not allowed; the text names the option, its place and what is allowed."""


class SourceError(MigratorError):
    """A file from the command line cannot be used; the text says which and why."""


class InputChanged(MigratorError):
    """The items file is no longer what was checked."""

    exit_code = Exit.STOPPED


class NotConfirmedError(MigratorError):
    """The answer to the prompt was no."""


class FolderError(MigratorError):
    """The state folder or a file in it cannot be used; the text says why and what to do."""


class LedgerError(MigratorError):
    """The ledger cannot be read or written; the text says why and what to do."""

    exit_code = Exit.STOPPED


class VaultError(MigratorError):
    """A before-image cannot be decrypted: the key is a different one, or the ledger was changed."""

    exit_code = Exit.STOPPED


class ReadingError(MigratorError):
    """The server cannot be read at all.

    Attributes:
        error: the cause, as a record has it; None where the throttle was stopped.
    """

    exit_code = Exit.STOPPED

    def __init__(self, error: ItemError | None) -> None:
        super().__init__(error.message if error is not None else "stopped")
        self.error = error


class PagingError(ReadingError):
    """A list is not the whole collection, or goes on in a way that the profile does not declare; the text says how."""

    def __init__(self, message: str, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(ItemError(kind=ErrorKind.PROTOCOL, message=message))
        self.exit_code = exit_code


class WaitTooLong(MigratorError):
    """The quota requires a longer wait than `--max-wait` allows.

    Attributes:
        wait_s: seconds until the next request may be sent.
        reason: why it is waited for.
    """

    exit_code = Exit.STOPPED

    def __init__(self, wait_s: float, reason: str) -> None:
        super().__init__(f"{reason}: the next request may go in {wait_s:.0f} s, which is longer than --max-wait")
        self.wait_s, self.reason = wait_s, reason


class NoticeError(MigratorError):
    """A job file's `notify` cannot be used; the text says which entry and why, without its URL."""


class MetricsError(MigratorError):
    """The metrics file cannot be written; the text says why."""


KEPT: Final = "What was recorded is kept, and the same command resumes the run."
OUT_OF_MEMORY: Final = (
    f"memory ran out. {KEPT} It needs less with fewer requests in flight (--concurrency 4); else raise the limit of "
    "the shell (ulimit -v), unit or container"
)
OUT_OF_FILES: Final = (
    f"the system gives no more open files. {KEPT} It needs fewer with fewer requests in flight (--concurrency 4); else "
    "raise the limit (ulimit -n)"
)
REFUSED_MEMORY: Final = re.compile("can't start new thread|cannot allocate memory|failed to map segment", re.IGNORECASE)
"""How libraries say it without a MemoryError: a thread needs a stack, and a shared library a place."""


def shortage(error: BaseException) -> str | None:
    """Return what to tell the user where an error, or one of a group, says that memory or files ran out; else None."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(shortage, error.exceptions)), None)
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return OUT_OF_FILES
    refused = isinstance(error, OSError | RuntimeError | ImportError) and REFUSED_MEMORY.search(str(error))
    return OUT_OF_MEMORY if refused or isinstance(error, MemoryError) else None
