"""An OpenAPI document as a tree whose references can be followed: OpenAPI 3.0 and 3.1, Swagger 2.0."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

from migrator.errors import SourceError

__all__ = ["METHODS", "Document", "Node", "Reference"]

Node = Mapping[str, Any]
METHODS: Final = ("patch", "put", "post", "delete")
"""The methods of requests that change something, the likeliest for a bulk change first."""

LONGEST_CHAIN: Final = 100
"""References that lead to one another; a longer chain is a circle."""


class Reference(tuple[str, str]):
    """Where a reference leads: the file, empty for the document itself, and the fragment."""

    __slots__ = ()


class Document:
    """A document and the files that it refers to.

    Args:
        text: the document.
        name: its file's name.
        read_file: returns the text of another file, named relative to the document's folder; raises OSError.

    Raises:
        SourceError: it is no OpenAPI document.
    """

    def __init__(self, text: str, name: str, read_file: Callable[[str], str]) -> None:
        self._name = name
        self._read_file = read_file
        self._files: dict[str, Any] = {"": _parsed(text, name)}
        root = self._files[""]
        if not isinstance(root, dict) or not isinstance(root.get("paths"), dict):
            raise SourceError(f"{name}: is no OpenAPI document: it has no paths")
        self.root: Node = root
        self.version = str(root.get("openapi", root.get("swagger", "")))
        if not self.version.startswith(("3.0", "3.1", "3.2", "2.")):
            raise SourceError(f"{name}: is no OpenAPI 3 or Swagger 2 document")

    @property
    def is_swagger(self) -> bool:
        """Whether this is Swagger 2.0."""
        return self.version.startswith("2.")

    @property
    def siblings_count(self) -> bool:
        """Whether keywords beside a ``$ref`` count, which they do from OpenAPI 3.1 on."""
        return not self.version.startswith(("2.", "3.0"))

    def follow(self, node: Any, place: str = "") -> tuple[Any, str]:
        """Return what a node stands for once its references are followed, and the file where that is.

        Args:
            node: any node.
            place: the file where the node stands.

        Raises:
            SourceError: a reference leads nowhere or in a circle.
        """
        for _ in range(LONGEST_CHAIN):
            if not isinstance(node, dict) or not isinstance(node.get("$ref"), str):
                return node, place
            target = self.reference(node["$ref"], place)
            node, place = self.at(target), target[0]
        raise SourceError(f"{self._name}: the reference {node['$ref']} leads in a circle")

    def node(self, node: Any, place: str = "") -> Node:
        """Return an object once its references are followed; anything else is an empty one."""
        found, _ = self.follow(node, place)
        return found if isinstance(found, dict) else {}

    def reference(self, text: str, place: str = "") -> Reference:
        """Return where a ``$ref`` leads that stands in a file."""
        file, _, fragment = text.partition("#")
        if "://" in file:
            raise SourceError(
                f"{self._name}: the reference {text} is on the network: put that file beside the document"
            )
        name = place if not file else str(PurePosixPath(place).parent / unquote(file)) if place else unquote(file)
        return Reference((name, fragment))

    def at(self, target: Reference) -> Any:
        """Return the node that a reference leads to.

        Raises:
            SourceError: there is none.
        """
        name, fragment = target
        here = self._file(name)
        shown = f"{name}#{fragment}"
        if fragment and not fragment.startswith("/"):
            return self._anchor(here, fragment, shown)
        for step in fragment.split("/")[1:]:
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(here, dict) and key.isdecimal() and key not in here:
                here = here.get(int(key))  # YAML reads a status as a number
            elif isinstance(here, dict) and key in here:
                here = here[key]
            elif isinstance(here, list) and key.isdecimal() and int(key) < len(here):
                here = here[int(key)]
            else:
                here = None
            if here is None:
                raise SourceError(f"{self._name}: the reference {shown} leads nowhere")
        if not isinstance(here, dict | bool):
            raise SourceError(f"{self._name}: the reference {shown} leads to something that is no object")
        return here

    def _file(self, name: str) -> Any:
        if name not in self._files:
            try:
                self._files[name] = _parsed(self._read_file(name), name)
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "cannot be read"
                raise SourceError(f"{self._name}: the reference to {name}: {why}") from None
        return self._files[name]

    def _anchor(self, root: Any, name: str, shown: str) -> Any:
        """Return the schema with an ``$anchor`` (JSON Schema 2020-12, section 8.2.2)."""
        waiting = [root]
        while waiting:
            here = waiting.pop()
            if isinstance(here, dict):
                if here.get("$anchor") == name or here.get("$dynamicAnchor") == name:
                    return here
                waiting += here.values()
            elif isinstance(here, list):
                waiting += here
        raise SourceError(f"{self._name}: the reference {shown} leads nowhere")

    def operations(self) -> Iterator[tuple[str, str, Node]]:
        """Yield the method, the path and the operation of every request that changes something."""
        for method in METHODS:
            for path, item in self.root["paths"].items():
                operation = self.node(item).get(method)
                if isinstance(operation, dict) and isinstance(path, str):
                    yield method.upper(), path, operation


def _parsed(text: str, name: str) -> Any:
    """Return a document, written in JSON or, where PyYAML is installed, in YAML."""
    text = text.removeprefix("\ufeff")
    try:
        return json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] in {"{", "["} and name.endswith(".json"):
            raise SourceError(f"{name}: is no valid JSON: {error}") from None
    except RecursionError:
        raise SourceError(f"{name}: is nested too deeply") from None
    try:
        import yaml
    except ImportError:
        raise SourceError(f"{name}: is no JSON; YAML needs the extra yaml (package pyyaml)") from None
    try:
        return yaml.load(text, _plain_loader(yaml))  # noqa: S506  derived from the safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise SourceError(f"{name}{where}: is no valid YAML") from None
    except RecursionError:
        raise SourceError(f"{name}: is nested too deeply") from None


def _plain_loader(yaml: Any) -> Any:
    """Return the safe loader, in C where there is one, that leaves dates as they are written."""
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in base.yaml_implicit_resolvers.items()
    }
    return type("PlainLoader", (base,), {"yaml_implicit_resolvers": resolvers})
