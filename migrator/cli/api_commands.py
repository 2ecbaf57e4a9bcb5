"""The commands that look at an API and write nothing to it: plan and export."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from migrator.cli.options import (
    Examples,
    api_options,
    checked,
    commands_allowed,
    find_job,
    job_argument,
    open_items,
    refuse_invalid,
    say,
)
from migrator.cli.terminal import coloured, note

__all__ = ["export", "plan"]


@click.command(cls=Examples, example="migrator plan job.json --out plan.json\nmigrator run job.json --plan plan.json")
@job_argument
@api_options
@click.option("--limit", metavar="N", help="Only the first N items.")
@click.option("--out", metavar="FILE", help="Write the plan there, for run --plan.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as one JSON document.")
async def plan(
    job: str, items: str | None, template: str | None, out: str | None, *, as_json: bool, **typed: Any
) -> int:
    """Read what every item holds, and show what would change, with secrets masked. Nothing is written.

    Exit codes: 0 every item can be written; 1 some are missing, forbidden or unreadable; 2 not valid; 3 stopped early.
    """
    import msgspec  # noqa: PLC0415

    from migrator import options  # noqa: PLC0415
    from migrator.commands import join, plan  # noqa: PLC0415
    from migrator.store.plan_file import write_plan  # noqa: PLC0415

    found = find_job(job, items, template, allow_commands=bool(typed["allow_commands"]))
    chosen = options.resolve(command_line=typed, env=os.environ, job_run=found.run, source=found.source)
    origin = open_items(found, job, items, template)
    found = await join.joined(found, origin, chosen)
    verdict = checked(found, origin, limit=chosen.limit)
    refuse_invalid(verdict, origin)
    made = await plan.make_plan(found, origin, verdict, chosen, tell=note)
    if out is not None:
        write_plan(Path(out), made)
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(made), indent=2).decode())
    else:
        say(plan.plan_text(made, styled=coloured if sys.stdout.isatty() else plan.plain))
    return 0 if made.counts["change"] + made.counts["unchanged"] == len(made.items) else 1


@click.command(
    cls=Examples,
    example="migrator export confluent-cloud --out items.csv --where \"target.kind == 'Slack'\"",
)
@click.argument("api", metavar="API")
@click.option("--out", metavar="FILE", required=True, help="The items file, which is made with mode 0600.")
@click.option("--where", metavar="EXPR", help="Only records that fulfil a JMESPath expression.")
@click.option("--redact", is_flag=True, help="Write fingerprints in place of secrets.")
@api_options
async def export(api: str, out: str, where: str | None, *, redact: bool, **typed: Any) -> None:
    """Write an API's collection into an items file: a row a record, with the columns that run takes.

    API is a built-in profile, or a job file whose API it is. The same command goes on where it was broken off.
    """
    from migrator import options  # noqa: PLC0415
    from migrator.commands import export  # noqa: PLC0415
    from migrator.job import source  # noqa: PLC0415

    profile = source.find_profile(
        api, env=os.environ, allow_commands=commands_allowed(typed=bool(typed["allow_commands"]))
    )
    chosen = options.resolve(command_line=typed, env=os.environ, job_run={}, source=api)
    found = await export.export(profile, chosen, out=Path(out), where=where, redact=redact)
    if not redact and export.git_would_take(Path(out)):
        click.echo(f"migrator: {out} holds credentials, and git does not ignore it: add it to .gitignore", err=True)
    if found.masked:
        click.echo(
            f"migrator: the API masks {found.masked} secrets; a row that still has a mask is refused by run", err=True
        )
    resumed = ", going on where it was broken off" if found.resumed else ""
    say(f"{out}: {found.rows} of {found.records} records{resumed}")
