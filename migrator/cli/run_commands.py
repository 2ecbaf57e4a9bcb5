"""What the commands about an earlier run do: retry, rollback, reconcile, ctl, status, report, prune."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import click
import msgspec

from migrator.cli.display.printing import as_document, ended, say
from migrator.cli.display.screens import control_text, run_table, run_text
from migrator.cli.display.terminal import calling
from migrator.cli.job_input import allowed
from migrator.cluster.choice import machines_of
from migrator.commands import prune as pruning
from migrator.commands import reconcile as reconciling
from migrator.commands import status as standing
from migrator.commands import verify as verifying
from migrator.commands.retry import find_job, origin_of, retry_work
from migrator.commands.rollback import RollbackWork
from migrator.errors import MigratorError
from migrator.job.job_file import Job
from migrator.job.source import Source
from migrator.options import IfRunning, RunOptions, resolve
from migrator.report.views import write_report
from migrator.run import control
from migrator.run.join import joined
from migrator.run.migrate import migrate
from migrator.store.state_folder import StateFolder
from migrator.times import parse_duration

__all__ = ["ctl", "prune", "reconcile", "report", "retry", "rollback", "status", "verify"]


def status(run: str | None, *, as_json: bool, **typed: Any) -> None:
    """Show the runs, or one of them."""
    place = _state(typed, "status")
    if run is None:
        found = standing.of_all(place)
        say(as_document(found) if as_json else run_table(found, datetime.now(UTC)))
    else:
        one = standing.of_one(place, place.find(run))
        say(as_document(one) if as_json else run_text(one, datetime.now(UTC)))


def report(run: str, **typed: Any) -> None:
    """Write a run's HTML report again."""
    state = _state(typed, "report")
    say(str(write_report(state, state.find(run))))


async def retry(run: str, *, as_json: bool, **typed: Any) -> int:
    """Send again what did not succeed."""
    place = origin_of(_state(typed, "retry").find(run), kind="retry")
    with _origin(place, typed) as (named, source, meta):
        chosen = _options(typed, named.run, named.source, meta, command="retry")
        job = await joined(named, source, chosen)
        work = retry_work(place, job, source, meta, chosen)
        with calling(chosen, job.notify, typed=typed, about=place.name) as caller:
            for warning in work.warnings():
                caller.tell(warning)
            async with machines_of(job, chosen) as machines:
                ending = await migrate(work, chosen, caller, machines=machines)
    return ended(ending, chosen, as_json=as_json)


async def rollback(run: str, *, as_json: bool, **typed: Any) -> int:
    """Put back what a run changed."""
    place = origin_of(_state(typed, "rollback").find(run), kind="rollback")
    with _origin(place, typed) as (job, _, meta):
        chosen = _options(typed, {}, job.source, meta, command="rollback")
        with calling(chosen, typed=typed, about=place.name) as caller:
            ending = await migrate(RollbackWork(place, job, chosen), chosen, caller)
    return ended(ending, chosen, as_json=as_json)


async def reconcile(run: str, *, as_json: bool, **typed: Any) -> int:
    """Find out what became of items in doubt."""
    state = _state(typed, "reconcile")
    place = state.find(run)
    with _origin(place, typed) as (named, source, meta):
        chosen = _options(typed, {}, named.source, meta, command="reconcile")
        job = await joined(named, source, chosen)
        async with state.lock(job.name, IfRunning.FAIL):
            found = await reconciling.reconcile(place, job, source, meta, chosen)
    if as_json:
        say(as_document(msgspec.to_builtins(found)))
    else:
        say(
            f"{place.name}: {found.succeeded} succeeded, {found.not_applied} not applied, "
            f"{found.changed_since} changed since, {found.still_in_doubt} still in doubt"
        )
    return int(found.exit_code)


async def verify(run: str, *, read: bool, as_json: bool, **typed: Any) -> int:
    """Compare a run's ledger with its files and the server."""
    state = _state(typed, "verify")
    place = state.find(run)

    async def open_origin() -> tuple[Job, Source, RunOptions]:
        job, source, meta = opened.enter_context(_origin(place, typed))
        chosen = _options(typed, {}, job.source, meta, command="verify")
        return await joined(job, source, chosen), source, chosen

    async def origin() -> tuple[Job, Source]:
        return (await open_origin())[:2]

    async with state.lock(verifying.locked_job(place), IfRunning.SKIP) as holder:
        if holder is not None:
            raise MigratorError(f"the run is active ({holder}); verify it when it has ended")
        with ExitStack() as opened:
            found = await verifying.verify(place, state, origin=origin)
            if read:
                job, source, chosen = await open_origin()
                masker = state.masker(job.api.credentials())
                await verifying.verify_server(place, job, source, chosen, masker=masker, found=found)
    if as_json:
        say(as_document({"run": place.name, **msgspec.to_builtins(found), "exit_code": int(found.exit_code)}))
    else:
        say(found.text(place.name))
    return int(found.exit_code)


def ctl(run: str, verb: str, value: str | None, *, as_json: bool, **typed: Any) -> None:
    """Control an active run."""
    if (verb in {"rate", "concurrency"}) != (value is not None):
        raise click.UsageError("rate and concurrency take a value, and the others take none")
    now = control.ask(_state(typed, "ctl").find(run), verb, value)
    say(as_document(now) if as_json or not sys.stdout.isatty() else control_text(verb, value, now))


def prune(keep_last: int | None, older_than: str | None, *, dry_run: bool, **typed: Any) -> None:
    """Remove old runs."""
    if keep_last is None and older_than is None:
        raise click.UsageError("give --keep-last N, --older-than T, or both")
    try:
        age_s = None if older_than is None else parse_duration(older_than)
    except ValueError as error:
        raise click.UsageError(f"--older-than takes {error}") from None
    removed = pruning.prune(
        _state(typed, "prune").path, keep_last=keep_last, older_than_s=age_s, now=time(), dry_run=dry_run
    )
    for place in removed:
        say(str(place))


def _state(typed: Mapping[str, Any], command: str) -> StateFolder:
    """Return the state folder."""
    named = {"state": typed["state"]}
    return StateFolder(
        Path(resolve(command_line=named, env=_only_state(os.environ), job_run={}, source="", command=command).state)
    )


def _only_state(env: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in env.items() if name == "MIGRATOR_STATE"}


@contextmanager
def _origin(place: Path, typed: Mapping[str, Any]) -> Iterator[tuple[Job, Source, Mapping[str, str]]]:
    """Open what a run was made from, and close its items on leaving."""
    found = find_job(place, env=os.environ, allowed=allowed(typed))
    with found[1].stream:
        yield found


def _options(
    typed: dict[str, Any], job_run: Mapping[str, Any], source: str, meta: Mapping[str, str], *, command: str
) -> RunOptions:
    """Return the options of a command about a run, whose server is the run's unless another is named."""
    named = typed | {"base_url": typed.get("base_url") or meta["base_url"]}
    return resolve(command_line=named, env=os.environ, job_run=job_run, source=source, command=command)
