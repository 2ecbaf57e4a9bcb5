"""What an earlier run was made from, found again: its job file and its items, and what did not succeed."""

import sys
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Final

from migrator.commands.run import JobWork
from migrator.errors import MigratorError
from migrator.job import source
from migrator.job.check import Verdict, check
from migrator.job.job_file import Job
from migrator.job.source import STANDARD_INPUT, Source
from migrator.options import RunOptions
from migrator.results import Exit, Status
from migrator.store.ledger_reader import read_ledger

__all__ = ["check_again", "find_job", "retry_work"]

LEFT_OUT: Final = frozenset({Status.SUCCEEDED, Status.UNCHANGED, Status.IN_DOUBT})


def find_job(place: Path, *, env: Mapping[str, str], allow_commands: bool) -> tuple[Job, Source, Mapping[str, str]]:
    """Return the job of a run, its items as they are now, and the facts of its ledger.

    Raises:
        MigratorError: the items came from standard input, or nothing tells where they were.
        SourceError: a file is not there any more.
        JobError: the job file is not valid any more.
        LedgerError: the ledger cannot be read.
    """
    with read_ledger(place / "ledger.db") as ledger:
        meta = ledger.meta()
    argument, items = meta.get("job_argument"), meta.get("items_argument")
    if argument is None or STANDARD_INPUT in {argument, items}:
        raise MigratorError(f"the items of {place.name} came from standard input, and are not kept; see its failed.csv")
    template = meta.get("template_argument")
    job = source.find_job(argument, items=items, template=template, env=env, allow_commands=allow_commands)
    return job, source.open_items(job, argument, items=items, template=template, stdin=sys.stdin.buffer), meta


def check_again(place: Path, job: Job, items: Source, meta: Mapping[str, str]) -> Verdict:
    """Return what the check finds in a run's items, which have to be what they were.

    Raises:
        MigratorError: they have changed.
    """
    verdict = check(items.rewound(), form=items.form, job=job, name=items.name, limit=int(meta["rows"]))
    if verdict.digest != meta["source_digest"] or verdict.problem_count:
        raise MigratorError(
            f"{items.name} has changed since {place.name}, and row numbers may mean other items: give "
            f"{place / 'failed.csv'} with --items"
        )
    return verdict


def retry_work(place: Path, job: Job, source: Source, meta: Mapping[str, str], options: RunOptions) -> JobWork:
    """Return the work of sending again what did not succeed in a run, and what it did not come to.

    Items in doubt are left out: sending them again is for somebody to decide who has looked.

    Raises:
        MigratorError: there is nothing to do, or the items have changed.
        LedgerError: a ledger cannot be read.
    """
    verdict = check_again(place, job, source, meta)
    only = _AllBut(_left_out(place))
    count = verdict.items - len(only.left_out)
    if count <= 0:
        raise MigratorError(
            f"{place.name} has nothing to retry; for items in doubt use migrator reconcile {place.name}",
            Exit.OK,
        )
    return JobWork(job, source, verdict, options, only=only, only_count=count).of(place.name, kind="retry")


def _left_out(place: Path) -> set[int]:
    """Return what succeeded in a run, in those that it retried, or is in doubt."""
    left_out: set[int] = set()
    while True:
        with read_ledger(place / "ledger.db") as ledger:
            left_out |= {row.item for row in ledger.rows() if row.status in LEFT_OUT}
            meta = ledger.meta()
        if meta.get("kind") != "retry":
            return left_out
        place = place.with_name(meta["of"])


class _AllBut(Container[int]):
    """All items but some."""

    def __init__(self, left_out: set[int]) -> None:
        self.left_out = left_out

    def __contains__(self, item: object) -> bool:
        return item not in self.left_out
