"""The API around an operation: server, credentials, records and lists, as far as a document says them."""

from typing import Any

import pytest
from openapi_documents import document

from migrator.job.openapi.api import Api, auth_of, base_url_of, collection_of, record_of, variable
from migrator.job.openapi.document import Document
from migrator.job.openapi.operation import find

PATH = "/things/{id}"


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("acme", "X-Api-Key"), "ACME_X_API_KEY"),
        (("été",), "T"),
        (("--",), "API"),
        ((), "API"),
        (("127", "X"), "API_127_X"),
    ],
)
def test_names_of_variables(parts: tuple[str, ...], name: str) -> None:
    """They are made of what every shell takes."""
    assert variable(*parts) == name


def served(**members: Any) -> tuple[str, Api]:
    """Return the base URL that a document gives."""
    api = Api()
    base_url_of(document(**members), api, "acme")
    return api.profile["base_url"], api


@pytest.mark.parametrize(
    ("members", "url"),
    [
        ({"servers": [{"url": "https://api.acme.com/v1/"}]}, "https://api.acme.com/v1"),
        ({"servers": [{"url": "https://api.acme.com"}, {"url": "https://eu.acme.com"}]}, "https://api.acme.com"),
        ({"servers": [{"url": "https://{r}.acme.com", "variables": {"r": {"default": "eu"}}}]}, "https://eu.acme.com"),
        (
            {"swagger": "2.0", "host": "acme.com", "basePath": "/v2", "schemes": ["http", "https"]},
            "https://acme.com/v2",
        ),
        ({"swagger": "2.0", "host": "acme.com", "schemes": ["http"]}, "http://acme.com"),
        ({}, "${ACME_URL}"),
        ({"servers": [{"url": "/v1"}]}, "${ACME_URL}"),
        ({"servers": [{"url": "https://your-domain.acme.com"}]}, "${ACME_URL}"),
        ({"servers": [{"url": "https://example.acme.com/v1"}]}, "${ACME_URL}"),
        ({"servers": [{"url": "https://yourdomain.acme.com"}]}, "${ACME_URL}"),
        ({"servers": [{"url": "https://subdomain.acme.com"}]}, "${ACME_URL}"),
        ({"servers": [{"url": "https://api.example.com/v1"}]}, "https://api.example.com/v1"),
        ({"servers": [{"url": "https://acme.example"}]}, "https://acme.example"),
        ({"servers": [{"url": "http://127.0.0.1:8080/yours"}]}, "http://127.0.0.1:8080/yours"),
    ],
)
def test_server(members: dict[str, Any], url: str) -> None:
    """It is the first that is named; where none is, a variable stands for it, and a note says so."""
    found, api = served(**members)

    assert found == url
    assert api.variables == (["ACME_URL"] if url.startswith("${") else [])
    assert bool(api.notes) == (url.startswith("${") or len(members.get("servers", [])) > 1 or "{r}" in str(members))


def authorised(schemes: dict[str, Any], *, security: Any = None, own: Any = None) -> Api:
    """Return what is known of an API's credentials."""
    node: dict[str, Any] = {} if own is None else {"security": own}
    members: dict[str, Any] = {} if security is None else {"security": security}
    described = document(paths={PATH: {"patch": node}}, components={"securitySchemes": schemes}, **members)
    api = Api()
    auth_of(described, find(described, None), api, "acme")
    return api


BASIC = {"type": "http", "scheme": "Basic"}
BEARER = {"type": "http", "scheme": "bearer"}
KEY = {"type": "apiKey", "in": "header", "name": "X-Key"}
QUERY = {"type": "apiKey", "in": "query", "name": "key"}
TOKENS = {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "https://acme.com/token"}}}


@pytest.mark.parametrize(
    ("scheme", "auth", "variables"),
    [
        (
            BASIC,
            {"type": "basic", "username": "${ACME_USERNAME}", "password": "${ACME_PASSWORD}"},
            ["ACME_USERNAME", "ACME_PASSWORD"],
        ),
        (BEARER, {"type": "bearer", "token": "${ACME_TOKEN}"}, ["ACME_TOKEN"]),
        (KEY, {"type": "header", "name": "X-Key", "value": "${ACME_X_KEY}"}, ["ACME_X_KEY"]),
        (
            {"type": "apiKey", "in": "header", "name": "Authorization", "description": "`Authorization: SSWS key`"},
            {"type": "header", "name": "Authorization", "value": "SSWS ${ACME_TOKEN}"},
            ["ACME_TOKEN"],
        ),
        (
            {"type": "apiKey", "in": "header", "name": "Authorization"},
            {"type": "header", "name": "Authorization", "value": "${ACME_AUTHORIZATION}"},
            ["ACME_AUTHORIZATION"],
        ),
        (
            TOKENS,
            {
                "type": "oauth2",
                "grant": "client_credentials",
                "token_url": "https://acme.com/token",
                "client_id": "${ACME_CLIENT_ID}",
                "client_secret": "${ACME_CLIENT_SECRET}",
            },
            ["ACME_CLIENT_ID", "ACME_CLIENT_SECRET"],
        ),
        ({"type": "openIdConnect"}, {"type": "bearer", "token": "${ACME_TOKEN}"}, ["ACME_TOKEN"]),
        (
            {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "http://acme.com/token"}}},
            {"type": "bearer", "token": "${ACME_TOKEN}"},
            ["ACME_TOKEN"],
        ),
    ],
)
def test_credentials(scheme: dict[str, Any], auth: dict[str, str], variables: list[str]) -> None:
    """Each kind becomes the profile's own, with variables in the place of secrets; a token never goes over http."""
    api = authorised({"one": scheme}, security=[{"one": []}])

    assert (api.profile["auth"], api.variables) == (auth, variables)


