"""One command's run: takes the job's lock, finds the unfinished run or makes a folder, asks, and runs it."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time
from typing import Final

import msgspec

from migrator import __version__
from migrator.api.session import recalled
from migrator.errors import FolderError, MigratorError, NotConfirmedError
from migrator.options import RunOptions
from migrator.report.estimate import Cycle, least_s, requests_of
from migrator.report.observer import Observer
from migrator.report.summary import Summary, summary_json, summary_text
from migrator.results import Exit
from migrator.run.runner import Runner
from migrator.run.stages import Ask
from migrator.run.stopper import Stopper
from migrator.run.work_list import Given, Machines, WorkFacts, WorkList
from migrator.store import files
from migrator.store.ledger_reader import read_ledger
from migrator.store.state_folder import StateFolder
from migrator.store.unfinished import find_unfinished, point_to

__all__ = ["Caller", "Confirmation", "Ending", "migrate"]


class Ending(msgspec.Struct, frozen=True):
    """How it ended.

    Attributes:
        exit_code: the contract's.
        summary: None where another run was under way.
        holder: who drives that one.
    """

    exit_code: Exit
    summary: Summary | None
    holder: str = ""

    def text(self) -> str:
        """Return the summary for people."""
        if self.summary is None:
            return f"another run of this job is active ({self.holder}): skipped"
        return summary_text(self.summary)

    def document(self) -> str:
        """Return the summary as JSON."""
        return "null" if self.summary is None else summary_json(self.summary).decode().rstrip()


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is asked before a run starts.

    Attributes:
        job: the job's name.
        kind: run, retry or rollback.
        method: the requests' method.
        total: the run's items.
        server: its URL.
        undo: what a rollback can do afterwards.
        unfinished: the run that is resumed; None for a new one.
        left: items that are not finished.
        requests: that it takes at the most, if none is sent twice.
        least_s: seconds that they take at the least, by the own ceiling and the quota that earlier runs met; None where
            neither is known.
    """

    job: str
    kind: str
    method: str
    total: int
    server: str
    undo: str
    unfinished: str | None
    left: int
    requests: int
    least_s: float | None


def silent(_text: str) -> None:
    """Show nothing."""


NOT_TYPED: Final = Given()


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """What a run asks and tells the program that started it.

    Attributes:
        confirm: asks whether to start, and returns whether the answer was yes; None starts without a question.
        ask: asks after a stage whether to go on; None where there is no one to ask.
        tell: shows the user a sentence.
        stopper: stops the run from outside.
        observers: watch the run.
        given: the command line that started it, for the commands that the run advises.
    """

    confirm: Callable[[Confirmation], bool] | None = None
    ask: Ask | None = None
    tell: Callable[[str], None] = silent
    stopper: Stopper = msgspec.field(default_factory=Stopper)
    observers: Sequence[Observer] = ()
    given: Given = NOT_TYPED


async def migrate(work: WorkList, options: RunOptions, caller: Caller, *, machines: Machines | None = None) -> Ending:
    """Do a work until it is finished or stopped.

    Args:
        work: what is to be done.
        options: what the user has set.
        caller: is asked and told.
        machines: where items are finished; None for this process.

    Raises:
        MigratorError: it cannot be done, or was not confirmed.
    """
    facts = work.facts
    if options.stages and facts.gate and not options.allow_commands:
        raise MigratorError("the job file's gate is a command, and commands need --allow-commands")
    state = StateFolder.open(Path(options.state))
    for name in ("runs", "apis"):
        # A folder that cannot be used is wrong use, and is told before anything is sent.
        state.folder(name)
    async with state.lock(facts.job, options.if_running, tell=caller.tell) as holder:
        if holder is not None:
            return Ending(Exit.OK, None, holder)
        unfinished = None if options.fresh or options.dry_run else _resumed(state, facts, caller.tell)
        if caller.confirm is not None and not (options.yes or options.dry_run):
            _confirm(facts, options, caller.confirm, unfinished, state)
        if unfinished is None:
            for notice in await work.before():
                caller.tell(notice)
        place = state.new_run(facts.job, time()) if unfinished is None else files.private_folder(unfinished)
        if not options.dry_run:
            point_to(state.path, place, job=facts.job, server=facts.base_url)
        runner = Runner(
            work,
            options,
            state=state,
            place=place,
            observers=caller.observers,
            ask=caller.ask,
            stopper=caller.stopper,
            machines=None if options.dry_run else machines,
            given=caller.given,
        )
        try:
            summary = await runner.run()
        except FolderError as error:
            raise FolderError(str(error), Exit.STOPPED) from None
    return Ending(Exit(summary["exit_code"]), summary)


