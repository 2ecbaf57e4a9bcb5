"""One operation of an OpenAPI document: what it is sent, and how the record is read and listed."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from migrator.errors import SourceError
from migrator.job.openapi.document import Document, Node
from migrator.job.problems import did_you_mean

__all__ = ["Body", "Operation", "array_in", "find", "request_body", "response_of"]

JSON_TYPE: Final = re.compile(r"application/(?:[A-Za-z0-9.+-]+\+)?json(?:;.*)?")
FORM: Final = "application/x-www-form-urlencoded"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation.

    Attributes:
        method: in capitals.
        path: with its placeholders.
        node: the operation itself.
        parameters: those of the operation and of its path, references followed.
    """

    method: str
    path: str
    node: Node
    parameters: tuple[Node, ...]

    @property
    def name(self) -> str:
        """Its name: the document's, or method and path."""
        return str(self.node.get("operationId") or f"{self.method} {self.path}")

    def of_kind(self, where: str) -> list[Node]:
        """Return the parameters in the path, the query or the headers."""
        return [one for one in self.parameters if one.get("in") == where]

    @property
    def path_columns(self) -> list[str]:
        """The placeholders of the path, in its order."""
        return re.findall(r"\{([^{}]+)\}", self.path)


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation is sent.

    Attributes:
        media_type: of the body.
        schema: the node of its schema.
    """

    media_type: str
    schema: Any


def find(document: Document, wanted: str | None) -> Operation:
    """Return the operation that is wanted, or the only one that changes a record.

    Args:
        document: the document.
        wanted: an operationId, or ``METHOD /path``.

    Raises:
        SourceError: there is none, or several to choose from; the text lists them.
    """
    found = {(method, path): node for method, path, node in document.operations()}
    names = {
        str(node.get("operationId") or f"{method} {path}"): (method, path) for (method, path), node in found.items()
    }
    if wanted is not None:
        method, _, path = wanted.partition(" ")
        place = names.get(wanted) or ((method.upper(), path) if (method.upper(), path) in found else None)
        if place is None:
            raise SourceError(f"there is no operation {wanted}{did_you_mean(wanted, names)}\n{_listed(names)}")
    else:
        patches = [place for place in found if place[0] == "PATCH"] or list(found)
        if len(patches) != 1:
            raise SourceError(f"choose an operation with --operation:\n{_listed(names)}")
        place = patches[0]
    return _operation(document, *place, found[place])


def _listed(names: Mapping[str, tuple[str, str]]) -> str:
    return "\n".join(f"  {name}  ({method} {path})" for name, (method, path) in names.items())


def _operation(document: Document, method: str, path: str, node: Node) -> Operation:
    shared = document.node(document.root["paths"][path]).get("parameters", ())
    found: dict[tuple[str, str], Node] = {}
    for one in (*shared, *node.get("parameters", ())):
        parameter = document.node(one)
        if isinstance(parameter.get("name"), str):
            found[parameter["name"], str(parameter.get("in"))] = parameter
    return Operation(method=method, path=path, node=node, parameters=tuple(found.values()))


def reading(document: Document, path: str) -> Operation | None:
    """Return the GET of a path, where there is one."""
    item = document.node(document.root["paths"].get(path, {}))
    node = item.get("get")
    return _operation(document, "GET", path, node) if isinstance(node, dict) else None


def request_body(document: Document, operation: Operation) -> Body | None:
    """Return what an operation is sent, JSON before forms; None where it has no body that can be written."""
    if document.is_swagger:
        return _swagger_body(document, operation)
    content = document.node(operation.node.get("requestBody")).get("content", {})
    if not isinstance(content, dict):
        return None
    for name in sorted(content, key=_rank):
        if JSON_TYPE.fullmatch(name) or name == FORM:
            return Body(media_type=name, schema=document.node(content[name]).get("schema", {}))
    return None


def _rank(media_type: str) -> int:
    """Return how well a media type suits: JSON, then a merge patch (RFC 7396), other JSON, lists of changes, forms."""
    order = ("application/json", "application/merge-patch+json")
    if media_type in order:
        return order.index(media_type)
    return 4 if media_type == FORM else 3 if "patch" in media_type else 2


def _swagger_body(document: Document, operation: Operation) -> Body | None:
    given = operation.node.get("consumes", document.root.get("consumes", ["application/json"]))
    for parameter in operation.of_kind("body"):
        media_type = next((name for name in given if JSON_TYPE.fullmatch(str(name))), "application/json")
        return Body(media_type=media_type, schema=parameter.get("schema", {}))
    fields = operation.of_kind("formData")
    if not fields:
        return None
    return Body(
        media_type=FORM,
        schema={
            "type": "object",
            "properties": {field["name"]: field for field in fields},
            "required": [field["name"] for field in fields if field.get("required") is True],
        },
    )


def response_of(document: Document, operation: Operation) -> tuple[Node, Node]:
    """Return the schema and the headers of an operation's first answer of success."""
    responses = operation.node.get("responses", {})
    for status in sorted(responses, key=str) if isinstance(responses, dict) else ():
        if not str(status).startswith("2"):
            continue
        answer = document.node(responses[status])
        headers = answer.get("headers", {})
        headers = headers if isinstance(headers, dict) else {}
        if document.is_swagger:
            return answer.get("schema", {}), headers
        content = answer.get("content", {})
        for name, media in content.items() if isinstance(content, dict) else ():
            if JSON_TYPE.fullmatch(name):
                return document.node(media).get("schema", {}), headers
        return {}, headers
    return {}, {}


def array_in(document: Document, schema: Any) -> Iterator[tuple[str, Node]]:
    """Yield where a page's schema has lists of objects, in JMESPath, with the schema of an entry."""
    found = document.node(schema)
    parts = [document.node(one) for one in found.get("allOf", ())] or [found]
    for part in parts:
        if part.get("type") == "array" or "items" in part:
            yield "@", document.node(part.get("items"))
            return
    for part in parts:
        for name, member in part.get("properties", {}).items():
            inner = document.node(member)
            if inner.get("type") == "array" and document.node(inner.get("items")):
                yield name, document.node(inner.get("items"))
