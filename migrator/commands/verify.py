"""`migrator verify`: holds a run's ledger, its files and the server against each other, and mends what is a view.

The ledger is what counts. `results.jsonl`, the CSV files, the summary and the report are views of it, and are written
again where they differ. What is wrong with the ledger, or with the server, is named, and nothing is done about it.
"""

import csv
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from migrator.api.session import open_session, safe_base_url, system_clock
from migrator.api.state import changes, not_the_record, wanted_of
from migrator.commands.retry import check_again
from migrator.errors import FolderError, LedgerError, MigratorError, ReadingError, WaitTooLong
from migrator.job.items import read_cells
from migrator.job.job_file import Job
from migrator.job.source import Source
from migrator.job.template import Template, requests_of
from migrator.options import RunOptions
from migrator.report.csv_files import Cells
from migrator.report.views import write_all
from migrator.results import Exit, Status
from migrator.secret import Masker
from migrator.store.ledger_reader import LedgerReader, read_ledger
from migrator.store.state_folder import StateFolder, job_of

__all__ = ["Verified", "locked_job", "verify", "verify_server"]

VIEWS: Final = ("results.jsonl", "succeeded.csv", "failed.csv", "report.html", "summary.json")
Origin: TypeAlias = Callable[[], Awaitable[tuple[Job, Source]]]

SHOWN: Final = 20
"""Items that differ on the server of which each is named; the rest are counted."""


class Verified(msgspec.Struct):
    """What was found.

    Attributes:
        mended: the views that were not as the ledger has the run, and were written again.
        problems: what cannot be mended, a sentence each.
        read: how many items were read from the server.
        hidden: how many of them the server shows only in part, such as with a mask in a secret's place.
    """

    mended: list[str] = msgspec.field(default_factory=list)
    problems: list[str] = msgspec.field(default_factory=list)
    read: int = 0
    hidden: int = 0

    @property
    def exit_code(self) -> Exit:
        """0 where all is consistent now, 1 where something is not."""
        return Exit.SOME_FAILED if self.problems else Exit.OK

    def text(self, run: str) -> str:
        """Return what was found, for people."""
        lines = [f"mended: {name}" for name in self.mended] + [f"problem: {problem}" for problem in self.problems]
        if self.read:
            shown = f"; {self.hidden} of them are shown in part only" if self.hidden else ""
            lines.append(f"read from the server: {self.read} items{shown}")
        count = len(self.problems)
        end = f"{count} problem{'s' if count != 1 else ''}" if count else "consistent"
        return "\n".join([*lines, f"{run}: {end}"])


def locked_job(place: Path) -> str:
    """Return the name of a run's job; a ledger that cannot be read leaves that in the run's id."""
    with suppress(LedgerError), read_ledger(place / "ledger.db") as ledger:
        return ledger.meta().get("job", "")
    return job_of(place) or ""


async def verify(place: Path, state: StateFolder, *, origin: Origin) -> Verified:
    """Hold a run's ledger against its files, and mend the files; no process may be driving the run.

    The files of a run whose ledger is damaged are left alone: they may be all that is left.

    Args:
        place: the run's folder.
        state: the state folder.
        origin: finds the run's job and items again.
    """
    found = Verified()
    try:
        with read_ledger(place / "ledger.db") as ledger:
            found.problems += ledger.problems()
            if not found.problems:
                await _hold_against_files(place, ledger, state, origin, found)
    except LedgerError as error:
        found.problems.append(str(error))
    return found


async def _hold_against_files(
    place: Path, ledger: LedgerReader, state: StateFolder, origin: Origin, found: Verified
) -> None:
    meta = ledger.meta()
    found.problems += _ending_problems(ledger, meta)
    try:
        cells = await _cells(ledger, meta, place, origin)
    except MigratorError as error:
        cells = None
        found.problems += [f"{name}: {error}" for name in _miscounted(place, ledger, meta)]
    before = {name: _digest(place / name) for name in VIEWS}
    try:
        written = write_all(place, ledger, masker=state.masker(), cells=cells)
    except FolderError as error:
        found.problems.append(str(error))
    else:
        found.problems += [] if written.problem is None else [written.problem]
    found.mended = [name for name in VIEWS if _digest(place / name) != before[name]]


