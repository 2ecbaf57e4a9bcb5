"""Tells the job's `notify` targets why a run could not start: at night no one reads a terminal or an exit code."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from migrator.errors import MigratorError, NotConfirmedError, NoticeError
from migrator.job.job_file import Job
from migrator.options import RunOptions
from migrator.report.notify import NOTICE_S, Moment, notify, read_targets

__all__ = ["refusals_told"]


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
        with suppress(NoticeError):
            targets = read_targets(job.notify, allow_commands=options.allow_commands)
            known = {"job": job.name, "exit_code": int(error.exit_code), "message": str(error)}
            for problem in await notify(targets, Moment.FAILURE, known, timeout_s=NOTICE_S):
                tell(problem)
        raise
