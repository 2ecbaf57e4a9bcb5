"""Reads what a server holds, one record or a whole collection, through the same throttle as writes."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import msgspec
from msgspec.structs import replace

from migrator.api.attempts import Attempts
from migrator.api.expressions import as_written, record_in
from migrator.api.paging import PageSeen, next_page, records_of
from migrator.errors import PagingError, ReadingError
from migrator.job.encodings import encode_json, graphql_rules
from migrator.job.json_reader import Unreadable, decode
from migrator.job.placeholders import Column, columns_in, parse
from migrator.job.profile.collection import Collection
from migrator.messages import JSON, NO_RULES, AnswerRules, Reply, Request
from migrator.results import ErrorKind, Exit, ItemError, Outcome, Status
from migrator.secret import urls_in

__all__ = ["Page", "Reader", "Record", "item_url", "kept_request", "member", "with_kept"]

WRITE_HEADERS: Final = frozenset({"content-type", "if-match", "if-none-match", "idempotency-key", "prefer"})

NO_PROGRESS: Final = (
    "a page has the records of the one before it, so that the server does not heed how the list goes on by "
    "collection.paging"
)

MEMBER: Final = re.compile(r"[^.]+")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of one record.

    Attributes:
        document: the record; None where it was not shown.
        etag: its version, as the server names it (RFC 9110, section 8.8.3).
        error: why not.
    """

    document: Mapping[str, Any] | None = None
    etag: str | None = None
    error: ItemError | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a collection.

    Attributes:
        records: what stands on it.
        next: where to go on after it; None at the end.
    """

    records: Sequence[Mapping[str, Any]]
    next: str | None


class Reader:
    """Reads records and collections.

    Args:
        attempts: sends a request until an answer counts.
    """

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts

    async def record(self, request: Request) -> Record:
        """Return the record that a request would write.

        Raises:
            ReadingError: credentials are refused, the server cannot be reached, or the throttle was stopped.
            WaitTooLong: the quota makes us wait for longer than the user allows.
        """
        outcome, reply = await self._get(_reading(request))
        if outcome.error is not None or reply is None:
            return Record(error=outcome.error)
        document = decode(reply.body)
        record = None if reply.truncated or isinstance(document, Unreadable) else record_in(document, request.rules)
        if not isinstance(record, Mapping):
            return Record(error=_no_record(reply, document, request.rules))
        # What is replaced may be repeated by the server later, and is as secret as what takes its place.
        self._attempts.remember(urls_in(record))
        return Record(document=record, etag=reply.headers.get("etag"))

    async def answer(self, request: Request) -> Reply | ItemError:
        """Return the answer to a GET that counts as a success, or why there is none.

        Raises:
            ReadingError: credentials are refused, the server cannot be reached, or the throttle was stopped.
            WaitTooLong: the quota makes us wait for longer than the user allows.
        """
        outcome, reply = await self._get(request)
        if reply is not None:
            return reply
        return outcome.error or ItemError(kind=ErrorKind.PROTOCOL, message="there is no answer")

    async def pages(
        self,
        collection: Collection,
        *,
        base_url: str,
        rules: AnswerRules = NO_RULES,
        start: str | None = None,
        before: int = 0,
    ) -> AsyncIterator[Page]:
        """Yield the pages of a collection.

        Args:
            collection: where it is, and how its pages hang together.
            base_url: the server's.
            rules: how its answers are read.
            start: the `next` of the page to go on after; None for the first page.
            before: records on the pages before that.

        Raises:
            ReadingError: a page cannot be read.
            PagingError: the list is not the whole, or goes on in a way that is not declared.
            WaitTooLong: the quota makes us wait for longer than the user allows.
        """
        if collection.parents is None:
            path = base_url + collection.path
            async for page in self._list(collection, path, start=start, rules=rules, before=before):
                yield page
            return
        parents = [one async for one in self._parents(collection, base_url=base_url, rules=rules)]
        number, _, url = (start or "0 ").partition(" ")
        for place, values in list(enumerate(parents))[int(number) :]:
            path = base_url + _filled(collection.path, values)
            async for page in self._list(collection, path, start=url or None, rules=rules, before=0):
                last = place + 1 == len(parents)
                follows = f"{place + 1} " if not last else None
                records = [{**values, **record} for record in page.records]
                yield Page(records=records, next=follows if page.next is None else f"{place} {page.next}")
            url = ""

    async def _parents(
        self, collection: Collection, *, base_url: str, rules: AnswerRules
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield what fills the columns of a collection's path, once for each parent."""
        parents = collection.parents
        assert parents is not None  # noqa: S101  asked for such a collection alone
        async for page in self.pages(parents.collection, base_url=base_url, rules=rules):
            for record in page.records:
                above = columns_in(parents.collection.path)
                values = {name: member(record, source) for name, source in parents.columns.items()}
                yield {name: record[name] for name in above if name in record} | values

    async def _list(
        self, collection: Collection, first_url: str, *, start: str | None, rules: AnswerRules, before: int
    ) -> AsyncIterator[Page]:
        url: str | None = start or first_url
        seen, last = {url}, None
        while url is not None:
            outcome, reply = await self._get(_asking(collection, url, rules))
            if outcome.error is not None or reply is None:
                raise ReadingError(outcome.error)
            document = decode(reply.body)
            whole = not reply.truncated and not isinstance(document, Unreadable)
            records = records_of(collection, document) if whole else None
            if records is None:
                raise ReadingError(_no_json(reply, document))
            if records and records == last:
                raise PagingError(f"the list at {collection.path}: {NO_PROGRESS}", Exit.STOPPED)
            last = records
            page = PageSeen(
                url=url,
                headers=reply.headers,
                document=document,
                count=len(records),
                before=before,
                first=url == first_url,
            )
            url = next_page(collection, page)
            if url in seen:
                raise PagingError(
                    f"the list at {collection.path}: a page names an earlier one as the next", Exit.STOPPED
                )
            seen.add(url)
            before += len(records)
            shown = [as_written(one, rules) for one in records]
            yield Page(records=[one for one in shown if isinstance(one, Mapping)], next=url)

    async def _get(self, request: Request) -> tuple[Outcome, Reply | None]:
        async with self._attempts.until_done(request) as answered:
            if answered is None:
                raise ReadingError(None)
            if answered.stops:
                raise ReadingError(answered.outcome.error)
            outcome, answer = answered.outcome, answered.answer
            return outcome, answer if isinstance(answer, Reply) and outcome.status is Status.SUCCEEDED else None