def _resumed(state: StateFolder, work: WorkFacts, tell: Callable[[str], None]) -> Path | None:
    """Return the unfinished run that a work resumes; None where it starts a new one.

    Raises:
        MigratorError: the unfinished run has to be resumed or given up first.
    """
    found = find_unfinished(state.path, job=work.job, server=work.base_url)
    if found is None:
        return None
    name, kind = found.place.name, found.meta.get("kind", "run")
    same = kind == work.kind and (kind == "run" or found.meta.get("items_digest") == work.items_digest)
    if not same and (work.kind == "rollback" or kind == "run"):
        # A run that went wrong and was interrupted may be retried; a rollback is the way back whatever is unfinished.
        tell(f"the {kind} {name} is unfinished; this {work.kind} is done in its place, and nothing resumes it")
        return None
    if not same:
        command = found.meta.get("resume_command") or f"migrator {kind} {found.meta.get('of', name)}"
        raise MigratorError(f"the {kind} {name} is unfinished: resume it first ({command}), or give --fresh")
    choice = "Put the old one back to resume it, or give --fresh to start a new run with all items."
    if (started_by := found.meta.get("version", __version__)) != __version__:
        choice = f"migrator {started_by} can finish it. {choice}"
    if found.meta.get("only") != work.kept.get("only"):
        only = found.meta.get("only")
        which = "for all items" if only is None else f"for the items {', '.join(json.loads(only))} only"
        raise MigratorError(f"the unfinished run {name} is {which}: finish it first, or give --fresh")
    if found.meta.get("items_digest") != work.items_digest:
        raise MigratorError(f"{work.name} has changed since the unfinished run {name} started. {choice}")
    if found.meta.get("job_digest") != work.job_digest:
        raise MigratorError(f"the job file has changed since the unfinished run {name} started. {choice}")
    return found.place


def _confirm(
    work: WorkFacts,
    options: RunOptions,
    confirm: Callable[[Confirmation], bool],
    unfinished: Path | None,
    state: StateFolder,
) -> None:
    left = work.total
    if unfinished is not None:
        with read_ledger(unfinished / "ledger.db") as ledger:
            left -= ledger.counts().total()
    requests = requests_of(left, reads=left * work.reads_first, batch_size=work.batch_size, verify=options.verify)
    asked = Confirmation(
        job=work.job,
        kind=work.kind,
        method=work.method,
        total=work.total,
        server=work.base_url,
        undo=work.undo,
        unfinished=None if unfinished is None else unfinished.name,
        left=left,
        requests=requests,
        least_s=least_s(
            requests,
            ceiling=options.rate,
            cycle=_known_quota(work, options, state),
            spaced_s=work.api.write_spacing_s * (math.ceil(left / work.batch_size) - 1),
        ),
    )
    if not confirm(asked):
        raise NotConfirmedError("not confirmed; nothing was sent")


def _known_quota(work: WorkFacts, options: RunOptions, state: StateFolder) -> Cycle | None:
    """Return the quota that earlier runs met; None where there was none."""
    masker = state.masker(work.api.credentials())
    known = recalled(work.api, base_url=work.base_url, state=state, masker=masker)
    if known is None or not known.limit or not known.longest_reset_s:
        return None
    return Cycle(max(1.0, known.limit * (1.0 - options.reserve)), known.longest_reset_s)
