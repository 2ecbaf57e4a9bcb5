"""The command line: parameters in, one message or a summary out, and the contract's exit code.

Each command imports what it needs when it runs, so that `--help` and completion stay quick.
"""

import ctypes
import os
import resource
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

import click

from migrator import __version__
from migrator.cli.commands import COMMANDS, DETAILED
from migrator.cli.signals import SIGNALS

__all__ = ["cli", "main"]

PR_SET_DUMPABLE: Final = 4
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

EXIT_ERROR, EXIT_USAGE, EXIT_STOPPED, EXIT_BUG, EXIT_INTERRUPTED = 1, 2, 3, 70, 130


class Commands(click.Group):
    """Lists the commands in the order in which they are declared, with whole sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in that order."""
        del ctx
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the first sentence of its help."""
        rows = [(name, self.commands[name].get_short_help_str(limit=200)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Commands, context_settings=CONTEXT, epilog="Start with: migrator check JOB, then migrator run JOB.")
@click.version_option(__version__, message="migrator %(version)s")
def cli() -> None:
    """Bulk PATCHes to a REST API, at the quota's edge, with every item accounted for."""


for command in COMMANDS:
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and leave with the contract's exit code."""
    SIGNALS.install()
    _keep_memory_private()
    try:
        _fill_streams()
        with _errors():
            sys.exit(cli.main(standalone_mode=False, prog_name="migrator") or 0)
    finally:
        SIGNALS.ignore()


def _keep_memory_private() -> None:
    """Let no core file be written, nor another process of the user read this one's memory: it holds secrets."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # prctl(2); where the C library does not have it, the limit has to be enough.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _fill_streams() -> None:
    """Open what a starter has closed: else the next file that is opened would be taken for a standard stream."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  it lives as long as we


@contextmanager
def _errors() -> Iterator[None]:
    """Turn what a user can cause into one message and an exit code; the rest is a bug, and says so."""
    try:
        yield
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("migrator: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(_code_of(EXIT_USAGE))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our standard output has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_code_of(EXIT_STOPPED))
    except Exception as error:  # noqa: BLE001  the last line of defence
        sys.exit(_code_of(_message(error)))


def _code_of(code: int) -> int:
    """Return the exit code of an error; with --detailed-exitcode, 2 means changes and every error is 1."""
    return EXIT_ERROR if DETAILED in sys.argv else code


def _message(error: Exception) -> int:
    """Print an error and return its exit code."""
    from migrator.errors import MigratorError, shortage

    if (lacking := shortage(error)) is not None:
        click.echo(f"migrator: {lacking}", err=True)
        return EXIT_STOPPED
    from migrator.job.problems import JobError

    if isinstance(error, JobError):
        for problem in error.problems:
            click.echo(str(problem), err=True)
        if more := error.count - sum(problem.rows for problem in error.problems):
            click.echo(f"… and {more:,} more", err=True)
        if error.hint:
            click.echo(error.hint, err=True)
        files, count = {problem.file for problem in error.problems}, error.count
        where = f"{files.pop()}: " if len(files) == 1 else ""
        click.echo(f"migrator: {where}{count:,} problem{'s' if count != 1 else ''}; nothing was sent", err=True)
        return EXIT_USAGE
    while isinstance(error, ExceptionGroup) and error.subgroup(MigratorError) is not None:
        error = error.exceptions[0]
    if isinstance(error, MigratorError):
        click.echo(f"migrator: {error}", err=True)
        return error.exit_code
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    # An exception's text may quote a URL or a body, so the frames alone are shown.
    frames = "".join(traceback.format_tb(error.__traceback__))
    click.echo(
        f"{frames}migrator: a bug: {type(error).__name__}. What was recorded is kept; please report it.", err=True
    )
    return EXIT_BUG
