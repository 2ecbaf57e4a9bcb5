"""`migrator run`: a job and its items, as the work list of a run."""

import shlex
from collections.abc import AsyncIterator, Container, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from migrator.api.session import Session, safe_base_url
from migrator.commands.webhooks.channel_test import send_test_messages
from migrator.commands.webhooks.probe import Verdict as Probe
from migrator.commands.webhooks.probe import preflight
from migrator.commands.webhooks.unused import write_retired
from migrator.errors import ReadingError, WaitTooLong
from migrator.job.check import Verdict
from migrator.job.items import read_cells
from migrator.job.job_file import Job
from migrator.job.source import STANDARD_INPUT, Source
from migrator.job.template import Template, requests_of
from migrator.messages import Request
from migrator.options import RunOptions
from migrator.report.csv_files import Cells
from migrator.report.terraform import FILE as TFVARS
from migrator.report.terraform import owned_in, read_show, warning_of, write_variables
from migrator.results import Status
from migrator.run.preconditions import Precondition, needs_of, open_preconditions
from migrator.run.work_list import RunFiles, WorkFacts
from migrator.store.vault import Vault

__all__ = ["JobWork"]

UNPROVEN: Final = {
    Probe.UNKNOWN: "could not be tested; they are written anyway",
    Probe.NOT_PROBED: "are not tested: only URLs below /services/ of Slack's own servers are",
}


