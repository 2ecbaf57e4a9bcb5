"""What a command asks and shows on the terminal, and how signals reach it."""

import asyncio
import os
import resource
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import click

from migrator.cli.display.output import Output, output_of
from migrator.cli.display.screens import question_text
from migrator.cli.log import Log
from migrator.cli.signals import SIGNALS
from migrator.options import OPTIONS, RunOptions
from migrator.report.observer import Observer
from migrator.report.telemetry import check_telemetry, open_telemetry
from migrator.results import StopKind, StopReason
from migrator.run.migrate import Caller, Confirmation
from migrator.run.stopper import Stopper
from migrator.run.work_list import Given

__all__ = ["calling", "coloured", "note", "run_attended"]


NEEDED: Final = (
    "state",
    "key_file",
    "allow_env",
    "allow_file",
    "allow_commands",
    "ca_file",
    "client_cert",
    "use_proxy",
    "shared_quota",
    "quota_name",
)
"""The options without which a command about a run may not find it, read its job or reach its server."""


def note(text: str) -> None:
    """Show a sentence on standard error."""
    click.echo(f"migrator: {text}", err=True)


def coloured(text: str, colour: str | None) -> str:
    """Return a text in a colour, as terminals show it."""
    return text if colour is None else click.style(text, fg=colour)


def given(typed: Mapping[str, object], *, about: str | None) -> Given:
    """Return what was typed, so that it can be given again.

    It does not start a new run again, and names the run that was the last one. What came on standard input is gone.
    """
    words = [word for word in sys.argv[1:] if word != "--fresh"]
    if about is not None and "last" in words:
        words[words.index("last")] = about
    values = [(OPTIONS[name].flag, value) for name in NEEDED if (value := typed.get(name))]
    options = "".join(f" {flag}" if value is True else f" {flag} {shlex.quote(str(value))}" for flag, value in values)
    piped = any(word == "-" or word.endswith("=-") for word in words)
    return Given(command=None if piped else shlex.join(["migrator", *words]), options=options)


@contextmanager
def calling(
    options: RunOptions,
    notices: Sequence[Mapping[str, object]] = (),
    *,
    typed: Mapping[str, object],
    about: str | None = None,
) -> Iterator[Caller]:
    """Yield what asks the person at the terminal, watches the run, and stops it on a signal.

    Args:
        options: what the user has set.
        notices: what the job file says of notices.
        typed: the options as they were typed.
        about: the id of the earlier run that the command is about; None for none.

    Raises:
        MigratorError: the notices cannot be used, or the package for telemetry is not there.
    """
    stopper = Stopper()

    def receive(number: signal.Signals) -> bool:
        return stopper.stop(StopReason(StopKind[number.name], f"{number.name} received"))

    there = sys.stdin.isatty() and sys.stderr.isatty()
    output = output_of(options, terminal=sys.stderr.isatty())
    with SIGNALS.sent_to(receive), _observers(options, output, notices) as observers:
        yield Caller(
            confirm=_confirm if there else None,
            ask=partial(_ask, drawn=output.level is None) if there else None,
            tell=note,
            stopper=stopper,
            observers=observers,
            given=given(typed, about=about),
        )


@contextmanager
def _observers(
    options: RunOptions, output: Output, notices: Sequence[Mapping[str, object]]
) -> Iterator[Sequence[Observer]]:
    """Yield what watches a run: a display or a log, and what tells others of it, which a rehearsal does not."""
    with ExitStack() as stack:
        observers: list[Observer] = []
        if output.level is None:
            from migrator.cli.display.progress import Display

            observers.append(stack.enter_context(Display()))
        else:
            observers.append(Log(options.log_format, output.level))
        if not options.dry_run:
            if check_telemetry(os.environ):
                observers.append(stack.enter_context(open_telemetry()))
            if options.metrics_file is not None:
                from migrator.report.metrics import Metrics

                observers.append(Metrics(Path(options.metrics_file)))
            if notices:
                from migrator.report.notify import Notice, read_targets

                targets = read_targets(notices, allow_commands=options.allow_commands)
                observers += [Notice(target) for target in targets]
        yield observers


def _confirm(asked: Confirmation) -> bool:
    with SIGNALS.raised():
        answer: str = click.prompt(question_text(asked), default="no", show_default=False, err=True)
    return answer.strip().lower() == "yes"


async def _ask(question: str, *, drawn: bool) -> bool:
    """Ask while a run goes on; a live display shows the question itself."""
    if not drawn:
        click.echo(question, nl=False, err=True)
    await anyio.wait_readable(sys.stdin)
    return sys.stdin.readline().strip().lower() == "yes"


def run_attended(command: Coroutine[Any, Any, Any]) -> Any:
    """Run a command in an event loop: that of uvloop where it is installed (extra `speed`), else asyncio's own.

    Where memory is limited it is asyncio's own, too: libuv ends the process, without a word, once it is refused some.

    A signal that no run handles cancels it, and ends the process with 128 plus the signal's number.
    """
    return anyio.run(_attended, command, backend_options={"loop_factory": _loop_factory()})


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


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
