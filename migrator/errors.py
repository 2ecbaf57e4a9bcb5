"""What a user can cause and mend: one kind of error, one message, one exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

from migrator.job.source import SourceError
from migrator.options import OptionError
from migrator.run.stop_rules import Exit
from migrator.store.ledger_schema import LedgerError
from migrator.store.state_folder import FolderError
from migrator.store.vault import VaultError

__all__ = ["UserError", "user_errors"]


class UserError(Exception):
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
        raise UserError(str(error)) from None
    except (LedgerError, VaultError) as error:
        raise UserError(str(error), Exit.STOPPED) from None
