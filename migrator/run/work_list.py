"""What a run is to do, wherever it comes from: a job with its items, or the before-images of an earlier run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from migrator.api.session import Session
from migrator.job.profile.api_profile import ApiProfile
from migrator.messages import Request
from migrator.report.csv_files import Cells
from migrator.report.journal import Journal
from migrator.run.pool.roles import Controls, Director
from migrator.run.preconditions import Precondition
from migrator.store.ledger_reader import LedgerReader
from migrator.store.ledger_writer import Ledger
from migrator.store.state_folder import StateFolder

__all__ = ["Crew", "Given", "Machines", "RunFiles", "WorkFacts", "WorkList"]


class RunFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has open.

    Attributes:
        place: its folder.
        ledger: takes results.
        reader: gives them back.
        journal: is written while it happens.
    """

    place: Path
    ledger: Ledger
    reader: LedgerReader
    journal: Journal


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The command line that started a run, for the commands that the run advises.

    Attributes:
        command: the command that resumes it; None where none was typed, or what it read is gone.
        options: the options that any command about the run needs, such as the state folder, with a blank before each.
    """

    command: str | None = None
    options: str = ""


class WorkFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the work before it starts.

    Attributes:
        job: the job's name, which is locked.
        kind: run, retry or rollback.
        api: the API.
        base_url: the server's.
        method: the requests' method, for people.
        undo: what a rollback can do afterwards, for people.
        total: items.
        name: the input's name, for messages.
        job_digest: of what decides which requests are sent.
        items_digest: of the input.
        kept: what else is kept in the run's ledger, by name.
        secrets: columns whose values are never shown.
        idempotent: whether requests may be sent twice.
        secret_path: whether a URL's path holds a secret.
        batch_size: items that share a request.
        reads_first: whether each item's record is read before it is written.
        first_run: the run that sent the items first, where this one retries it; None where it is this one.
        gate: the command that decides after each stage.
        resume_command: the command that resumes the run; None where it is the one that was given.
        retry_command: the command that sends again what failed; what is in braces is the run's id or folder.
        reconcile_command: the command that reads the items in doubt; None where they cannot be read.
    """

    job: str
    kind: str = "run"
    api: ApiProfile
    base_url: str
    method: str
    undo: str
    total: int
    name: str
    job_digest: str
    items_digest: str
    kept: Mapping[str, str] = msgspec.field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    idempotent: bool = True
    secret_path: bool = False
    batch_size: int = 1
    reads_first: bool = False
    first_run: str | None = None
    gate: tuple[str, ...] = ()
    resume_command: str | None = None
    retry_command: str = "migrator retry {run}"
    reconcile_command: str | None = None


class WorkList(Protocol):
    """The items of a run."""

    @property
    def facts(self) -> WorkFacts:
        """What is known of it."""

    def requests(self, done: Iterator[int]) -> Iterator[Request]:
        """Yield the requests of all items but those that are done, whose numbers ascend."""

    def cells(self) -> Cells:
        """Open the input again, for the files with its own columns."""

    def precondition(self, session: Session, files: RunFiles) -> AbstractAsyncContextManager[Precondition | None]:
        """Open what looks at an item before it is written; None where nothing does."""

    async def before(self) -> Sequence[str]:
        """Look at what is to be written before a new run starts; return what is worth knowing.

        Raises:
            MigratorError: nothing may be sent.
        """

    async def after(self, session: Session, files: RunFiles) -> Sequence[str]:
        """Do what is left when all items are finished; return what is worth knowing."""


class Crew(Protocol):
    """Workers in other processes that finish the items of a run.

    Attributes:
        engine: counts the items and stops the run; set before the first one.
    """

    engine: Director | None

    @property
    def controls(self) -> Controls:
        """The throttles of all workers, as one."""

    def look_first(self, precondition: Precondition | None) -> None:
        """Let workers look at each item before it is written, as the precondition does; None looks at nothing."""

    async def finish(self, request: Request) -> None:
        """Let a worker take one item the whole way; raises what `Items.finish` raises."""


class Machines(Protocol):
    """Where the items of a run are finished, if not in its own process."""

    def opened(
        self, session: Session, files: RunFiles, state: StateFolder, facts: WorkFacts
    ) -> AbstractAsyncContextManager[Crew]:
        """Find the workers, prepare them for a run, and let them go on leaving.

        Raises:
            MigratorError: there are none, or they cannot be used.
        """
