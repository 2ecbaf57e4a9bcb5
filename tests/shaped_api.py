"""APIs of other shapes than the sandbox's, as a real server on loopback: envelopes, encodings, ETags, lists.

It knows nothing of the program: it applies patches by the RFCs itself, and keeps every request that it saw.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from server_thread import served

__all__ = ["Seen", "ShapedApi", "merge_patch", "serve"]


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's document."""
        return json.loads(self.body)


@dataclass
class ShapedApi:
    """A server of things at `/things/{id}`.

    Attributes:
        records: what it holds, by id.
        wrap: the member around a record in answers; None for a bare record.
        wrap_requests: whether bodies are wrapped as well.
        etags: whether it gives ETags, and heeds If-Match.
        pages: makes the answer of a list from the request and all records; None for no list.
        answer: makes another answer to a request, or None for the ordinary one.
        seen: every request, in order.
    """

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    wrap: str | None = None
    wrap_requests: bool = False
    etags: bool = False
    pages: Callable[[web.Request, list[dict[str, Any]]], web.Response] | None = None
    answer: Callable[["ShapedApi", web.Request, bytes], web.Response | None] | None = None
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    def writes(self) -> list[Seen]:
        """Return the requests that were no reads."""
        return [one for one in self.seen if one.method != "GET"]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.raw_path, headers, body))
        if self.answer is not None and (other := self.answer(self, request, body)) is not None:
            return other
        name = request.path.rpartition("/")[2]
        if request.method == "GET" and self.pages is not None and name not in self.records:
            return self.pages(request, list(self.records.values()))
        if name not in self.records:
            return web.json_response({"message": "no such thing"}, status=404)
        record = self.records[name]
        if request.method != "GET":
            if self.etags and headers.get("if-match", self.etag(name)) != self.etag(name):
                return web.json_response({"message": "precondition failed"}, status=412)
            try:
                self.records[name] = record = self._written(record, request, body)
            except (ValueError, KeyError, TypeError) as error:
                return web.json_response({"message": f"refused: {error!r}"}, status=400)
        answer = record if self.wrap is None else {self.wrap: record}
        return web.json_response(answer, headers={"ETag": self.etag(name)} if self.etags else {})

    def etag(self, name: str) -> str:
        """Return what changes with a record."""
        return f'"{hash(json.dumps(self.records[name], sort_keys=True)) & 0xFFFFFFFF:08x}"'

    def _written(self, record: dict[str, Any], request: web.Request, body: bytes) -> dict[str, Any]:
        if request.content_type == "application/x-www-form-urlencoded":
            return dict(merge_patch(record, _unbracketed(body.decode())))
        document = json.loads(body)
        if request.content_type == "application/json-patch+json":
            whole = {self.wrap: record} if self.wrap_requests and self.wrap is not None else record
            patched = json_patch(whole, document)
            return dict(patched[self.wrap]) if self.wrap_requests and self.wrap is not None else patched
        if self.wrap_requests and self.wrap is not None:
            document = document[self.wrap]
        if request.method == "PUT":
            return dict(document)
        return dict(merge_patch(record, document))


def merge_patch(target: Any, patch: Any) -> Any:
    """Return a document after a merge patch (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def json_patch(target: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a document after add, replace, remove and test on objects (RFC 6902, section 4)."""
    result = deepcopy(target)
    for operation in operations:
        *above, name = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
        here = result
        for step in above:
            here = here[step]
        if operation["op"] in {"replace", "remove", "test"} and name not in here:
            raise KeyError(operation["path"])
        if operation["op"] == "remove":
            del here[name]
        elif operation["op"] == "test":
            if here[name] != operation["value"]:
                raise ValueError("test failed")
        elif operation["op"] in {"add", "replace"}:
            here[name] = operation["value"]
        else:
            raise ValueError(operation["op"])
    return result


def _unbracketed(text: str) -> dict[str, Any]:
    """Return the object that `a[b]=1` stands for; an empty value removes a member, as Stripe's API has it."""
    result: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        steps = name.replace("]", "").split("[")
        here = result
        for step in steps[:-1]:
            here = here.setdefault(step, {})
        here[steps[-1]] = value or None
    return result


@contextmanager
def serve(api: ShapedApi) -> Iterator[ShapedApi]:
    """Serve an API from a thread of its own, and stop on leaving."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", api.handle)
    with served(app) as api.url:
        yield api
