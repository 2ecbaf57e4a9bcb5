"""Schemas of OpenAPI become JSON Schema that allows and refuses the same."""

import json
from typing import Any

import pytest

from migrator.errors import SourceError
from migrator.job.openapi.document import Document
from migrator.job.openapi.schemas import Schemas, leaves, narrowed, with_definitions
from migrator.job.problems import compile_schema


def converted(schema: Any, version: str = "3.0.3", **schemas: Any) -> tuple[Any, dict[str, Any]]:
    """Return a schema converted, and the definitions that it needs."""
    text = json.dumps({"openapi": version, "paths": {}, "components": {"schemas": schemas}})
    found = Schemas(Document(text, "api.json", lambda _: ""))
    return found.convert(schema), found.definitions


def allows(schema: Any, value: object, version: str = "3.0.3", **schemas: Any) -> bool:
    """Tell whether a converted schema allows a value."""
    made, definitions = converted(schema, version, **schemas)
    return compile_schema(with_definitions(made, definitions)).is_valid(value)


REF = "#/components/schemas/"
NAME = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}, "required": ["name"]}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (NAME, {"name": "abc"}, {"name": "abcd"}),
        (NAME, {"name": "abc"}, {"name": "abc", "nmae": "a"}),
        ({"type": "string", "nullable": True}, None, 1),
        ({"type": "string", "enum": ["a"], "nullable": True}, None, "b"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, 2, 1),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": False}, 1, 0),
        ({"type": "string", "format": "uri"}, "https://x.example/a", "https://x.example/a b"),
        ({"type": "integer", "format": "int32"}, 1, "1"),
        (
            {"allOf": [{"$ref": REF + "Name"}, {"properties": {"age": {"type": "integer"}}}]},
            {"name": "a", "age": 1},
            {"name": "a", "b": 1},
        ),
        (
            {"allOf": [{"$ref": REF + "Name"}, {"properties": {"name": {"minLength": 2}}}]},
            {"name": "ab"},
            {"name": "a"},
        ),
        ({"oneOf": [{"$ref": REF + "Name"}, {"type": "string"}]}, "x", {"name": 1}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"x": 1}, {"x": "1"}),
        (
            {"properties": {"a": {}}, "oneOf": [{"properties": {"b": {}}, "required": ["b"]}]},
            {"a": 1, "b": 2},
            {"a": 1, "b": 2, "c": 3},
        ),
        ({"type": "array", "items": {"$ref": REF + "Name"}}, [{"name": "a"}], [{"name": 1}]),
    ],
)
def test_what_is_allowed(schema: Any, good: object, bad: object) -> None:
    """The same values are good and bad as OpenAPI 3.0 has it, and unknown members are bad."""
    assert allows(schema, good, Name=NAME)
    assert not allows(schema, bad, Name=NAME)


def test_open_objects_stay_open() -> None:
    """A document that allows further members is taken at its word."""
    assert allows({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, {"b": 1})
    assert allows({"type": "object"}, {"b": 1})


def test_read_only_members_are_not_sent() -> None:
    """A member that only the server writes is neither allowed nor required, also where a reference says so."""
    schema = {
        "type": "object",
        "properties": {"id": {"type": "string", "readOnly": True}, "meta": {"$ref": REF + "Meta"}, "a": {}},
        "required": ["id", "meta", "a"],
    }
    made, _ = converted(schema, Meta={"readOnly": True, "properties": {"x": {}}})

    assert (list(made["properties"]), made["required"]) == (["a"], ["a"])


def test_a_recursive_schema() -> None:
    """A schema inside itself is one definition, which is checked at any depth, and one column."""
    tree = {"type": "object", "properties": {"name": {"type": "string"}, "child": {"$ref": REF + "Tree"}}}
    made, definitions = converted({"$ref": REF + "Tree"}, Tree=tree)

    assert allows({"$ref": REF + "Tree"}, {"child": {"child": {"name": "a"}}}, Tree=tree)
    assert not allows({"$ref": REF + "Tree"}, {"child": {"child": {"name": 1}}}, Tree=tree)
    assert [".".join(path) for path, _ in leaves(made, definitions)] == ["name", "child"]


def test_a_schema_made_of_itself() -> None:
    """An allOf that contains itself has no meaning, and is an error rather than an endless loop."""
    with pytest.raises(SourceError, match="is made of itself"):
        converted({"allOf": [{"$ref": REF + "A"}]}, A={"allOf": [{"$ref": REF + "A"}]})


def test_a_discriminator_tells_variants_apart() -> None:
    """Where variants do not name their own value, the mapping does."""
    pets: dict[str, Any] = {
        "Pet": {
            "oneOf": [{"$ref": REF + "Cat"}, {"$ref": REF + "Dog"}],
            "discriminator": {"propertyName": "kind", "mapping": {"cat": REF + "Cat", "dog": "Dog"}},
        },
        "Cat": {"properties": {"kind": {"type": "string"}, "a": {}}},
        "Dog": {"properties": {"kind": {"type": "string"}, "a": {}}},
    }

    assert allows({"$ref": REF + "Pet"}, {"kind": "dog", "a": 1}, **pets)
    assert not allows({"$ref": REF + "Pet"}, {"kind": "fish", "a": 1}, **pets)


def test_keywords_beside_a_reference() -> None:
    """They count from OpenAPI 3.1 on, and are ignored before."""
    schema = {"$ref": REF + "Text", "maxLength": 1}

    assert allows(schema, "ab", Text={"type": "string"})
    assert not allows(schema, "ab", "3.1.0", Text={"type": "string"})


def test_a_pattern_that_cannot_be_checked() -> None:
    """A look-ahead is left out and named, rather than the whole document refused."""
    found = Schemas(Document('{"openapi": "3.0.0", "paths": {}}', "a.json", lambda _: ""))

    assert found.convert({"type": "string", "pattern": "^(?!x)"}) == {"type": "string"}
    assert "the pattern ^(?!x)" in next(iter(found.dropped))


def test_narrowed() -> None:
    """Some members only: a variant that they cannot make goes, and what is required but not chosen is named."""
    schema = {
        "properties": {
            "target": {
                "oneOf": [
                    {"properties": {"kind": {"const": "a"}, "url": {}}, "required": ["kind", "url"]},
                    {"properties": {"kind": {"const": "b"}, "role": {}}, "required": ["kind", "role"]},
                ]
            },
            "name": {},
            "other": {},
        },
        "required": ["name", "other"],
    }

    made, missing = narrowed(schema, {}, [("target", "kind"), ("target", "url"), ("name",)])

    assert missing == ["other"]
    assert (list(made["properties"]), made["required"]) == (["target", "name"], ["name"])
    assert [one["properties"]["kind"]["const"] for one in made["properties"]["target"]["oneOf"]] == ["a"]
