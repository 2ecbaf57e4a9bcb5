"""A rollback: puts back what a run changed, from the images of what was there before. It is a run itself."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.api.reader import Reader
from migrator.api.session import Session, safe_base_url
from migrator.api.state import kept_image, not_the_record, restoration, with_kept
from migrator.errors import MigratorError, VaultError
from migrator.job.job_file import Job
from migrator.job.rendering import LackingError
from migrator.job.template import Template, origin, rules_of
from migrator.messages import Request
from migrator.options import RunOptions
from migrator.report.csv_files import Cells
from migrator.report.journal import Journal
from migrator.results import ErrorKind, Exit, ItemError, Outcome, Status
from migrator.run.preconditions import Look
from migrator.run.work_list import Work
from migrator.secret import Secret
from migrator.store.ledger_reader import LedgerReader, read_ledger
from migrator.store.ledger_writer import Ledger
from migrator.store.vault import Vault, read_passphrase

__all__ = ["rollback_work"]

CHANGED_SINCE: Final = "another writer has changed this since the run; the record is left as it is"
MASKED: Final = "the API masks what it held before, so that it cannot be put back"
UNSEEN: Final = "the API shows this neither before nor after the write, so that it cannot be told what to put back"

SHORTEST_SECRET: Final = 8


def rollback_work(place: Path, job: Job, options: RunOptions) -> Work:
    """Return the work of taking a run back.

    Args:
        place: the run's folder.
        job: its job, for the API and its credentials.
        options: the key, the pace and the limits.

    Raises:
        MigratorError: the run has no images, or the key is not the one they were kept with.
        LedgerError: the run's ledger cannot be read.
    """
    with read_ledger(place / "ledger.db") as reader:
        meta = reader.meta()
        total, first = 0, None
        for image in reader.images():
            total += 1
            first = first or image
    if first is None or "salt" not in meta:
        raise MigratorError(
            f"{place.name} has nothing to take back: what was there before is kept with --keep-before, or "
            '"before": "read" in the job file'
        )
    vault = Vault(read_passphrase(options), salt=bytes.fromhex(meta["salt"]))
    try:
        vault.open(first.item, first.locked)
    except VaultError as error:
        raise VaultError(str(error), Exit.USAGE) from None
    undo = _Undo(place, vault, job)

    @asynccontextmanager
    async def look(
        session: Session, _ledger: Ledger, _reader: LedgerReader, journal: Journal
    ) -> AsyncIterator[Look | None]:
        begun = datetime.fromtimestamp(int(meta["started_ms"]) / 1000, UTC)
        age_h = (datetime.now(UTC) - begun).total_seconds() / 3600
        journal.event("rollback.started", of=place.name, age_h=round(age_h, 1))
        undo.reader = session.reader
        yield undo

    return Work(
        job=job.name,
        kind="rollback",
        api=job.api,
        base_url=safe_base_url(job.api, options),
        total=total,
        name=f"run {place.name}",
        job_digest=meta["job_digest"],
        items_digest=f"rollback of {place.name}",
        facts={"of": place.name},
        secrets=frozenset(),
        requests=undo.requests,
        cells=undo.cells,
        look=look,
        resume=f"migrator rollback {place.name}",
        again=f"migrator rollback {place.name}",
    )


class _Undo:
    """Makes the requests of a rollback, and looks before each whether it may go out."""

    def __init__(self, place: Path, vault: Vault, job: Job) -> None:
        self._place = place
        self._vault = vault
        self._job = job
        self._template = Template.compile(job)
        self._kept: dict[int, tuple[Any, bool]] = {}
        self.reader: Reader | None = None

    def requests(self, finished: Iterator[int]) -> Iterator[Request]:
        """Yield the requests that write the images back."""
        done = frozenset(finished)
        with read_ledger(self._place / "ledger.db") as ledger:
            for kept in ledger.images():
                if kept.item in done:
                    continue
                image: Any = self._vault.open(kept.item, kept.locked)
                self._kept[kept.item] = (image, bool(kept.verified))
                request = Request(
                    item=kept.item,
                    key=kept.key,
                    method=self._job.request.method,
                    url=kept.url,
                    body=None,
                    wanted=msgspec.json.encode(image["sent"]),
                    rules=rules_of(self._job),
                    secrets=tuple(_texts(image)),
                    limiter_key=origin(kept.url),
                    idempotent=True,
                )
                yield with_kept(request, image)

    def cells(self) -> Cells:
        """Return the keys of the items."""

        def rows() -> Iterator[tuple[int, list[str]]]:
            with read_ledger(self._place / "ledger.db") as ledger:
                for kept in ledger.images():
                    yield kept.item, [kept.key]

        return ["key"], rows()

    async def look(self, request: Request) -> Outcome | Request:
        """Return the end of an item that is not to be put back, or the request that puts it back."""
        image, verified = self._kept.pop(request.item)
        assert self.reader is not None  # noqa: S101  set before anything is driven
        record = await self.reader.record(request)
        if record.document is None:
            return Outcome(status=Status.FAILED, error=record.error)
        if message := not_the_record(request, record.document):
            return Outcome(status=Status.FAILED, error=ItemError(kind=ErrorKind.PROTOCOL, message=message))
        found = restoration(kept_image(image), image["sent"], record.document, request.rules)
        if found.masked:
            return _left(MASKED, found.masked)
        if found.foreign:
            return _left(CHANGED_SINCE, found.foreign)
        if found.unseen and not verified:
            return _left(UNSEEN, found.unseen)
        if not found.wanted:
            return Outcome(status=Status.UNCHANGED)
        try:
            return self._template.complete(
                request, wanted=found.wanted, removed=found.removed, record=record.document, etag=record.etag
            )
        except LackingError as error:
            return Outcome(status=Status.FAILED, error=ItemError(kind=ErrorKind.PROTOCOL, message=str(error)))

    def succeeded(self, request: Request) -> None:
        """Note nothing: the ledger has it."""


def _left(why: str, pointers: list[str]) -> Outcome:
    error = ItemError(kind=ErrorKind.CONFLICT, pointer=pointers[0], message=f"{', '.join(pointers[:5])}: {why}")
    return Outcome(status=Status.SKIPPED, error=error)


def _texts(value: Any) -> Iterator[Secret]:
    """Yield every longer text of an image as a secret: nobody knows any more which of them were."""
    if isinstance(value, str):
        if len(value) >= SHORTEST_SECRET:
            yield Secret(value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
