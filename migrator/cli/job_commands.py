"""What the commands about a job do: run, check, plan."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from migrator.cli.display.printing import as_document, ended, say
from migrator.cli.display.screens import wrapped
from migrator.cli.display.terminal import calling, coloured, note
from migrator.cli.job_input import allowed, load
from migrator.commands.face import Options
from migrator.commands.plan import plain, plan_text
from migrator.commands.ready import check_items, open_job, refuse_invalid
from migrator.job.problems import JobError
from migrator.report.refusal import refusals_told, tell_of_job_error
from migrator.store.plan_file import write_plan

__all__ = ["check", "plan", "run"]


async def run(job: str, items: str | None, template: str | None, *, as_json: bool, **typed: Any) -> int:
    """Check every row, then send."""
    try:
        found = load(job, items, template, typed)
    except JobError as error:
        await tell_of_job_error(error, allow_commands=allowed(typed).commands, tell=note)
        raise
    chosen = Options.with_environment(typed, os.environ).resolved(found)
    async with (
        refusals_told(found, chosen, tell=note),
        open_job(found, chosen, stdin=sys.stdin.buffer, tell=note) as ready,
    ):
        with calling(chosen, found.notify, typed=typed) as caller:
            ending = await ready.migrate(caller)
    return ended(ending, chosen, as_json=as_json)


def check(job: str, items: str | None, template: str | None, *, as_json: bool, **typed: Any) -> None:
    """Check every row."""
    try:
        found = load(job, items, template, typed)
    except JobError as error:
        if any("is not set" in problem.message for problem in error.problems):
            error.hint = "To check without credentials, as in a pull request, give --no-credentials."
        raise
    chosen = Options.with_environment(typed, os.environ).resolved(found, command="check")
    name, verdict = check_items(found, chosen, stdin=sys.stdin.buffer)
    for warning in verdict.warnings:
        note(f"{name}: warning: {warning}")
    if as_json:
        problems = [
            {"file": p.file, "line": p.line, "column": p.column, "field": p.field, "message": p.message, "rows": p.rows}
            for p in verdict.problems
        ]
        document: Mapping[str, Any] = {
            "items": verdict.items,
            "problem_count": verdict.problem_count,
            "problems": problems,
            "warnings": verdict.warnings,
        }
        say(msgspec.json.encode(document).decode())
    elif not verdict.problem_count:
        say(f"{name}: {verdict.items:,} item{'' if verdict.items == 1 else 's'}, no problems")
    refuse_invalid(found, verdict, name, strict=chosen.strict)


async def plan(
    job: str,
    items: str | None,
    template: str | None,
    out: str | None,
    *,
    detailed_exitcode: bool,
    as_json: bool,
    **typed: Any,
) -> int:
    """Show what would change."""
    found = load(job, items, template, typed)
    chosen = Options.with_environment(typed, os.environ).resolved(found, command="plan")
    chosen = replace(chosen, plan=out)  # the run that is told of is the one that applies this plan
    async with open_job(found, chosen, stdin=sys.stdin.buffer, tell=note) as ready:
        made = await ready.plan(tell=note)
    if out is not None:
        write_plan(Path(out), made)
    if as_json:
        say(as_document(made))
    else:
        *changes, counts = plan_text(made, styled=coloured if sys.stdout.isatty() else plain).splitlines()
        say("\n".join([*changes, wrapped(counts)]))
    unreadable = made.counts["change"] + made.counts["unchanged"] < len(made.items)
    return 1 if unreadable else 2 if detailed_exitcode and made.counts["change"] else 0
