"""The schemas of an OpenAPI document, as JSON Schema 2020-12 of what a request may hold.

An object is closed where the document does not say that it is open: many servers ignore a member that they do not know,
so that a misspelt one would change nothing and succeed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from migrator.errors import SourceError
from migrator.job.openapi.document import Document, Reference
from migrator.job.problems import compile_schema

__all__ = ["Schemas", "leaves", "narrowed", "single", "with_definitions"]

COPIED: Final = (
    "enum", "const", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern", "format",
)  # fmt: skip
FORMATS: Final = frozenset({"date", "date-time", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
"""Formats that are checked; others, such as int32 and password, say nothing that JSON Schema knows."""

URLS: Final = frozenset({"uri", "url", "uri-reference"})
LONGEST_DESCRIPTION: Final = 120
"""Characters that are kept of a description."""

DEEPEST: Final = 8
"""Levels of nested members that become columns."""


class Schemas:
    """Turns schemas of a document into JSON Schema.

    Args:
        document: the document.

    Attributes:
        definitions: the named schemas that were needed so far, by their name.
        dropped: what could not be carried over.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._names: dict[Reference, str] = {}
        self._waiting: list[tuple[str, Reference]] = []
        self.definitions: dict[str, Any] = {}
        self.dropped: set[str] = set()

    def convert(self, node: Any) -> dict[str, Any]:
        """Return the JSON Schema of a node; what it refers to is in `definitions` afterwards."""
        schema = self._converted(node, "", closed=True)
        while self._waiting:
            name, target = self._waiting.pop()
            self.definitions[name] = self._converted(self._document.at(target), target[0], closed=True)
        return schema if isinstance(schema, dict) else {}

    def _converted(self, node: Any, place: str, *, closed: bool) -> Any:
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            return {}
        if isinstance(node.get("$ref"), str):
            reference = {"$ref": f"#/$defs/{self._name(node['$ref'], place)}"}
            rest = {name: value for name, value in node.items() if name != "$ref"}
            if not self._document.siblings_count or not rest.keys() & {*COPIED, "properties", "required", "allOf"}:
                return reference
        if "allOf" in node or "$ref" in node:
            node, place = self._merged(node, place, frozenset()), ""
        return self._plain(node, place, closed=closed)

    def _name(self, text: str, place: str) -> str:
        target = self._document.reference(text, place)
        if target not in self._names:
            self._document.at(target)
            last = target[1].rpartition("/")[2] or target[0].rpartition("/")[2] or "root"
            base = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in last)
            name, number = base, 1
            while name in self._names.values():
                number += 1
                name = f"{base}_{number}"
            self._names[target] = name
            self._waiting.append((name, target))
        return self._names[target]

    def _merged(self, node: Mapping[str, Any], place: str, above: frozenset[Reference]) -> dict[str, Any]:
        """Return a schema and those that it is made of as one; references in it name their file."""
        merged: dict[str, Any] = {}
        for part, where, seen in self._parts(node, place, above):
            own = {name: value for name, value in part.items() if name not in {"allOf", "$ref"}}
            here = self._placed(own, where) if where else own
            if isinstance(part.get("allOf"), list):
                for one in part["allOf"]:
                    _join(merged, self._merged(one, where, seen) if isinstance(one, dict) else {})
            _join(merged, here)
        return merged

    def _parts(
        self, node: Mapping[str, Any], place: str, above: frozenset[Reference]
    ) -> Iterator[tuple[Mapping[str, Any], str, frozenset[Reference]]]:
        """Yield what a reference leads to, then the node itself."""
        if isinstance(node.get("$ref"), str):
            target = self._document.reference(node["$ref"], place)
            if target in above:
                raise SourceError(f"the schema {target[1]} is made of itself")
            found = self._document.at(target)
            if isinstance(found, dict):
                yield from self._parts(found, target[0], above | {target})
            if not self._document.siblings_count:
                return
        yield node, place, above

    def _plain(self, node: Mapping[str, Any], place: str, *, closed: bool) -> dict[str, Any]:
        schema: dict[str, Any] = {name: node[name] for name in COPIED if name in node}
        if isinstance(example := node.get("example"), str | int | float):
            schema["examples"] = [example]
        if isinstance(description := node.get("description"), str) and (said := _first_sentence(description)):
            schema["description"] = said
        if node.get("writeOnly") is True or node.get("format") == "password":
            schema["writeOnly"] = True
        self._mend(schema, node)
        types = _types(node)
        if types:
            schema["type"] = types if len(types) > 1 else types[0]
        combined = [name for name in ("oneOf", "anyOf") if isinstance(node.get(name), list)]
        properties = node.get("properties")
        if isinstance(properties, dict):
            # A member that only the server writes is not to be sent.
            kept = {name: value for name, value in properties.items() if not self._is_read_only(value, place)}
            schema["properties"] = {name: self._converted(value, place, closed=True) for name, value in kept.items()}
            required = [name for name in node.get("required", ()) if name in kept]
        else:
            required = list(node.get("required", ())) if isinstance(node.get("required"), list) else []
        if required:
            schema["required"] = required
        for name in combined:
            variants = [self._converted(one, place, closed=not isinstance(properties, dict)) for one in node[name]]
            schema[name] = self._told_apart(variants, node, place)
        if "not" in node:
            schema["not"] = self._converted(node["not"], place, closed=False)
        if "items" in node:
            schema["items"] = self._converted(node["items"], place, closed=True)
        self._close(schema, node, place, closed=closed, combined=bool(combined))
        return schema

    def _close(
        self, schema: dict[str, Any], node: Mapping[str, Any], place: str, *, closed: bool, combined: bool
    ) -> None:
        further = node.get("additionalProperties")
        if further is not None:
            schema["additionalProperties"] = self._converted(further, place, closed=True)
        elif schema.get("properties") and closed:
            schema["unevaluatedProperties" if combined else "additionalProperties"] = False

    def _is_read_only(self, node: Any, place: str) -> bool:
        found = self._document.node(node, place)
        parts = found.get("allOf") if isinstance(found.get("allOf"), list) else []
        own = isinstance(node, dict) and node.get("readOnly") is True
        return own or found.get("readOnly") is True or any(self._is_read_only(part, place) for part in parts or ())

    def _told_apart(self, variants: list[Any], node: Mapping[str, Any], place: str) -> list[Any]:
        """Return variants that a discriminator tells apart, each with its value where it names none itself."""
        discriminator = node.get("discriminator")
        if not isinstance(discriminator, dict) or not isinstance(discriminator.get("propertyName"), str):
            return variants
        member = discriminator["propertyName"]
        mapping = discriminator.get("mapping")
        values: dict[str, str] = {}
        for value, target in (mapping if isinstance(mapping, dict) else {}).items():
            text = target if "#" in str(target) or "." in str(target) else f"#/components/schemas/{target}"
            reference = self._document.reference(text, place)
            own = self._document.node({"$ref": text}, place).get("properties", {}).get(member, {})
            if reference in self._names and not {"const", "enum"} & self._document.node(own).keys():
                values[self._names[reference]] = value
        return [
            {"allOf": [variant], "properties": {member: {"const": values[name]}}, "required": [member]}
            if (name := str(variant.get("$ref", "")).removeprefix("#/$defs/")) in values
            else variant
            for variant in variants
            if isinstance(variant, dict)
        ]

    def _placed(self, node: Any, place: str) -> Any:
        """Return a copy of a node whose references name the file that they lead to."""
        if isinstance(node, dict):
            return {
                name: "#".join(self._document.reference(value, place))
                if name == "$ref" and isinstance(value, str)
                else self._placed(value, place)
                for name, value in node.items()
            }
        return [self._placed(one, place) for one in node] if isinstance(node, list) else node

    def _mend(self, schema: dict[str, Any], node: Mapping[str, Any]) -> None:
        """Turn what OpenAPI 3.0 and Swagger 2 write otherwise, and leave out what cannot be checked."""
        _exclusive(schema)
        if schema.get("format") in URLS:
            schema["format"] = "uri"
        elif schema.get("format") not in FORMATS:
            schema.pop("format", None)
        if isinstance(schema.get("enum"), list):
            if node.get("nullable") is True and None not in schema["enum"]:
                schema["enum"] = [*schema["enum"], None]
            if len(schema["enum"]) == 1:
                schema["const"] = schema.pop("enum")[0]
        if "pattern" in schema:
            try:
                compile_schema({"pattern": schema["pattern"]})
            except ValueError:
                self.dropped.add(f"the pattern {schema.pop('pattern')} is of a kind that is not checked here")


