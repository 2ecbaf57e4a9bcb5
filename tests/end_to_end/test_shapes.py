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


WANTED = {"title": "{title}", "owner": {"mail": "{mail}"}}


def put_whole(_: ShapedApi, request: web.Request, body: bytes) -> web.Response | None:
    """Refuse a PUT that leaves a member out, or that does not say which version it replaces."""
    if request.method == "PUT" and not {"title", "owner", "revision"} <= json.loads(body).keys():
        return web.json_response({"message": "members are missing"}, status=400)
    if request.method == "PUT" and "If-Match" not in request.headers:
        return web.json_response({"message": "If-Match is missing"}, status=428)
    return None


def scim(api: ShapedApi, request: web.Request, body: bytes) -> web.Response | None:
    """Apply a SCIM patch with paths (RFC 7644, section 3.5.2)."""
    if request.method != "PATCH":
        return None
    assert request.content_type == "application/scim+json"
    document = json.loads(body)
    assert document["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:PatchOp"]
    record = api.records[request.path.rpartition("/")[2]]
    for operation in document["Operations"]:
        *above, name = operation["path"].split(".")
        here = record
        for step in above:
            here = here.setdefault(step, {})
        if operation["op"] == "remove":
            del here[name]
        else:
            here[name] = operation["value"]
    return web.json_response(record)


def graphql(api: ShapedApi, _: web.Request, body: bytes) -> web.Response | None:
    """Answer GraphQL: a query and a mutation, with errors in a 200."""
    document = json.loads(body)
    variables = document["variables"]
    record = api.records.get(variables["id"])
    if record is None:
        return web.json_response({"data": None, "errors": [{"message": "no such thing"}]})
    if document["query"].startswith("mutation"):
        if variables["title"] == "refuse":
            return web.json_response({"data": {"updateThing": None}, "errors": [{"message": "a title is refused"}]})
        record |= {"title": variables["title"], "owner": {**record["owner"], **variables["owner"]}}
        return web.json_response({"data": {"updateThing": record}})
    return web.json_response({"data": {"thing": record}})


MUTATION = (
    "mutation($id: ID!, $title: String!, $owner: Owner) { updateThing(id: $id, title: $title) { id title owner } }"
)
QUERY = "query($id: ID!) { thing(id: $id) { id title owner { name mail } } }"

SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "json in an envelope": (
        {"body": {"data": "{@wanted}"}},
        {"record": "data"},
        {"wrap": "data", "wrap_requests": True},
    ),
    "merge-patch": ({"encoding": "merge-patch"}, {}, {}),
    "json-patch": ({"encoding": "json-patch"}, {"record": "data"}, {"wrap": "data"}),
    "json-patch in an envelope": (
        {"encoding": "json-patch", "body": {"data": "{@wanted}"}},
        {"record": "data"},
        {"wrap": "data", "wrap_requests": True},
    ),
    "scim-patch": ({"encoding": "scim-patch"}, {}, {"answer": scim}),
    "form": ({"encoding": "form", "method": "POST"}, {}, {}),
    "put-merge": ({"encoding": "put-merge", "method": "PUT"}, {}, {"etags": True, "answer": put_whole}),
    "graphql": (
        {
            "encoding": "graphql",
            "method": "POST",
            "path": "/g",
            "query": MUTATION,
            "read": {"path": "/g", "query": QUERY},
        },
        {},
        {"answer": graphql},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_state_is_written_verified_and_restored_in_every_encoding(
    workplace: Workplace, api: ShapedApi, shape: str
) -> None:
    """Whatever bytes say it, the state is planned, written, verified and rolled back leaf by leaf."""
    request, profile, server = SHAPES[shape]
    for name, value in server.items():
        setattr(api, name, value)
    before = json.loads(json.dumps(api.records))
    write(workplace, api, request={"wanted": WANTED, **request}, **profile)

    plan = json.loads(workplace.run("plan", "job.json", "--json").out)
    done = run(workplace)
    verified = {one["verified"] for one in workplace.results()}
    written = json.loads(json.dumps(api.records))
    again = json.loads(workplace.run("plan", "job.json", "--json").out)
    api.records["t2"]["owner"]["name"] = "Eve"
    back = rollback(workplace)

    assert (plan["counts"]["change"], done.code, verified) == (5, 0, {True}), done.err
    assert again["counts"]["unchanged"] == 5
    for number in range(1, 6):
        expected = before[f"t{number}"] | {"title": f"new {number}"}
        assert written[f"t{number}"] == expected | {"owner": {"name": "Ann", "mail": f"new{number}@example.com"}}
    assert back.code == 0, back.err
    before["t2"]["owner"]["name"] = "Eve"
    assert api.records == before


def test_what_the_run_added_goes_again_in_a_json_patch(workplace: Workplace, api: ShapedApi) -> None:
    """A member that was not there, and its parent, are added and removed again, wherever the record was read."""
    before = json.loads(json.dumps(api.records))
    request = {"encoding": "json-patch", "wanted": {"labels": {"title": "{title}", "m": "{mail}"}}}
    write(workplace, api, request=request, rows=2)

    done = run(workplace)
    labels = api.records["t1"]["labels"]
    back = rollback(workplace)

    assert (done.code, back.code) == (0, 0), done.err + back.err
    assert labels == {"title": "new 1", "m": "new1@example.com"}
    assert api.records == before


def test_errors_in_a_200_are_failures(workplace: Workplace, api: ShapedApi) -> None:
    """GraphQL's errors are failures of their items, in the server's own words, and whatever is verified."""
    api.answer = graphql
    write(workplace, api, request={"wanted": WANTED, **SHAPES["graphql"][0]}, rows=2)
    rows = (workplace.folder / "items.csv").read_text().replace("new 2", "refuse")
    (workplace.folder / "items.csv").write_text(rows)

    done = workplace.run("run", "job.json", "--verify", "none")

    assert done.code == 1
    assert [one["status"] for one in workplace.results()] == ["succeeded", "failed"]
    assert "a title is refused" in workplace.results()[1]["error"]["message"]


def test_a_list_of_operations_as_a_body_is_sent_as_it_is(workplace: Workplace, api: ShapedApi) -> None:
    """A body that is an array names no state; it is sent, and nothing is compared with it."""
    body = [{"op": "replace", "path": "/title", "value": "{title}"}, {"op": "test", "path": "/id", "value": "{id}"}]
    write(workplace, api, request={"body": body, "headers": {"content-type": "application/json-patch+json"}})
    rows = [line.rpartition(",")[0] for line in (workplace.folder / "items.csv").read_text().splitlines()]
    (workplace.folder / "items.csv").write_text("\n".join([*rows, ""]))

    done = workplace.run("run", "job.json")

    assert done.code == 0, done.err
    assert api.records["t4"]["title"] == "new 4"
    assert {one["verified"] for one in workplace.results()} == {None}


def test_another_writer_is_never_overwritten(workplace: Workplace, api: ShapedApi) -> None:
    """With {@etag} a record that changes between the read and the write ends its item as a conflict."""

    def overtake(api: ShapedApi, request: web.Request, _: bytes) -> web.Response | None:
        if request.method == "PATCH" and request.path.endswith("t2"):
            api.records["t2"]["title"] = "of another writer"
        return None

    api.etags, api.answer = True, overtake
    headers = {"If-Match": "{@etag}", "Idempotency-Key": "{@run}-{@item}"}
    write(workplace, api, request={"wanted": WANTED, "headers": headers}, rows=3)

    done = workplace.run("run", "job.json")

    assert done.code == 1
    kinds = {one["key"]: one["error"] and one["error"]["kind"] for one in workplace.results()}
    assert kinds == {"t1": None, "t2": "conflict", "t3": None}
    assert api.records["t2"]["title"] == "of another writer"
    assert {one.headers["idempotency-key"] for one in api.writes()} == {
        f"{workplace.last_run().name}-{number}" for number in range(1, 4)
    }


def test_an_idempotency_key_stays_over_attempts_and_retries(workplace: Workplace, api: ShapedApi) -> None:
    """A POST with a key is sent again after an error, and a retry of a retry sends what the first run sent."""
    broken = {"t1": 1, "t2": 99}

    def answer(_api: ShapedApi, _request: web.Request, body: bytes) -> web.Response | None:
        record = json.loads(body)
        broken[record["id"]] = broken.get(record["id"], 0) - 1
        return web.Response(status=500) if broken[record["id"]] >= 0 else web.json_response(record, status=201)

    api.answer = answer
    headers = {"Idempotency-Key": '"{@run}-{@item}"'}
    body = {"id": "{id}", "title": "{title}", "mail": "{mail}"}
    write(workplace, api, request={"method": "POST", "path": "/things", "body": body, "headers": headers}, rows=3)

    first = workplace.run("run", "job.json", "--max-attempts", "2", "--canary", "0")
    run = workplace.last_run().name
    second = workplace.run("retry", "last", "--max-attempts", "1", "--canary", "0")
    broken["t2"] = 0
    third = workplace.run("retry", "last")

    assert (first.code, second.code, third.code) == (1, 1, 0)
    sent = sorted((one.json["id"], one.headers["idempotency-key"]) for one in api.writes())
    counts = {"t1": 2, "t2": 4, "t3": 1}
    assert sent == [(key, f'"{run}-{key[1:]}"') for key, count in counts.items() for _ in range(count)]


def test_a_version_member_is_sent_back(workplace: Workplace, api: ShapedApi) -> None:
    """A member of the record that was read, such as its version, goes into the body."""
    write(workplace, api, request={"body": {"title": "{title}", "mail": "{mail}", "revision": "{@record.revision}"}})
    api.records["t3"]["revision"] = 7

    done = workplace.run("run", "job.json")

    assert done.code == 0, done.err
    sent = {one.path.rpartition("/")[2]: one.json["revision"] for one in api.writes()}
    assert sent == {"t1": 1, "t2": 1, "t3": 7, "t4": 1, "t5": 1}


def test_a_write_that_is_accepted_is_followed(workplace: Workplace, api: ShapedApi) -> None:
    """A 202 is followed to its end through the same throttle; one that fails there has failed."""
    asked: dict[str, int] = {}

    def answer(api: ShapedApi, request: web.Request, _: bytes) -> web.Response | None:
        name = request.path.rpartition("/")[2]
        if request.method == "PATCH":
            return web.json_response({"task": "t"}, status=202, headers={"Location": f"/tasks/{name}"})
        if not request.path.startswith("/tasks/"):
            return None
        asked[name] = asked.get(name, 0) + 1
        state = "RUNNING" if asked[name] < 2 else "FAILED" if name == "t2" else "COMPLETED"
        if state == "COMPLETED":
            api.records[name]["title"] = f"new {name[1:]}"
        return web.json_response({"status": state, "message": "no room"})

    api.answer = answer
    poll = {"state": "status", "done": ["COMPLETED"], "failed": ["FAILED"], "every": "50ms"}
    write(workplace, api, request={"wanted": WANTED}, rows=3, poll=poll)

    done = workplace.run("run", "job.json", "--max-failures", "50%")

    results = {one["key"]: one for one in workplace.results()}
    assert done.code == 1, done.err
    assert {key: one["status"] for key, one in results.items()} == {
        "t1": "succeeded", "t2": "failed", "t3": "succeeded"
    }  # fmt: skip
    assert "no room" in results["t2"]["error"]["message"]
    assert len(api.writes()) == 3


def test_a_version_that_the_run_itself_has_changed_is_no_conflict(workplace: Workplace, api: ShapedApi) -> None:
    """A write that took without an answer changes the ETag; the next attempt's 412 is found to be its own."""
    lost: set[str] = set()

    def lose(api: ShapedApi, request: web.Request, body: bytes) -> web.Response | None:
        name = request.path.rpartition("/")[2]
        if request.method == "PATCH" and name in {"t2", "t3"} - lost:
            lost.add(name)
            api.records[name] |= json.loads(body) if name == "t2" else {"title": "of another writer"}
            return web.json_response({"message": "bad gateway"}, status=502)
        return None

    api.etags, api.answer = True, lose
    request = {"body": {"title": "{title}", "mail": "{mail}"}, "headers": {"If-Match": "{@etag}"}}
    write(workplace, api, request=request, rows=3)

    done = workplace.run("run", "job.json", "--max-failures", "50%")

    results = {one["key"]: (one["status"], one["error"] and one["error"]["kind"]) for one in workplace.results()}
    assert done.code == 1, done.err
    assert results == {"t1": ("succeeded", None), "t2": ("succeeded", None), "t3": ("failed", "conflict")}
    assert api.records["t3"]["title"] == "of another writer"
