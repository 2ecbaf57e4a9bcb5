"""The ledger is held against the files and the server: views are mended, and the rest is named."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Workplace
from in_process import Bench, bench, settings

from migrator.commands.verify import Verified, locked_job, verify, verify_server
from migrator.errors import MigratorError
from migrator.job.job_file import Job
from migrator.job.source import Source
from migrator.results import Exit

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server."""
    async with bench(workplace) as found:
        yield found


async def verified(here: Bench, place: Path) -> Verified:
    """Verify a run."""

    async def origin() -> tuple[Job, Source]:
        job, source, _ = here.origin(place)
        return job, source

    return await verify(place, here.state, origin=origin)


def alter(place: Path, statement: str) -> None:
    """Change the ledger by hand."""
    with closing(sqlite3.connect(place / "ledger.db")) as connection:
        connection.execute(statement)
        connection.commit()


async def test_what_a_run_wrote_is_consistent(here: Bench) -> None:
    """Nothing is found, and nothing is written."""
    place = await here.run(here.job(3))

    found = await verified(here, place)

    assert (found.mended, found.problems, found.exit_code) == ([], [], Exit.OK)
    assert found.text("rotate-1") == "rotate-1: consistent"
    assert locked_job(place) == "rotate"


async def test_views_are_mended(here: Bench) -> None:
    """A file that is gone and one that was changed are as they were, and are named."""
    place = await here.run(here.job(3))
    before = {name: (place / name).read_bytes() for name in ("results.jsonl", "succeeded.csv")}
    (place / "results.jsonl").unlink()
    (place / "succeeded.csv").write_text("changed")

    found = await verified(here, place)

    assert found.mended == ["results.jsonl", "succeeded.csv"]
    assert {name: (place / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE meta SET value = '2' WHERE name = 'items'", "the ledger has 3 results of 2 items"),
        ("DELETE FROM item WHERE item = 2", "1 of 3 items have no result"),
    ],
)
async def test_what_cannot_be_true_is_named(here: Bench, statement: str, problem: str) -> None:
    """A ledger that contradicts itself is a problem, and not mended."""
    place = await here.run(here.job(3))
    alter(place, statement)

    found = await verified(here, place)

    assert any(problem in one for one in found.problems), found.problems
    assert found.exit_code == Exit.SOME_FAILED
    assert "problem" in found.text("rotate-1")


async def test_damaged_ledger_leaves_the_files_alone(here: Bench) -> None:
    """They may be all that is left; the job's name is then that of the folder."""
    place = await here.run(here.job(3))
    before = (place / "results.jsonl").read_bytes()
    (place / "ledger.db").write_bytes(b"this is no database" * 100)
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (place / name).unlink(missing_ok=True)

    found = await verified(here, place)

    assert len(found.problems) == 1
    assert (place / "results.jsonl").read_bytes() == before
    assert locked_job(place) == "rotate"


async def test_server_is_read(here: Bench) -> None:
    """What was changed or removed since is named item by item; what was not is counted."""
    place = await here.run(here.job(3))
    await here.guest.patch("i-00002", 77)
    await here.guest.send("DELETE", "i-00003")
    job, source, _ = here.origin(place)
    found = Verified()

    await verify_server(place, job, source, here.options("verify"), masker=here.masker, found=found)

    assert found.read == 3
    assert [problem.partition(")")[0] for problem in found.problems] == ["item 2 (i-00002", "item 3 (i-00003"]
    assert "something else at /target/webhook_url" in found.problems[0]
    assert "read from the server: 3 items" in found.text("rotate-1")


async def test_many_differences_are_counted(workplace: Workplace) -> None:
    """Twenty are named, and the rest is a number."""
    async with bench(workplace, settings(items=25)) as here:
        place = await here.run(here.job(25))
        for number in range(1, 26):
            await here.guest.patch(f"i-{number:05d}", 77)
        job, source, _ = here.origin(place)
        found = Verified()

        await verify_server(place, job, source, here.options("verify"), masker=here.masker, found=found)

        assert len(found.problems) == 21
        assert found.problems[-1] == "5 more items differ on the server"


async def test_records_without_an_address_are_not_read(here: Bench) -> None:
    """A POST's record cannot be found again."""
    place = await here.run(here.job(1))
    here.workplace.write_job(1, request={"method": "POST", "path": "/notifications/v1/integrations"})
    job, source, _ = here.origin(place)

    with pytest.raises(MigratorError, match="no known address"):
        await verify_server(place, job, source, here.options("verify"), masker=here.masker, found=Verified())
