"""Reads what a server holds, one record or a whole collection, through the same throttle as writes."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final
from urllib.parse import quote, urldefrag, urljoin, urlsplit

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from migrator.api.outcome import Retry, RetryPolicy, Stop, classify, decide
from migrator.api.state import record_in
from migrator.errors import ReadingError
from migrator.job.api_profile import Collection
from migrator.job.json_reader import Unreadable, decode
from migrator.job.placeholders import Column, parse
from migrator.messages import JSON, AnswerRules, Reply, Request, Sender
from migrator.options import Verify
from migrator.ratelimit.throttle import Throttle
from migrator.results import ErrorKind, ItemError, Outcome, Status
from migrator.secret import Masker

__all__ = ["Page", "Reader", "Record", "item_url", "member"]

URL_CHARACTERS: Final = "%:/?#[]@!$&'()*+,;="
"""What is left as it is in a URL that a server names: delimiters, and what is encoded already (RFC 3986)."""

MEMBER: Final = re.compile(r"[^.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a server says of one record.

    Attributes:
        document: the record; None where it was not shown.
        error: why not.
    """

    document: Mapping[str, Any] | None = None
    error: ItemError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a collection.

    Attributes:
        records: what stands on it.
        next_url: the next one's, on the same origin; None at the end.
    """

    records: list[Mapping[str, Any]]
    next_url: str | None


class Reader:
    """Makes GET requests until one has an answer that counts.

    Args:
        throttle: gives leave to send.
        client: makes the attempts.
        masker: keeps secrets out of what is recorded.
        max_attempts: tries a request, the first included.
        rng: the source of jitter.
    """

    def __init__(self, *, throttle: Throttle, client: Sender, masker: Masker, max_attempts: int, rng: Random) -> None:
        self._throttle = throttle
        self._client = client
        self._masker = masker
        self._policy = RetryPolicy(max_attempts=max_attempts)
        self._rng = rng

    async def record(self, request: Request) -> Record:
        """Return the record that a request would write.

        Raises:
            ReadingError: credentials are refused, the server cannot be reached, or the throttle was stopped.
            WaitTooLong: the quota makes us wait for longer than the user allows.
        """
        outcome, reply = await self._get(replace(request, method="GET", body=None, idempotent=True))
        if outcome.error is not None or reply is None:
            return Record(error=outcome.error)
        document = decode(reply.body)
        record = None if reply.truncated or isinstance(document, Unreadable) else record_in(document, request.rules)
        if not isinstance(record, Mapping):
            return Record(error=_no_record(reply, document, request.rules))
        return Record(document=record)

    async def pages(self, collection: Collection, *, base_url: str, start: str | None = None) -> AsyncIterator[Page]:
        """Yield the pages of a collection.

        Args:
            collection: where it is, and how its pages hang together.
            base_url: the server's.
            start: the URL of the page to begin with.

        Raises:
            ReadingError: a page cannot be read, or leads to another origin.
            WaitTooLong: the quota makes us wait for longer than the user allows.
        """
        origin = urlsplit(base_url)
        records_of = jmespath.compile(collection.items)
        next_of = jmespath.compile(collection.next) if collection.next is not None else None
        url: str | None = start or base_url + collection.path
        while url is not None:
            request = Request(
                item=0, key="", method="GET", url=url, body=None, limiter_key=f"{origin.scheme}://{origin.netloc}"
            )
            outcome, reply = await self._get(request)
            if outcome.error is not None or reply is None:
                raise ReadingError(outcome.error)
            page = decode(reply.body)
            records = None if reply.truncated or isinstance(page, Unreadable) else _search(records_of, page)
            if not isinstance(records, list):
                raise ReadingError(_no_json(reply, page))
            url = _next_url(_search(next_of, page) if next_of is not None else None, at=url)
            yield Page(records=[one for one in records if isinstance(one, dict)], next_url=url)

    async def _get(self, request: Request) -> tuple[Outcome, Reply | None]:
        attempt = 1
        while True:
            async with self._throttle.permit(request.limiter_key) as permit:
                if not permit.granted:
                    raise ReadingError(None)
                answer = await self._client.send(request)
                signal = permit.received(answer)
            outcome = classify(
                request,
                answer,
                verify=Verify.NONE,
                mask=lambda text: self._masker.server_text(text, request.secrets),
                signal=signal,
            )
            decision = decide(outcome, attempt=attempt, policy=self._policy, rng=self._rng)
            if isinstance(decision, Stop):
                raise ReadingError(outcome.error)
            if not isinstance(decision, Retry):
                return outcome, answer if isinstance(answer, Reply) and outcome.status is Status.SUCCEEDED else None
            attempt += decision.counted
            await self._throttle.sleep(decision.delay_s)


def item_url(collection: Collection, record: Mapping[str, Any], *, base_url: str) -> str | None:
    """Return a record's own URL, or None where it lacks a member that stands in it."""
    parts = []
    for part in parse(collection.item):
        if isinstance(part, Column):
            value = member(record, part.name)
            if not isinstance(value, str | int):
                return None
            parts.append(quote(str(value), safe=""))
        else:
            parts.append(part)
    return base_url + "".join(parts)


def member(record: Mapping[str, Any], dotted: str) -> Any:
    """Return a member by its dotted name; None where it is not there."""
    here: Any = record
    for name in MEMBER.findall(dotted):
        here = here.get(name) if isinstance(here, Mapping) else None
    return here


def _search(expression: ParsedResult, page: Any) -> Any:
    """Return what an expression finds in a page; None where a value has not the type that its functions need."""
    try:
        return expression.search(page)
    except (JMESPathError, RecursionError):
        return None


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


def _next_url(told: Any, *, at: str) -> str | None:
    """Return the next page's URL; another origin is refused, since credentials go along."""
    if not isinstance(told, str) or not told:
        return None
    try:
        url = urljoin(at, told)
        if urlsplit(url)[:2] == urlsplit(at)[:2]:
            # A fragment is not sent, and blanks and the like are no part of a URL (RFC 3986, section 2).
            url = quote(urldefrag(url).url, safe=URL_CHARACTERS)
    except ValueError:
        message = "the next page's address is no URL"
        raise ReadingError(ItemError(kind=ErrorKind.PROTOCOL, message=message)) from None
    if urlsplit(url)[:2] != urlsplit(at)[:2]:
        message = "the next page is on another server, to which no credentials are sent"
        raise ReadingError(ItemError(kind=ErrorKind.PROTOCOL, message=message))
    if url == at:
        raise ReadingError(ItemError(kind=ErrorKind.PROTOCOL, message="the page names itself as the next page"))
    return url
