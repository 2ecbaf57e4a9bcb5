"""A rollback: puts back what a run changed, from the images of what was there before. It is a run itself."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.api.reader import Reader
from migrator.api.session import Session, safe_base_url
from migrator.api.state import changes
from migrator.errors import MigratorError, VaultError
from migrator.job.job_file import Job
from migrator.job.template import origin
from migrator.messages import Request
from migrator.options import RunOptions
from migrator.report.journal import Journal
from migrator.results import ErrorKind, Exit, ItemError, Outcome, Status
from migrator.run.preconditions import Look
from migrator.run.work_list import Cells, Work
from migrator.secret import Secret, has_mask
from migrator.store.ledger_reader import LedgerReader, read_ledger
from migrator.store.ledger_writer import Ledger
from migrator.store.vault import Vault, read_passphrase

__all__ = ["rollback_work"]

CHANGED_SINCE: Final = "somebody has changed the record since the run; it is left as it is"
MASKED: Final = "the API masks what it held before, so that it cannot be put back"

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
        self._method = job.request.method
        self._sent: dict[int, Any] = {}
        self.reader: Reader | None = None

    def requests(self, finished: Iterator[int]) -> Iterator[Request]:
        """Yield the requests that write the images back."""
        done = frozenset(finished)
        with read_ledger(self._place / "ledger.db") as ledger:
            for kept in ledger.images():
                if kept.item in done:
                    continue
                image: Any = self._vault.open(kept.item, kept.locked)
                self._sent[kept.item] = image["sent"]
                yield Request(
                    item=kept.item,
                    key=kept.key,
                    method=self._method,
                    url=kept.url,
                    body=msgspec.json.encode(image["before"]),
                    secrets=tuple(_texts(image)),
                    limiter_key=origin(kept.url),
                    idempotent=True,
                )

    def cells(self) -> Cells:
        """Return the keys of the items."""

        def rows() -> Iterator[tuple[int, list[str]]]:
            with read_ledger(self._place / "ledger.db") as ledger:
                for kept in ledger.images():
                    yield kept.item, [kept.key]

        return ["key"], rows()

    async def look(self, request: Request) -> Outcome | None:
        """Return the end of an item that is not to be put back, or None for one that is."""
        sent = self._sent.pop(request.item)
        before = msgspec.json.decode(request.body or b"{}")
        assert self.reader is not None  # noqa: S101  set before anything is driven
        record = await self.reader.record(request)
        if record.document is None:
            return Outcome(status=Status.FAILED, error=record.error)
        if not any(True for _ in changes(before, record.document)):
            return Outcome(status=Status.UNCHANGED)
        if has_mask(before):
            return Outcome(status=Status.SKIPPED, error=ItemError(kind=ErrorKind.CONFLICT, message=MASKED))
        if any(not change.masked for change in changes(sent, record.document)):
            return Outcome(status=Status.SKIPPED, error=ItemError(kind=ErrorKind.CONFLICT, message=CHANGED_SINCE))
        return None

    def succeeded(self, request: Request) -> None:
        """Note nothing: the ledger has it."""


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
