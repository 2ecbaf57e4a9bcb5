"""Commands are declared once: options come from the table, help is grouped, and what a command does is looked up."""

import re

import click
import pytest
from click.testing import CliRunner

from migrator.cli.declare import Command, Extra, act
from migrator.cli.main import cli
from migrator.options import OPTIONS, Group, options_of


def help_of(name: str) -> str:
    """Return a command's help."""
    done = CliRunner().invoke(cli, [name, "--help"], terminal_width=200)
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_help_has_the_commands_own_options(name: str) -> None:
    """Each option of the table that the command takes is there, none of the others, and an example ends it."""
    own = {option.flag for option in options_of(name)}
    shown = help_of(name)
    listed = set(re.findall(r"^  (--[a-z-]+)", shown, re.MULTILINE))

    command = cli.commands[name]
    extra = {option for one in command.get_params(click.Context(command)) for option in one.opts} - own
    assert own <= listed
    assert not (({option.flag for option in OPTIONS.values()} - own - extra) & listed)
    assert f"  migrator {name}" in shown.split("Example")[-1]


def test_options_stand_in_their_groups() -> None:
    """Selection, pace, safety, output: in this order, and each heading once."""
    shown = help_of("run")
    places = [shown.index(f"\n{group}:") for group in Group]

    assert places == sorted(places)
    assert places[-1] < shown.index("\nExample:")
    assert shown[places[0] : places[1]].count("--items") == 1


def test_command_takes_its_values_as_they_are_typed() -> None:
    """What they mean is decided by the table, for the environment and the job file as well."""
    seen: dict[str, object] = {}

    class Probe(Command):
        def invoke(self, ctx: click.Context) -> object:
            seen.update(ctx.params)
            return None

    command = Probe("run", "nothing:nothing", help="Try.", example="migrator run", parameters=[Extra("--more")])
    CliRunner().invoke(command, ["--rate", "5/s", "--dry-run", "--more", "x"], catch_exceptions=False)

    assert (seen["rate"], seen["dry_run"], seen["more"]) == ("5/s", True, "x")
    assert seen["concurrency"] is None


def test_coroutines_are_run() -> None:
    """A command may be a function or a coroutine function; its result is the exit code."""
    assert act("api_commands:schema") is None
    with pytest.raises(click.UsageError):
        act("sandbox_command:sandbox", port=0, items=1, limit=0, window=1.0, algorithm="fixed", reset="relative",
            rounding="up", latency="soon", jitter="0", error_rate="0%", concurrency_limit=0, masked=False,
            unknown="403", envelope="errors", seed=1, api_key=None, api_secret=None)  # fmt: skip
