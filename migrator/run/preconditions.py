"""Preconditions: whether an item needs to be written, is still as planned, and what it held before."""

from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from migrator.api.reader import Reader, Record, item_url, kept_request
from migrator.api.session import Session
from migrator.api.state import before_image, changes, hidden_members, not_the_record, wanted_of
from migrator.errors import MigratorError
from migrator.job.job_file import Job
from migrator.job.rendering import LackingError
from migrator.job.template import Template, needs_record
from migrator.messages import JSON, Request
from migrator.options import RunOptions
from migrator.results import ErrorKind, ItemError, Outcome, Status
from migrator.secret import Fingerprinter, Secret, has_mask
from migrator.store.last_sent import SentBefore
from migrator.store.ledger_reader import LedgerReader
from migrator.store.ledger_writer import Ledger
from migrator.store.plan_file import PlannedItem, read_plan
from migrator.store.state_folder import StateFolder
from migrator.store.vault import SALT_BYTES, Vault, read_passphrase

__all__ = [
    "Known",
    "Looks",
    "Needs",
    "Precondition",
    "Preconditions",
    "listed",
    "needs_of",
    "open_preconditions",
    "state_digest",
    "states",
]

LIST_FROM: Final = 10
"""Items from which on the collection is read page by page, in place of each record by itself."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What is looked at, for workers that look at items in the place of a run.

    Attributes:
        only_changed: whether an item that is as wanted is left alone.
        planned: whether there is a plan.
        vault_key: of the vault that keeps images; None where none are kept.
    """

    only_changed: bool
    planned: bool
    vault_key: bytes | None = field(repr=False)


class Known(msgspec.Struct, frozen=True):
    """What a run knows of an item before its record is read.

    Attributes:
        planned: what the plan says; None without one.
        state: its record as JSON, where it was read in bulk.
    """

    planned: PlannedItem | None
    state: bytes | None


class Images(Protocol):
    """Keeps before-images; `Ledger` is the one that survives the process."""

    async def keep(self, item: int, url: str, image: bytes) -> None:
        """Keep what a record held, durably; the first image of an item stays."""


class Precondition(Protocol):
    """Looks at an item before it is written."""

    async def check(self, request: Request) -> Outcome | Request:
        """Return the outcome of an item that is not to be written, or the request to send.

        Raises:
            ReadingError: nothing can be read, of no item.
            WaitTooLong: the quota makes us wait for longer than the user allows.
            LedgerError: the before-image cannot be kept.
        """

    def succeeded(self, request: Request) -> None:
        """Note that an item was written."""


