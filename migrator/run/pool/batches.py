"""Several items in one request, each with a result of its own.

Workers that have an item ready meet here. The one that fills a batch, or waits longest for another, sends it for all. A
batch that is refused whole is halved until the bad item is sent by itself.
"""

from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio
import msgspec
from msgspec.structs import replace

from migrator.api.attempts import Answered, Attempts
from migrator.api.expressions import search
from migrator.api.outcome import held
from migrator.api.reader import member
from migrator.api.state import wanted_of
from migrator.job.encodings import encode_json
from migrator.job.json_reader import Unreadable, decode
from migrator.job.rendering import compiled, filled
from migrator.messages import Batch, Reply, Request
from migrator.options import Verify
from migrator.results import ErrorKind, ItemError, Outcome, Status
from migrator.secret import Masker

__all__ = ["Batches", "outcomes_of"]

LINGER_S: Final = 0.05
"""Seconds that an item waits for another, once none is on its way."""

LONGEST_WAITS: Final = 100
"""Times that an item waits so, while others are on their way: five seconds."""

REFUSED_WHOLE: Final = frozenset({400, 409, 412, 413, 422})
"""Statuses that one item's fault can bring upon a whole batch."""


class _Member:
    def __init__(self, request: Request) -> None:
        self.request = request
        self.taken, self.told, self.left = anyio.Event(), anyio.Event(), anyio.Event()
        self.answered: Answered | None = None

    def tell(self, answered: Answered | None) -> None:
        if not self.told.is_set():
            self.answered = answered
            self.told.set()


class Batches:
    """Sends requests in batches; to each item it looks like `Attempts`.

    Args:
        attempts: sends one request until its answer counts.
        batch: how items share a request.
        verify: whether the result of an item is compared with what was sent.
        masker: keeps secrets out of what is recorded.
    """

    def __init__(self, attempts: Attempts, batch: Batch, *, verify: Verify, masker: Masker) -> None:
        self._attempts = attempts
        self._batch = batch
        self._verify = verify
        self._masker = masker
        self._waiting: dict[Hashable, list[_Member]] = {}
        self._coming = 0

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Note that an item is on its way here until the block is left."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    @asynccontextmanager
    async def until_done(self, request: Request) -> AsyncIterator[Answered | None]:
        """Send a request with others, and yield what its own answer is; results are recorded before the block is left.

        Yields:
            The item's answer, or None where the throttle was stopped before there was one.

        Raises:
            WaitTooLong: the quota needs a longer wait than the user allows.
        """
        mine = _Member(request)
        place = (request.url, request.limiter_key, request.headers)
        waiting = self._waiting.setdefault(place, [])
        waiting.append(mine)
        for _ in range(LONGEST_WAITS if len(waiting) < self._batch.size else 0):
            with anyio.move_on_after(LINGER_S):
                await mine.taken.wait()
            if mine.taken.is_set() or not self._coming:
                break
        if not mine.taken.is_set():
            waiting.remove(mine)
            group = [mine, *waiting[: self._batch.size - 1]]
            del waiting[: self._batch.size - 1]
            for one in group:
                one.taken.set()
            async with self._led(mine, group) as answered:
                yield answered
            return
        try:
            await mine.told.wait()
            yield mine.answered
        finally:
            mine.left.set()

    @asynccontextmanager
    async def _led(self, mine: _Member, group: list[_Member]) -> AsyncIterator[Answered | None]:
        """Send a group, halved where it is refused whole, and yield the answer of the one that leads it, at the end."""
        parts = [group]
        try:
            while parts:
                part = parts.pop()
                if mine in part and parts:
                    parts.insert(0, part)
                    continue
                async with self._attempts.until_done(joined([one.request for one in part], self._batch)) as answered:
                    refused = answered is not None and len(part) > 1 and _refused_whole(answered)
                    if not refused:
                        self._tell(part, answered)
                        if mine in part:
                            yield mine.answered
                        for one in part:
                            if one is not mine:
                                await one.left.wait()
                if refused:
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
        finally:
            for one in group:
                one.tell(None)

    def _tell(self, part: list[_Member], answered: Answered | None) -> None:
        if answered is None:
            for one in part:
                one.tell(None)
            return
        requests = [one.request for one in part]
        outcomes = outcomes_of(requests, answered, self._batch, verify=self._verify, masker=self._masker)
        for one, outcome in zip(part, outcomes, strict=True):
            one.tell(replace(answered, outcome=outcome))


def joined(requests: Sequence[Request], batch: Batch) -> Request:
    """Return the request that several items share."""
    documents = [msgspec.json.decode(request.body or b"null") for request in requests]
    body = filled(compiled(batch.body, {})({}), {"@items": documents})
    return replace(
        requests[0],
        body=encode_json(body),
        # It names no state of its own: each item is compared with its own result.
        wanted=b"null",
        secrets=tuple(secret for request in requests for secret in request.secrets),
        idempotent=all(request.idempotent for request in requests),
        members=tuple(requests),
    )


def outcomes_of(
    requests: Sequence[Request], answered: Answered, batch: Batch, *, verify: Verify, masker: Masker
) -> list[Outcome]:
    """Return what became of each item of a batch, by its place among the results or by what names it."""
    if (
        answered.outcome.status is not Status.SUCCEEDED
        or not isinstance(answered.answer, Reply)
        or batch.result is None
    ):
        return [answered.outcome for _ in requests]
    document = decode(answered.answer.body)
    results = None if isinstance(document, Unreadable) else search(batch.result, document)
    if not isinstance(results, list):
        return [_unknown(answered.answer, f"has no list of results at {batch.result}") for _ in requests]
    if batch.match is None:
        if len(results) != len(requests):
            words = f"has {len(results)} results of {len(requests)} items"
            return [_unknown(answered.answer, words) for _ in requests]
        found: list[Any] = results
    else:
        by_name = {str(member(one, batch.match)): one for one in results if isinstance(one, dict)}
        found = [by_name.get(_name(request, batch.match)) for request in requests]
    return [
        _judged(request, result, answered.answer, batch, verify=verify, masker=masker)
        for request, result in zip(requests, found, strict=True)
    ]


def _judged(request: Request, result: Any, reply: Reply, batch: Batch, *, verify: Verify, masker: Masker) -> Outcome:
    if result is None:
        return _unknown(reply, "has no result of this item")
    if batch.error is not None and (said := search(batch.error, result)):
        words = said if isinstance(said, str) else msgspec.json.encode(said).decode()
        message = f"the server refused it in a batch: {masker.server_text(words, request.secrets)[:500]}"
        error = ItemError(kind=ErrorKind.VALIDATION, status=reply.status, message=message)
        return Outcome(status=Status.FAILED, error=error)
    wanted = wanted_of(request) or {}
    if verify is Verify.NONE or not isinstance(result, dict) or not wanted.keys() & result.keys() - {batch.match}:
        return Outcome(status=Status.SUCCEEDED)
    return held(request, result, status=reply.status)


def _name(request: Request, match: str) -> str:
    """Return what names an item among the results: the member of its own document, or its key."""
    value = member(msgspec.json.decode(request.body or b"{}"), match)
    return request.key if value is None else str(value)


def _unknown(reply: Reply, words: str) -> Outcome:
    message = f"the server answered {reply.status}, but the answer {words}: what became of it is not known"
    return Outcome(
        status=Status.IN_DOUBT, error=ItemError(kind=ErrorKind.PROTOCOL, status=reply.status, message=message)
    )


def _refused_whole(answered: Answered) -> bool:
    return isinstance(answered.answer, Reply) and not answered.stops and answered.answer.status in REFUSED_WHOLE
