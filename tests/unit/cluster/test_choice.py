"""Workers are asked for only where the user wants them, and refused where they cannot help."""

import pytest

from migrator.cluster.choice import machines_of
from migrator.errors import MigratorError
from migrator.job.job_file import Job, RequestTemplate
from migrator.job.profile.api_profile import ApiProfile
from migrator.options import RunOptions

pytestmark = pytest.mark.anyio


def job(*, write_spacing_s: float = 0.0) -> Job:
    """Return a job for an API that may want its writes apart."""
    api = ApiProfile(name="acme", base_url="https://api.example", write_spacing_s=write_spacing_s)
    return Job(name="x", api=api, request=RequestTemplate(method="PATCH", path="/x/{id}"), key=("id",))


@pytest.mark.parametrize(
    "options", [RunOptions(), RunOptions(workers=2, dry_run=True), RunOptions(scheduler="tls://x:1", dry_run=True)]
)
async def test_this_process_does_the_items(options: RunOptions) -> None:
    """So it is without the options, and in a dry run, which writes nothing."""
    async with machines_of(job(), options) as machines:
        assert machines is None


@pytest.mark.parametrize(
    ("options", "spacing_s", "words"),
    [
        (RunOptions(workers=2, scheduler="tls://x:1"), 0.0, "--workers or --scheduler, not both"),
        (RunOptions(workers=2), 1.0, "acme wants a pause between two writes"),
    ],
)
async def test_what_workers_cannot_do(options: RunOptions, spacing_s: float, words: str) -> None:
    """Nothing is started then."""
    with pytest.raises(MigratorError, match=words):
        async with machines_of(job(write_spacing_s=spacing_s), options):
            pass
