"""Items without ids find their records in the API's list, and keep finding them after a rotation."""

from collections.abc import AsyncIterator

import pytest
from conftest import Workplace
from in_process import Bench, bench

from migrator.errors import MigratorError
from migrator.job.job_file import Job
from migrator.run.join import joined

pytestmark = pytest.mark.anyio

BY_NAME = {"join": {"column": "name", "member": "display_name"}, "secrets": ["webhook_url"], "key": "name"}


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server."""
    async with bench(workplace) as found:
        yield found


async def looked_up(here: Bench, *names: str, member: str = "display_name", fresh: bool = False) -> Job:
    """Return a job whose items were looked up by their names."""
    job = here.job(1, **(BY_NAME | {"join": {"column": "name", "member": member}}))
    rows = [f"{name},https://hooks.slack.example/services/T/B/new-{number:06d}" for number, name in enumerate(names)]
    (here.workplace.folder / "items.csv").write_text("\n".join(["name,webhook_url", *rows, ""]))
    source, _ = here.checked(job)
    return await joined(job, source, here.options(fresh=fresh))


async def test_record_is_found_by_its_member(here: Bench) -> None:
    """The members that a path needs are known then; one that is not there is a problem of its row."""
    job = await looked_up(here, "Slack integration 2")

    assert job.lookup is not None
    found = job.lookup("Slack integration 2")
    assert not isinstance(found, str)
    assert found["id"] == "i-00002"
    assert "names no record of the API" in str(job.lookup("Slack integration 99"))


async def test_name_of_several_records_is_refused(here: Bench) -> None:
    """It cannot be told which is meant, and the message names them."""
    for number in (1, 2):
        response, _ = await here.guest.send("PATCH", f"i-{number:05d}", {"description": "twins"})
        assert response.status == 200

    job = await looked_up(here, "twins", member="description")

    assert job.lookup is not None
    assert "names 2 records of the API (i-00001, i-00002)" in str(job.lookup("twins"))


async def test_what_was_found_is_kept(here: Bench) -> None:
    """A rotation changes what records are found by: the same job goes on with the same records, unless it is fresh."""
    await looked_up(here, "Slack integration 2")
    await here.guest.send("PATCH", "i-00002", {"display_name": "renamed"})
    requests = here.guest.sandbox.statistics.statuses.total()

    again = await looked_up(here, "Slack integration 2")

    assert again.lookup is not None
    assert not isinstance(again.lookup("Slack integration 2"), str)
    assert here.guest.sandbox.statistics.statuses.total() == requests
    fresh = await looked_up(here, "Slack integration 2", fresh=True)
    assert fresh.lookup is not None
    assert isinstance(fresh.lookup("Slack integration 2"), str)


async def test_nothing_secret_is_kept(here: Bench) -> None:
    """Webhooks are left out."""
    await looked_up(here, "Slack integration 2")

    (kept,) = (here.state.path / "joins").iterdir()
    assert "i-00002" in kept.read_text()
    assert "hooks.slack" not in kept.read_text()


async def test_job_with_ids_is_left_as_it_is(here: Bench) -> None:
    """Nothing is read."""
    job = here.job(1)
    source, _ = here.checked(job)

    assert await joined(job, source, here.options()) is job
    assert here.guest.sandbox.statistics.statuses == {}


async def test_api_without_a_list_is_refused(here: Bench) -> None:
    """The message says what the profile lacks."""
    job = here.job(1, **BY_NAME, api={"base_url": here.guest.url, "auth": {"type": "none"}})
    source, _ = here.checked(job)

    with pytest.raises(MigratorError, match="has no collection, which a join needs"):
        await joined(job, source, here.options())
