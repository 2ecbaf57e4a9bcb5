"""What `migrator status` knows of runs is read from their ledgers, and says no more than they do."""

import asyncio
from pathlib import Path

import pytest
from result_rows import failure, result

from migrator.commands.status import of_all, of_one
from migrator.report.summary import LastInvocation, last_invocation_meta
from migrator.results import ItemResult, Status, StopKind, StopReason
from migrator.store.ledger_writer import Ledger
from migrator.store.state_folder import StateFolder

NOON = 1_795_435_200

COMMANDS = {
    "resume_command": "migrator run rotate.json",
    "retry_command": "migrator retry last",
    "reconcile_command": "migrator reconcile last",
}
STOPPED = last_invocation_meta(
    LastInvocation(
        number=1,
        started_ms=NOON * 1000,
        finished_ms=NOON * 1000 + 500,
        done_before=0,
        resent=0,
        quota={"limit": None, "remaining": None, "requests": 1, "refused": 0, "waited_s": {}},
        stopped=StopReason(StopKind.SIGTERM, "SIGTERM received"),
    )
)


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """Return a new state folder."""
    return StateFolder.open(tmp_path / "state")


def make_run(state: StateFolder, /, *rows: ItemResult, **meta: str) -> Path:
    """Make a run of two items, started at noon."""
    place = state.new_run("rotate", NOON)
    known = {"job": "rotate", "base_url": "https://api.example", "items": "2", "invocations": "1", "kind": "run"}

    async def write() -> None:
        async with Ledger.open(place / "ledger.db") as ledger:
            await ledger.put(**(known | COMMANDS | {"started_ms": str(NOON * 1000), "state": "ended"} | meta))
            for row in rows:
                await ledger.settle(row)

    asyncio.run(write())
    return place


def test_run_that_was_killed_does_not_show_an_earlier_end(state: StateFolder) -> None:
    """What an earlier invocation reported is not shown of one that was killed."""
    place = make_run(state, result(1), **STOPPED, state="running", invocations="2", exit_code="143", finished="then")

    one = of_one(state, place)

    assert (one["state"], one["stopped"], one["exit_code"], one["finished"]) == ("interrupted", None, None, None)
    assert (one["pending"], one["next"]) == (1, "migrator run rotate.json")


@pytest.mark.parametrize(
    ("rows", "command"),
    [
        ([result(1), result(2)], None),
        ([result(1), failure(2)], "migrator retry last"),
        ([failure(1), failure(2, status=Status.IN_DOUBT)], "migrator reconcile last"),
        ([failure(1)], "migrator run rotate.json"),
    ],
)
def test_next_command(state: StateFolder, rows: list[ItemResult], command: str | None) -> None:
    """The command that helps next is told, with the server, the kind, the age and what is left."""
    make_run(state, *rows)

    (one,) = of_all(state, now=NOON + 90.0)

    assert one["next"] == command
    assert (one["server"], one["kind"], one["age_s"]) == ("https://api.example", "run", 90)


def test_ledger_that_cannot_be_read_is_listed(state: StateFolder) -> None:
    """A damaged run does not hide the others."""
    make_run(state, result(1), result(2))
    (make_run(state) / "ledger.db").write_bytes(b"\1" * 4096)

    assert sorted(one["state"] for one in of_all(state)) == ["damaged", "ended"]