def _asking(collection: Collection, url: str, rules: AnswerRules) -> Request:
    """Return what asks for a page; a GraphQL query takes the cursor from the URL's query as a variable."""
    parts = urlsplit(url)
    request = Request(
        item=0, key="", method="GET", url=url, body=None, rules=rules, limiter_key=f"{parts.scheme}://{parts.netloc}"
    )
    if collection.query is None:
        return request
    into = (collection.paging.into if collection.paging is not None else None) or "cursor"
    return replace(
        request,
        method="POST",
        url=urlunsplit(parts._replace(query="")),
        body=encode_json(
            {
                "query": collection.query,
                "variables": {name: one for name, one in parse_qsl(parts.query) if name == into},
            }
        ),
        rules=graphql_rules(rules),
    )


def _reading(request: Request) -> Request:
    """Return what reads the record that a request would write, with those of its headers that a read can have."""
    reading = request.reading or replace(request, method="GET", body=None)
    headers = tuple(
        (name, text) for name, text in request.headers if name.lower() not in WRITE_HEADERS and "\0" not in text
    )
    return replace(reading, wanted=None, headers=headers, idempotent=True)


def kept_request(request: Request) -> dict[str, JSON]:
    """Return what has to be kept of a request with an image, so that another state can be sent the same way."""
    kept: dict[str, JSON] = {}
    if request.frame is not None:
        kept["frame"] = request.frame.decode()
    if request.headers:
        kept["headers"] = [list(header) for header in request.headers]
    if (reading := request.reading) is not None:
        kept["reading"] = {"method": reading.method, "url": reading.url, "body": (reading.body or b"").decode()}
    return kept


def with_kept(request: Request, kept: Mapping[str, Any]) -> Request:
    """Return a request with what was kept of another by `kept_request`."""
    frame, reading = kept.get("frame"), kept.get("reading")
    return replace(
        request,
        frame=None if frame is None else frame.encode(),
        headers=tuple((name, text) for name, text in kept.get("headers", ())),
        reading=None
        if reading is None
        else replace(
            request, method=reading["method"], url=reading["url"], body=reading["body"].encode() or None, wanted=None
        ),
    )


def item_url(collection: Collection, record: Mapping[str, Any], *, base_url: str) -> str | None:
    """Return a record's own URL, or None where it lacks a member that stands in it, or none is declared."""
    if collection.item is None:
        return None
    try:
        return base_url + _filled(collection.item, record)
    except LookupError:
        return None


def _filled(path: str, record: Mapping[str, Any]) -> str:
    """Return a path with a record's members in the places of its columns.

    Raises:
        LookupError: the record lacks one.
    """
    parts = []
    for part in parse(path):
        if isinstance(part, Column):
            value = record.get(part.name, member(record, part.name))
            if value is None or isinstance(value, float | list | dict):
                raise LookupError(part.name)
            parts.append(quote(str(value), safe=""))
        else:
            parts.append(part)
    return "".join(parts)


def member(record: Mapping[str, Any], dotted: str) -> Any:
    """Return a member by its dotted name; None where it is not there."""
    here: Any = record
    for name in MEMBER.findall(dotted):
        here = here.get(name) if isinstance(here, Mapping) else None
    return here


def _no_json(reply: Reply, found: JSON | Unreadable) -> ItemError:
    if reply.truncated:
        what = "is longer than what is read of it"
    else:
        what = found.reason if isinstance(found, Unreadable) else "is not what was expected"
    return ItemError(
        kind=ErrorKind.PROTOCOL, status=reply.status, message=f"the server answered {reply.status}, but the body {what}"
    )


def _no_record(reply: Reply, found: JSON | Unreadable, rules: AnswerRules) -> ItemError:
    if reply.truncated or isinstance(found, Unreadable) or rules.record is None:
        return _no_json(reply, found)
    message = f"the server answered {reply.status}, but no record stands at {rules.record} (api.record) in its body"
    return ItemError(kind=ErrorKind.PROTOCOL, status=reply.status, message=message)
