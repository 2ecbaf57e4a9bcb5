"""What the commands do that read an API or its description: export, init, schema."""

import os
from pathlib import Path
from typing import Any

import click
import msgspec

from migrator.cli.display.printing import say
from migrator.cli.display.terminal import note
from migrator.cli.job_input import allowed
from migrator.commands import export as exporting
from migrator.commands import init as initialising
from migrator.job import source
from migrator.job.profile.api_profile import job_schema
from migrator.options import resolve

__all__ = ["export", "init", "schema"]


async def export(api: str, out: str, where: str | None, *, redact: bool, **typed: Any) -> None:
    """Write an API's records to an items file."""
    profile = source.find_profile(api, env=os.environ, allowed=allowed(typed))
    chosen = resolve(command_line=typed, env=os.environ, job_run={}, source=api, command="export")
    found = await exporting.export(profile, chosen, out=Path(out), where=where, redact=redact)
    if not redact and exporting.git_would_take(Path(out)):
        note(f"{out} holds credentials, and git does not ignore it: add it to .gitignore")
    if found.masked:
        note(f"the API masks {found.masked} secrets; run refuses a row that still has a mask")
    resumed = ", resumed" if found.resumed else ""
    say(f"{out}: {found.rows} of {found.records} records{resumed}")


def schema() -> None:
    """Print the JSON Schema of a job file."""
    say(msgspec.json.format(msgspec.json.encode(job_schema()), indent=2).decode())


def init(
    api: str | None,
    openapi: str | None,
    operation: str | None,
    columns: str | None,
    *,
    example: bool,
    force: bool,
) -> None:
    """Write a job file and a template of its items."""
    chosen = [column.strip() for column in (columns or "").split(",") if column.strip()]
    if example and (openapi or operation or chosen):
        raise click.UsageError("--example goes with nothing but a profile's name")
    if example:
        done = initialising.init_example(api or "confluent-cloud", folder=Path(), force=force)
    elif openapi is not None and api is None:
        done = initialising.init_openapi(Path(openapi), operation=operation, columns=chosen, folder=Path(), force=force)
    elif api is not None and openapi is None:
        done = initialising.init_profile(api, operation=operation, columns=chosen, folder=Path(), force=force)
    else:
        raise click.UsageError("give a built-in profile's name, or --openapi SPEC, or --example")
    say(done.text())
