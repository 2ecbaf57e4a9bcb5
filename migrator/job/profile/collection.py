"""A profile's `collection`: the list of all records of an API, and how it goes on from page to page."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias

import jmespath
import jmespath.exceptions
import msgspec
from jmespath.functions import Functions

from migrator.job.placeholders import columns_in

__all__ = [
    "Collection",
    "CollectionReader",
    "Paging",
    "PagingKind",
    "Parents",
    "check_expression",
    "fault_in_expression",
]

Place: TypeAlias = tuple[str | int, ...]
Wrong: TypeAlias = Callable[[Place, str], None]


DEEPEST: Final = 100
"""Nodes in each other of an expression: an evaluation takes some frames of Python's 1,000 for each."""


class PagingKind(StrEnum):
    """How a list names the page that follows."""

    LINK_HEADER = "link-header"
    NEXT_HEADER = "next-header"
    CURSOR = "cursor"
    OFFSET = "offset"
    PAGE = "page"
    NEXT_URL = "next-url"


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """How a collection goes on.

    Attributes:
        by: what names the next page.
        source: where that stands: JMESPath, or a header's name. For a number that is counted up, JMESPath for whether
            there is more.
        into: the query parameter that it goes into.
        total: where a page has the number of all records, in JMESPath.
    """

    by: PagingKind
    source: str | None = None
    into: str | None = None
    total: str | None = None


class Parents(msgspec.Struct, frozen=True, kw_only=True):
    """The records that a collection's path depends on, such as the projects of "things of each project".

    Attributes:
        collection: the list of them.
        columns: what fills the placeholders of the path, by name: a member of a parent, dotted.
    """

    collection: "Collection"
    columns: Mapping[str, str]


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """The list of all records of an API, page by page.

    Attributes:
        path: the first page's, with its query.
        items: where a page has its records, in JMESPath.
        paging: how it goes on; None where there is one page.
        query: the text of the GraphQL query that asks for a page, whose cursor is one of its variables.
        item: a record's own path, with its members as placeholders; None where neither profile nor job tells.
        parents: what fills the placeholders of the path; None where it has none.
        columns: the members that are exported; a dotted name nests.
        secrets: those of them that are never shown.
    """

    path: str
    items: str
    item: str | None = None
    paging: Paging | None = None
    query: str | None = None
    parents: Parents | None = None
    columns: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()


def check_expression(text: str | None, wrong: Wrong, place: Place) -> None:
    """Say of a text at a place if it is no JMESPath expression that can be evaluated."""
    if text and (message := fault_in_expression(text)):
        wrong(place, message)


def fault_in_expression(text: str) -> str | None:
    """Return why a text is no JMESPath expression that can be evaluated, or None."""
    try:
        level: list[Any] = [jmespath.compile(text).parsed]
    except (jmespath.exceptions.JMESPathError, RecursionError):
        return "is no valid JMESPath expression"
    for _ in range(DEEPEST):
        for node in level:
            if node["type"] == "function_expression" and node["value"] not in Functions.FUNCTION_TABLE:
                return f"is no valid JMESPath expression: there is no function {node['value']}"
        level = [child for node in level for child in node["children"] if isinstance(child, dict)]
        if not level:
            return None
    return f"is a JMESPath expression of more than {DEEPEST} steps in each other"


class CollectionReader:
    """Turns a declaration that its schema has found valid into a collection.

    Args:
        wrong: takes what is still wrong, with its place.
        check_placeholders: takes a value, and says what is wrong with its placeholders.
    """

    def __init__(self, wrong: Wrong, check_placeholders: Callable[[Any, Place], None]) -> None:
        self._wrong = wrong
        self._check_placeholders = check_placeholders

    def collection(self, given: Mapping[str, Any], place: Place) -> Collection:
        """Return the collection that a profile declares at a place."""
        for member in ("path", "item"):
            self._check_placeholders(given.get(member, ""), (*place, member))
        check_expression(given["items"], self._wrong, (*place, "items"))
        columns = set(columns_in(given["path"]))
        parents = self._parents(given.get("each"), (*place, "each"))
        if unfilled := columns - set(parents.columns if parents is not None else ()):
            self._wrong((*place, "path"), f"has {{{min(unfilled)}}}, which no column of each fills")
        return Collection(
            path=given["path"],
            items=given["items"],
            paging=self._paging(given, place),
            query=given.get("query"),
            item=given.get("item"),
            parents=parents,
            columns=tuple(given.get("columns", ())),
            secrets=frozenset(given.get("secrets", ())),
        )

    def _parents(self, given: Mapping[str, Any] | None, place: Place) -> Parents | None:
        return None if given is None else Parents(collection=self.collection(given, place), columns=given["fills"])

    def _paging(self, given: Mapping[str, Any], place: Place) -> Paging | None:
        if "next" in given:
            check_expression(given["next"], self._wrong, (*place, "next"))
            return Paging(by=PagingKind.NEXT_URL, source=given["next"])
        paging = given.get("paging")
        if paging is None:
            return None
        by = PagingKind(paging["by"])
        if "query" in given and by is not PagingKind.CURSOR:
            self._wrong((*place, "paging", "by"), "has to be cursor: a GraphQL query takes the cursor as a variable")
        if by is not PagingKind.NEXT_HEADER:
            check_expression(paging.get("from"), self._wrong, (*place, "paging", "from"))
        check_expression(paging.get("total"), self._wrong, (*place, "paging", "total"))
        return Paging(by=by, source=paging.get("from"), into=paging.get("into"), total=paging.get("total"))