def _ending_problems(ledger: LedgerReader, meta: Mapping[str, str]) -> Iterator[str]:
    """Yield what cannot be true together."""
    items, done = int(meta.get("items", "0")), ledger.counts().total()
    if done > items:
        yield f"the ledger has {done} results of {items} items"
    if meta.get("state") == "ended" and done < items:
        yield f"the ledger says that the run has ended, and {items - done} of {items} items have no result"


async def _cells(ledger: LedgerReader, meta: Mapping[str, str], place: Path, origin: Origin) -> Callable[[], Cells]:
    """Return what opens the run's input; that of a rollback is the keys that its ledger has.

    Raises:
        MigratorError: the input is not there, or is not what it was.
    """
    if meta.get("kind") == "rollback":
        return lambda: (["key"], ((row.item, [row.key]) for row in ledger.rows()))
    job, source = await origin()
    check_again(place, job, source, meta)
    return lambda: read_cells(source.rewound(), form=source.form, name=source.name)


def _miscounted(place: Path, ledger: LedgerReader, meta: Mapping[str, str]) -> Iterator[str]:
    """Yield the CSV files that have not as many rows as the ledger has results: all that is known without the input."""
    counts = ledger.counts()
    good = counts[Status.SUCCEEDED] + counts[Status.UNCHANGED]
    bad = counts.total() - good - (counts[Status.SKIPPED] if meta.get("dry_run") == "true" else 0)
    for name, wanted in (("succeeded.csv", good), ("failed.csv", bad)):
        rows = -1
        with suppress(OSError, csv.Error), (place / name).open(encoding="utf-8-sig", newline="") as file:
            rows = sum(1 for _ in csv.reader(file)) - 1
        if rows != wanted:
            yield name


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


async def verify_server(
    place: Path, job: Job, source: Source, options: RunOptions, *, masker: Masker, found: Verified
) -> None:
    """Hold what the ledger says to have succeeded against what the server holds; nothing is changed there.

    Args:
        place: the run's folder.
        job: its job.
        source: its items.
        options: server, pace and limits.
        masker: keeps secrets out of messages.
        found: takes what is found.

    Raises:
        MigratorError: the server cannot be read, or the items have changed.
    """
    job.must_be_readable("--read")
    if job.request.creates:
        raise MigratorError("the record that a POST makes has no known address to read; look for it on the server")
    with read_ledger(place / "ledger.db") as ledger:
        meta = ledger.meta()
        good = {row.item for row in ledger.rows() if row.status.is_success}
    checked = check_again(place, job, source, meta)
    base_url = safe_base_url(job.api, options)
    requests = requests_of(source, job, Template.compile(job, base_url=base_url), total=checked.items, only=good)
    state = StateFolder(Path(options.state))
    differing: list[str] = []
    try:
        async with open_session(
            job.api, options, base_url=base_url, state=state, masker=masker, clock=system_clock()
        ) as session:
            for request in requests:
                record = await session.reader.record(request)
                found.read += 1
                name = f"item {request.item} ({request.key})"
                if record.document is None:
                    why = record.error.message if record.error is not None else "no answer"
                    differing.append(f"{name} cannot be read: {why}")
                elif message := not_the_record(request, record.document):
                    differing.append(f"{name}: {message}")
                else:
                    seen = list(changes(wanted_of(request) or {}, record.document, request.rules))
                    found.hidden += any(one.masked for one in seen)
                    pointers = [one.pointer for one in seen if not one.masked]
                    if pointers:
                        differing.append(f"{name}: the server holds something else at {pointers[0]}")
    except (ReadingError, WaitTooLong) as error:
        raise MigratorError(f"{error}; give the same command again", Exit.SOME_FAILED) from None
    found.problems += differing[:SHOWN]
    if len(differing) > SHOWN:
        found.problems.append(f"{len(differing) - SHOWN} more items differ on the server")
