"""Tells the job's `notify` targets why a run could not start: at night no one reads a terminal or an exit code."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from migrator.errors import MigratorError, NotConfirmedError
from migrator.job.job_file import Job
from migrator.job.problems import JobError
from migrator.options import RunOptions

__all__ = ["refusals_told", "tell_of_job_error"]


@asynccontextmanager
async def refusals_told(job: Job, options: RunOptions, *, tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Tell the job's `notify` targets of an error that keeps a run from starting or from being summed up.

    Args:
        job: names the targets.
        options: say whether commands may be run.
        tell: shows the user why a target could not be told.

    Raises:
        MigratorError: the error that the targets were told of.
    """
    try:
        yield
    except NotConfirmedError:
        raise
    except MigratorError as error:
        await _tell(job.name, job.notify, error, allow_commands=options.allow_commands, tell=tell)
        raise


async def tell_of_job_error(error: JobError, *, allow_commands: bool, tell: Callable[[str], None]) -> None:
    """Tell the targets of a job file that is not valid, such as one that names a variable that is not set.

    Args:
        error: what is wrong; targets with which something is wrong are left out.
        allow_commands: whether commands may be run.
        tell: shows the user why a target could not be told.
    """
    await _tell(error.name, error.notify, error, allow_commands=allow_commands, tell=tell)


async def _tell(
    job: str,
    given: Sequence[Mapping[str, Any]],
    error: MigratorError,
    *,
    allow_commands: bool,
    tell: Callable[[str], None],
) -> None:
    from migrator.report.notify import NOTICE_S, Moment, notify, usable_targets

    targets, problems = usable_targets(given, allow_commands=allow_commands)
    known = {"job": job, "exit_code": int(error.exit_code), "message": str(error)}
    for problem in (*problems, *await notify(targets, Moment.FAILURE, known, timeout_s=NOTICE_S)):
        if problem not in str(error):
            tell(problem)
