"""`migrator rollback`: puts back what a run changed, from its before-images. It is a run itself."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.api.reader import Reader, with_kept
from migrator.api.session import Session, safe_base_url
from migrator.api.state import kept_image, not_the_record, restoration
from migrator.errors import MigratorError, VaultError
from migrator.job.job_file import Job
from migrator.job.rendering import LackingError
from migrator.job.template import Template, origin, rules_of
from migrator.messages import Request
from migrator.options import RunOptions
from migrator.report.csv_files import Cells
from migrator.results import ErrorKind, Exit, ItemError, Outcome, Status
from migrator.run.preconditions import Precondition
from migrator.run.work_list import RunFiles, WorkFacts
from migrator.secret import Secret
from migrator.store.ledger_reader import read_ledger
from migrator.store.vault import Vault, read_passphrase

__all__ = ["RollbackWork"]

CHANGED_SINCE: Final = "another writer has changed this since the run; the record is left as it is"
MASKED: Final = "the API masks what it held before, so that it cannot be put back"
UNSEEN: Final = "the API shows this neither before nor after the write, so that it cannot be told what to put back"

SHORTEST_SECRET: Final = 8


class RollbackWork:
    """The before-images of a run, to be written back.

    Args:
        place: the run's folder.
        job: its job, for the API and its credentials.
        options: the key, the pace and the limits.

    Raises:
        MigratorError: the run has no before-images, or the key is not the one they were kept with.
        LedgerError: the run's ledger cannot be read.
    """

    def __init__(self, place: Path, job: Job, options: RunOptions) -> None:
        with read_ledger(place / "ledger.db") as reader:
            meta = reader.meta()
            total, first = 0, None
            for image in reader.images():
                total += 1
                first = first or image
        if first is None or "salt" not in meta:
            raise MigratorError(
                f"{place.name} has nothing to roll back: what a write replaces is kept with --keep-before, or "
                '"before": "read" in the job file'
            )
        if job.api.auth.columns:
            raise MigratorError("a job whose rows have their own credentials cannot be rolled back: they are not kept")
        self._vault = Vault.derived(read_passphrase(options), salt=bytes.fromhex(meta["salt"]))
        try:
            self._vault.open(first.item, first.locked)
        except VaultError as error:
            raise VaultError(str(error), Exit.USAGE) from None
        self._place = place
        self._started_s = int(meta["started_ms"]) / 1000
        self._job = job
        self._template = Template.compile(job)
        self._kept: dict[int, tuple[Any, bool]] = {}
        self.facts = WorkFacts(
            job=job.name,
            kind="rollback",
            api=job.api,
            base_url=safe_base_url(job.api, options),
            method=job.request.method,
            undo="not possible; it is a rollback itself",
            total=total,
            name=f"run {place.name}",
            job_digest=meta["job_digest"],
            items_digest=f"rollback of {place.name}",
            kept={"of": place.name},
            reads_first=True,
            batch_size=job.request.batch.size if job.request.batch is not None else 1,
            resume_command=f"migrator rollback {place.name}",
            retry_command=f"migrator rollback {place.name}",
        )

    def requests(self, done: Iterator[int]) -> Iterator[Request]:
        """Yield the requests that write the before-images back, but those that are done."""
        skipped = frozenset(done)
        with read_ledger(self._place / "ledger.db") as ledger:
            for kept in ledger.images():
                if kept.item in skipped:
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

    @asynccontextmanager
    async def precondition(self, session: Session, files: RunFiles) -> AsyncIterator[Precondition | None]:
        """Open what compares each record with what the run had written."""
        started = datetime.fromtimestamp(self._started_s, UTC)
        age_h = (datetime.now(UTC) - started).total_seconds() / 3600
        files.journal.event("rollback.started", of=self._place.name, age_h=round(age_h, 1))
        yield _StillAsWritten(session.reader, self._kept, self._template)

    async def before(self) -> Sequence[str]:
        """Look at nothing: the before-images were checked when they were kept."""
        return ()

    async def after(self, session: Session, files: RunFiles) -> Sequence[str]:
        """Do nothing more."""
        del session, files
        return ()


class _StillAsWritten:
    """Lets an item be put back only where the record is still as the run had written it.

    Args:
        reader: reads the record.
        kept: the before-image of each item, and whether its write was verified; each is used once.
        template: makes the request that puts a record back.
    """

    def __init__(self, reader: Reader, kept: dict[int, tuple[Any, bool]], template: Template) -> None:
        self._reader = reader
        self._kept = kept
        self._template = template

    async def check(self, request: Request) -> Outcome | Request:
        """Return the outcome of an item that is not to be put back, or the request that puts it back."""
        image, verified = self._kept.pop(request.item)
        record = await self._reader.record(request)
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
    """Yield every text of an image that is long enough as a secret: the image does not say which of them are."""
    if isinstance(value, str):
        if len(value) >= SHORTEST_SECRET:
            yield Secret(value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
