"""Decides whether workers finish the items of a run; what they need is imported only then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from migrator.errors import MigratorError
from migrator.job.job_file import Job
from migrator.options import RunOptions
from migrator.run.work_list import Machines

__all__ = ["machines_of"]


@asynccontextmanager
async def machines_of(job: Job, options: RunOptions) -> AsyncIterator[Machines | None]:
    """Open where the items of a job are finished; None for this process.

    Args:
        job: the job.
        options: what the user has set.

    Raises:
        MigratorError: the extra is not installed, the options do not fit, or there are no workers.
    """
    if not options.on_workers or options.dry_run:
        yield None
        return
    if message := _unfit(job, options):
        raise MigratorError(message)
    try:
        from migrator.cluster.dask import open_cluster  # noqa: PLC0415  an extra, and slow to import
    except ImportError:
        raise MigratorError("--workers and --scheduler need the extra dask (packages dask and distributed)") from None
    from migrator.cluster.machines import ClusterMachines  # noqa: PLC0415  most runs need no workers

    async with open_cluster(options) as cluster:
        yield ClusterMachines(cluster, job, options)


def _unfit(job: Job, options: RunOptions) -> str | None:
    """Return why a job cannot be done by workers, or None."""
    if options.workers is not None and options.scheduler is not None:
        return "give --workers or --scheduler, not both: a cluster has as many workers as it has"
    if job.api.write_spacing_s:
        return f"{job.api.name} wants a pause between two writes, so that workers gain nothing: leave them out"
    return None
