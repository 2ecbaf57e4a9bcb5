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
from migrator.job.profile.variables import Allowed
from migrator.job.source import Source
from migrator.messages import host_of, is_loopback
from migrator.options import RunOptions, resolve

__all__ = ["allowed", "checked", "find_job", "open_items", "refuse_invalid"]


def find_job(job: str, items: str | None, template: str | None, typed: Mapping[str, object]) -> Job:
    """Return the job that the command line names."""
    return source.find_job(
        job,
        items=items,
        template=template,
        env=os.environ,
        allowed=allowed(typed),
        credentials=not typed.get("no_credentials"),
    )


def open_items(found: Job, job: str, items: str | None, template: str | None, *, encoding: str) -> Source:
    """Return the items that the command line names."""
    return source.open_items(found, job, items=items, template=template, stdin=sys.stdin.buffer, encoding=encoding)


def allowed(typed: Mapping[str, object]) -> Allowed:
    """Return what a job file may take from outside: the user says so, and never the job file.

    Raises:
        OptionError: a value is not allowed.
    """
    named = {name: typed.get(name) for name in ("allow_commands", "allow_env", "allow_file")}
    variables = {f"MIGRATOR_{name.upper()}" for name in named}
    env = {name: value for name, value in os.environ.items() if name in variables}
    options = resolve(command_line=named, env=env, job_run={}, source="")  # type: ignore[arg-type]
    return Allowed(
        commands=options.allow_commands, env=frozenset(options.allow_env or ()), files=options.allow_file or ()
    )


def checked(
    job: Job, origin: Source, options: RunOptions, *, server: str | None = None, quiet: bool = False
) -> Verdict:
    """Check the whole input and print what is wrong with it; `server` is where it is to be sent."""
    rules = Rules(job, rehearsal=server is None or is_loopback(host_of(server) or ""))
    verdict = check(
        origin.rewound(),
        form=origin.form,
        job=job,
        name=origin.name,
        limit=options.limit,
        only=options.only,
        see=rules.see if rules.wanted else None,
    )
    verdict = replace(verdict, warnings=tuple(str(warned) for warned in rules.warnings()))
    for problem in verdict.problems:
        click.echo(str(problem), err=True)
    more = verdict.problem_count - sum(problem.rows for problem in verdict.problems)
    if more:
        click.echo(f"… and {more:,} more", err=True)
    if "template_argument" not in origin.facts and job.source.startswith("template ") and verdict.problem_count:
        click.echo(
            f"These items were read with the built-in {job.source}. For another job give --template FILE.", err=True
        )
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
