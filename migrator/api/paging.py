"""How a collection goes on from page to page, as a closed set; and how it is found out that a list is not the whole.

A list that ends too early is worse than an error: what it lacks would be taken for missing. So a declared total is
checked, and a page that shows signs of more pages is refused where no declaration follows them. Pure.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, assert_never
from urllib.parse import quote, unquote_plus, urldefrag, urljoin, urlsplit, urlunsplit

import msgspec

from migrator.api.expressions import search
from migrator.errors import PagingError
from migrator.job.profile.collection import Collection, Paging, PagingKind
from migrator.results import Exit

__all__ = ["PageSeen", "next_link", "next_page", "records_of", "same_origin_url"]

URL_CHARACTERS: Final = "%:/?#[]@!$&'()*+,;="
"""What is left as it is in a URL that a server names: delimiters, and what is encoded already (RFC 3986)."""

LINK: Final = re.compile(r'<([^>]*)>((?:\s*;\s*[^\s=;,]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)')
PARAMETER: Final = re.compile(r';\s*([^\s=;,]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?')

PLAIN_PATH: Final = re.compile(r'[\w@."-]+(\[\])?')
"""An expression for a page's records that takes all of them, so that their number can be compared with a total."""

SCIM_START: Final = "startIndex"
"""An offset that begins with 1 (RFC 7644, section 3.4.2.4)."""

MORE: Final = frozenset({"hasmore", "more", "hasnext", "hasnextpage", "moreavailable"})
LAST: Final = frozenset({"islast", "islastpage", "last", "lastpage", "done"})
NEXT: Final = frozenset({
    "next", "nextlink", "nexturl", "nexturi", "nextpage", "nextpageurl", "nextpagelink", "nextpagetoken", "nexttoken",
    "nextcursor", "nextpagecursor", "nextrecordsurl", "nextoffset", "nextmarker", "continue", "@odata.nextlink",
})  # fmt: skip
TOTAL: Final = frozenset({"total", "totalcount", "totalsize", "totalresults", "totalrecords", "totalitems", "count"})
TOTAL_HEADERS: Final = ("x-total-count", "x-total")
WITHIN_NEXT: Final = ("href", "url", "link", "after", "cursor")
DEEPEST: Final = 4


class PageSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One page as it was read.

    Attributes:
        url: the page's own.
        headers: of the answer, by lower-case name.
        document: the answer's body.
        count: records on the page.
        before: records on the pages before it.
        first: whether it is the first page.
    """

    url: str
    headers: Mapping[str, str]
    document: Any
    count: int
    before: int = 0
    first: bool = True


def records_of(collection: Collection, document: Any) -> list[dict[str, Any]] | None:
    """Return the records on a page, or None where it has no list of them.

    Raises:
        PagingError: it has a list of something else, which would pass for a list without records.
    """
    found = search(collection.items, document)
    if not isinstance(found, list):
        return None
    if not all(isinstance(one, dict) for one in found):
        raise PagingError(f"the list at {collection.path}: what stands at {collection.items} are no records")
    return found


def next_page(collection: Collection, page: PageSeen) -> str | None:
    """Return the URL of the page that follows, or None at the end.

    Raises:
        PagingError: the list has ended too early, or goes on in a way that is not declared.
    """
    paging = collection.paging
    url = None if paging is None else _url_by(paging, page)
    if url is not None:
        url = same_origin_url(url, at=page.url)
        if url == page.url:
            raise PagingError(f"the list at {collection.path}: a page names itself as the next one", Exit.STOPPED)
        return url
    _check_whole(collection, page)
    return None


def next_link(header: str) -> str | None:
    """Return the target of the `Link` header with the relation `next` (RFC 8288, section 3)."""
    for link in LINK.finditer(header):
        for name, quoted, plain in PARAMETER.findall(link[2]):
            if name.lower() == "rel" and "next" in (quoted or plain).lower().split():
                return link[1]
    return None


def _url_by(paging: Paging, page: PageSeen) -> str | None:
    match paging.by:
        case PagingKind.LINK_HEADER:
            return next_link(page.headers.get("link", ""))
        case PagingKind.NEXT_HEADER:
            told = page.headers.get((paging.source or "Next-Page").lower()) or None
            return told if told is None or paging.into is None else _with_query(page.url, paging.into, told)
        case PagingKind.NEXT_URL:
            told = search(paging.source or "next", page.document)
            return told if isinstance(told, str) and told else None
        case PagingKind.CURSOR:
            told = search(paging.source or "next", page.document)
            if isinstance(told, bool) or not isinstance(told, str | int) or told == "":
                return None
            return _with_query(page.url, paging.into or "cursor", str(told))
        case PagingKind.OFFSET | PagingKind.PAGE:
            return _counted(paging, page)
        case never:
            assert_never(never)


def _counted(paging: Paging, page: PageSeen) -> str | None:
    """Return the next URL where a number is counted up: by the records on the page, or by one."""
    total = _total(paging, page)
    ended = total is not None and page.before + page.count >= total
    if page.count == 0 or ended or (paging.source is not None and not search(paging.source, page.document)):
        return None
    by_page = paging.by is PagingKind.PAGE
    into = paging.into or ("page" if by_page else "offset")
    present = _query(page.url, into)
    start = int(present) if present and present.isdecimal() else int(by_page or into == SCIM_START)
    return _with_query(page.url, into, str(start + (1 if by_page else page.count)))


def _total(paging: Paging, page: PageSeen) -> int | None:
    if paging.total is None:
        return None
    found = search(paging.total, page.document)
    if isinstance(found, str) and found.isdecimal():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        raise PagingError(f"the list's total is not at {paging.total} (collection.paging.total)")
    return found


def _query(url: str, name: str) -> str | None:
    for part in urlsplit(url).query.split("&"):
        key, _, value = part.partition("=")
        if unquote_plus(key) == name:
            return unquote_plus(value)
    return None


def _with_query(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    kept = [part for part in parts.query.split("&") if part and unquote_plus(part.partition("=")[0]) != name]
    query = "&".join([*kept, f"{quote(name, safe='[]$')}={quote(value, safe='')}"])
    return urlunsplit(parts._replace(query=query))


def same_origin_url(told: str, *, at: str) -> str:
    """Return the URL that an answer names; another origin is refused, since credentials go along.

    Raises:
        PagingError: it is on another server, or no URL.
    """
    try:
        url = urljoin(at, told)
        if urlsplit(url)[:2] == urlsplit(at)[:2]:
            # A fragment is not sent, and blanks and the like are no part of a URL (RFC 3986, section 2).
            return quote(urldefrag(url).url, safe=URL_CHARACTERS)
    except ValueError:
        raise PagingError("the address that the answer names is no URL", Exit.STOPPED) from None
    raise PagingError("the answer leads to another server, to which no credentials are sent", Exit.STOPPED)


def _check_whole(collection: Collection, page: PageSeen) -> None:
    """Refuse a list that ends here and cannot be the whole.

    Raises:
        PagingError: a total says that there is more, or the page shows signs of a next one.
    """
    paging, count = collection.paging, page.before + page.count
    if paging is not None and (total := _total(paging, page)) is not None:
        if count < total:
            raise PagingError(
                f"the list at {collection.path} ended after {count} records, but its total is {total}: it is not whole",
                Exit.STOPPED,
            )
        return
    if paging is not None and not page.first:
        return
    sign = next(_signs(page), None)
    if sign is None and paging is None and PLAIN_PATH.fullmatch(collection.items):
        sign = next(_totals(page, count), None)
    if sign is not None:
        what, declaration = sign
        shown = msgspec.json.encode(declaration).decode()
        raise PagingError(
            f"the list at {collection.path} is not whole after {count} records: {what}; say in collection how it goes "
            f'on, such as "paging": {shown}'
        )


Sign = tuple[str, Mapping[str, str]]


def _signs(page: PageSeen) -> Iterator[Sign]:
    if next_link(page.headers.get("link", "")) is not None:
        yield "its answer has a Link header with rel=next", {"by": "link-header"}
    for name, into in (("next-page", None), ("x-next-page", "page")):
        if page.headers.get(name):
            given = {"from": name.title()} | ({} if into is None else {"into": into})
            yield f"its answer has the header {name.title()}", {"by": "next-header"} | given
    for path, name, value in _members(page.document):
        dotted = ".".join(path)
        if (name in MORE and value is True) or (name in LAST and value is False and len(path) <= DEEPEST):
            yield f"its member {dotted} says that there is more", {"by": "cursor", "from": "…", "into": "…"}
        elif name in NEXT:
            yield from _next_signs(path, value)


def _next_signs(path: tuple[str, ...], value: Any) -> Iterator[Sign]:
    within = [name for name in WITHIN_NEXT if isinstance(value, Mapping) and isinstance(value.get(name), str)]
    if within:
        path, value = (*path, within[0]), value[within[0]]
    if isinstance(value, bool) or not isinstance(value, str | int) or not value:
        return
    source = ".".join(step if step.replace("_", "a").isalnum() else f'"{step}"' for step in path)
    is_url = isinstance(value, str) and ("://" in value or value.startswith(("/", "?")))
    declaration = {"by": "next-url", "from": source} if is_url else {"by": "cursor", "from": source, "into": "…"}
    yield f"its member {source} names a next page", declaration


def _totals(page: PageSeen, count: int) -> Iterator[Sign]:
    for name in TOTAL_HEADERS:
        if (told := page.headers.get(name, "")).isdecimal() and int(told) > count:
            yield f"the header {name.title()} says {told}", {"by": "link-header"}
    for path, name, value in _members(page.document):
        if name in TOTAL and isinstance(value, int) and not isinstance(value, bool) and value > count:
            dotted = ".".join(path)
            yield f"its member {dotted} says {value}", {"by": "offset", "into": "offset", "total": dotted}


def _members(document: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Yield the members of a page outside of its lists, with their names in lower case and without separators."""
    if not isinstance(document, Mapping):
        return
    for name, value in document.items():
        below = (*path, name)
        yield below, name.lower().replace("_", "").replace("-", ""), value
        if isinstance(value, Mapping) and not isinstance(value, Sequence) and len(below) < DEEPEST:
            yield from _members(value, below)
