"""What a command asks and shows on the terminal, and how signals reach it."""

import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import click

from migrator.cli.signals import SIGNALS
from migrator.options import Progress, RunOptions
from migrator.results import StopKind, StopReason
from migrator.run.migrate import Caller
from migrator.run.stopper import Stopper

__all__ = ["calling", "coloured", "note", "run_attended"]


def note(text: str) -> None:
    """Show a sentence on standard error."""
    click.echo(f"migrator: {text}", err=True)


def coloured(text: str, colour: str | None) -> str:
    """Return a text in a colour, as terminals show it."""
    return text if colour is None else click.style(text, fg=colour)


@contextmanager
def calling(options: RunOptions) -> Iterator[Caller]:
    """Yield what asks the person at the terminal, shows sentences, and stops a run on a signal."""
    stopper = Stopper()

    def receive(number: signal.Signals) -> bool:
        return stopper.stop(StopReason(StopKind[number.name], f"{number.name} received"))

    drawn = sys.stderr.isatty() and not options.quiet and options.progress in {Progress.AUTO, Progress.BAR}
    there = sys.stdin.isatty() and sys.stderr.isatty()
    with SIGNALS.sent_to(receive):
        yield Caller(
            confirm=_confirm if there else None,
            ask=partial(_ask, drawn=drawn) if there else None,
            tell=note,
            stopper=stopper,
        )


def _confirm(question: str) -> bool:
    with SIGNALS.raised():
        answer: str = click.prompt(question, default="no", show_default=False, err=True)
    return answer.strip().lower() == "yes"


async def _ask(question: str, *, drawn: bool) -> bool:
    """Ask while a run goes on; a live display shows the question itself."""
    if not drawn:
        click.echo(question, nl=False, err=True)
    await anyio.wait_readable(sys.stdin)
    return sys.stdin.readline().strip().lower() == "yes"


def run_attended(command: Coroutine[Any, Any, Any]) -> Any:
    """Run a command in an event loop.

    A signal that no run handles cancels it, and ends the process with 128 plus the signal's number.
    """
    return anyio.run(_attended, command)


async def _attended(command: Coroutine[Any, Any, Any]) -> Any:
    received: list[signal.Signals] = []
    with anyio.CancelScope() as scope:

        def receive(number: signal.Signals) -> bool:
            if received:
                os._exit(128 + received[0])
            received.append(number)
            scope.cancel()
            return True

        with SIGNALS.sent_to(receive):
            return await command
    click.echo(f"migrator: {received[0].name} received; nothing was sent", err=True)
    raise SystemExit(128 + received[0])
