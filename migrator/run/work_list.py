"""What is to be done in a run, wherever it comes from: a job with its items, or the images of an earlier run."""

from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from migrator.api.outcome import Verify
from migrator.api.session import Session, safe_base_url
from migrator.commands.retired import write_retired
from migrator.commands.webhooks import Verdict as Probe
from migrator.commands.webhooks import preflight
from migrator.job.api_profile import ApiProfile
from migrator.job.check import Verdict
from migrator.job.items import read_cells, read_items
from migrator.job.job_file import Job
from migrator.job.problems import Problem
from migrator.job.source import Source
from migrator.job.template import Template
from migrator.messages import Request
from migrator.options import RunOptions
from migrator.report.journal import Journal
from migrator.run.engine import BATCH, InputChanged
from migrator.run.preconditions import Look, open_beforehand, wishes
from migrator.store.ledger_reader import LedgerReader
from migrator.store.ledger_writer import Ledger
from migrator.store.vault import Vault

__all__ = ["Cells", "OpenLook", "Work", "job_work", "requests_of"]

STATE_ITEMS: Final = 16
"""Items between two looks at whether somebody writes to their file; a look takes as long as rendering three."""

LOOKAHEAD: Final = 20_000
"""Requests that are read ahead where items draw on many quotas: 20 MB, and four keys of 5,000 items each in a row."""

UNPROVEN: Final = {
    Probe.UNKNOWN: "could not be proved alive; they may be, and are written all the same",
    Probe.NOT_PROBED: "cannot be probed: only /services/ of Slack's own servers ever is",
}

Cells: TypeAlias = tuple[Sequence[str], Iterator[tuple[int, Sequence[str]]]]
"""The columns of the input, and the number and the cells of each item."""

OpenLook: TypeAlias = Callable[[Session, Ledger, LedgerReader, Journal], AbstractAsyncContextManager[Look | None]]
"""Opens what looks at an item before it is written."""


After: TypeAlias = Callable[[Path, Session, LedgerReader], Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done.

    Attributes:
        job: the job's name, which is locked.
        kind: run, retry or rollback.
        api: the API.
        base_url: the server's.
        total: items.
        name: the input's name, for messages.
        job_digest: of what decides which requests are sent.
        items_digest: of the input.
        facts: what else is worth keeping with the run, by name.
        secrets: columns whose values are never shown.
        idempotent: whether requests may be sent twice.
        secret_path: whether a URL's path holds a secret.
        requests: yields the requests of all items but those whose numbers it is given, which ascend.
        cells: opens the input again for the files with its own columns.
        look: opens what looks at an item before it is written.
        read_back: whether what was written is read again.
        preflight: looks at what is to be written before anything is; returns what is worth knowing.
        after: does what is left when all items have come to their end; returns what is worth knowing.
        lookahead: requests that are read ahead.
        gate: the command that decides after each stage.
        notices: what the job file says of notices.
        resume: how to go on with the run, for people.
        again: how to send again what failed, for people; what is in braces is the run's folder.
    """

    job: str
    kind: str = "run"
    api: ApiProfile
    base_url: str
    total: int
    name: str
    job_digest: str
    items_digest: str
    facts: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    idempotent: bool = True
    secret_path: bool = False
    requests: Callable[[Iterator[int]], Iterator[Request]]
    cells: Callable[[], Cells]
    look: OpenLook
    read_back: bool = False
    preflight: Callable[[], list[str]] | None = None
    after: After | None = None
    lookahead: int = BATCH
    gate: tuple[str, ...] = ()
    notices: tuple[Mapping[str, object], ...] = ()
    resume: str = "give the same command again"
    again: str = "migrator retry {run}, or run it with --items {folder}/failed.csv"


def job_work(
    job: Job,
    source: Source,
    verdict: Verdict,
    options: RunOptions,
    *,
    only: Container[int] | None = None,
    only_count: int = 0,
) -> Work:
    """Return the work that a job and its items are.

    Args:
        job: the job.
        source: its items.
        verdict: what the check found.
        options: what the user has set.
        only: the items that are wanted; None for all.
        only_count: how many those are.
    """
    base_url = safe_base_url(job.api, options)
    template = Template.compile(job, base_url=base_url)
    total = verdict.items if only is None else only_count

    wanted = wishes(job, options, base_url=base_url, total=total, items_digest=verdict.digest)

    @asynccontextmanager
    async def look(
        session: Session, ledger: Ledger, reader: LedgerReader, journal: Journal
    ) -> AsyncIterator[Look | None]:
        def warn(message: str) -> None:
            journal.event("before.masked", level="warning", message=message)

        if wanted is None:
            yield None
            return
        async with open_beforehand(wanted, session, ledger, reader, warn=warn) as opened:
            yield opened

    async def after(place: Path, session: Session, reader: LedgerReader) -> str | None:
        if wanted is None or wanted.passphrase is None or job.api.collection is None:
            return None
        vault = Vault(wanted.passphrase, salt=bytes.fromhex(reader.meta()["salt"]))
        count = await write_retired(place, reader, session, collection=job.api.collection, vault=vault)
        return (
            f"{count} old webhooks are used by nothing any more, and can be revoked: see retired.csv" if count else None
        )

    def probe() -> list[str]:
        found = preflight(job, source, limit=verdict.items)
        return [f"{count} of the new webhooks {what}" for kind, what in UNPROVEN.items() if (count := found[kind])]

    def requests(finished: Iterator[int]) -> Iterator[Request]:
        return requests_of(source, job, template, total=verdict.items, only=only, finished=finished)

    return Work(
        job=job.name,
        api=job.api,
        base_url=base_url,
        total=total,
        name=source.name,
        job_digest=job.digest,
        items_digest=verdict.digest,
        facts=dict(source.facts) | {"rows": str(verdict.items), "source_digest": verdict.digest},
        secrets=job.secrets,
        idempotent=job.request.idempotent,
        secret_path=template.path_has_secret,
        requests=requests,
        cells=lambda: read_cells(source.rewound(), form=source.form, name=source.name),
        look=look,
        preflight=probe if job.preflight is not None else None,
        after=after,
        read_back=options.verify is Verify.READ,
        lookahead=BATCH if job.api.limiter_column is None else LOOKAHEAD,
        gate=job.gate,
        notices=job.notify,
    )


def requests_of(
    source: Source,
    job: Job,
    template: Template,
    *,
    total: int,
    only: Container[int] | None = None,
    finished: Iterable[int] = (),
) -> Iterator[Request]:
    """Yield the requests of all items that have no result: a merge of the items with the ledger, both in order.

    Raises:
        InputChanged: the items are not what was checked any more.
    """
    ends = iter(finished)
    done = next(ends, None)
    state = source.state()
    for item in read_items(source.rewound(), form=source.form, job=job, name=source.name):
        if isinstance(item, Problem) or (item.number % STATE_ITEMS == 0 and source.state() != state):
            raise InputChanged(f"{source.name} was changed while it was being sent")
        if item.number > total:
            return
        while done is not None and done < item.number:
            done = next(ends, None)
        if done != item.number and (only is None or item.number in only):
            yield template.request(item)