def _exclusive(schema: dict[str, Any]) -> None:
    """Turn OpenAPI 3.0's exclusive bounds, which are true or false, into numbers."""
    for name, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(name), bool) and schema.pop(name) and bound in schema:
            schema[name] = schema.pop(bound)


def _first_sentence(text: str) -> str:
    """Return the beginning of a description, which is plain text as far as that is easy."""
    line = text.strip().split("\n", 1)[0].split(". ", 1)[0].strip()
    return line if len(line) <= LONGEST_DESCRIPTION else line[: LONGEST_DESCRIPTION - 1] + "…"


def _types(node: Mapping[str, Any]) -> list[str]:
    """Return the types that a schema allows, none where it does not say."""
    given = node.get("type")
    types = [given] if isinstance(given, str) else list(given) if isinstance(given, list) else []
    if not types and isinstance(node.get("properties"), dict):
        types = ["object"]
    types = ["string" if one == "file" else one for one in types]
    nullable = node.get("nullable") is True or node.get("x-nullable") is True
    return [*types, "null"] if nullable and types and "null" not in types else types


def _join(merged: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Add a part of a schema to what is merged so far."""
    for name, value in part.items():
        if name == "properties" and isinstance(value, dict):
            properties = merged.setdefault("properties", {})
            for member, schema in value.items():
                properties[member] = {"allOf": [properties[member], schema]} if member in properties else schema
        elif name == "required" and isinstance(value, list):
            merged["required"] = list(dict.fromkeys([*merged.get("required", ()), *value]))
        elif name in {"oneOf", "anyOf"} and name in merged:
            merged[name] = [{"allOf": [one, other]} for one in merged[name] for other in value]
        else:
            merged[name] = value


def single(schema: Any, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a converted schema once its references are followed."""
    for _ in range(DEEPEST * 4):
        if not isinstance(schema, Mapping):
            return {}
        if "$ref" not in schema:
            return schema
        schema = definitions.get(schema["$ref"].removeprefix("#/$defs/"), {})
    return {}


def leaves(
    schema: Any,
    definitions: Mapping[str, Any],
    above: tuple[str, ...] = (),
    outer: frozenset[int] = frozenset(),
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield the path and the schema of each member that can be a column, in the document's order.

    A path may come more than once, from variants that have it in common. A schema inside itself is one column.
    """
    found = single(schema, definitions)
    inside = outer | {id(found)}
    for name, member in found.get("properties", {}).items():
        inner = single(member, definitions)
        if _has_members(inner) and id(inner) not in inside and len(above) < DEEPEST:
            yield from leaves(inner, definitions, (*above, name), inside)
        else:
            yield (*above, name), inner
    for part in _variants(found):
        inner = single(part, definitions)
        if _has_members(inner) and id(inner) not in inside:
            yield from leaves(inner, definitions, above, inside)
        elif above and "properties" not in found:
            yield above, inner


def _variants(schema: Mapping[str, Any]) -> list[Any]:
    branches = [schema[name] for name in ("then", "else") if name in schema]
    return [one for name in ("allOf", "oneOf", "anyOf") for one in schema.get(name, ())] + branches


def _has_members(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("properties") or _variants(schema))


def narrowed(schema: Any, definitions: Mapping[str, Any], columns: Sequence[Sequence[str]]) -> tuple[Any, list[str]]:
    """Return a schema of some members only, and the required members that are not among them.

    Args:
        schema: a converted schema.
        definitions: the named ones.
        columns: paths of the members.
    """
    if any(not column for column in columns):
        return schema, []
    found = dict(single(schema, definitions))
    missing: list[str] = []
    wanted = {column[0]: [one[1:] for one in columns if one[0] == column[0]] for column in columns}
    if "properties" in found:
        properties = {}
        for name, member in found["properties"].items():
            if name in wanted:
                properties[name], inner = narrowed(member, definitions, wanted[name])
                missing += [f"{name}.{one}" for one in inner]
        found["properties"] = properties
    required = found.pop("required", [])
    missing += [name for name in required if name not in wanted]
    if kept := [name for name in required if name in wanted]:
        found["required"] = kept
    for name in ("oneOf", "anyOf", "allOf"):
        if name in found:
            narrow = [narrowed(one, definitions, columns) for one in found[name]]
            if name == "allOf":
                missing += [member for _, lacking in narrow for member in lacking]
            elif fitting := [one for one in narrow if not one[1]]:
                narrow = fitting  # a variant that the columns cannot make is not among what may be sent
            else:
                lacking = [one[1] for one in narrow]
                fewest: list[str] = min(lacking, key=len)
                missing += fewest
            found[name] = [one for one, _ in narrow]
    return found, list(dict.fromkeys(missing))


def with_definitions(schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema together with those definitions that it needs."""
    needed: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        here = waiting.pop()
        if isinstance(here, Mapping):
            name = str(here.get("$ref", "")).removeprefix("#/$defs/")
            if name in definitions and name not in needed:
                needed[name] = definitions[name]
                waiting.append(definitions[name])
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here
    whole = {name: value for name, value in schema.items() if name != "$defs"} if isinstance(schema, Mapping) else {}
    return {**whole, "$defs": needed} if needed else whole
