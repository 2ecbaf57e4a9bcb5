"""Finds out about items in doubt by reading what the server holds: applied, not applied, or changed since."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from migrator.api.session import Session, open_session, safe_base_url, system_clock
from migrator.api.state import changes, not_the_record, wanted_of
from migrator.commands.retry import check_again
from migrator.errors import FolderError, MigratorError, ReadingError, WaitTooLong
from migrator.job.items import read_cells
from migrator.job.job_file import Job
from migrator.job.source import Source
from migrator.job.template import Template, requests_of
from migrator.messages import Request
from migrator.options import RunOptions
from migrator.report.csv_files import Cells
from migrator.report.views import write_all
from migrator.results import ErrorKind, Exit, ItemError, ItemResult, Status, exit_code
from migrator.secret import Masker
from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_writer import Ledger
from migrator.store.state_folder import StateFolder
from migrator.store.vault import Vault, read_passphrase

__all__ = ["Reconciled", "reconcile"]

NOT_APPLIED: Final = "the server does not hold what was sent: it was not applied, or has been changed since"
SURELY_NOT_APPLIED: Final = "the server holds what it held before: what was sent was not applied"
SOMEBODY_ELSE: Final = "the server holds neither what was sent nor what was there before: others have changed it"


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the items in doubt."""

    succeeded: int
    not_applied: int
    changed_since: int
    still_in_doubt: int
    exit_code: Exit


async def reconcile(place: Path, job: Job, source: Source, meta: Mapping[str, str], options: RunOptions) -> Reconciled:
    """Settle a run's items in doubt, in its ledger and its files.

    Raises:
        MigratorError: nothing can be read, or the items have changed.
        LedgerError: the ledger cannot be used.
        FolderError: a file cannot be written.
    """
    job.must_be_readable("reconcile")
    if job.request.creates:
        raise MigratorError("the record that a POST makes has no known address to read; look for it on the server")
    with read_ledger(place / "ledger.db") as reader:
        doubtful = {row.item: row for row in reader.rows() if row.status is Status.IN_DOUBT}
        locked = {image.item: image.locked for image in reader.images() if image.item in doubtful}
    verdict = check_again(place, job, source, meta)
    base_url = safe_base_url(job.api, dataclasses.replace(options, base_url=options.base_url or meta["base_url"]))
    vault = Vault.derived(read_passphrase(options), salt=bytes.fromhex(meta["salt"])) if locked else None
    state = StateFolder.open(Path(options.state))
    masker = state.masker(job.api.credentials())
    template = Template.compile(job, base_url=base_url)
    requests = requests_of(source, job, template, total=verdict.items, only=doubtful)
    ends: Counter[str] = Counter()
    try:
        async with (
            open_session(
                job.api, options, base_url=base_url, state=state, masker=masker, clock=system_clock()
            ) as session,
            Ledger.open(place / "ledger.db", create=False) as ledger,
        ):
            for request in requests:
                image = _image(vault, request.item, locked)
                row = await _settled(session, request, doubtful[request.item], image, ends)
                await ledger.settle(row)
    except (ReadingError, WaitTooLong) as error:
        raise MigratorError(f"{error}; give the same command again to resume", Exit.STOPPED) from None
    code = await _write_views(place, source, masker)
    return Reconciled(
        succeeded=ends["succeeded"],
        not_applied=ends["not applied"],
        changed_since=ends["changed since"],
        still_in_doubt=ends["in doubt"],
        exit_code=code,
    )


def _image(vault: Vault | None, item: int, locked: Mapping[int, bytes]) -> Any:
    return vault.open(item, locked[item])["before"] if vault is not None and item in locked else None  # type: ignore[index, call-overload]


async def _settled(session: Session, request: Request, row: ItemResult, image: Any, ends: Counter[str]) -> ItemResult:
    record = await session.reader.record(request)
    if record.document is None or not_the_record(request, record.document):
        ends["in doubt"] += 1
        return row
    found = changes(wanted_of(request) or {}, record.document, request.rules)
    differences = [one for one in found if not one.masked]
    if not differences:
        ends["succeeded"] += 1
        return replace(row, status=Status.SUCCEEDED, verified=True, error=None)
    pointer = differences[0].pointer
    if image is None or not any(changes(image, record.document, request.rules)):
        ends["not applied"] += 1
        message = NOT_APPLIED if image is None else SURELY_NOT_APPLIED
        error = ItemError(kind=ErrorKind.MISMATCH, pointer=pointer, message=message)
    else:
        ends["changed since"] += 1
        error = ItemError(kind=ErrorKind.CONFLICT, pointer=pointer, message=SOMEBODY_ELSE)
    return replace(row, status=Status.FAILED, verified=False, error=error)


async def _write_views(place: Path, source: Source, masker: Masker) -> Exit:
    """Write the views as the ledger has the run now, and return what the reconcile exits with.

    The run's own exit code may also say why the run stopped, which a reconcile does not change.
    """

    def cells() -> Cells:
        return read_cells(source.rewound(), form=source.form, name=source.name)

    with read_ledger(place / "ledger.db") as reader:
        written = write_all(place, reader, masker=masker, cells=cells)
        counts = reader.counts()
    if written.problem is not None:
        raise FolderError(written.problem)
    async with Ledger.open(place / "ledger.db", create=False) as ledger:
        await ledger.put(exit_code=str(written.summary["exit_code"]))
    return exit_code(counts, counts.total(), None)
