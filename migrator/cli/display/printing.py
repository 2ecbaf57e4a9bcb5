"""What goes to standard output: results, and nothing else."""

import os
from typing import Any

import click
import msgspec

from migrator.cli.display.screens import wrapped
from migrator.options import RunOptions
from migrator.run.migrate import Ending

__all__ = ["as_document", "ended", "say"]


def say(text: str) -> None:
    """Print a result; if standard output cannot be written, say so and keep the exit code."""
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        click.echo(f"migrator: standard output: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would complain once more at exit


def as_document(value: Any) -> str:
    """Return a value as one JSON document."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def ended(ending: Ending, options: RunOptions, *, as_json: bool) -> int:
    """Print how a run ended, and return its exit code."""
    code = int(ending.exit_code)
    if as_json or not (options.quiet and code == 0):
        say(ending.document() if as_json else "\n".join(map(wrapped, ending.text().splitlines())))
    return code
