"""How the command line finds a job and its items, and tells what is wrong with them."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace

import click

from migrator.commands.webhooks.hosts import Rules
from migrator.errors import MigratorError
from migrator.job import source
from migrator.job.check import Verdict, check
from migrator.job.job_file import Job
from migrator.job.source import Source
from migrator.messages import host_of, is_loopback

__all__ = ["checked", "commands_allowed", "find_job", "open_items", "refuse_invalid"]


def find_job(job: str, items: str | None, template: str | None, typed: Mapping[str, object]) -> Job:
    """Return the job that the command line names."""
    return source.find_job(job, items=items, template=template, env=os.environ, allow_commands=commands_allowed(typed))


def open_items(found: Job, job: str, items: str | None, template: str | None) -> Source:
    """Return the items that the command line names."""
    return source.open_items(found, job, items=items, template=template, stdin=sys.stdin.buffer)


def commands_allowed(typed: Mapping[str, object]) -> bool:
    """Tell whether a job file's commands may run: the user says so, and never the job file."""
    return bool(typed["allow_commands"]) or os.environ.get("MIGRATOR_ALLOW_COMMANDS", "").lower() in {
        "1",
        "true",
        "yes",
        "on",
    }


def checked(job: Job, origin: Source, *, limit: int | None, server: str | None = None, quiet: bool = False) -> Verdict:
    """Check the whole input and print what is wrong with it; `server` is where it is to be sent."""
    rules = Rules(job, rehearsal=server is None or is_loopback(host_of(server) or ""))
    see = rules.see if rules.wanted else None
    verdict = check(origin.rewound(), form=origin.form, job=job, name=origin.name, limit=limit, see=see)
    verdict = replace(verdict, warnings=tuple(str(warned) for warned in rules.warnings()))
    for problem in verdict.problems:
        click.echo(str(problem), err=True)
    more = verdict.problem_count - len(verdict.problems)
    if more:
        click.echo(f"… and {more} more", err=True)
    for warning in () if quiet else verdict.warnings:
        click.echo(f"{origin.name}: warning: {warning}", err=True)
    return verdict


def refuse_invalid(verdict: Verdict, origin: Source, *, strict: bool) -> None:
    """Say how much is wrong with an input, if anything is, and go no further.

    Raises:
        MigratorError: the input is not valid, or there are warnings, which `strict` takes for errors.
    """
    if verdict.problem_count:
        problems = f"{verdict.problem_count} problem{'s' if verdict.problem_count != 1 else ''}"
        raise MigratorError(f"{origin.name}: {problems}; nothing was sent")
    if strict and verdict.warnings:
        count = len(verdict.warnings)
        raise MigratorError(f"{origin.name}: {count} warning{'s' if count != 1 else ''} (--strict); nothing was sent")
