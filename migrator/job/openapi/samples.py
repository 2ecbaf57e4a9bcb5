"""An example of what a schema allows, so that a template shows what goes where."""

from collections.abc import Mapping
from typing import Any, Final

from migrator.job.openapi.schemas import single
from migrator.job.problems import compile_schema

__all__ = ["allows", "sample"]

BY_FORMAT: Final = {
    "uri": "https://example.com/path",
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
}
DEEPEST: Final = 6


def sample(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a value that a converted schema allows, or None where none is found.

    It shows all members at the top where they can stand together, else only those that are required.

    Args:
        schema: the schema.
        definitions: the named ones that it refers to.
    """
    for level in (0, 1):
        made = _sample(schema, definitions, level)
        if allows(schema, definitions, made):
            return made
    return None


def _sample(schema: Any, definitions: Mapping[str, Any], level: int) -> Any:
    """Return a value for a schema that stands so deep."""
    found = single(schema, definitions)
    if "const" in found:
        return found["const"]
    if found.get("enum"):
        return found["enum"][0]
    for given in found.get("examples", ()):
        if allows(found, definitions, given):
            return given
    kinds = found.get("type", "object" if "properties" in found or _variant(found) else "string")
    kind = next((one for one in ([kinds] if isinstance(kinds, str) else kinds) if one != "null"), "null")
    match kind:
        case "object":
            return _object(found, definitions, level)
        case "array":
            return [] if level >= DEEPEST else [_sample(found.get("items", {}), definitions, level + 1)]
        case "integer" | "number":
            return found.get("minimum", min(1, found.get("maximum", 1)))
        case "boolean":
            return True
        case "string":
            return _text(found)
        case _:
            return None


def _variant(schema: Mapping[str, Any]) -> Any:
    return next((schema[name][0] for name in ("oneOf", "anyOf") if schema.get(name)), None)


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any], level: int) -> dict[str, Any]:
    """Return an object with its required members, and those at the top that need not be there."""
    members: dict[str, Any] = {}
    variant = _variant(schema)
    for part in (*schema.get("allOf", ()), *(() if variant is None else (variant,))) if level < DEEPEST else ():
        inner = _sample(part, definitions, level)
        members |= inner if isinstance(inner, dict) else {}
    needed = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        if (name in needed or level == 0) and name not in members and level < DEEPEST:
            members[name] = _sample(member, definitions, level + 1)
    if "if" in schema:
        branch = "then" if allows(schema["if"], definitions, members) else "else"
        chosen = {**schema.get(branch, {}), "type": "object"}
        members = {**_object(chosen, definitions, level), **members}
    return members


def _text(schema: Mapping[str, Any]) -> str:
    text = BY_FORMAT.get(schema.get("format", ""), "example")
    shortest, longest = int(schema.get("minLength", 0)), int(schema.get("maxLength", len(text) + 10_000))
    return (text + "x" * min(10_000, shortest - len(text)))[:longest]


def allows(schema: Any, definitions: Mapping[str, Any], value: Any) -> bool:
    """Tell whether a converted schema allows a value."""
    try:
        whole = {**schema, "$defs": dict(definitions)} if isinstance(schema, Mapping) else {}
        return compile_schema(whole).is_valid(value)
    except ValueError:
        return False