class Preconditions:
    """Decide before each write whether the item is sent.

    Args:
        reader: reads one record.
        ledger: keeps the images.
        only_changed: whether an item that is as wanted is left alone.
        vault: locks the images; None where none are kept.
        planned: what a plan says, by item; None without one.
        interrupted: items that were in flight when an earlier invocation was stopped.
        fingerprint: makes the plan's digests.
        states: records that were read in bulk, as JSON by URL.
        sent: what was last sent with success; None where that is not looked at.
        warn: tells the user of what is found out.
        template: completes requests that depend on their record.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        ledger: Images,
        only_changed: bool,
        vault: Vault | None,
        planned: Mapping[int, PlannedItem] | None,
        interrupted: AbstractSet[int],
        fingerprint: Fingerprinter,
        states: Mapping[str, bytes],
        sent: SentBefore | None,
        warn: Callable[[str], None],
        template: Template,
    ) -> None:
        self._template = template
        self._reader = reader
        self._ledger = ledger
        self._only_changed = only_changed
        self._vault = vault
        self._planned = planned
        self._interrupted = interrupted
        self._fingerprint = fingerprint
        self._states = states
        self._sent = sent
        self._warn = warn
        self._warned = False

    @property
    def looks(self) -> Looks:
        """What is looked at."""
        key = None if self._vault is None else self._vault.key
        return Looks(self._only_changed, self._planned is not None, key)

    def known(self, request: Request) -> Outcome | Known:
        """Return the outcome of an item that is not to be written, or what is known of it, without reading anything."""
        if self._sent is not None and self._sent.holds(request):
            return Outcome(status=Status.UNCHANGED)
        planned = None if self._planned is None else self._planned.get(request.item)
        if self._planned is not None and (outcome := _as_planned(planned)) is not None:
            return outcome
        return Known(planned, self._states.get(request.url))

    def succeeded(self, request: Request) -> None:
        """Note that an item was written."""
        if self._sent is not None:
            self._sent.note(request)

    async def check(self, request: Request) -> Outcome | Request:
        """Return the outcome of an item that is not to be written, or the request to send.

        Raises:
            ReadingError: nothing can be read, of no item.
            WaitTooLong: the quota makes us wait for longer than the user allows.
            LedgerError: the image cannot be kept.
        """
        known = self.known(request)
        if isinstance(known, Outcome):
            return known
        planned = known.planned
        if self._planned is None and self._vault is None and not self._only_changed and not request.needs_record:
            return request
        record = await self._record(request)
        if record.document is None:
            return Outcome(status=Status.FAILED, error=record.error)
        if message := not_the_record(request, record.document):
            return _failed(ErrorKind.PROTOCOL, message)
        wanted = wanted_of(request) or {}
        if planned is not None and planned.state != state_digest(self._fingerprint, request, record.document):
            # A write of ours that was in flight when the process ended may be the change.
            ours = request.item in self._interrupted and all(
                one.masked for one in changes(wanted, record.document, request.rules)
            )
            if not ours:
                return _failed(ErrorKind.CONFLICT, "the record has changed since the plan was made")
        if self._only_changed and not any(changes(wanted, record.document, request.rules)):
            return Outcome(status=Status.UNCHANGED)
        if self._vault is not None and (end := await self._keep(self._vault, request, record.document)):
            return end
        return self._completed(request, record)

    def _completed(self, request: Request, record: Record) -> Outcome | Request:
        """Return the request with what depends on its record: its ETag, a version member, or the whole of it.

        A JSON Patch that does not need the record is made again with it, since an object that is not there has to be
        added before its members are.
        """
        if not request.needs_record and not self._template.patches:
            return request
        try:
            return self._template.complete(request, record=record.document, etag=record.etag)
        except LackingError as error:
            return _failed(ErrorKind.PROTOCOL, str(error))

    async def _keep(self, vault: Vault, request: Request, record: Mapping[str, Any]) -> Outcome | None:
        """Keep what the record holds of the wanted members; return why that is not possible, or None."""
        if hidden := hidden_members(request, record):
            return _failed(
                ErrorKind.PROTOCOL,
                f"the API does not show {', '.join(hidden[:5])}, a secret that would be written: it could not be put "
                "back, so that nothing is written; without --keep-before it is",
            )
        wanted = wanted_of(request) or {}
        image = before_image(wanted, record, request.rules)
        if has_mask(image.state) and not self._warned:
            self._warned = True
            self._warn("the API masks what it holds of a field that is written: that cannot be rolled back")
        kept: JSON = {
            "before": image.state,
            "absent": list(image.absent),
            "sent": dict(wanted),
            **kept_request(request),
        }
        await self._ledger.keep(request.item, request.url, vault.lock(request.item, kept))
        return None

    async def _record(self, request: Request) -> Record:
        """Return the record: from the bulk where only the need to write is asked for, else as it is at this moment."""
        bulk = self._vault is None and self._planned is None and not request.needs_record
        if bulk and (known := listed(self._states, request)) is not None:
            return known
        return await self._reader.record(request)


def _as_planned(planned: PlannedItem | None) -> Outcome | None:
    """Return the outcome of an item that a plan does not write."""
    if planned is None:
        return _failed(ErrorKind.CONFLICT, "the plan does not have this item; make a new one")
    if planned.action == "unchanged":
        return Outcome(status=Status.UNCHANGED)
    if planned.action != "change":
        return _failed(ErrorKind.CONFLICT, f"the plan found this item {planned.action}; make a new one")
    return None


def state_digest(fingerprint: Fingerprinter, request: Request, record: Mapping[str, Any]) -> str:
    """Return a keyed digest of what a record holds of the members that would be written."""
    image = before_image(wanted_of(request) or {}, record, request.rules)
    return fingerprint.digest(msgspec.json.encode(image.state, order="deterministic").decode())


def _failed(kind: ErrorKind, message: str) -> Outcome:
    return Outcome(status=Status.FAILED, error=ItemError(kind=kind, message=message))


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be looked at before writing; it is checked before the run starts.

    Attributes:
        job: the job.
        passphrase: for the images that are kept; None where none are.
        planned: what a plan says, by item; None without one.
        only_changed: whether an item that is as needs is left alone.
        since_last: the file of what was last sent with success; None where that is not looked at.
        total: items of the run.
    """

    job: Job
    passphrase: Secret | None
    planned: Mapping[int, PlannedItem] | None
    only_changed: bool
    since_last: Path | None
    total: int

    @property
    def reads(self) -> bool:
        """Whether each item's record is read before it is written."""
        looked_at = self.passphrase is not None or self.planned is not None or self.only_changed
        return looked_at or needs_record(self.job.request)


