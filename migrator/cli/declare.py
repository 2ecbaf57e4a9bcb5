"""How commands are declared: their options come from the one table, their help is grouped and ends with an example.

A declaration imports nothing but click. What a command does is imported when it runs, so that help and completion stay
quick.
"""

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from inspect import iscoroutine
from itertools import groupby
from typing import Any

import click

from migrator.cli.completion import of_kind
from migrator.options import Group, Option, options_of

__all__ = ["Command", "Extra", "act"]


class Extra(click.Option):
    """An option of one command.

    Args:
        group: the part of help that it belongs to.
    """

    def __init__(self, *names: str, group: Group | None = None, **settings: Any) -> None:
        super().__init__(list(names), **settings)
        self.group = group


class Command(click.Command):
    """A command of the program.

    Args:
        name: as it is typed.
        does: where the function is that does it, such as ``job_commands:run``, in this package.
        help: what it does; the first sentence stands in the list of commands.
        example: command lines.
        parameters: what it takes beside the options that the table has for it.
    """

    def __init__(
        self,
        name: str,
        does: str,
        *,
        help: str,  # noqa: A002  click's word
        example: str,
        parameters: Sequence[click.Parameter] = (),
    ) -> None:
        super().__init__(
            name,
            callback=partial(act, does),
            help=help,
        )
        self.example = example
        self._parameters = parameters

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its parameters, which are made when the command is given: all those of all commands take long."""
        if not self.params:
            self.params = [*self._parameters, *map(_declared, options_of(str(self.name)))]
        return super().get_params(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        order = [*Group, None]
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        options.sort(key=lambda option: order.index(_group(option)))
        for group, members in groupby(options, key=_group):
            with formatter.section(group or "Options"):
                formatter.write_dl(list(_records(members, ctx)))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example, each of its lines as it is."""
        del ctx
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")


def _group(option: click.Option) -> Group | None:
    return option.group if isinstance(option, Extra) else None


def _records(options: Iterable[click.Option], ctx: click.Context) -> Iterable[tuple[str, str]]:
    return (record for option in options if (record := option.get_help_record(ctx)) is not None)


def _declared(option: Option) -> Extra:
    shown = f"  [{option.shown}]" if option.shown else ""
    return Extra(
        option.flag,
        group=option.group,
        help=option.help + shown,
        metavar=option.kind.metavar,
        is_flag=option.kind.metavar is None,
        shell_complete=of_kind(option.kind),
    )


def act(does: str, **typed: Any) -> Any:
    """Do what a command does; a coroutine is run here, and nowhere else.

    Args:
        does: the function, such as ``job_commands:run``.
        typed: its arguments, as they were typed.
    """
    module, _, function = does.partition(":")
    with _no_authorities():
        command = getattr(import_module(f"migrator.cli.{module}"), function)
    # What is imported by now stays until the end, so that the garbage collector need never look at it.
    gc.freeze()
    gc.enable()
    found = command(**typed)
    if not iscoroutine(found):
        return found
    from migrator.cli.display.terminal import run_attended

    return run_attended(found)


@contextmanager
def _no_authorities() -> Iterator[None]:
    """Let aiohttp be imported without the system's certificates, which takes a quarter of the time.

    It makes two TLS contexts when it is imported. This program makes its own where a server is https, and uses neither.
    """
    name, before = "SSL_CERT_FILE", os.environ.get("SSL_CERT_FILE")
    os.environ[name] = os.devnull
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
