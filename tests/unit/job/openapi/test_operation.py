"""One operation of a document: which one is meant, what it is sent, and what it answers."""

from typing import Any

import pytest
from openapi_documents import document

from migrator.errors import SourceError
from migrator.job.openapi.operation import array_in, find, reading, request_body, response_of

THINGS = {
    "/things": {"get": {"operationId": "listThings"}, "post": {"operationId": "createThing"}},
    "/things/{id}": {
        "parameters": [{"name": "id", "in": "path"}, {"name": "trace", "in": "header", "description": "shared"}],
        "get": {"operationId": "readThing"},
        "patch": {
            "operationId": "updateThing",
            "parameters": [{"name": "trace", "in": "header", "description": "own"}, {"in": "query"}],
        },
    },
}


@pytest.mark.parametrize("wanted", [None, "updateThing", "PATCH /things/{id}", "patch /things/{id}"])
def test_operation_is_found(wanted: str | None) -> None:
    """By its name, by method and path, or because it is the only one that changes a record."""
    found = find(document(paths=THINGS), wanted)

    assert (found.name, found.method, found.path_columns) == ("updateThing", "PATCH", ["id"])


def test_own_parameters_beat_those_of_the_path() -> None:
    """A parameter without a name is none."""
    found = find(document(paths=THINGS), None)

    assert {one["name"] for one in found.parameters} == {"id", "trace"}
    assert [one["description"] for one in found.of_kind("header")] == ["own"]


def test_misspelt_operation_is_told_with_the_others() -> None:
    """The message lists what there is."""
    with pytest.raises(
        SourceError, match=r"no operation updateThink.*updateThing\?(.|\n)*createThing  \(POST /things\)"
    ):
        find(document(paths=THINGS), "updateThink")


def test_several_to_choose_from() -> None:
    """Without a name, and without exactly one PATCH, the user chooses."""
    paths = {"/a": {"put": {}}, "/b": {"put": {"operationId": "putB"}}}

    with pytest.raises(SourceError, match=r"choose an operation with --operation:\n  PUT /a  \(PUT /a\)\n  putB"):
        find(document(paths=paths), None)


def test_reading_of_a_path() -> None:
    """The GET of the same path reads the record; not every path has one."""
    found = reading(document(paths=THINGS), "/things/{id}")

    assert found is not None
    assert found.name == "readThing"
    assert reading(document(paths=THINGS), "/other") is None
    assert reading(document(paths={"/a": {"put": {}}}), "/a") is None


@pytest.mark.parametrize(
    ("content", "chosen"),
    [
        (["text/csv", "application/merge-patch+json", "application/json"], "application/json"),
        (["application/json-patch+json", "application/vnd.acme+json"], "application/vnd.acme+json"),
        (["application/x-www-form-urlencoded", "application/json-patch+json"], "application/json-patch+json"),
        (["application/x-www-form-urlencoded", "text/xml"], "application/x-www-form-urlencoded"),
        (["text/xml"], None),
        ([], None),
    ],
)
def test_body_that_suits_best(content: list[str], chosen: str | None) -> None:
    """JSON before a patch of it, before a form; what cannot be written is no body."""
    node = {"requestBody": {"content": {name: {"schema": {"title": name}} for name in content}}}

    body = request_body(document(), find(document(paths={"/a": {"patch": node}}), None))

    assert (None if body is None else body.media_type) == chosen
    assert body is None or body.schema == {"title": chosen}


@pytest.mark.parametrize(
    ("node", "media_type", "schema"),
    [
        ({"parameters": [{"name": "b", "in": "body", "schema": {"title": "B"}}]}, "application/json", {"title": "B"}),
        (
            {"consumes": ["text/xml", "application/vnd.x+json"], "parameters": [{"name": "b", "in": "body"}]},
            "application/vnd.x+json",
            {},
        ),
        (
            {"parameters": [{"name": "f", "in": "formData", "required": True}, {"name": "g", "in": "formData"}]},
            "application/x-www-form-urlencoded",
            {
                "type": "object",
                "properties": {
                    "f": {"name": "f", "in": "formData", "required": True},
                    "g": {"name": "g", "in": "formData"},
                },
                "required": ["f"],
            },
        ),
    ],
)
def test_body_in_swagger(node: dict[str, Any], media_type: str, schema: dict[str, Any]) -> None:
    """Swagger 2 has bodies and forms among the parameters."""
    old = document(swagger="2.0", paths={"/a": {"patch": node}})

    body = request_body(old, find(old, None))

    assert body is not None
    assert (body.media_type, body.schema) == (media_type, schema)


def test_no_body_in_swagger() -> None:
    """A DELETE has none."""
    old = document(swagger="2.0", paths={"/a": {"delete": {}}})

    assert request_body(old, find(old, "DELETE /a")) is None


def test_first_answer_of_success() -> None:
    """Its schema in JSON and its headers are what counts; an answer without a body has an empty schema."""
    answers = {
        "default": {},
        "404": {"content": {"application/json": {"schema": {"title": "no"}}}},
        "201": {"headers": {"ETag": {}}, "content": {"text/csv": {}, "application/json": {"schema": {"title": "yes"}}}},
    }
    for given, expected in (
        (answers, ({"title": "yes"}, {"ETag": {}})),
        ({"204": {"headers": {"Link": {}}}}, ({}, {"Link": {}})),
        ({"404": {}}, ({}, {})),
    ):
        api = document(paths={"/a": {"patch": {"responses": given}}})
        assert response_of(api, find(api, None)) == expected


@pytest.mark.parametrize(
    ("schema", "places"),
    [
        ({"type": "array", "items": {"title": "T"}}, ["@"]),
        ({"items": {"title": "T"}}, ["@"]),
        ({"properties": {"data": {"type": "array", "items": {"title": "T"}}, "n": {"type": "integer"}}}, ["data"]),
        ({"allOf": [{"properties": {"data": {"type": "array", "items": {"title": "T"}}}}, {}]}, ["data"]),
        ({"properties": {"tags": {"type": "array"}}}, []),
    ],
)
def test_lists_in_a_page(schema: dict[str, Any], places: list[str]) -> None:
    """A page is a list itself, or has one as a member."""
    assert list(array_in(document(), schema)) == [(place, {"title": "T"}) for place in places]
