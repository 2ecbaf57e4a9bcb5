"""An operation of a document becomes a job, with what the document does not say."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import SourceError
from migrator.job.check import check
from migrator.job.items import Form
from migrator.job.job_file import Job, load_job
from migrator.job.openapi.document import Document
from migrator.job.openapi.make import Made, from_document, from_profile
from migrator.job.profile.api_profile import built_in, built_in_names
from migrator.job.profile.variables import Outside

SAMPLE = Path(__file__).parents[3] / "samples" / "confluent-notifications.openapi.yaml"


def made(document: dict[str, Any] | str, operation: str | None = None, *columns: str) -> Made:
    """Return the job of a document's operation."""
    text = document if isinstance(document, str) else json.dumps(document)
    return from_document(Document(text, "api.yaml", lambda _: ""), operation=operation, columns=columns)


def confluent(*columns: str) -> Made:
    """Return the job of Confluent's document."""
    return made(SAMPLE.read_text(), None, *columns)


class Everything(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value for any name."""
        return "value" if default is None or default == "" else default

    def __missing__(self, key: str) -> str:
        return "https://api.example" if key.endswith("URL") else "value"


def job_of(found: Made) -> Job:
    """Load a job as its file would be."""
    return load_job(json.dumps(found.job), source="job.json", outside=Outside(Everything(), lambda _: "x"))


def problems(job: Job, rows: list[dict[str, str]]) -> int:
    """Return how many problems a CSV file of rows has."""
    text = io.StringIO(newline="")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = csv.DictWriter(text, columns)
    table.writeheader()
    table.writerows(rows)
    return check(io.BytesIO(text.getvalue().encode()), form=Form.CSV, job=job, name="items.csv").problem_count


GOOD = {"id": "i-1", "target.kind": "Slack", "target.webhook_url": "https://hooks.slack.example/services/a"}


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        {"id": "i-1", "display_name": "x" * 64},
        {"id": "i-1", "display_name": "x" * 65},
        {"id": "i-1", "description": "x" * 129},
        {"id": "i-1", "display_nam": "x"},
        {"id": "..", "display_name": "x"},
        {"id": "", "display_name": "x"},
        {"id": "i-1"},
        {**GOOD, "target.kind": "slack"},
        {**GOOD, "target.kind": "RoleEmail"},
        {**GOOD, "target.kind": "Webhook"},
        {**GOOD, "target.kind": ""},
        {**GOOD, "target.webhook_url": "hooks.slack.example/services/a"},
        {**GOOD, "target.webhook_url": "https://hooks.slack.example/a b"},
        {**GOOD, "target.webhook_url": ""},
        {**GOOD, "target.url": "https://hooks.example/a"},
        {**GOOD, "target.webhook_ulr": "https://hooks.example/a"},
        {"id": "i-1", "target.kind": "Webhook", "target.url": "https://hooks.example/a"},
        {"id": "i-1", "target.kind": "Webhook", "target.webhook_url": "https://hooks.example/a"},
        {"id": "i-1", "target.kind": "MsTeams", "target.webhook_url": "https://hooks.example/a"},
        {"id": "i-1", "metadata.self": "https://x.example", "display_name": "x"},
    ],
)
def test_confluent_refuses_what_the_hand_written_profile_refuses(row: dict[str, str]) -> None:
    """On Confluent's own document, a row is good for both or for neither."""
    template = built_in("confluent-integration") or ""
    outside = Outside({"CONFLUENT_CLOUD_API_KEY": "k", "CONFLUENT_CLOUD_API_SECRET": "s"}, lambda _: "")
    by_hand = load_job(template, source="template", outside=outside)

    assert bool(problems(job_of(confluent()), [row])) == bool(problems(by_hand, [row]))


def test_confluent_by_hand() -> None:
    """The parts of the job that Confluent's document gives."""
    found = confluent()

    assert found.job["request"] == {"method": "PATCH", "path": "/notifications/v1/integrations/{id}"}
    assert (found.job["key"], found.job["secrets"]) == ("id", ["target.webhook_url", "target.url"])
    assert found.job["api"]["base_url"] == "https://api.confluent.cloud"
    assert found.job["api"]["auth"]["type"] == "basic"
    assert found.columns[:3] == ("id", "display_name", "description")


def test_chosen_columns_leave_no_other_way() -> None:
    """With some columns only, a kind that they cannot make is refused, and so is any other column."""
    job = job_of(confluent("target.kind", "target.webhook_url"))

    assert not problems(job, [GOOD])
    assert problems(job, [{**GOOD, "target.kind": "RoleEmail"}])
    assert problems(job, [{**GOOD, "display_name": "x"}])
    with pytest.raises(
        SourceError, match=r"target.webhok_url is no member of the body; did you mean target.webhook_url\?"
    ):
        confluent("target.webhok_url")


THING = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "size": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "api_token": {"type": "string"},
    },
}


