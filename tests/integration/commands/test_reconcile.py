"""Items in doubt are decided by what the server holds: written, not written, or changed by others."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import Workplace
from in_process import Bench, bench

from migrator.commands.reconcile import Reconciled, reconcile
from migrator.errors import MigratorError
from migrator.results import ErrorKind, Exit, ItemResult, Status
from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_writer import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server, with a key beside the job."""
    (workplace.folder / "key").write_text("a key that is long enough")
    async with bench(workplace) as found:
        yield found


def rows(place: Path) -> dict[int, ItemResult]:
    """Return the results of a run."""
    with read_ledger(place / "ledger.db") as reader:
        return {row.item: row for row in reader.rows()}


async def doubted(here: Bench, *items: int, kept: bool = False) -> Path:
    """Run a job of three items, and put some of them in doubt, as a kill does where nothing may be sent twice."""
    key = {"keep_before": True, "key_file": str(here.workplace.folder / "key")} if kept else {}
    place = await here.run(here.job(3), **key)
    found = rows(place)
    async with Ledger.open(place / "ledger.db", create=False) as ledger:
        for item in items:
            values = {name: getattr(found[item], name) for name in ItemResult.__struct_fields__}
            await ledger.settle(ItemResult(**values | {"status": Status.IN_DOUBT, "verified": None}))
    return place


async def reconciled(here: Bench, place: Path) -> Reconciled:
    """Reconcile a run."""
    job, source, meta = here.origin(place)
    key = str(here.workplace.folder / "key")
    return await reconcile(place, job, source, meta, here.options("reconcile", key_file=key))


async def test_item_that_was_written_has_succeeded(here: Bench) -> None:
    """The server holds what was sent: the result, the files and the exit code say so."""
    place = await doubted(here, 2)

    done = await reconciled(here, place)

    assert (done.succeeded, done.still_in_doubt, done.exit_code) == (1, 0, Exit.OK)
    assert (rows(place)[2].status, rows(place)[2].verified) == (Status.SUCCEEDED, True)
    assert "i-00002" in (place / "succeeded.csv").read_text()
    assert here.guest.sandbox.statistics.writes["i-00002"] == 1


async def test_item_that_was_not_written_has_failed(here: Bench) -> None:
    """The server holds something else, and nothing tells what it held before."""
    place = await doubted(here, 2)
    await here.guest.patch("i-00002", 77)

    done = await reconciled(here, place)

    assert (done.not_applied, done.exit_code) == (1, Exit.SOME_FAILED)
    error = rows(place)[2].error
    assert error is not None
    assert (error.kind, error.pointer) == (ErrorKind.MISMATCH, "/target/webhook_url")


async def test_what_was_kept_tells_others_apart(here: Bench) -> None:
    """With the state before the run, a change by others is told from a write that was not applied."""
    place = await doubted(here, 2, 3, kept=True)
    await here.guest.patch("i-00002", 77)
    old = {
        "target": {"kind": "Slack", "webhook_url": "https://hooks.slack.example/services/TEXAMPLE/BOLD0003/old-0003"}
    }
    await here.guest.send("PATCH", "i-00003", old)

    done = await reconciled(here, place)

    assert (done.changed_since, done.not_applied) == (1, 1)
    kinds = {number: row.error.kind for number, row in rows(place).items() if row.error is not None}
    assert kinds == {2: ErrorKind.CONFLICT, 3: ErrorKind.MISMATCH}


async def test_record_that_is_not_shown_stays_in_doubt(here: Bench) -> None:
    """What cannot be read is not decided."""
    place = await doubted(here, 1)
    await here.guest.send("DELETE", "i-00001")

    done = await reconciled(here, place)

    assert (done.still_in_doubt, done.exit_code) == (1, Exit.SOME_FAILED)
    assert rows(place)[1].status is Status.IN_DOUBT


async def test_jobs_that_cannot_be_read_are_refused(here: Bench) -> None:
    """A POST's record has no known address."""
    place = await doubted(here, 1)
    here.workplace.write_job(3, request={"method": "POST", "path": "/notifications/v1/integrations"})
    job, source, meta = here.origin(place)

    with pytest.raises(MigratorError, match="has no known address"):
        await reconcile(place, job, source, meta, here.options("reconcile"))