class JobWork:
    """The items of a job, or some of them.

    Args:
        job: the job.
        source: its items.
        verdict: what the check found.
        options: what the user has set.
        only: the items that are wanted; None for all.
        only_count: how many those are.

    Raises:
        MigratorError: the options do not fit the job's API, or there is no key.
    """

    def __init__(
        self,
        job: Job,
        source: Source,
        verdict: Verdict,
        options: RunOptions,
        *,
        only: Container[int] | None = None,
        only_count: int = 0,
    ) -> None:
        self._job, self._source, self._rows = job, source, verdict.items
        if only is None and verdict.selected is not None:
            only, only_count = frozenset(verdict.selected.values()), len(verdict.selected)
        self._only, self._options = only, options
        selection = {} if verdict.selected is None else {"only": msgspec.json.encode(sorted(verdict.selected)).decode()}
        self._terraform = None if options.terraform is None else Path(options.terraform)
        self._addresses = {} if self._terraform is None else read_show(self._terraform)
        base_url = safe_base_url(job.api, options)
        self._template = Template.compile(job, base_url=base_url)
        total = verdict.items if only is None else only_count
        self._needs = needs_of(job, options, base_url=base_url, total=total, items_digest=verdict.digest)
        self.facts = WorkFacts(
            job=job.name,
            api=job.api,
            base_url=base_url,
            method=job.request.method,
            undo=_undo(job, options),
            total=total,
            name=source.name,
            job_digest=job.digest,
            items_digest=", ".join([verdict.digest, *selection.values()]),
            kept=dict(source.facts) | selection | {"rows": str(verdict.items), "source_digest": verdict.digest},
            secrets=job.secrets | job.ignored,
            idempotent=job.request.idempotent,
            secret_path=self._template.path_has_secret,
            batch_size=job.request.batch.size if job.request.batch is not None else 1,
            reads_first=self._needs is not None and self._needs.reads,
            gate=job.gate,
            retry_command=_retry_command(source, options),
            reconcile_command="migrator reconcile {run}"
            if job.readable and not job.request.creates and _is_kept(source)
            else None,
        )

    def of(self, run: str, *, kind: str, first_run: str) -> "JobWork":
        """Return the same work as that of a command on an earlier run, such as a retry.

        Args:
            run: the earlier run.
            kind: the command.
            first_run: the run that sent the items first.
        """
        self.facts = replace(
            self.facts,
            kind=kind,
            first_run=first_run,
            items_digest=f"{self.facts.items_digest}, {kind} of {run}",
            kept=dict(self.facts.kept) | {"of": run},
            resume_command=f"migrator {kind} {run}",
        )
        return self

    def requests(self, done: Iterator[int]) -> Iterator[Request]:
        """Yield the requests of all items but those that are done, whose numbers ascend."""
        return requests_of(self._source, self._job, self._template, total=self._rows, only=self._only, finished=done)

    def warnings(self) -> list[str]:
        """Return what a user has to know before the run: what Terraform would put back."""
        if self._terraform is None:
            return []
        owned = [address for _, address in owned_in(self.requests(iter(())), self._addresses)]
        warning = warning_of(owned, total=self.facts.total, path=self._terraform)
        return [] if warning is None else [warning]

    def cells(self) -> Cells:
        """Open the items file again, for the files with its own columns."""
        return read_cells(self._source.rewound(), form=self._source.form, name=self._source.name)

    @asynccontextmanager
    async def precondition(self, session: Session, files: RunFiles) -> AsyncIterator[Precondition | None]:
        """Open what looks at an item before it is written; None where no option asks for it."""

        def warn(message: str) -> None:
            files.journal.event("before.masked", level="warning", message=message)

        if self._needs is None:
            yield None
            return
        async with open_preconditions(self._needs, session, files.ledger, files.reader, warn=warn) as opened:
            yield opened

    async def before(self) -> Sequence[str]:
        """Probe the new webhooks where the job file asks for it, then send test messages where the user does.

        Raises:
            MigratorError: some are dead, or a test message was refused.
        """
        found = await preflight(self._job, self._source, limit=self._rows, only=self._only)
        unproven = [f"{count} of the new webhooks {what}" for kind, what in UNPROVEN.items() if (count := found[kind])]
        requests = self.requests(iter(()))
        sent = await send_test_messages(self._job.api, requests, self._options, base_url=self.facts.base_url)
        return [*unproven, *sent]

    async def after(self, session: Session, files: RunFiles) -> Sequence[str]:
        """Write what follows from the run: Terraform's new values, and the old webhooks that nothing uses any more."""
        return [*session.names.told, *self._hand_over(files), *await self._retire(session, files)]

    def _hand_over(self, files: RunFiles) -> Sequence[str]:
        if not self._addresses:
            return ()
        owned = owned_in(self.requests(iter(())), self._addresses)
        written = {row.item for row in files.reader.rows() if row.status in {Status.SUCCEEDED, Status.UNCHANGED}}
        count = write_variables(files.place, owned, written)
        return [f"{count} of the items are Terraform's: put the values of {TFVARS} into its variables"] if count else []

    async def _retire(self, session: Session, files: RunFiles) -> Sequence[str]:
        collection = self._job.api.collection
        if self._needs is None or self._needs.passphrase is None or collection is None:
            return ()
        vault = Vault.derived(self._needs.passphrase, salt=bytes.fromhex(files.reader.meta()["salt"]))
        try:
            count = await write_retired(files.place, files.reader, session, collection=collection, vault=vault)
        except (ReadingError, WaitTooLong) as error:
            # Every item is finished: an odd answer to this list changes nothing of that.
            return [f"which old webhooks are not used any more could not be read: {error}"]
        return [f"{count} old webhooks are not used any more and can be revoked: see retired.csv"] if count else []


def _is_kept(source: Source) -> bool:
    return STANDARD_INPUT not in {source.facts.get("job_argument"), source.facts.get("items_argument")}


def _undo(job: Job, options: RunOptions) -> str:
    """Return what a rollback can do after a run."""
    if options.keep_before or job.keep_before:
        return "possible; what each write replaces is kept, encrypted"
    if not job.readable:
        return "not possible; no way to read a record is declared"
    return "not possible; give --keep-before to keep what each write replaces"


def _retry_command(source: Source, options: RunOptions) -> str:
    """Return how to send again what failed: items from standard input are kept in failed.csv only."""
    if _is_kept(source):
        return "migrator retry {run}"
    server = "" if options.base_url is None else f" --base-url {shlex.quote(options.base_url)}"
    job = source.facts.get("job_argument", STANDARD_INPUT)
    if job != STANDARD_INPUT:
        return f"migrator run {shlex.quote(job)} --items {{folder}}/failed.csv{server}"
    template = source.facts.get("template_argument")
    return "migrator run {folder}/failed.csv" + (f" --template {shlex.quote(template)}" if template else "") + server
