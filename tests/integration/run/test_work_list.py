"""A run takes any work list: what it asks of one, in which order, and what it makes of the answers."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from made_up_work import MadeUpWork
from shaped_api import ShapedApi, serve

from migrator.options import RunOptions
from migrator.results import Exit
from migrator.run.migrate import Caller, Ending, migrate
from migrator.run.work_list import WorkList

pytestmark = pytest.mark.anyio


async def migrated(work: WorkList, tmp_path: Path) -> Ending:
    """Do a work."""
    return await migrate(work, RunOptions(state=str(tmp_path / "state"), max_attempts=1), Caller())


async def test_steps_of_a_run(tmp_path: Path) -> None:
    """The list is asked before anything is sent, around the items, and after them; its notes are told."""
    records = {f"i-{number}": {"name": "old"} for number in range(1, 6)}
    with serve(ShapedApi(records=records)) as api:
        work = MadeUpWork(api.url, 5)

        ending = await migrated(work, tmp_path)

    assert ending.summary is not None
    assert work.steps == ["before", "precondition", "after"]
    assert [one.method for one in api.seen] == ["PATCH"] * 5
    assert {record["name"] for record in api.records.values()} == {"new"}
    assert (ending.exit_code, ending.summary["job"], ending.summary["items"]) == (Exit.OK, "made-up", 5)
    assert "a note from after" in ending.summary["next_step"]
    assert (Path(ending.summary["folder"]) / "succeeded.csv").read_text().startswith("id,_status")


async def test_unfinished_work_is_asked_for_the_rest(tmp_path: Path) -> None:
    """A resume is given the numbers that are done, and asks nothing again that belongs before the first item."""
    records = {f"i-{number}": {"name": "old"} for number in (1, 2, 3)}
    with serve(ShapedApi(records=records)) as api:
        api.answer = lambda _api, request, _body: (
            None if request.path.endswith("i-1") else web.json_response({}, status=401)
        )
        first = MadeUpWork(api.url, 3)
        stopped = await migrated(first, tmp_path)
        api.answer = None
        second = MadeUpWork(api.url, 3)

        done = await migrated(second, tmp_path)

    assert stopped.summary is not None
    assert done.summary is not None
    assert stopped.exit_code == Exit.STOPPED
    assert done.exit_code == Exit.OK
    assert stopped.summary["folder"] == done.summary["folder"]
    assert second.steps == ["precondition", "after"]
    assert [one.path for one in api.seen].count("/things/i-1") == 1
    lines = (Path(done.summary["folder"]) / "results.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["item"] for line in lines) == [1, 2, 3]


async def test_other_work_is_not_resumed(tmp_path: Path) -> None:
    """A list with another digest is another run."""
    with serve(ShapedApi(records={"i-1": {}})) as api:
        first = await migrated(MadeUpWork(api.url, 1), tmp_path)
        second = await migrated(MadeUpWork(api.url, 1, items_digest="others"), tmp_path)

    assert first.summary is not None
    assert second.summary is not None
    assert first.summary["folder"] != second.summary["folder"]
