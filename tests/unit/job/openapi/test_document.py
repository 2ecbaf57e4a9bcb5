"""OpenAPI documents are read, and their references followed."""

import json

import pytest
from openapi_documents import document

from migrator.errors import SourceError
from migrator.job.openapi.document import Document

SCHEMAS = {
    "a/b~c d": {"type": "string"},
    "Anchored": {"$anchor": "here", "type": "integer"},
    "Chain": {"$ref": "#/components/schemas/Anchored"},
    "List": {"oneOf": [{"type": "null"}, {"type": "boolean"}]},
}


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("#/components/schemas/a~1b~0c%20d", {"type": "string"}),
        ("#/components/schemas/Chain", SCHEMAS["Anchored"]),
        ("#/components/schemas/List/oneOf/1", {"type": "boolean"}),
        ("#here", SCHEMAS["Anchored"]),
        ("parts/x.json#/Y", {"type": "number"}),
        ("parts/x.json#/Z", {"type": "array"}),
        ("parts/whole.yaml", {"type": "object"}),
    ],
)
def test_references(reference: str, found: object) -> None:
    """Pointers with escapes, lists, anchors, chains, and other files, which may refer to files beside them."""
    files = {
        "parts/x.json": json.dumps({"Y": {"type": "number"}, "Z": {"$ref": "deep/y.json#/A"}}),
        "parts/deep/y.json": json.dumps({"A": {"$ref": "../z.json#/B"}}),
        "parts/deep/../z.json": json.dumps({"B": {"type": "array"}}),
        "parts/whole.yaml": "type: object\n",
    }

    assert document(files, components={"schemas": SCHEMAS}).node({"$ref": reference}) == found


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("#/components/schemas/Missing", "leads nowhere"),
        ("#nowhere", "leads nowhere"),
        ("#/openapi", "leads to something that is no object"),
        ("other.json#/X", "the reference to other.json: No such file"),
        ("https://example.com/x.json#/X", "is on the network"),
        ("#/components/schemas/Circle", "leads in a circle"),
    ],
)
def test_references_that_lead_nowhere(reference: str, message: str) -> None:
    """What cannot be followed is an error that names the reference; nothing is read over the network."""
    circle = {"Circle": {"$ref": "#/components/schemas/Round"}, "Round": {"$ref": "#/components/schemas/Circle"}}

    with pytest.raises(SourceError, match=message):
        document(components={"schemas": circle}).node({"$ref": reference})


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("{", "api.json", "api.json: is no valid JSON"),
        ("a: [", "api.yaml", r"api.yaml:\d+:\d+: is no valid YAML"),
        ("[]", "api.json", "is no OpenAPI document: it has no paths"),
        ('{"openapi": "4.0.0", "paths": {}}', "api.json", "is no OpenAPI 3 or Swagger 2 document"),
    ],
)
def test_no_document(text: str, name: str, message: str) -> None:
    """Anything else is refused with what is wrong and where."""
    with pytest.raises(SourceError, match=message):
        Document(text, name, lambda _: "")


def test_yaml_keeps_dates_and_statuses() -> None:
    """A date in YAML stays a text, and a status that YAML reads as a number is found by a reference."""
    text = """
openapi: 3.0.3
info: {version: 2026-11-24}
paths:
  /x:
    get:
      responses:
        200: {description: good}
"""
    found = Document(text, "api.yaml", lambda _: "")

    assert found.root["info"]["version"] == "2026-11-24"
    assert found.node({"$ref": "#/paths/~1x/get/responses/200"}) == {"description": "good"}
