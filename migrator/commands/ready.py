"""A job whose items have been opened and checked: what run and plan start from, and the public face too."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO

import anyio.to_thread
import msgspec
from msgspec.structs import replace

from migrator.cluster.choice import machines_of
from migrator.commands.plan import make_plan
from migrator.commands.run import JobWork
from migrator.commands.webhooks.hosts import Rules
from migrator.errors import MigratorError
from migrator.job import check as checking
from migrator.job.check import Verdict
from migrator.job.job_file import Job
from migrator.job.problems import JobError
from migrator.job.source import Source, open_items
from migrator.messages import host_of, is_loopback
from migrator.options import RunOptions
from migrator.run.join import joined
from migrator.run.migrate import Caller, Ending, migrate
from migrator.store.plan_file import Plan

__all__ = ["Ready", "check_items", "open_job", "refuse_invalid"]


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """A job with its items, all of which can be sent.

    Attributes:
        job: the job; items that were looked up have their ids.
        source: the items.
        verdict: what the check has found.
        options: what the user has set.
    """

    job: Job
    source: Source
    verdict: Verdict
    options: RunOptions

    async def migrate(self, caller: Caller) -> Ending:
        """Send every item, or resume the unfinished run of the same job.

        Raises:
            MigratorError: the run cannot start, or was not confirmed.
        """
        work = JobWork(self.job, self.source, self.verdict, self.options)
        for warning in work.warnings():
            caller.tell(warning)
        async with machines_of(self.job, self.options) as machines:
            return await migrate(work, self.options, caller, machines=machines)

    async def plan(self, *, tell: Callable[[str], None]) -> Plan:
        """Read what every item holds, and return what would change.

        Raises:
            MigratorError: nothing can be read.
        """
        # A plan keeps nothing, and so needs no key.
        job = replace(self.job, keep_before=False)
        options = dataclasses.replace(self.options, keep_before=False, plan=None)
        warnings = JobWork(job, self.source, self.verdict, options).warnings()
        for warning in warnings:
            tell(warning)
        plan = await make_plan(self.job, self.source, self.verdict, self.options, tell=tell)
        return msgspec.structs.replace(plan, warnings=(*self.verdict.warnings, *warnings))


@asynccontextmanager
async def open_job(
    job: Job, options: RunOptions, *, stdin: BinaryIO, tell: Callable[[str], None]
) -> AsyncIterator[Ready]:
    """Open the items of a job and check them, outside the event loop; close them on leaving.

    Args:
        job: from `load_job`.
        options: what the user has set.
        stdin: where items that are named ``-`` come from.
        tell: is given each warning.

    Raises:
        JobError: an item is not valid.
        MigratorError: the items cannot be read, or there are warnings, which `strict` makes errors.
    """
    source = _open(job, options, stdin)
    with source.stream:
        found = await joined(job, source, options)
        server = options.base_url or found.api.base_url
        verdict = await anyio.to_thread.run_sync(_check, found, source, options, server, abandon_on_cancel=True)
        for warning in () if options.quiet else verdict.warnings:
            tell(f"{source.name}: warning: {warning}")
        refuse_invalid(found, verdict, source.name, strict=options.strict)
        yield Ready(job=found, source=source, verdict=verdict, options=options)


def check_items(job: Job, options: RunOptions, *, stdin: BinaryIO) -> tuple[str, Verdict]:
    """Return the name of a job's items, and what is wrong with them; nothing is sent.

    Raises:
        MigratorError: the items cannot be read.
    """
    source = _open(job, options, stdin)
    with source.stream:
        return source.name, _check(job, source, options, None)


def refuse_invalid(job: Job, verdict: Verdict, name: str, *, strict: bool) -> None:
    """Go no further with items that are not valid.

    Raises:
        JobError: an item is not valid.
        MigratorError: there are warnings, which `strict` makes errors.
    """
    if verdict.problem_count:
        chosen = job.arguments.get("template") is not None or not job.source.startswith("template ")
        hint = (
            "" if chosen else f"These items were read with the built-in {job.source}. For another job give --template."
        )
        raise JobError(verdict.problems, count=verdict.problem_count, hint=hint)
    if strict and verdict.warnings:
        count = len(verdict.warnings)
        raise MigratorError(f"{name}: {count} warning{'s' if count != 1 else ''} (--strict); nothing was sent")


def _open(job: Job, options: RunOptions, stdin: BinaryIO) -> Source:
    named = job.arguments
    if "job" not in named:
        raise MigratorError("the job was not made by load_job, so that its items are not known")
    return open_items(
        job,
        named["job"],
        items=named.get("items"),
        template=named.get("template"),
        stdin=stdin,
        encoding=options.encoding,
    )


def _check(job: Job, source: Source, options: RunOptions, server: str | None) -> Verdict:
    """Check the whole input; `server` is where it is to be sent, None for a rehearsal."""
    rules = Rules(job, rehearsal=server is None or is_loopback(host_of(server) or ""))
    verdict = checking.check(
        source.rewound(),
        form=source.form,
        job=job,
        name=source.name,
        limit=options.limit,
        only=options.only,
        see=rules.see if rules.wanted else None,
    )
    return replace(verdict, warnings=tuple(str(warned) for warned in rules.warnings()))
