"""Who is told that a run could not be begun: at night nobody looks at a terminal, or reads an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio
import click

from migrator.errors import MigratorError, NotConfirmedError, NoticeError
from migrator.job.job_file import Job
from migrator.options import RunOptions
from migrator.report.notify import NOTICE_S, Moment, notify, read_targets

__all__ = ["told"]


@contextmanager
def told(job: Job, options: RunOptions) -> Iterator[None]:
    """Tell the job's `notify` targets of what keeps a run from being begun, or summed up, and let it go on its way.

    Raises:
        MigratorError: what was told of.
    """
    try:
        yield
    except NotConfirmedError:
        raise
    except MigratorError as error:
        with suppress(NoticeError):
            targets = read_targets(job.notify, allow_commands=options.allow_commands)
            known = {"job": job.name, "exit_code": int(error.exit_code), "message": str(error)}
            for problem in anyio.run(lambda: notify(targets, Moment.FAILURE, known, timeout_s=NOTICE_S)):
                click.echo(f"migrator: {problem}", err=True)
        raise
