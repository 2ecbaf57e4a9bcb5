"""What a Python program calls: load a job, check it, plan it, migrate. Re-exported by `migrator` itself.

Nothing here prints, prompts, reads the environment or handles a signal. The coroutines work inside a running event loop
and outside the main thread.
"""

import io
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import anyio.lowlevel
import msgspec
from msgspec.structs import replace

from migrator.commands.ready import check_items, open_job
from migrator.errors import OptionError
from migrator.job.check import Verdict
from migrator.job.job_file import Job
from migrator.job.profile.variables import Allowed
from migrator.job.source import find_job
from migrator.options import OPTIONS, RunOptions, resolve
from migrator.report.observer import Observer
from migrator.results import Exit, ItemResult, Status, StopKind, StopReason
from migrator.run.migrate import Caller, Confirmation, silent
from migrator.run.stopper import Stopper
from migrator.store.ledger_reader import read_ledger
from migrator.store.plan_file import Plan

__all__ = ["Options", "Result", "check", "load_job", "migrate", "plan"]

NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})


class Options:
    """Options of a run, by the names of the command line with underscores.

    A value is what would be typed, or the same as a number or a flag: ``Options(max_failures="1%", concurrency=8,
    only_changed=True)``. Durations are seconds or texts such as ``"5m"``. What is not given is the job file's `run`,
    else the default.

    Raises:
        OptionError: there is no such option.
    """

    _env: Mapping[str, str] = NO_VARIABLES

    def __init__(self, **given: str | float | bool | None) -> None:
        unknown = sorted(given.keys() - OPTIONS.keys())
        if unknown:
            raise OptionError(f"there is no option {unknown[0]}; there are {', '.join(OPTIONS)}")
        self._given = {
            name: value if value is None or isinstance(value, bool) else str(value) for name, value in given.items()
        }

    @classmethod
    def with_environment(cls, given: Mapping[str, str | bool | None], env: Mapping[str, str]) -> Self:
        """Return options as the command line has them: what is not given is taken from ``MIGRATOR_*``."""
        options = cls(**{name: value for name, value in given.items() if name in OPTIONS})
        options._env = env
        return options

    def resolved(self, job: Job, *, command: str = "run") -> RunOptions:
        """Return all options for a job.

        Raises:
            OptionError: a value is not allowed.
        """
        return resolve(command_line=self._given, env=self._env, job_run=job.run, source=job.source, command=command)

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    Attributes:
        exit_code: what the command line would end with; 0 is success.
        counts: finished items by status, those of earlier invocations included.
        pending: items that are not finished; the same call resumes the run.
        stopped: why the run stopped early; None where it did not.
        folder: the run's folder, with results.jsonl, report.html and more; None where another run was active.
    """

    exit_code: Exit
    counts: Counter[Status]
    pending: int
    stopped: StopReason | None
    folder: Path | None

    async def items(self) -> AsyncIterator[ItemResult]:
        """Yield the result of each item, in the order of the input.

        Raises:
            LedgerError: the run's ledger cannot be read.
        """
        if self.folder is None:
            return
        with read_ledger(self.folder / "ledger.db") as ledger:
            for number, row in enumerate(ledger.rows()):
                yield row
                if number % 100 == 0:
                    await anyio.lowlevel.checkpoint()


def load_job(
    path: str | Path,
    *,
    items: str | Path | None = None,
    template: str | None = None,
    env: Mapping[str, str] = NO_VARIABLES,
    allow_commands: bool = False,
    allow_env: Collection[str] | None = None,
    allow_files: Sequence[str] = (),
    credentials: bool = True,
) -> Job:
    """Return the job that a job file or an items file names.

    Args:
        path: a job file (.json), or an items file (.csv, .jsonl, .json).
        items: an items file in place of the job file's own.
        template: the job file that goes with an items file; the built-in one where it is left out.
        env: the variables that ``${NAME}`` in the job file means, such as `os.environ`.
        allow_commands: whether the job file may run commands.
        allow_env: variables of `env` that the job file may read besides its profile's; None for all.
        allow_files: files that it may read outside its own folder.
        credentials: whether variables, files and commands are read; without them a job can be checked, not sent.

    Raises:
        JobError: the job file is not valid; `problems` has every problem.
        MigratorError: a file cannot be read.

    Example:
        job = migrator.load_job("rotate.json", env=os.environ)
    """
    named = None if items is None else str(items)
    allowed = Allowed(
        commands=allow_commands, env=None if allow_env is None else frozenset(allow_env), files=tuple(allow_files)
    )
    job = find_job(str(path), items=named, template=template, env=env, allowed=allowed, credentials=credentials)
    arguments = {"job": str(path), "items": named, "template": template}
    return replace(job, arguments={name: text for name, text in arguments.items() if text is not None})


def check(job: Job) -> Verdict:
    """Check every item of a job; nothing is sent.

    Returns:
        How many `items` there are, the first hundred `problems`, and `warnings`.

    Raises:
        MigratorError: the items cannot be read.
    """
    return check_items(job, Options().resolved(job, command="check"), stdin=io.BytesIO())[1]


async def plan(job: Job, options: Options | None = None) -> Plan:
    """Read what every item holds, and return what would change; nothing is written.

    Raises:
        JobError: an item is not valid.
        MigratorError: nothing can be read.
    """
    chosen = (options or Options()).resolved(job, command="plan")
    async with open_job(job, chosen, stdin=io.BytesIO(), tell=silent) as ready:
        return await ready.plan(tell=silent)


async def migrate(
    job: Job,
    options: Options | None = None,
    *,
    observers: Sequence[Observer] = (),
    confirm: Callable[[Confirmation], bool] | None = None,
    stopper: Stopper | None = None,
) -> Result:
    """Send every item, or resume the unfinished run of the same job.

    Args:
        job: from `load_job`.
        options: options of the run.
        observers: watch the run.
        confirm: is asked before anything is sent; None sends without a question.
        stopper: stops the run from outside. A cancelled call can be resumed as well.

    Raises:
        JobError: an item is not valid; nothing was sent.
        MigratorError: the run cannot start, or was not confirmed.

    Example:
        result = await migrator.migrate(job, migrator.Options(max_failures="1%"))
    """
    chosen = (options or Options()).resolved(job)
    caller = Caller(confirm=confirm, stopper=stopper or Stopper(), observers=observers)
    async with open_job(job, chosen, stdin=io.BytesIO(), tell=silent) as ready:
        ending = await ready.migrate(caller)
    summary = ending.summary
    if summary is None:
        return Result(exit_code=ending.exit_code, counts=Counter(), pending=0, stopped=None, folder=None)
    stopped = summary["stopped"]
    return Result(
        exit_code=ending.exit_code,
        counts=Counter({Status(status): count for status, count in summary["counts"].items() if count}),
        pending=summary["pending"],
        stopped=None if stopped is None else StopReason(StopKind(stopped["reason"]), stopped["message"]),
        folder=Path(summary["folder"]),
    )
