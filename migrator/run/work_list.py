"""What is to be done in a run, wherever it comes from: a job with its items, or the images of an earlier run."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from migrator.api.session import Session
from migrator.job.api_profile import ApiProfile
from migrator.messages import Request
from migrator.report.csv_files import Cells
from migrator.report.journal import Journal
from migrator.run.engine import BATCH
from migrator.run.preconditions import Look
from migrator.store.ledger_reader import LedgerReader
from migrator.store.ledger_writer import Ledger

__all__ = ["OpenLook", "Work"]

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
        reconcile: how to read the items in doubt, for people; None where they cannot be read.
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
    preflight: Callable[[], Awaitable[list[str]]] | None = None
    after: After | None = None
    lookahead: int = BATCH
    gate: tuple[str, ...] = ()
    notices: tuple[Mapping[str, object], ...] = ()
    resume: str = "give the same command again"
    again: str = "migrator retry {run}, or run it with --items {folder}/failed.csv"
    reconcile: str | None = None
