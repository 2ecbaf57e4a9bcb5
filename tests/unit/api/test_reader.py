"""A collection is read to its end, and a server that does not heed how it goes on is found out."""

import time
from collections.abc import Callable
from random import Random
from typing import Any

import anyio
import msgspec
import pytest

from migrator.api.attempts import Attempts
from migrator.api.outcome import RetryPolicy
from migrator.api.reader import Reader
from migrator.errors import PagingError, ReadingError
from migrator.job.profile.collection import Collection, Paging, PagingKind
from migrator.messages import Answer, Instant, Reply, Request
from migrator.ratelimit.throttle import Throttle
from migrator.secret import Fingerprinter, Masker

HOST = "https://api.example"


class Server:
    """Answers each request by its path and query, and keeps what was asked."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self._answer = answer

    async def send(self, request: Request) -> Answer:
        """Answer a request."""
        self.asked.append(request.url.removeprefix(HOST))
        self.bodies.append(msgspec.json.decode(request.body or b"null"))
        now = Instant(time.monotonic(), time.time())
        body = msgspec.json.encode(self._answer(self.asked[-1]))
        return Reply(status=200, headers={}, body=body, sent=now, received=now)


def read(server: Server, paging: Paging | None, items: str = "data", query: str | None = None) -> list[Any]:
    """Read a collection of things from a server."""
    collection = Collection(path="/things", items=items, item="/things/{id}", paging=paging, query=query)

    async def main() -> list[Any]:
        async with Throttle() as throttle:
            attempts = Attempts(
                throttle=throttle,
                client=server,
                policy=RetryPolicy(),
                rng=Random(1),
                masker=Masker(Fingerprinter(b"k" * 32)),
            )
            pages = Reader(attempts).pages(collection, base_url=HOST)
            return [one async for page in pages for one in page.records]

    return anyio.run(main)


def test_an_offset_is_counted_to_an_empty_page() -> None:
    """Without a total the list ends with the first page that has nothing."""
    things = [{"id": number} for number in range(5)]

    def answer(place: str) -> Any:
        start = int(place.partition("offset=")[2] or 0)
        return {"data": things[start : start + 2]}

    server = Server(answer)

    assert read(server, Paging(by=PagingKind.OFFSET)) == things
    assert server.asked[-1] == "/things?offset=5"


@pytest.mark.parametrize("by", [PagingKind.OFFSET, PagingKind.PAGE])
def test_a_server_that_answers_the_same_page_for_ever(by: PagingKind) -> None:
    """A number that the server does not heed is an error, and no list without an end."""
    server = Server(lambda _: {"data": [{"id": 1}, {"id": 2}]})

    with pytest.raises(PagingError, match="does not heed"):
        read(server, Paging(by=by))
    assert len(server.asked) == 2


def test_a_list_of_something_else_is_no_list_without_records() -> None:
    """An expression that leads to texts is said to, and not read as a collection of nothing."""
    with pytest.raises(PagingError, match=r"/things: what stands at data\[\].id are no records"):
        read(Server(lambda _: {"data": [{"id": "a"}, {"id": "b"}]}), None, items="data[].id")


QUERY = "query($after: String) { things(after: $after) { nodes { id } pageInfo { endCursor } } }"


def test_a_list_by_a_graphql_query() -> None:
    """The cursor goes into a variable, and errors in a 200 are no empty list."""
    pages = iter([[1, 2], [3]])

    def answer(_: str) -> Any:
        nodes = [{"id": one} for one in next(pages)]
        cursor = None if nodes[-1]["id"] == 3 else "a&b"
        return {"data": {"things": {"nodes": nodes, "pageInfo": {"endCursor": cursor}}}}

    server = Server(answer)
    paging = Paging(by=PagingKind.CURSOR, source="data.things.pageInfo.endCursor", into="after")

    assert read(server, paging, "data.things.nodes", QUERY) == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert server.asked == ["/things", "/things"]
    assert server.bodies == [{"query": QUERY, "variables": variables} for variables in ({}, {"after": "a&b"})]
    with pytest.raises(ReadingError, match="no such field"):
        read(Server(lambda _: {"errors": [{"message": "no such field"}]}), paging, "data.things.nodes", QUERY)
