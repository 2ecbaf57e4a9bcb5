"""Jobs for APIs of other shapes: nothing is restored wrongly, nothing is taken for unchanged that is not known."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from conftest import Finished, Workplace
from shaped_api import ShapedApi, serve

KEY_TEXT = "a key of the test, long enough"


@pytest.fixture
def api() -> Iterator[ShapedApi]:
    """Serve five things, to be shaped."""
    records = {
        f"t{number}": {
            "id": f"t{number}",
            "title": f"old {number}",
            "owner": {"name": "Ann", "mail": f"old{number}@example.com"},
            "revision": 1,
        }
        for number in range(1, 6)
    }
    with serve(ShapedApi(records=records)) as running:
        yield running


def write(workplace: Workplace, api: ShapedApi, *, request: dict[str, Any], rows: int = 5, **profile: Any) -> None:
    """Write a job on things, with its items."""
    job = {
        "name": "things",
        "api": {"base_url": api.url, "read": True, **profile},
        "request": {"method": "PATCH", "path": "/things/{id}"} | request,
        "key": "id",
        "items": "items.csv",
    }
    (workplace.folder / "job.json").write_text(json.dumps(job))
    lines = [f"t{number},new {number},new{number}@example.com" for number in range(1, rows + 1)]
    (workplace.folder / "items.csv").write_text("\n".join(["id,title,mail", *lines, ""]))
    (workplace.folder / "key").write_text(KEY_TEXT)


def run(workplace: Workplace, *more: str) -> Finished:
    """Run the job, with the state before each write kept."""
    return workplace.run("run", "job.json", "--keep-before", "--key-file", "key", *more)


def rollback(workplace: Workplace) -> Finished:
    """Roll the last run back."""
    return workplace.run("rollback", workplace.last_run().name, "--key-file", "key")


NESTED = {"body": {"title": "{title}", "owner": {"mail": "{mail}"}}}


def test_a_wrapped_record_is_verified_and_rolled_back(workplace: Workplace, api: ShapedApi) -> None:
    """With `record` an answer in an envelope is compared, kept and restored."""
    api.wrap = "data"
    before = json.loads(json.dumps(api.records))
    write(workplace, api, request=NESTED, record="data")

    done = run(workplace)
    written = api.records["t3"]["owner"]["mail"]
    verified = {one["verified"] for one in workplace.results()}
    back = rollback(workplace)

    assert (done.code, back.code, written, verified) == (0, 0, "new3@example.com", {True})
    assert api.records == before


@pytest.mark.parametrize("option", ["--keep-before", "--only-changed"])
def test_an_undeclared_envelope_is_an_error_before_the_write(workplace: Workplace, api: ShapedApi, option: str) -> None:
    """An answer that is no record is never taken for one whose members are absent: nothing is written."""
    api.wrap = "data"
    write(workplace, api, request=NESTED)

    done = workplace.run("run", "job.json", option, "--key-file", "key")

    assert done.code == 3
    assert api.writes() == []
    assert "api.record" in workplace.results()[0]["error"]["message"]


def test_a_neighbours_change_survives_a_rollback(workplace: Workplace, api: ShapedApi) -> None:
    """What another writer changes beside the leaves that the run wrote stays as it is."""
    write(workplace, api, request=NESTED)
    assert run(workplace).code == 0
    api.records["t2"]["owner"]["name"] = "Eve"

    back = rollback(workplace)

    assert back.code == 0
    assert api.records["t2"]["owner"] == {"name": "Eve", "mail": "old2@example.com"}


def test_what_an_api_replaces_whole_comes_back_whole(workplace: Workplace, api: ShapedApi) -> None:
    """An object that the write replaces gets back the members that the write has dropped."""
    write(
        workplace,
        api,
        request={"body": {"title": "{title}", "owner": {"mail": "{mail}"}}},
        replaced_whole=["/owner"],
        read_only=["/revision"],
    )
    assert run(workplace).code == 0
    api.records["t4"] |= {"owner": {"mail": "new4@example.com"}, "revision": 2}

    back = rollback(workplace)

    assert back.code == 0
    assert api.records["t4"]["owner"] == {"name": "Ann", "mail": "old4@example.com"}


def test_a_secret_that_is_not_shown_is_not_written_over(workplace: Workplace, api: ShapedApi) -> None:
    """Where an API never shows a secret, keeping what was there is an error before the write."""
    write(workplace, api, request={"body": {"title": "{title}", "token": "{mail}"}})
    job = json.loads((workplace.folder / "job.json").read_text()) | {"secrets": ["mail"]}
    (workplace.folder / "job.json").write_text(json.dumps(job))

    done = run(workplace)

    assert (done.code, api.writes()) == (3, [])
    assert "/token" in workplace.results()[0]["error"]["message"]


def by_link(request: web.Request, records: list[dict[str, Any]]) -> web.Response:
    """Answer a page of two with a Link header."""
    page = int(request.query.get("page", "1"))
    last = page * 2 >= len(records)
    headers = {} if last else {"Link": f'<{request.path}?page={page + 1}>; rel="next"'}
    return web.json_response(records[page * 2 - 2 : page * 2], headers=headers)


LIST = {"path": "/things", "items": "@", "item": "/things/{id}", "columns": ["id", "title"]}


def test_a_list_that_goes_on_is_read_to_its_end_or_refused(workplace: Workplace, api: ShapedApi) -> None:
    """A list that goes on by a Link header is never taken for its first page."""
    api.pages = by_link
    write(workplace, api, request=NESTED, collection=LIST)

    refused = workplace.run("export", "job.json", "--out", "things.csv")
    again = workplace.run("export", "job.json", "--out", "things.csv")
    declared = {**LIST, "paging": {"by": "link-header"}}
    write(workplace, api, request=NESTED, collection=declared)
    done = workplace.run("export", "job.json", "--out", "things.csv")

    assert (refused.code, again.code) == (2, 2)
    assert '"paging": {"by":"link-header"}' in refused.err
    assert done.code == 0, done.err
    assert (workplace.folder / "things.csv").read_text().splitlines() == [
        "id,title", *(f"t{number},old {number}" for number in range(1, 6))
    ]  # fmt: skip


def test_a_plan_of_a_list_that_is_not_whole(workplace: Workplace, api: ShapedApi) -> None:
    """A plan never says of a record that it is missing where the list was cut off."""
    api.pages = by_link
    api.records |= {f"t{number}": {"id": f"t{number}", "title": "old"} for number in range(6, 13)}
    write(workplace, api, request={"body": {"title": "{title}"}}, rows=0, collection=LIST)
    rows = ["id,title", *(f"t{number},new" for number in range(1, 13)), ""]
    (workplace.folder / "items.csv").write_text("\n".join(rows))

    refused = workplace.run("plan", "job.json")
    job = json.loads((workplace.folder / "job.json").read_text())
    job["api"]["collection"]["paging"] = {"by": "link-header"}
    (workplace.folder / "job.json").write_text(json.dumps(job))
    done = workplace.run("plan", "job.json", "--json")

    assert (refused.code, "paging" in refused.err) == (2, True)
    assert json.loads(done.out)["counts"]["change"] == 12


def test_records_of_each_parent(workplace: Workplace, api: ShapedApi) -> None:
    """A collection below a path with columns is read for each parent, page by page."""
    projects = [{"key": "A/1"}, {"key": "B"}]

    def answer(_: ShapedApi, request: web.Request, __: bytes) -> web.Response | None:
        if request.path == "/projects":
            return web.json_response({"items": projects})
        records = [{"id": f"{request.path.split('/')[2]}-{number}", "title": "t"} for number in range(3)]
        page = int(request.query.get("page", "0"))
        return web.json_response({"items": records[page : page + 1], "next": page + 1 if page < 2 else None})

    api.answer = answer
    collection = {
        "path": "/projects/{project}/things",
        "items": "items",
        "item": "/projects/{project}/things/{id}",
        "paging": {"by": "cursor", "from": "next", "into": "page"},
        "each": {"path": "/projects", "items": "items", "fills": {"project": "key"}},
        "columns": ["project", "id"],
    }
    write(workplace, api, request=NESTED, collection=collection)

    done = workplace.run("export", "job.json", "--out", "things.csv")

    assert done.code == 0, done.err
    assert (workplace.folder / "things.csv").read_text().splitlines() == [
        "project,id", *(f"A/1,A-{number}" for number in range(3)), *(f"B,B-{number}" for number in range(3))
    ]  # fmt: skip
    assert api.seen[1].path == "/projects/A%2F1/things"