def needs_of(job: Job, options: RunOptions, *, base_url: str, total: int, items_digest: str) -> Needs | None:
    """Return what the options ask to be looked at; None where they ask for nothing.

    Raises:
        MigratorError: the API's profile has no read request, there is no key, or the plan does not fit.
        FolderError: the state folder cannot be used.
    """
    keeps = options.keep_before or job.keep_before
    reads = keeps or options.only_changed or options.plan is not None
    if keeps and job.request.method == "DELETE":
        raise MigratorError("a DELETE cannot be rolled back, so that keeping what was there before does not help")
    reads = reads or needs_record(job.request)
    if not (reads or options.since_last):
        return None
    if reads:
        job.must_be_readable("an option or the encoding")
    state, planned = StateFolder.open(Path(options.state)), None
    if options.plan is not None:
        planned = read_plan(
            Path(options.plan),
            job_digest=job.digest,
            items_digest=items_digest,
            server=base_url,
            fingerprint=state.fingerprinter(),
        )
    since_last = None
    if options.since_last:
        host = urlsplit(base_url).netloc.replace(":", "_")
        since_last = state.folder("jobs") / f"{job.name}-{host}.db"
    passphrase = read_passphrase(options) if keeps else None
    return Needs(
        job=job,
        passphrase=None if options.dry_run else passphrase,
        planned=planned,
        only_changed=options.only_changed,
        since_last=since_last,
        total=total,
    )


@asynccontextmanager
async def open_preconditions(
    needs: Needs, session: Session, ledger: Ledger, reader: LedgerReader, *, warn: Callable[[str], None]
) -> AsyncIterator["Preconditions"]:
    """Open what looks at items before they are written.

    Raises:
        ReadingError: the collection cannot be read.
        WaitTooLong: the quota makes us wait for longer than the user allows.
    """
    vault = None
    if needs.passphrase is not None:
        salt = reader.meta().get("salt") or token_bytes(SALT_BYTES).hex()
        vault = Vault.derived(needs.passphrase, salt=bytes.fromhex(salt))
        await ledger.put(salt=salt)
    fingerprint = session.masker.fingerprint
    bulk = needs.only_changed and vault is None and needs.planned is None and needs.total >= LIST_FROM
    with ExitStack() as stack:
        sent = None
        if needs.since_last is not None:
            sent = stack.enter_context(SentBefore.open(needs.since_last, fingerprint))
        yield Preconditions(
            reader=session.reader,
            ledger=ledger,
            only_changed=needs.only_changed,
            vault=vault,
            planned=needs.planned,
            interrupted=frozenset(one.item for one in reader.in_flight()),
            fingerprint=fingerprint,
            states=await states(needs.job, session) if bulk else {},
            sent=sent,
            warn=warn,
            template=Template.compile(needs.job, base_url=session.base_url),
        )


async def states(job: Job, session: Session) -> dict[str, bytes]:
    """Return all records of the API's collection as JSON by their own URL; none where the profile has no list.

    Raises:
        ReadingError: a page cannot be read.
    """
    found: dict[str, bytes] = {}
    several: set[str] = set()
    collection = job.api.collection
    if collection is None:
        return found
    async for page in session.reader.pages(collection, base_url=session.base_url, rules=job.api.rules):
        for record in page.records:
            if (url := item_url(collection, record, base_url=session.base_url)) is not None:
                if url in found:
                    several.add(url)
                found[url] = msgspec.json.encode(record)
    return {url: record for url, record in found.items() if url not in several}


def listed(states: Mapping[str, bytes], request: Request) -> Record | None:
    """Return the record of a request from all records by their URL; None where it is not there, or read by a query."""
    reading = request.reading or request
    known = states.get(reading.url) if request.reading is None or reading.body is None else None
    return None if known is None else Record(document=msgspec.json.decode(known))
