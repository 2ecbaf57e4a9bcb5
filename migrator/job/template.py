"""The request that an item becomes: a job's template, compiled once."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from migrator.errors import InputChanged
from migrator.job.items import Item, read_items
from migrator.job.job_file import Job
from migrator.job.placeholders import Column, columns_in, parse
from migrator.job.problems import Problem, compile_schema, explain
from migrator.job.source import Source
from migrator.messages import JSON, Request
from migrator.secret import Secret

__all__ = ["Template", "origin", "requests_of"]

PLAIN_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*")
"""What nearly every id is; such a one needs no closer look."""

is_plain_segment: Final = PLAIN_SEGMENT.fullmatch

NOTHING: Final = object()
"""What an absent value renders to: the member around it is left out."""

Render = Callable[[Mapping[str, Any]], Any]
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class Template:
    """Turns items into requests; made by `Template.compile`."""

    def __init__(self, job: Job, base_url: str) -> None:
        self._method = job.request.method
        self._idempotent = job.request.idempotent
        self._path = parse(job.request.path)
        self._path_columns = tuple(part.name for part in self._path if isinstance(part, Column))
        self._base_url = base_url
        self._origin = origin(base_url)
        self._secrets = tuple(sorted(job.secrets))
        self._rules = job.api.rules
        self._limiter_column = job.api.limiter_column
        self._places: dict[tuple[str | int, ...], str] = {}
        if job.request.has_body:
            self._render = self._compiled(job.request.body, ())
        else:
            self._render = self._all_columns
        limits = job.api.limits.get(f"{job.request.method} {job.request.path}")
        self._limits = compile_schema(limits) if limits is not None else None
        self.path_has_secret = any(column in job.secrets for column in self._path_columns)

    @classmethod
    def compile(cls, job: Job, *, base_url: str | None = None) -> "Template":
        """Compile a job's template.

        Args:
            job: the job.
            base_url: another server than the API profile's.
        """
        return cls(job, (base_url or job.api.base_url).rstrip("/"))

    def request(self, item: Item) -> Request:
        """Return an item's request; the item has to be without problems."""
        values = item.values
        path = "".join(part if isinstance(part, str) else _segment(values[part.name]) for part in self._path)
        body = self._render(values)
        key = "" if self._limiter_column is None else f"{values.get(self._limiter_column, '')}@"
        return Request(
            item=item.number,
            key=item.key,
            method=self._method,
            url=self._base_url + path,
            body=None if body is NOTHING else _encode(body),
            rules=self._rules,
            secrets=tuple(value for name in self._secrets if isinstance(value := values.get(name), Secret)),
            limiter_key=key + self._origin,
            idempotent=self._idempotent,
        )

    def restoring(self, request: Request, wanted: Mapping[str, JSON]) -> Request:
        """Return a request that brings about another state of the same record."""
        state = _encode(wanted)
        return replace(request, method=self._method, body=state, wanted=state)

    def is_fine(self, item: Item) -> bool:
        """Tell whether an item can be sent; `problems` says why it cannot."""
        values = item.values
        for column in self._path_columns:
            value = values.get(column)
            if type(value) is not str or not is_plain_segment(value):
                return False
        body = self._render(values)
        return body is not NOTHING and (self._limits is None or self._limits.is_valid(body))

    def problems(self, item: Item) -> Iterator[tuple[str | None, str]]:
        """Yield the column and the message of each thing that keeps an item from being sent."""
        values = item.values
        for column in self._path_columns:
            if message := _unsafe_segment(values.get(column)):
                yield column, message
        body = self._render(values)
        if body is NOTHING:
            if self._method != "DELETE":
                yield None, "has nothing to send: every value is empty"
        elif self._limits is not None and not self._limits.is_valid(body):
            for path, message in explain(self._limits.iter_errors(body)):
                yield self._column(path), message

    def _column(self, path: tuple[str | int, ...]) -> str:
        """Return the column that fills a place in the body, or the place itself."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._places:
                return self._places[path[:end]]
        return ".".join(str(step) for step in path)

    def _compiled(self, value: Any, place: tuple[str | int, ...]) -> Render:
        if isinstance(value, str):
            return self._compiled_text(value, place)
        if isinstance(value, Mapping):
            members = {name: self._compiled(member, (*place, name)) for name, member in value.items()}
            return _compiled_object(members, {name for name, member in value.items() if not _has_columns(member)})
        if isinstance(value, list):
            entries = [self._compiled(entry, (*place, index)) for index, entry in enumerate(value)]
            return lambda values: [one for entry in entries if (one := entry(values)) is not NOTHING]
        return lambda _: value

    def _compiled_text(self, text: str, place: tuple[str | int, ...]) -> Render:
        parts = parse(text)
        for column in columns_in(text):
            self._places.setdefault(place, column)
        match parts:
            case (Column(name),):

                def filled(values: Mapping[str, Any]) -> Any:
                    value = values.get(name, NOTHING)
                    return value.reveal() if type(value) is Secret else value

                return filled
            case (str(literal),):
                return lambda _: literal
            case ():
                return lambda _: ""
            case _:
                return lambda values: _joined(parts, values)

    def _all_columns(self, values: Mapping[str, Any]) -> Any:
        """Return every column but those in the path; a dotted name nests."""
        body: dict[str, Any] = {}
        for column, value in values.items():
            if column in self._path_columns or column == self._limiter_column:
                continue
            *above, name = column.split(".")
            inner = body
            for step in above:
                nested = inner.setdefault(step, {})
                inner = nested if isinstance(nested, dict) else {}
            inner[name] = _plain(value)
        return body or NOTHING


def _compiled_object(members: Mapping[str, Render], constant: set[str]) -> Render:
    """Return what renders an object: a copy of its constant members, with the others put into their places."""
    frame = {name: render({}) if name in constant else None for name, render in members.items()}
    filled = tuple((name, render) for name, render in members.items() if name not in constant)

    def rendered(values: Mapping[str, Any]) -> Any:
        body = frame.copy()
        for name, render in filled:
            value = render(values)
            if value is NOTHING:
                del body[name]
            else:
                body[name] = value
        return body if body or not members else NOTHING

    return rendered


def _has_columns(value: Any) -> bool:
    return any(True for _ in columns_in(value))


def _plain(value: Any) -> Any:
    return value.reveal() if isinstance(value, Secret) else value


def _joined(parts: tuple[str | Column, ...], values: Mapping[str, Any]) -> Any:
    """Return a text with its placeholders filled, or nothing where one of them is empty."""
    texts = []
    for part in parts:
        if isinstance(part, Column):
            value = values.get(part.name)
            if value is None:
                return NOTHING
            texts.append(_text(value))
        else:
            texts.append(part)
    return "".join(texts)


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if isinstance(value, Secret):
        return value.reveal()
    return _encode(value).decode()


def _segment(value: Any) -> str:
    text = _text(value)
    return text if is_plain_segment(text) else quote(text, safe="")


def _unsafe_segment(value: Any) -> str | None:
    """Return why a value cannot be one segment of a path, or None where it can.

    Percent-encoding keeps slashes and question marks in their segment, but dots are not encoded, and clients and
    proxies fold them: an id of ``..`` would address the collection above (RFC 3986, section 5.2.4).
    """
    if isinstance(value, bool | float | Decimal | list | dict) or value is None:
        return "is part of the path, and has to be a text or a whole number"
    text = _text(value)
    if not text.strip():
        return "is part of the path, and may not be empty"
    if text.strip() in {".", ".."}:
        return "is part of the path, and may not be . or .."
    if not text.isprintable():
        return "is part of the path, and may not hold control characters"
    return None


def origin(url: str) -> str:
    """Return a URL's scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


STATE_ITEMS: Final = 16
"""Items between two looks at whether somebody writes to their file; a look takes as long as rendering three."""


def requests_of(
    source: Source,
    job: Job,
    template: Template,
    *,
    total: int,
    only: Container[int] | None = None,
    finished: Iterable[int] = (),
) -> Iterator[Request]:
    """Yield the requests of all items that have no result: a merge of the items with the ledger, both in order.

    Raises:
        InputChanged: the items are not what was checked any more.
    """
    ends = iter(finished)
    done = next(ends, None)
    state = source.state()
    for item in read_items(source.rewound(), form=source.form, job=job, name=source.name):
        if isinstance(item, Problem) or (item.number % STATE_ITEMS == 0 and source.state() != state):
            raise InputChanged(f"{source.name} was changed while it was being sent")
        if item.number > total:
            return
        while done is not None and done < item.number:
            done = next(ends, None)
        if done != item.number and (only is None or item.number in only):
            yield template.request(item)
