"""Several items in one request: each has a record, a verification and a rollback of its own."""

import json
from typing import Any

import pytest
from aiohttp import web
from conftest import Workplace
from shaped_api import ShapedApi, merge_patch, serve

KEY_TEXT = "a key of the test, long enough"
ITEMS = 23


def batch_endpoint(api: ShapedApi, request: web.Request, body: bytes) -> web.Response | None:
    """Update many things at once, as HubSpot does; refuse a batch whole for a poisoned item, and one item by itself."""
    if request.path != "/things/batch/update":
        return None
    inputs = json.loads(body)["inputs"]
    if len(inputs) > 5 or any(one["properties"].get("title") == "poison" for one in inputs):
        return web.json_response({"message": "the batch is refused"}, status=400)
    results = []
    for one in inputs:
        record = api.records.get(one["id"])
        if record is None:
            results.append({"id": one["id"], "error": {"message": "no such thing"}})
            continue
        record["properties"] = merge_patch(record["properties"], one["properties"])
        results.append({"id": one["id"], "properties": record["properties"]})
    return web.json_response({"results": results[::-1]})


@pytest.mark.parametrize("bare", [False, True])
def test_items_of_a_batch_are_items(workplace: Workplace, bare: bool) -> None:
    """A bad item fails by itself, the others succeed, and a rollback puts each back."""
    records: dict[str, dict[str, Any]] = {
        f"t{number}": {"id": f"t{number}", "properties": {"title": f"old {number}", "note": "n"}}
        for number in range(1, ITEMS + 1)
        if number != 9
    }
    before = json.loads(json.dumps(records))
    wanted: dict[str, Any] = {"properties": {"title": "{title}"}}
    batch = {"size": 5, "body": {"inputs": "{@items}"}, "result": "results", "match": "id", "error": "error.message"}
    request: dict[str, Any] = {
        "method": "POST",
        "path": "/things/batch/update",
        "idempotent": True,
        "read": {"path": "/things/{id}"},
        "batch": batch,
    }
    if bare:
        request |= {"body": {"id": "{id}", **wanted}}
    else:
        request |= {"wanted": wanted["properties"], "body": {"id": "{id}", "properties": "{@wanted}"}}
    with serve(ShapedApi(records=records, answer=batch_endpoint)) as api:
        job = {
            "name": "batch",
            "api": {"base_url": api.url, "read": True, **({} if bare else {"record": "properties"})},
            "request": request,
            "key": "id",
            "items": "items.csv",
        }
        (workplace.folder / "job.json").write_text(json.dumps(job))
        rows = [f"t{number},{'poison' if number == 14 else f'new {number}'}" for number in range(1, ITEMS + 1)]
        (workplace.folder / "items.csv").write_text("\n".join(["id,title", *rows, ""]))
        (workplace.folder / "key").write_text(KEY_TEXT)

        done = workplace.run("run", "job.json", "--max-failures", "50%", "--canary", "2")
        sent = len(api.writes())
        statuses = {
            one["key"]: (one["status"], one["error"] and one["error"]["message"]) for one in workplace.results()
        }
        failed = {key: said for key, (status, said) in statuses.items() if status != "succeeded"}
        (workplace.folder / "items.csv").write_text("\n".join(["id,title", *rows[:8], *rows[9:13], ""]))
        kept = workplace.run("run", "job.json", "--keep-before", "--key-file", "key", "--fresh")

        assert done.code == 1, done.err
        assert len(statuses) == ITEMS
        assert failed.keys() == {"t9", "t14"}
        assert "no such thing" in failed["t9"]
        assert "refused" in failed["t14"]
        assert sent < ITEMS
        assert {one["properties"]["title"] for one in api.records.values()} == {
            *(f"new {number}" for number in range(1, ITEMS + 1) if number not in {9, 14}), "old 14"
        }  # fmt: skip
        assert kept.code == 0, kept.err

        api.records.update({f"t{number}": before[f"t{number}"] | {"id": f"t{number}"} for number in range(1, 9)})
        before = json.loads(json.dumps(api.records))
        assert workplace.run("run", "job.json", "--keep-before", "--key-file", "key", "--fresh").code == 0
        back = workplace.run("rollback", workplace.last_run().name, "--key-file", "key")

        assert back.code == 0, back.err
        assert api.records == before
