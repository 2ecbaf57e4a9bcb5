"""A list goes on as it is declared, and one that is not the whole is an error and not a shorter list."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.api.paging import PageSeen, next_link, next_page
from migrator.errors import PagingError
from migrator.job.profile.collection import Collection, Paging, PagingKind

AT = "https://api.example/things?size=2"


def follows(
    paging: Paging | None,
    document: Any,
    *,
    count: int = 2,
    before: int = 0,
    url: str = AT,
    headers: Mapping[str, str] | None = None,
    items: str = "data",
) -> str | None:
    """Return the URL of the page after one."""
    collection = Collection(path="/things?size=2", items=items, item="/things/{id}", paging=paging)
    page = PageSeen(url=url, headers=headers or {}, document=document, count=count, before=before, first=url == AT)
    return next_page(collection, page)


def by(kind: str, source: str | None = None, into: str | None = None, total: str | None = None) -> Paging:
    """Return a declaration."""
    return Paging(by=PagingKind(kind), source=source, into=into, total=total)


@pytest.mark.parametrize(
    ("paging", "document", "headers", "expected"),
    [
        (by("link-header"), [], {"link": '</things?page=2>; rel="next"'}, "https://api.example/things?page=2"),
        (by("next-header", "Next-Page"), [], {"next-page": f"{AT}&_token=a"}, f"{AT}&_token=a"),
        (by("next-header", "X-Next-Page", "page"), [], {"x-next-page": "2"}, f"{AT}&page=2"),
        (by("cursor", "meta.next", "after"), {"meta": {"next": "a/b+c="}}, {}, f"{AT}&after=a%2Fb%2Bc%3D"),
        (by("cursor", "more && data[-1].id", "after"), {"more": True, "data": [{"id": 7}]}, {}, f"{AT}&after=7"),
        (by("offset", None, "offset", "total"), {"total": 3}, {}, f"{AT}&offset=2"),
        (by("offset", "more", "offset"), {"more": True}, {}, f"{AT}&offset=2"),
        (by("page", None, "page"), {}, {}, f"{AT}&page=2"),
        (by("next-url", "links.next"), {"links": {"next": "?page=2"}}, {}, "https://api.example/things?page=2"),
    ],
)
def test_each_way_names_the_next_page(paging: Paging, document: Any, headers: dict[str, str], expected: str) -> None:
    """Every member of the closed set leads to the page that the server means."""
    assert follows(paging, document, headers=headers) == expected


@pytest.mark.parametrize(
    ("paging", "document"),
    [
        (by("link-header"), []),
        (by("next-header", "Next-Page"), []),
        (by("cursor", "meta.next", "after"), {"meta": {"next": None}}),
        (by("cursor", "more && data[-1].id", "after"), {"more": False, "data": [{"id": 7}]}),
        (by("offset", None, "offset", "total"), {"total": 2}),
        (by("offset", "more", "offset"), {"more": False}),
        (by("next-url", "links.next"), {"links": {}}),
        (None, {"data": [], "total": 2, "next": None, "has_more": False}),
        (None, []),
    ],
)
def test_each_way_has_an_end(paging: Paging | None, document: Any) -> None:
    """The last page has none after it."""
    assert follows(paging, document) is None


def test_numbers_are_counted_from_the_present_page() -> None:
    """An offset grows by the records of a page, from 1 where the API counts from there, and ends at an empty page."""
    scim = by("offset", None, "startIndex", "totalResults")
    at = "https://api.example/Users?startIndex=3&count=2"

    assert follows(scim, {"totalResults": 9}, url=at, before=2) == "https://api.example/Users?count=2&startIndex=5"
    assert follows(scim, {"totalResults": 4}, url=at, before=2) is None
    assert follows(scim, {"totalResults": 3}, before=0) == f"{AT}&startIndex=3"
    assert follows(by("page", None, "page"), {}, url=f"{AT}&page=4", count=0) is None


@pytest.mark.parametrize(
    ("document", "headers", "declaration"),
    [
        ([], {"link": '<https://api.example/things?page=2>; rel="next", <…>; rel="last"'}, '"by":"link-header"'),
        ([], {"next-page": "https://api.example/things?_token=x"}, '"by":"next-header"'),
        ({"data": [], "has_more": True}, {}, "has_more"),
        ({"data": [], "pageInfo": {"hasNextPage": True}}, {}, "pageInfo.hasNextPage"),
        ({"values": [], "isLast": False}, {}, "isLast"),
        ({"data": [], "meta": {"next_cursor": "abc"}}, {}, '"from":"meta.next_cursor"'),
        ({"data": [], "links": {"next": {"href": "/things?page=2"}}}, {}, '"by":"next-url","from":"links.next.href"'),
        ({"data": [], "metadata": {"continue": "tok"}}, {}, "metadata.continue"),
        ({"data": [], "@odata.nextLink": "https://api.example/x"}, {}, "odata.nextLink"),
        ({"data": [], "total_count": 300}, {}, '"total":"total_count"'),
        ([], {"x-total-count": "300"}, "X-Total-Count"),
    ],
)
def test_signs_of_more_are_an_error(document: Any, headers: dict[str, str], declaration: str) -> None:
    """Where no paging is declared, a page that shows signs of more is refused, with the declaration to add."""
    with pytest.raises(PagingError, match='"paging"') as refused:
        follows(None, document, headers=headers)

    assert declaration in str(refused.value)


def test_a_declaration_that_finds_nothing_is_not_an_end() -> None:
    """A wrong path to the next page does not make the first page the whole list."""
    with pytest.raises(PagingError, match=r"meta\.next"):
        follows(by("cursor", "metadata.next", "after"), {"meta": {"next": "abc"}})


def test_a_list_that_ends_before_its_total_is_an_error() -> None:
    """The total that is declared is held against what was read."""
    with pytest.raises(PagingError, match="50 records, but its total is 300"):
        follows(by("link-header", total="total"), {"total": 300}, count=50)
    with pytest.raises(PagingError, match=r"paging\.total"):
        follows(by("link-header", total="totals"), {"total": 2})


def test_a_total_of_what_is_filtered_out_is_no_sign() -> None:
    """An expression that takes some of the records says nothing about the total."""
    assert follows(None, {"total": 300}, items="data[?kind == 'x']") is None


@pytest.mark.parametrize("target", ["https://else.example/things?page=2", "//else.example/x", "http://api.example/x"])
@pytest.mark.parametrize("way", ["link", "next-page", "body"])
def test_another_origin_never_gets_credentials(target: str, way: str) -> None:
    """The next page is on the same scheme, host and port, whichever way it is named."""
    kind = {"link": "link-header", "next-page": "next-header", "body": "next-url"}[way]
    headers = {"link": f'<{target}>; rel="next"', "next-page": target}

    with pytest.raises(PagingError, match="another server"):
        follows(by(kind, "next" if way == "body" else None), {"next": target}, headers=headers)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('<https://a.example/x?a=1,2>; rel="next"', "https://a.example/x?a=1,2"),
        ('<b>; rel="prev", <c>; title="a, b; rel=no"; rel="last next"', "c"),
        ("<d>;REL=NEXT", "d"),
        ('<e>; rel="nextish"', None),
        ("", None),
    ],
)
def test_link_headers(header: str, expected: str | None) -> None:
    """A Link header is read as RFC 8288 has it."""
    assert next_link(header) == expected


@given(st.text())
def test_any_link_header_is_read(header: str) -> None:
    """No header makes the reader fail."""
    next_link(header)