def api(
    method: str = "patch", body: Any = THING, *, extra: dict[str, Any] | None = None, **members: Any
) -> dict[str, Any]:
    """Return a document of one operation."""
    operation = {
        "operationId": "changeThing",
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "responses": {"200": {"content": {"application/json": {"schema": THING}}}},
        **members,
    }
    paths = {"/things/{id}": {method: operation}, **(extra or {})}
    return {"openapi": "3.0.3", "servers": [{"url": "https://api.acme.io/v2/"}], "paths": paths}


def listing(query: list[str], page: Any, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the path of a list."""
    parameters = [{"name": name, "in": "query", "schema": {"type": "integer", "maximum": 250}} for name in query]
    answer = {"headers": headers or {}, "content": {"application/json": {"schema": page}}}
    return {"/things": {"get": {"parameters": parameters, "responses": {"200": answer}}}}


WITH_ID = {"type": "object", "properties": {"id": {"type": "string"}}}
ITEMS = {"type": "array", "items": WITH_ID}


@pytest.mark.parametrize(
    ("extra", "collection"),
    [
        (
            listing(["per_page"], ITEMS, {"Link": {}}),
            {"path": "/things?per_page=250", "items": "@", "paging": {"by": "link-header"}},
        ),
        (
            listing(
                ["page_token"],
                {"properties": {"data": ITEMS, "meta": {"properties": {"next_page_token": {"type": "string"}}}}},
            ),
            {
                "path": "/things",
                "items": "data",
                "paging": {"by": "cursor", "from": "meta.next_page_token", "into": "page_token"},
            },
        ),
        (
            listing(
                [],
                {
                    "properties": {
                        "data": ITEMS,
                        "metadata": {"properties": {"next": {"type": "string", "format": "uri"}}},
                    }
                },
            ),
            {"path": "/things", "items": "data", "paging": {"by": "next-url", "from": "metadata.next"}},
        ),
        (
            listing(["offset", "limit"], {"properties": {"things": ITEMS, "more": {"type": "boolean"}}}),
            {
                "path": "/things?limit=250",
                "items": "things",
                "paging": {"by": "offset", "into": "offset", "from": "more"},
            },
        ),
        (
            listing(["page"], {"properties": {"things": ITEMS}}),
            {"path": "/things", "items": "things", "paging": {"by": "page", "into": "page"}},
        ),
        (listing([], {"properties": {"things": ITEMS}}), {"path": "/things", "items": "things"}),
    ],
)
def test_lists(extra: dict[str, Any], collection: dict[str, Any]) -> None:
    """How a list goes on is taken from what the document shows, and said where it shows nothing.

    Its export writes what names a record and what the job writes.
    """
    found = made(api(extra=extra))

    exported = {"columns": ["id", "name", "size", "api_token"], "secrets": ["api_token"]}
    assert found.job["api"]["collection"] == {**collection, "item": "/things/{id}", **exported}
    assert any("goes on to its next page" in note for note in found.notes) is ("paging" not in collection)


def test_types_secrets_and_key() -> None:
    """Numbers are read as numbers, a token is not shown, and a list is no column of a CSV file."""
    found = made(api())

    assert found.columns == ("id", "name", "size", "api_token")
    assert found.job["item_schema"]["properties"] == {
        "id": {"pattern": "^-?[0-9]+$", "examples": ["1"]},
        "size": {"type": "integer"},
    }
    assert found.job["secrets"] == ["api_token"]
    assert not problems(job_of(found), [{"id": "1", "size": "2"}])
    assert problems(job_of(found), [{"id": "1", "size": "two"}])
    assert problems(job_of(found), [{"id": "one", "size": "2"}])


def test_a_list_makes_a_template_of_json_lines() -> None:
    """Where a list is chosen or required, the template can hold it."""
    assert made(api(), None, "tags").lists
    required = made(api(body={**THING, "required": ["tags"]}))
    assert (required.lists, required.example) == (
        True,
        {"id": "1", "name": "example", "size": 1, "tags": ["example"], "api_token": "example"},
    )


def test_an_example_has_something_to_send() -> None:
    """Where every member may be left out, one of them is filled; where none is described, there is no example."""
    inner = {"type": "object", "properties": {"on": {"type": "boolean"}, "why": {"type": "string"}}}
    optional = made(api(body={"type": "object", "properties": {"cause": inner}}))
    undescribed = made(api(body={"type": "object"}))

    assert optional.example == {"id": "1", "cause.on": True}
    assert undescribed.example is None
    assert any("not described" in note for note in undescribed.notes)


@pytest.mark.parametrize(
    ("document", "note"),
    [
        (api("put"), "PUT replaces the record"),
        (api("post"), "POST is not safe to send twice"),
        (api(), "There is no GET /things/{id}"),
        (api(), "The document does not say which credentials the API takes"),
        (api(body={**THING, "required": ["name", "size"]}), "Required members that are not among the columns: size."),
        (api(parameters=[{"name": "id", "in": "path"}, {"name": "If-Match", "in": "header"}]), "knows If-Match"),
        (
            api(parameters=[{"name": "id", "in": "path"}, {"name": "X-V", "in": "header", "required": True}]),
            "X-V is required",
        ),
        (
            api(parameters=[{"name": "id", "in": "path"}, {"name": "q", "in": "query", "required": True}]),
            "parameter q of the query",
        ),
        (api(requestBody={"content": {"text/plain": {}}}), "names no JSON body"),
    ],
)
def test_what_the_document_does_not_say(document: dict[str, Any], note: str) -> None:
    """Each thing that a user has to look at is one sentence."""
    columns = () if "text/plain" in json.dumps(document) else ("name",)
    assert any(note in one for one in made(document, None, *columns).notes)


def secured(scheme: dict[str, Any], **more: Any) -> Made:
    """Return the job of a document with credentials."""
    schemes = {"one": scheme, **more}
    document = api() | {"security": [{name: [] for name in schemes}], "components": {"securitySchemes": schemes}}
    return made(document)


@pytest.mark.parametrize(
    ("scheme", "auth"),
    [
        (
            {"type": "http", "scheme": "Basic"},
            {"type": "basic", "username": "${ACME_USERNAME}", "password": "${ACME_PASSWORD}"},
        ),
        ({"type": "http", "scheme": "bearer"}, {"type": "bearer", "token": "${ACME_TOKEN}"}),
        (
            {"type": "apiKey", "in": "header", "name": "X-Key"},
            {"type": "header", "name": "X-Key", "value": "${ACME_X_KEY}"},
        ),
        (
            {
                "type": "apiKey",
                "in": "header",
                "name": "Authorization",
                "description": "`Authorization: SSWS {API Token}`",
            },
            {"type": "header", "name": "Authorization", "value": "SSWS ${ACME_TOKEN}"},
        ),
        (
            {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "https://a.example/t"}}},
            {
                "type": "oauth2",
                "grant": "client_credentials",
                "token_url": "https://a.example/t",
                "client_id": "${ACME_CLIENT_ID}",
                "client_secret": "${ACME_CLIENT_SECRET}",
            },
        ),
    ],
)
def test_credentials(scheme: dict[str, Any], auth: dict[str, str]) -> None:
    """The kinds of credentials that documents name, as variables of the environment."""
    found = secured(scheme)

    assert found.job["api"]["auth"] == auth
    assert all(f"${{{name}}}" in json.dumps(auth) for name in found.variables)
    job_of(found)


def test_two_headers() -> None:
    """Where two keys are needed together, the second one is a header."""
    second = {"type": "apiKey", "in": "header", "name": "X-App"}

    assert secured({"type": "apiKey", "in": "header", "name": "X-Key"}, two=second).job["api"]["headers"] == {
        "X-App": "${ACME_X_APP}"
    }


def test_credentials_of_an_unknown_kind() -> None:
    """A key in the query is not used, and that is said."""
    found = secured({"type": "apiKey", "in": "query", "name": "key"})

    assert "auth" not in found.job["api"]
    assert any("of a kind that is not known here" in note for note in found.notes)


def test_choosing_an_operation() -> None:
    """One PATCH is taken by itself; else the operations are listed, and a misspelt one is told its name."""
    two = api(extra={"/others/{id}": {"patch": {"operationId": "changeOther"}}})

    assert made(two, "changeThing").job["name"] == "change-thing"
    assert made(two, "patch /others/{id}").job["request"]["path"] == "/others/{id}"
    with pytest.raises(SourceError, match=r"(?s)choose an operation.*changeThing.*PATCH /things/\{id\}"):
        made(two)
    with pytest.raises(SourceError, match=r"no operation changeThin; did you mean changeThing\?"):
        made(two, "changeThin")


def test_swagger_2() -> None:
    """Swagger 2: host and basePath, a body parameter, a definition, an application flow."""
    document = {
        "swagger": "2.0",
        "host": "api.acme.io",
        "basePath": "/v1",
        "consumes": ["application/json"],
        "securityDefinitions": {"o": {"type": "oauth2", "flow": "application", "tokenUrl": "https://a.example/t"}},
        "definitions": {"Thing": THING},
        "paths": {
            "/things/{id}": {
                "patch": {
                    "parameters": [
                        {"name": "id", "in": "path", "type": "string", "maxLength": 5},
                        {"name": "thing", "in": "body", "schema": {"$ref": "#/definitions/Thing"}},
                    ]
                }
            }
        },
    }

    found = made(document)

    assert found.job["api"]["base_url"] == "https://api.acme.io/v1"
    assert found.job["api"]["auth"]["type"] == "oauth2"
    assert found.job["item_schema"]["properties"]["id"] == {"type": "string", "maxLength": 5}
    assert problems(job_of(found), [{"id": "too-long", "name": "x"}]) == 1
    assert problems(job_of(found), [{"id": "1", "nmae": "x"}]) == 1


def test_wrapped_records() -> None:
    """A record inside one member of an answer is found by the members that are written."""
    wrapped = {"type": "object", "properties": {"data": THING}}
    get = {"get": {"responses": {"200": {"content": {"application/json": {"schema": wrapped}}}}}}
    document = api()
    document["paths"]["/things/{id}"] |= get

    assert (made(document).job["api"]["record"], made(document).job["api"]["read"]) == ("data", True)


def test_ten_megabytes() -> None:
    """A large document costs no more than reading it: only what the operation needs is looked at."""
    schemas = {f"S{number}": {**THING, "description": "x" * 900} for number in range(10_000)}
    document = api(body={"$ref": "#/components/schemas/S5000"}) | {"components": {"schemas": schemas}}
    text = json.dumps(document)

    assert len(text) > 10_000_000
    assert list(made(text).job["api"]["limits"]["PATCH /things/{id}"]["$defs"]) == ["S5000"]


def test_a_built_in_profile() -> None:
    """A profile's own limits name the operations that there are, and its list the secrets."""
    profile = json.loads(built_in("confluent-cloud") or "")

    found = from_profile("confluent-cloud", profile, operation="PATCH /notifications/v1/integrations/{id}", columns=())

    assert found.job["api"] == "confluent-cloud"
    assert found.columns == (
        "id",
        "display_name",
        "description",
        "target.kind",
        "target.url",
        "target.webhook_url",
    ) or (
        set(found.columns) == {"id", "display_name", "description", "target.kind", "target.url", "target.webhook_url"}
    )
    assert set(found.job["secrets"]) == {"target.webhook_url", "target.url"}
    assert found.example is not None
    assert not problems(job_of(found), [{name: str(value) for name, value in found.example.items()}])
    with pytest.raises(SourceError, match=r"(?s)there is no operation GET /x:.*PATCH /notifications"):
        from_profile("confluent-cloud", profile, operation="GET /x", columns=())


@pytest.mark.parametrize(
    ("method", "media_type", "read", "encoding"),
    [
        ("patch", "application/json", False, None),
        ("patch", "application/merge-patch+json", False, "merge-patch"),
        ("patch", "application/json-patch+json", False, "json-patch"),
        ("post", "application/x-www-form-urlencoded", False, "form"),
        ("put", "application/json", False, None),
        ("put", "application/json", True, "put-merge"),
    ],
)
def test_encodings(method: str, media_type: str, encoding: str | None, *, read: bool) -> None:
    """The media type says how columns are sent; a PUT keeps what it does not name where the record can be read."""
    document = api(method, requestBody={"content": {media_type: {"schema": THING}}})
    if read:
        answer = {"content": {"application/json": {"schema": THING}}}
        document["paths"]["/things/{id}"]["get"] = {"responses": {"200": answer}}

    found = made(document)

    assert found.job["request"].get("encoding") == encoding
    job_of(found)


@pytest.mark.parametrize("name", [name for name in built_in_names(templates=False) if name != "confluent-cloud"])
def test_every_operation_of_a_built_in_profile(name: str) -> None:
    """Each operation whose limits a profile has becomes a job that loads, and whose example its check accepts."""
    profile = json.loads(built_in(name) or "")
    for operation in profile["limits"]:
        found = from_profile(name, profile, operation=operation, columns=())
        job = job_of(found)
        if found.example is not None and not found.lists:
            row = {place: one if isinstance(one, str) else json.dumps(one) for place, one in found.example.items()}
            assert problems(job, [row]) == 0
