"""What a shell offers behind an option or in the place of an argument; it has to be quick, and never fails."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem

from migrator.options import OPTIONS
from migrator.values import Kind

__all__ = ["Complete", "files", "of_kind", "profiles", "runs"]

Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def of_kind(kind: Kind) -> Complete:
    """Return what completes a value of a kind: its words, or a path."""
    return words(kind.choices) if kind.path is None else _paths(kind.path)


def words(known: Sequence[str]) -> Complete:
    """Return what completes one of some words."""
    return lambda _context, _parameter, typed: [CompletionItem(word) for word in known if word.startswith(typed)]


def _paths(kind: str) -> Complete:
    return lambda _context, _parameter, typed: [CompletionItem(typed, type=kind)]


files: Complete = _paths("file")
"""Completes the name of a file."""


def runs(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete the name of a run, the latest first."""
    state = OPTIONS["state"]
    folder = Path(context.params.get("state") or os.environ.get(state.variable) or state.default) / "runs"
    try:
        # A run's name ends with its time and four hexadecimal digits.
        names = sorted((one.name for one in folder.iterdir()), key=lambda name: name.split("-")[-2:], reverse=True)
    except OSError:
        names = []
    return [CompletionItem(name) for name in ("last", *names) if name.startswith(typed)]


def profiles(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete a built-in profile's name, or the name of a job file."""
    from migrator.job.profile.api_profile import built_in_names

    found = words(built_in_names(templates=False))(context, parameter, typed)
    return found or files(context, parameter, typed)
