"""What an earlier run was made from, found again: its job file and its items, and what did not succeed."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from migrator.commands.run import JobWork
from migrator.errors import MigratorError
from migrator.job import source
from migrator.job.check import Verdict, check
from migrator.job.job_file import Job
from migrator.job.profile.variables import Allowed
from migrator.job.source import STANDARD_INPUT, UTF_8, Source
from migrator.options import RunOptions
from migrator.results import Exit, Status
from migrator.store.ledger_reader import read_ledger

__all__ = ["check_again", "find_job", "origin_of", "retry_work"]

LEFT_OUT: Final = frozenset({Status.SUCCEEDED, Status.UNCHANGED, Status.IN_DOUBT})


def origin_of(place: Path, *, kind: Literal["retry", "rollback"]) -> Path:
    """Return the run that a command is about, where the run that was named may be one that the command has started.

    So the same command, with ``last``, goes on after a kill. A retry that has ended can be retried itself. A rollback
    has nothing of its own to put back.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    with read_ledger(place / "ledger.db") as ledger:
        meta = ledger.meta()
    same = meta.get("kind") == kind and (kind == "rollback" or meta.get("state") != "ended")
    return place.with_name(meta["of"]) if same else place


def find_job(place: Path, *, env: Mapping[str, str], allowed: Allowed) -> tuple[Job, Source, Mapping[str, str]]:
    """Return the job of a run, its items as they are now, and the facts of its ledger.

    Raises:
        MigratorError: the items came from standard input, or nothing tells where they were.
        SourceError: a file is not there any more.
        JobError: the job file is not valid any more.
        LedgerError: the ledger cannot be read.
    """
    with read_ledger(place / "ledger.db") as ledger:
        meta = ledger.meta()
    if meta.get("kind") == "rollback":
        raise MigratorError(f"{place.name} is a rollback; migrator rollback {meta['of']} does it again")
    argument, items = meta.get("job_argument"), meta.get("items_argument")
    if argument is None or STANDARD_INPUT in {argument, items}:
        raise MigratorError(f"the items of {place.name} came from standard input, and are not kept; see its failed.csv")
    template = meta.get("template_argument")
    job = source.find_job(argument, items=items, template=template, env=env, allowed=allowed)
    opened = source.open_items(
        job, argument, items=items, template=template, stdin=sys.stdin.buffer, encoding=meta.get("encoding", UTF_8)
    )
    return job, opened, meta


def check_again(
    place: Path, job: Job, items: Source, meta: Mapping[str, str], *, only: Sequence[str] | None = None
) -> Verdict:
    """Return what the check finds in a run's items, which have to be what they were.

    Args:
        place: the run's folder.
        job: its job.
        items: its items.
        meta: the facts of its ledger.
        only: the keys of the items that are wanted; None for all.

    Raises:
        MigratorError: they have changed.
    """
    verdict = check(items.rewound(), form=items.form, job=job, name=items.name, limit=int(meta["rows"]), only=only)
    if verdict.selected is not None and only is not None and len(verdict.selected) < len(set(only)):
        raise MigratorError("; ".join(problem.message for problem in verdict.problems))
    if verdict.digest != meta["source_digest"] or verdict.problem_count:
        raise MigratorError(
            f"{items.name} has changed since {place.name}, and row numbers may mean other items: give "
            f"{place / 'failed.csv'} with --items"
        )
    return verdict


def retry_work(place: Path, job: Job, source: Source, meta: Mapping[str, str], options: RunOptions) -> JobWork:
    """Return the work of sending again what did not succeed in a run, and what it did not come to.

    Items in doubt are left out: a person has to look before they are sent again.

    Raises:
        MigratorError: there is nothing to do, the run was a dry run, the items have changed, or the run was
            interrupted while it sent items that must not be sent twice.
        LedgerError: a ledger cannot be read.
    """
    if meta.get("dry_run") == "true":
        raise MigratorError(f"{place.name} was a dry run and sent nothing: start the run itself, with migrator run")
    verdict = check_again(place, job, source, meta, only=_wanted(options, meta))
    items = range(1, verdict.items + 1) if verdict.selected is None else verdict.selected.values()
    chain = list(_chain(place))
    only = frozenset(items) - _left_out(chain)
    if not only:
        doubtful = f"; for items in doubt: {meta['reconcile_command']}" if meta.get("reconcile_command") else ""
        raise MigratorError(f"{place.name} has nothing to retry{doubtful}", Exit.OK)
    if not job.request.idempotent:
        _refuse_unrecorded(chain)
    return JobWork(job, source, verdict, options, only=only, only_count=len(only)).of(
        place.name, kind="retry", first_run=chain[-1].name
    )


def _chain(place: Path) -> Iterator[Path]:
    """Yield a run, the run that it retries, and so on to the one that sent the items first."""
    yield place
    with read_ledger(place / "ledger.db") as ledger:
        meta = ledger.meta()
    if meta.get("kind") == "retry":
        yield from _chain(place.with_name(meta["of"]))


def _refuse_unrecorded(chain: Iterable[Path]) -> None:
    """Raise where a run was interrupted while it sent what must not be sent twice: nothing says yet what came of it."""
    for place in chain:
        with read_ledger(place / "ledger.db") as ledger:
            count, command = len(ledger.in_flight()), ledger.meta().get("resume_command", "the command that started it")
        if count:
            raise MigratorError(
                f"{place.name} was interrupted while it sent {count} item{'s' if count != 1 else ''} that must not be "
                f"sent twice. Resume it first, which records them as in doubt: {command}"
            )


def _left_out(chain: Iterable[Path]) -> set[int]:
    """Return what succeeded in one of the runs, or is in doubt."""
    left_out: set[int] = set()
    for place in chain:
        with read_ledger(place / "ledger.db") as ledger:
            left_out |= {row.item for row in ledger.rows() if row.status in LEFT_OUT}
    return left_out


def _wanted(options: RunOptions, meta: Mapping[str, str]) -> Sequence[str] | None:
    """Return the keys of the items to send: those that the user names, of those that the run was for."""
    before = msgspec.json.decode(meta["only"], type=list[str]) if "only" in meta else None
    if options.only is None or before is None:
        return options.only or before
    return [key for key in options.only if key in before]
