"""`migrator run`: a job and its items, as the work of a run."""

import shlex
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from migrator.api.session import Session, safe_base_url
from migrator.commands.webhooks import Verdict as Probe
from migrator.commands.webhooks import preflight, write_retired
from migrator.job.check import Verdict
from migrator.job.items import read_cells
from migrator.job.job_file import Job
from migrator.job.source import STANDARD_INPUT, Source
from migrator.job.template import Template, requests_of
from migrator.messages import Request
from migrator.options import RunOptions, Verify
from migrator.report.journal import Journal
from migrator.run.engine import BATCH
from migrator.run.preconditions import Look, open_beforehand, wishes
from migrator.run.work_list import Work
from migrator.store.ledger_reader import LedgerReader
from migrator.store.ledger_writer import Ledger
from migrator.store.vault import Vault

__all__ = ["job_work"]

LOOKAHEAD: Final = 20_000
"""Requests that are read ahead where items draw on many quotas: 20 MB, and four keys of 5,000 items each in a row."""

UNPROVEN: Final = {
    Probe.UNKNOWN: "could not be tested; they are written anyway",
    Probe.NOT_PROBED: "are not tested: only URLs below /services/ of Slack's own servers are",
}


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

    async def probe() -> list[str]:
        found = await preflight(job, source, limit=verdict.items)
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
        again=_again(source),
        reconcile="migrator reconcile {run}"
        if job.api.readable and job.request.method != "POST" and _is_kept(source)
        else None,
    )


def _is_kept(source: Source) -> bool:
    return STANDARD_INPUT not in {source.facts.get("job_argument"), source.facts.get("items_argument")}


def _again(source: Source) -> str:
    """Return how to send again what failed: items from standard input are kept in failed.csv only."""
    if _is_kept(source):
        return "migrator retry {run}, or run it with --items {folder}/failed.csv"
    job = source.facts.get("job_argument", STANDARD_INPUT)
    if job != STANDARD_INPUT:
        return f"migrator run {shlex.quote(job)} --items {{folder}}/failed.csv"
    template = source.facts.get("template_argument")
    return "migrator run {folder}/failed.csv" + (f" --template {shlex.quote(template)}" if template else "")