def test_two_headers_together() -> None:
    """The second credential can only be a header."""
    api = authorised({"a": BASIC, "b": KEY}, security=[{"a": [], "b": []}])

    assert api.profile["auth"]["type"] == "basic"
    assert api.profile["headers"] == {"X-Key": "${ACME_X_KEY}"}


def test_first_way_that_can_be_used() -> None:
    """An alternative with a key in the URL is passed over; the operation's own say beats the document's."""
    schemes = {"query": QUERY, "bearer": BEARER, "basic": BASIC}

    assert authorised(schemes, security=[{"query": []}, {"bearer": []}]).profile["auth"]["type"] == "bearer"
    assert authorised(schemes, security=[{"bearer": []}], own=[{"basic": []}]).profile["auth"]["type"] == "basic"
    assert "auth" not in authorised(schemes, security=[{"bearer": []}], own=[{}]).profile


def test_what_is_not_said_is_noted() -> None:
    """A note says what to write by hand."""
    assert "write auth" in authorised({}).notes[0]
    assert "bearer is used" in authorised({"bearer": BEARER}).notes[0]
    assert "The credentials query are of a kind" in authorised({"query": QUERY}, security=[{"query": []}]).notes[0]


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"name": {}}}, None),
        ({"properties": {"data": {"properties": {"name": {}}}}}, "data"),
        ({"allOf": [{"properties": {"meta": {}}}, {"properties": {"thing": {"properties": {"name": {}}}}}]}, "thing"),
        ({"properties": {"data": {"properties": {"other": {}}}}}, None),
        ({}, None),
    ],
)
def test_record_in_an_answer(schema: dict[str, Any], place: str | None) -> None:
    """It is the answer itself, or the member that has what is written."""
    assert record_of(document(), schema, ["name"]) == place
    assert record_of(document(), schema, []) is None


def listed(schema: Any, *, query: tuple[str, ...] = (), headers: Any = None, size: Any = None) -> Api:
    """Return what is known of a list with a schema."""
    answer = {"headers": headers or {}, "content": {"application/json": {"schema": schema}}}
    listing = {
        "parameters": [{"name": name, "in": "query", "schema": size or {}} for name in query],
        "responses": {"200": answer},
    }
    return collected(document(paths={"/things": {"get": listing}, PATH: {"patch": {}}}))


def collected(described: Document, key: str | None = "id") -> Api:
    """Return what is known of the list beside the only PATCH."""
    api = Api()
    collection_of(described, find(described, None), api, key)
    return api


PAGE = {"properties": {"data": {"type": "array", "items": {"properties": {"id": {}}}}}}


def page(**more: Any) -> dict[str, Any]:
    """Return the schema of a page with further members."""
    return {"properties": PAGE["properties"] | more}


@pytest.mark.parametrize(
    ("schema", "query", "headers", "paging"),
    [
        (PAGE, (), {"Link": {}}, {"by": "link-header"}),
        (page(next={"format": "uri"}), (), None, {"by": "next-url", "from": "next"}),
        (page(links={"properties": {"next": {"description": "URL of the next page"}}}), (), None,
         {"by": "next-url", "from": "links.next"}),
        (page(next_cursor={}), ("cursor",), None, {"by": "cursor", "from": "next_cursor", "into": "cursor"}),
        (PAGE, ("offset",), None, {"by": "offset", "into": "offset"}),
        (page(more={}), ("offset",), None, {"by": "offset", "into": "offset", "from": "more"}),
        (PAGE, ("page",), None, {"by": "page", "into": "page"}),
        (PAGE, (), None, None),
    ],
)  # fmt: skip
def test_how_a_list_goes_on(schema: Any, query: tuple[str, ...], headers: Any, paging: Any) -> None:
    """Links, cursors, offsets and pages are told by what the document shows; else a note says that it is one page."""
    api = listed(schema, query=query, headers=headers)

    assert api.profile["collection"].get("paging") == paging
    assert api.profile["collection"]["items"] == "data"
    assert api.profile["collection"]["item"] == "/things/{id}"
    assert bool(api.notes) == (paging is None)


@pytest.mark.parametrize(("size", "path"), [({"maximum": 250}, "/things?per_page=250"), ({}, "/things?per_page=100")])
def test_size_of_a_page(size: dict[str, Any], path: str) -> None:
    """The most that is allowed is asked for."""
    assert listed(PAGE, query=("per_page",), size=size).profile["collection"]["path"] == path


@pytest.mark.parametrize(
    ("paths", "key", "note"),
    [
        ({PATH: {"patch": {}}}, "id", "No list of these records was found"),
        ({"/things": {"get": {}}, PATH: {"patch": {}}}, None, "No list of these records was found"),
        ({"/o/{org}/things": {"get": {}}, "/o/{org}/things/{id}": {"patch": {}}}, "id", "is below org"),
        ({"/things": {"get": {}}, PATH: {"patch": {}}}, "id", "Where GET /things has its records is not said"),
    ],
)
def test_lists_that_are_not_said(paths: dict[str, Any], key: str | None, note: str) -> None:
    """The profile has no collection then, and the note says what needs one."""
    api = collected(document(paths=paths), key)

    assert "collection" not in api.profile
    assert note in api.notes[0]


def test_key_of_a_record_that_is_not_said() -> None:
    """A record without the key and without an id cannot be addressed."""
    api = listed({"type": "array", "items": {"properties": {"name": {}}}})

    assert "collection" not in api.profile
    assert "Which member of a record is id is not said" in api.notes[0]
