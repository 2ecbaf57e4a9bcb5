"""What an earlier run was made from is found again, and what did not succeed is sent again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import Workplace
from in_process import Bench, bench

from migrator.commands.retry import check_again, origin_of, retry_work
from migrator.errors import MigratorError
from migrator.results import Exit
from migrator.run.migrate import Caller, migrate
from migrator.store.ledger_writer import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server that refuses items 2 and 3 once, and never answers item 4."""
    async with bench(workplace) as found:
        await found.guest.order(
            {"match": "i-00002", "fault": "status", "status": 409},
            {"match": "i-00003", "fault": "status", "status": 409},
        )
        yield found


async def retried(here: Bench, place: Path, **typed: str) -> Path:
    """Retry a run, and return the folder of the retry."""
    job, source, meta = here.origin(place)
    options = here.options("retry", **typed)
    ending = await migrate(retry_work(place, job, source, meta, options), options, Caller())
    assert ending.summary is not None
    return Path(ending.summary["folder"])


async def test_only_what_failed_is_sent_again(here: Bench) -> None:
    """What succeeded is not sent a second time."""
    place = await here.run(here.job(5))

    again = await retried(here, place)

    assert again != place
    assert here.guest.sandbox.statistics.writes == {f"i-{number:05d}": 1 for number in range(1, 6)}


async def test_nothing_to_retry(here: Bench) -> None:
    """A run that succeeded is told so, and that is no error."""
    place = await here.run(here.job(1))
    job, source, meta = here.origin(place)

    with pytest.raises(MigratorError, match="nothing to retry") as told:
        retry_work(place, job, source, meta, here.options("retry"))
    assert told.value.exit_code == Exit.OK


async def test_a_dry_run_is_not_retried(here: Bench) -> None:
    """It sent nothing, so that there is nothing to send again: a retry would be the first run, unseen."""
    place = await here.run(here.job(2), dry_run=True)
    job, source, meta = here.origin(place)

    with pytest.raises(MigratorError, match="was a dry run and sent nothing"):
        retry_work(place, job, source, meta, here.options("retry"))


async def test_chosen_items_are_retried(here: Bench) -> None:
    """Of what failed, those that the user names are sent; one that the run never had is refused."""
    place = await here.run(here.job(5))
    job, source, meta = here.origin(place)

    work = retry_work(place, job, source, meta, here.options("retry", only="i-00003"))
    assert [request.item for request in work.requests(iter(()))] == [3]

    with pytest.raises(MigratorError, match="i-00999"):
        retry_work(place, job, source, meta, here.options("retry", only="i-00999"))


async def test_retry_of_a_retry_leaves_out_what_either_did(here: Bench) -> None:
    """Results of the whole chain count."""
    place = await here.run(here.job(5))
    await here.guest.order({"match": "i-00003", "fault": "status", "status": 409})
    again = await retried(here, place, max_failures="100%", canary="0")
    job, source, meta = here.origin(again)

    work = retry_work(again, job, source, meta, here.options("retry"))

    assert [request.item for request in work.requests(iter(()))] == [3]


async def test_run_that_was_killed_in_mid_send_is_not_retried(here: Bench) -> None:
    """What must not be sent twice, and was on its way, is recorded as in doubt by a resume first."""
    request = {
        "method": "PATCH",
        "path": "/notifications/v1/integrations/{id}",
        "body": {"target": {"kind": "Slack", "webhook_url": "{webhook_url}"}},
        "idempotent": False,
    }
    place = await here.run(here.job(5, request=request))
    async with Ledger.open(place / "ledger.db", create=False) as ledger:
        await ledger.begin_durably(9, "i-00009", 1, 0)
    job, source, meta = here.origin(place)

    with pytest.raises(MigratorError, match="while it sent 1 item that must not be sent twice"):
        retry_work(place, job, source, meta, here.options("retry"))


async def test_changed_items_are_refused(here: Bench) -> None:
    """Row numbers may mean other items then: nothing is sent, and the message names the file to use."""
    place = await here.run(here.job(3))
    items = here.workplace.folder / "items.csv"
    items.write_text(items.read_text().replace("i-00002", "i-00009"))
    job, source, meta = here.origin(place)

    with pytest.raises(MigratorError, match=r"has changed since .*failed\.csv with --items"):
        check_again(place, job, source, meta)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"items_argument": "-"}, "came from standard input, and are not kept"),
        ({"kind": "rollback", "of": "rotate-1"}, "is a rollback; migrator rollback rotate-1 does it again"),
    ],
)
async def test_run_without_a_source_is_refused(here: Bench, facts: dict[str, str], message: str) -> None:
    """What cannot be found again is told."""
    place = await here.run(here.job(1))
    async with Ledger.open(place / "ledger.db", create=False) as ledger:
        await ledger.put(**facts)

    with pytest.raises(MigratorError, match=message):
        here.origin(place)


@pytest.mark.parametrize(
    ("facts", "other"),
    [
        ({"kind": "retry", "state": "stopped"}, True),
        ({"kind": "retry", "state": "ended"}, False),
        ({"kind": "run", "state": "stopped"}, False),
    ],
)
async def test_last_run_may_be_the_retry_itself(here: Bench, facts: dict[str, str], other: bool) -> None:
    """The same command, with `last`, goes on with the retry that it started before it was killed."""
    place = await here.run(here.job(1))
    async with Ledger.open(place / "ledger.db", create=False) as ledger:
        await ledger.put(**facts, of="rotate-1")

    assert origin_of(place, kind="retry") == (place.with_name("rotate-1") if other else place)
