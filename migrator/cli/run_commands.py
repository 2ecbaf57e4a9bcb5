"""The commands about runs that there are: status, report, retry, rollback, reconcile, ctl, prune."""

import os
from pathlib import Path
from typing import Any

import click

from migrator.cli.options import (
    Examples,
    api_options,
    chosen_state,
    commands_allowed,
    ended,
    run_options,
    say,
    state_option,
)
from migrator.cli.terminal import calling

__all__ = ["ctl", "prune", "reconcile", "report", "retry", "rollback", "status"]

run_argument = click.argument("run", metavar="RUN")


def _as_json(document: Any) -> str:
    import msgspec  # noqa: PLC0415  quick start

    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


@click.command(cls=Examples, example="migrator status\nmigrator status last --json")
@click.argument("run", metavar="[RUN]", required=False)
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(run: str | None, state: str | None, *, as_json: bool) -> None:
    """Show the runs in the state folder, or one run: its counts, rate and time to go."""
    from migrator.commands import status  # noqa: PLC0415
    from migrator.store.state_folder import find_run  # noqa: PLC0415

    place = Path(chosen_state(state))
    if run is None:
        found = status.of_all(place)
        say(_as_json(found) if as_json else status.table(found))
    else:
        one = status.of_one(place, find_run(place, run))
        say(_as_json(one) if as_json else status.text_of_one(one))


@click.command(cls=Examples, example="migrator report last")
@run_argument
@state_option
def report(run: str, state: str | None) -> None:
    """Write a run's HTML report again, and print where it is."""
    from migrator.commands import report  # noqa: PLC0415
    from migrator.store.state_folder import find_run  # noqa: PLC0415

    say(str(report.write_report(find_run(Path(chosen_state(state)), run))))


@click.command(cls=Examples, example="migrator retry last")
@run_argument
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
async def retry(run: str, *, as_json: bool, **typed: Any) -> int:
    """Send again what did not succeed in a run, as a run of its own; items in doubt are left out.

    Exit codes are those of run.
    """
    from migrator.commands import join, retry  # noqa: PLC0415
    from migrator.run import migrate  # noqa: PLC0415
    from migrator.store.state_folder import find_run  # noqa: PLC0415

    place = find_run(Path(chosen_state(typed["state"])), run)
    job, source, meta = retry.find_job(
        place, env=os.environ, allow_commands=commands_allowed(typed=bool(typed["allow_commands"]))
    )
    chosen = _options(typed, job.run, job.source, base_url=meta["base_url"])
    job = await join.joined(job, source, chosen)
    with calling(chosen) as caller:
        ending = await migrate.migrate(retry.retry_work(place, job, source, meta, chosen), chosen, caller)
    return ended(ending, chosen, as_json=as_json)


@click.command(cls=Examples, example="migrator rollback last --key-file rollback.key")
@run_argument
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
async def rollback(run: str, *, as_json: bool, **typed: Any) -> int:
    """Put back what a run changed, from the state that it kept (--keep-before); a run of its own.

    An item that somebody else has changed since is left as it is, and ends as skipped. Exit codes are those of run.
    """
    from migrator.commands import retry  # noqa: PLC0415
    from migrator.commands.rollback import rollback_work  # noqa: PLC0415
    from migrator.run import migrate  # noqa: PLC0415
    from migrator.store.state_folder import find_run  # noqa: PLC0415

    place = find_run(Path(chosen_state(typed["state"])), run)
    job, _, meta = retry.find_job(
        place, env=os.environ, allow_commands=commands_allowed(typed=bool(typed["allow_commands"]))
    )
    chosen = _options(typed, {}, job.source, base_url=meta["base_url"])
    with calling(chosen) as caller:
        ending = await migrate.migrate(rollback_work(place, job, chosen), chosen, caller)
    return ended(ending, chosen, as_json=as_json)


@click.command(cls=Examples, example="migrator reconcile last")
@run_argument
@api_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
async def reconcile(run: str, *, as_json: bool, **typed: Any) -> int:
    """Settle a run's items in doubt by reading what the server holds: succeeded, not applied, or changed since."""
    import msgspec  # noqa: PLC0415

    from migrator.commands import join, reconcile, retry  # noqa: PLC0415
    from migrator.options import IfRunning  # noqa: PLC0415
    from migrator.store.lock import lock_job  # noqa: PLC0415
    from migrator.store.state_folder import find_run  # noqa: PLC0415

    state = Path(chosen_state(typed["state"]))
    place = find_run(state, run)
    job, source, meta = retry.find_job(
        place, env=os.environ, allow_commands=commands_allowed(typed=bool(typed["allow_commands"]))
    )
    chosen = _options(typed, {}, job.source, base_url=meta["base_url"])
    job = await join.joined(job, source, chosen)
    async with lock_job(state, job.name, IfRunning.FAIL):
        found = await reconcile.reconcile(place, job, source, meta, chosen)
    if as_json:
        say(_as_json(msgspec.to_builtins(found)))
    else:
        say(
            f"{place.name}: {found.succeeded} succeeded, {found.not_applied} not applied, "
            f"{found.changed_since} changed since, {found.still_in_doubt} still in doubt"
        )
    return int(found.exit_code)


@click.command(
    cls=Examples,
    example="migrator ctl last pause\nmigrator ctl last rate 5/s\nmigrator ctl last stop",
)
@run_argument
@click.argument("verb", type=click.Choice(["pause", "resume", "rate", "concurrency", "stop", "status"]))
@click.argument("value", required=False)
@state_option
def ctl(run: str, verb: str, value: str | None, state: str | None) -> None:
    """Control a running job: pause, resume, rate N/UNIT|none, concurrency N|auto, stop, status.

    Prints how the run stands, as JSON.
    """
    from migrator.run import control  # noqa: PLC0415
    from migrator.store.state_folder import find_run  # noqa: PLC0415

    if (verb in {"rate", "concurrency"}) != (value is not None):
        raise click.UsageError("rate and concurrency take a value, and the others take none")
    say(_as_json(control.ask(find_run(Path(chosen_state(state)), run), verb, value)))


@click.command(cls=Examples, example="migrator prune --keep-last 10 --older-than 30d --dry-run")
@click.option("--keep-last", type=click.IntRange(0), metavar="N", help="Keep the latest N ended runs of each job.")
@click.option("--older-than", metavar="T", help="Remove only runs that ended so long ago, such as 30d.")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@state_option
def prune(keep_last: int | None, older_than: str | None, state: str | None, *, dry_run: bool) -> None:
    """Remove the folders of old runs that have come to their end, and print them."""
    from time import time  # noqa: PLC0415

    from migrator.commands import prune  # noqa: PLC0415
    from migrator.times import parse_duration  # noqa: PLC0415

    if keep_last is None and older_than is None:
        raise click.UsageError("give --keep-last N, --older-than T, or both")
    try:
        age_s = None if older_than is None else parse_duration(older_than)
    except ValueError as error:
        raise click.UsageError(f"--older-than takes {error}") from None
    removed = prune.prune(
        Path(chosen_state(state)), keep_last=keep_last, older_than_s=age_s, now=time(), dry_run=dry_run
    )
    for place in removed:
        say(str(place))


def _options(typed: dict[str, Any], job_run: Any, source: str, *, base_url: str) -> Any:
    """Return the options of a command about a run, whose server is the run's unless another is named."""
    from migrator import options  # noqa: PLC0415

    typed["base_url"] = typed.get("base_url") or base_url
    return options.resolve(command_line=typed, env=os.environ, job_run=job_run, source=source)
