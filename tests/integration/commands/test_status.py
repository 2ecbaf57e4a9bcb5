"""What the state folder knows of its runs, and what to do next with each."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace
from in_process import Bench, bench

from migrator.commands.status import of_all, of_one
from migrator.errors import LedgerError
from migrator.options import IfRunning
from migrator.store.ledger_writer import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server."""
    async with bench(workplace) as found:
        yield found


async def changed(place: Path, **facts: str) -> None:
    """Change what the ledger says of its run."""
    async with Ledger.open(place / "ledger.db", create=False) as ledger:
        await ledger.put(**facts)


async def test_run_that_succeeded(here: Bench) -> None:
    """Counts, exit code and age are those of the run, and nothing is left to do."""
    place = await here.run(here.job(3))
    started_s = json.loads((place / "summary.json").read_text())

    (one,) = of_all(here.state)

    assert started_s["exit_code"] == one["exit_code"] == 0
    assert (one["run"], one["job"], one["kind"], one["state"]) == (place.name, "rotate", "run", "ended")
    assert (one["items"], one["pending"], one["counts"]["succeeded"]) == (3, 0, 3)
    assert one["server"] == here.guest.url
    assert one["next"] is None
    assert of_one(here.state, place) | {"age_s": 0} == one | {"age_s": 0, "live": None, "folder": str(place)}


async def test_age_is_never_below_zero(here: Bench) -> None:
    """A run that is dated ahead, by a clock that was wrong, has no age."""
    await here.run(here.job(1))

    assert of_all(here.state, now=0.0)[0]["age_s"] == 0
    assert of_all(here.state, now=4_000_000_000.0)[0]["age_s"] > 10**9


@pytest.mark.parametrize(
    ("facts", "held", "shown"),
    [
        ({"state": "running"}, True, {"state": "running", "next": None, "exit_code": None}),
        ({"state": "running"}, False, {"state": "interrupted", "exit_code": None, "stopped": None}),
        ({"dry_run": "true"}, False, {"kind": "rehearsal"}),
        ({"kind": "rollback"}, False, {"kind": "rollback"}),
    ],
)
async def test_how_a_run_stands(here: Bench, facts: dict[str, str], held: bool, shown: Mapping[str, Any]) -> None:
    """A run is active only while a process holds its job's lock; an old exit code is not that of one that goes on."""
    place = await here.run(here.job(1))
    await changed(place, **facts)

    if held:
        async with here.state.lock("rotate", IfRunning.FAIL):
            (one,) = of_all(here.state)
    else:
        (one,) = of_all(here.state)

    assert {name: one[name] for name in shown} == shown


async def test_next_command(here: Bench) -> None:
    """What failed is retried; the command is the one that the summary gives."""
    await here.guest.order({"match": "i-00002", "fault": "status", "status": 409})
    place = await here.run(here.job(3))

    assert of_one(here.state, place)["next"].startswith(f"migrator retry {place.name}")


async def test_run_that_was_retried_has_no_next_command(here: Bench) -> None:
    """What is left of it is that of the retry, which has its own."""
    await here.guest.order({"match": "i-00002", "fault": "status", "status": 409, "times": 1})
    first, second = await here.run(here.job(3)), await here.run(here.job(3))
    await changed(second, kind="retry", of=first.name)

    assert of_one(here.state, first)["next"] is None
    assert [one["next"] for one in of_all(here.state)] == [None, None]


async def test_damaged_run_does_not_hide_the_others(here: Bench) -> None:
    """It stands in the list with what is wrong with it; asked for by itself, it is an error."""
    good, bad = await here.run(here.job(1)), await here.run(here.job(1))
    (bad / "ledger.db").write_bytes(b"this is no database" * 100)
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (bad / name).unlink(missing_ok=True)

    found = {one["run"]: one["state"] for one in of_all(here.state)}

    assert found == {good.name: "ended", bad.name: "damaged"}
    with pytest.raises(LedgerError, match="damaged"):
        of_one(here.state, bad)
