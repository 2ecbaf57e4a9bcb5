"""Errors that a user can cause and fix: each has one message and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

from migrator.results import Exit, ItemError

__all__ = [
    "FolderError",
    "InputChanged",
    "LedgerError",
    "MetricsError",
    "MigratorError",
    "NotConfirmedError",
    "NoticeError",
    "OptionError",
    "ReadingError",
    "SourceError",
    "VaultError",
    "WaitTooLong",
    "user_errors",
]


class MigratorError(Exception):
    """What a user can cause and mend; the text says what, where and what to do."""

    def __init__(self, message: str, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def user_errors() -> Iterator[None]:
    """Make one kind of error of all that a user can mend."""
    try:
        yield
    except (SourceError, OptionError, FolderError) as error:
        raise MigratorError(str(error)) from None
    except (LedgerError, VaultError) as error:
        raise MigratorError(str(error), Exit.STOPPED) from None


class ReadingError(Exception):
    """Something cannot be read, and nothing else either.

    Attributes:
        error: why, in the words of a record.
        fatal: what no other request would escape; None where the throttle was stopped.
    """

    def __init__(self, error: ItemError | None) -> None:
        super().__init__(error.message if error is not None else "stopped")
        self.error = error


class SourceError(Exception):
    """A file that the command line names cannot be used; the text says which and why."""


class OptionError(ValueError):
    """An option's value cannot be read; the text names the option, where it stands and what is allowed."""


class WaitTooLong(Exception):  # noqa: N818  it reads as what it is
    """The quota makes us wait for longer than the user allows.

    Attributes:
        wait_s: for how long.
    """

    def __init__(self, wait_s: float, reason: str) -> None:
        super().__init__(f"{reason}: the next request may go in {wait_s:.0f} s, which is longer than --max-wait")
        self.wait_s = wait_s


class MetricsError(Exception):
    """The metrics file cannot be written; the text says why."""


class NoticeError(Exception):
    """A job file's `notify` cannot be used; the text says which entry and why, without its URL."""


class InputChanged(Exception):  # noqa: N818  it reads as what it is
    """The items file is not what was checked any more."""


class NotConfirmedError(MigratorError):
    """Whoever sits at the terminal does not want it."""


class LedgerError(Exception):
    """The ledger cannot be read or written; the text says why and what to do."""


class FolderError(Exception):
    """The state folder cannot be used; the text says why and what to do."""


class VaultError(Exception):
    """An image cannot be opened: the key is another one, or the ledger was changed."""
