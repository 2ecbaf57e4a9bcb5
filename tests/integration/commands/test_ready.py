"""A job is opened and checked before anything is sent: what is wrong is an error, and what is odd a warning."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace
from in_process import Bench, bench
from msgspec.structs import replace

import migrator
from migrator.commands.ready import check_items, open_job, refuse_invalid
from migrator.errors import MigratorError
from migrator.job.check import Verdict
from migrator.job.job_file import Job
from migrator.job.problems import JobError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server."""
    async with bench(workplace) as found:
        yield found


async def opened(here: Bench, job: Job, *, stdin: bytes = b"", **typed: Any) -> tuple[int, list[str]]:
    """Open a job, and return how many items it has, and the warnings."""
    told: list[str] = []
    async with open_job(job, here.options(**typed), stdin=io.BytesIO(stdin), tell=told.append) as ready:
        stream = ready.source.stream
        stream.seek(0)
    with pytest.raises(ValueError, match="closed file"):
        stream.seek(0)
    return ready.verdict.items, told


async def test_items_are_closed_again(here: Bench) -> None:
    """Whatever the block does."""
    assert await opened(here, here.job(3)) == (3, [])


async def test_invalid_item_is_an_error(here: Bench) -> None:
    """It has every problem, and the place of each."""
    job = here.job(3)
    items = here.workplace.folder / "items.csv"
    items.write_text(items.read_text().replace("i-00003", "i-00001").replace("i-00002", ""))

    with pytest.raises(JobError) as refused:
        await opened(here, job)
    assert len(refused.value.problems) == 2


async def test_items_come_from_standard_input(here: Bench) -> None:
    """`-` names it."""
    job = here.job(1)
    named = {**job.arguments, "items": "-"}
    rows = b"id,webhook_url\ni-1,https://hooks.slack.example/services/T/B/made-up-1\n"
    assert (await opened(here, replace(job, arguments=named), stdin=rows))[0] == 1


async def test_check_needs_no_server(here: Bench) -> None:
    """Nothing is sent, and the name is the file's."""
    name, verdict = check_items(here.job(4), here.options("check"), stdin=io.BytesIO())

    assert (name.rpartition("/")[2], verdict.items, verdict.problem_count) == ("items.csv", 4, 0)
    assert here.guest.sandbox.statistics.statuses == {}


def verdict(**changes: Any) -> Verdict:
    """Return what a check has found."""
    values: dict[str, Any] = {"items": 1, "problems": (), "problem_count": 0, "digest": ""}
    return Verdict(**(values | changes))


async def test_warnings_are_errors_where_they_are_to_be(here: Bench) -> None:
    """With --strict, and only then."""
    job = here.job(1)

    refuse_invalid(job, verdict(warnings=("odd",)), "items.csv", strict=False)
    with pytest.raises(MigratorError, match=r"items\.csv: 1 warning \(--strict\); nothing was sent"):
        refuse_invalid(job, verdict(warnings=("odd",)), "items.csv", strict=True)
    with pytest.raises(MigratorError, match="2 warnings"):
        refuse_invalid(job, verdict(warnings=("odd", "odder")), "items.csv", strict=True)


async def test_built_in_template_is_named_where_it_was_not_chosen(here: Bench, tmp_path: Path) -> None:
    """A CSV of another job is the likeliest reason for a thousand problems."""
    items = tmp_path / "hooks.csv"
    items.write_text("wrong\n1\n")
    job = migrator.load_job(items, env={"CONFLUENT_CLOUD_API_KEY": "k", "CONFLUENT_CLOUD_API_SECRET": "made-up-secret"})

    with pytest.raises(JobError) as refused:
        await opened(here, job)
    assert "read with the built-in template" in refused.value.hint
