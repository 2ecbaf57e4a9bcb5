"""A rollback writes back what was there before a run, and leaves what others have changed since."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace
from in_process import Bench, bench
from sandbox_server import target

from migrator.commands.rollback import RollbackWork
from migrator.errors import MigratorError, VaultError
from migrator.results import Exit, ItemResult, Status
from migrator.run.migrate import Caller, migrate
from migrator.store.ledger_reader import read_ledger

pytestmark = pytest.mark.anyio


def old(number: int) -> str:
    """Return the webhook that the sandbox starts with."""
    return f"https://hooks.slack.example/services/TEXAMPLE/BOLD{number:04d}/old-{number:04d}"


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server, with a key beside the job."""
    (workplace.folder / "key").write_text("a key that is long enough")
    async with bench(workplace) as found:
        yield found


def key(here: Bench) -> dict[str, Any]:
    """Return the option that names the key."""
    return {"key_file": str(here.workplace.folder / "key")}


async def kept(here: Bench, rows: int = 3) -> Path:
    """Run a job that keeps what it replaces."""
    return await here.run(here.job(rows), keep_before=True, **key(here))


async def rolled_back(here: Bench, place: Path, **typed: str) -> dict[int, ItemResult]:
    """Roll a run back, and return the result of each item."""
    options = here.options("rollback", **key(here), **typed)
    ending = await migrate(RollbackWork(place, here.origin(place)[0], options), options, Caller())
    assert ending.summary is not None
    with read_ledger(Path(ending.summary["folder"]) / "ledger.db") as reader:
        return {row.item: row for row in reader.rows()}


async def test_what_was_there_is_written_back(here: Bench) -> None:
    """Every item holds its old value again."""
    place = await kept(here)
    assert await here.held(1) != old(1)

    results = await rolled_back(here, place)

    assert {row.status for row in results.values()} == {Status.SUCCEEDED}
    assert [await here.held(number) for number in (1, 2, 3)] == [old(1), old(2), old(3)]


async def test_what_others_changed_is_left(here: Bench) -> None:
    """An item that holds neither the old nor the written value is skipped, with the reason."""
    place = await kept(here)
    await here.guest.patch("i-00002", 77)

    results = await rolled_back(here, place)

    assert [results[number].status for number in (1, 2, 3)] == [Status.SUCCEEDED, Status.SKIPPED, Status.SUCCEEDED]
    assert results[2].error is not None
    assert "another writer has changed this since the run" in results[2].error.message
    assert await here.held(2) == target(77)["target"]["webhook_url"]


async def test_second_rollback_changes_nothing(here: Bench) -> None:
    """What was put back needs no change any more."""
    place = await kept(here)
    await rolled_back(here, place)

    results = await rolled_back(here, place)

    assert {row.status for row in results.values()} == {Status.UNCHANGED}
    assert here.guest.sandbox.statistics.writes == {f"i-{number:05d}": 2 for number in (1, 2, 3)}


async def test_record_that_is_gone_fails_alone(here: Bench) -> None:
    """The others are put back."""
    place = await kept(here)
    await here.guest.send("DELETE", "i-00002")

    results = await rolled_back(here, place, max_failures="100%")

    assert [results[number].status for number in (1, 2, 3)] == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]


async def test_run_that_kept_nothing_is_refused(here: Bench) -> None:
    """The message names the option that keeps it."""
    place = await here.run(here.job(1))

    with pytest.raises(MigratorError, match=r"nothing to roll back: .* --keep-before"):
        RollbackWork(place, here.origin(place)[0], here.options("rollback", **key(here)))


async def test_other_key_is_refused_before_anything_is_sent(here: Bench) -> None:
    """It is wrong use, not a failure of every item."""
    place = await kept(here)
    (here.workplace.folder / "key").write_text("another key that is long")

    with pytest.raises(VaultError) as refused:
        RollbackWork(place, here.origin(place)[0], here.options("rollback", **key(here)))
    assert refused.value.exit_code == Exit.USAGE


async def test_requests_hide_what_they_carry(here: Bench) -> None:
    """Every long text of what was kept is taken for a secret, since nothing says which of them are."""
    place = await kept(here, rows=1)
    work = RollbackWork(place, here.origin(place)[0], here.options("rollback", **key(here)))

    (request,) = work.requests(iter(()))

    assert old(1) in {secret.reveal() for secret in request.secrets}
    assert "old-0001" not in repr(request)
    assert list(work.requests(iter([1]))) == []
