"""The request that an item becomes: a job's template, compiled once."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from migrator.errors import InputChanged
from migrator.job.encodings import (
    MEDIA_TYPES,
    Encoding,
    encode_document,
    encode_json,
    graphql_rules,
    graphql_variables,
    patch,
)
from migrator.job.items import Item, read_items
from migrator.job.job_file import Job, RequestTemplate
from migrator.job.placeholders import Column, parse, placeholders_in
from migrator.job.problems import UNKNOWN, Problem, compile_schema, explain, hints, member_names
from migrator.job.rendering import (
    LATER,
    NOTHING,
    SPREAD,
    LackingError,
    compiled,
    compiled_text,
    filled,
    filled_text,
    is_plain_segment,
    path_of,
    place_of,
    plain,
    unsafe_segment,
    without_marks,
)
from migrator.job.source import Source
from migrator.messages import AnswerRules, Request
from migrator.secret import Secret, has_mask

__all__ = ["Template", "needs_record", "origin", "requests_of", "rules_of", "with_run"]

CONTROLS: Final = re.compile(r"[^\t\x20-\x7e]")
MARK: Final = re.compile(r"\x00@[^\x00]*\x00")


class Template:
    """Turns items into requests; made by `Template.compile`."""

    def __init__(self, job: Job, base_url: str) -> None:
        request = job.request
        self._method = request.method
        self._idempotent = request.idempotent
        self._encoding = request.encoding
        self._query = request.query
        self._path = parse(request.path)
        self._path_columns = tuple(part.name for part in self._path if isinstance(part, Column))
        self._base_url = base_url
        self._origin = origin(base_url)
        self._secrets = tuple(sorted(job.secrets))
        self._rules = rules_of(job)
        self._limiter_column = job.api.limiter_column
        self._auth = job.api.auth
        self._beside = {*self._path_columns, self._limiter_column, *job.api.auth.columns.values()}
        self._places: dict[tuple[str | int, ...], str] = {}
        self._headers = [
            (name, compiled_text(text, quoted=_is_quoted_key(name, text))) for name, text in _with_media_type(job)
        ]
        self._numbered = "@item" in placeholders_in([request.body, request.wanted, *request.headers.values()])
        self._frame = compiled(request.body, {}) if request.has_wanted and request.has_body else None
        if request.has_wanted:
            self._render = compiled(request.wanted, self._places)
        elif request.has_body:
            self._render = compiled(request.body, self._places)
        else:
            self._render = self._all_columns
        self._bare = not request.has_wanted and self._encoding is Encoding.JSON
        self._needs_record = needs_record(request)
        self._read = None if request.read is None else (parse(request.read.path), request.read.query)
        limits = _limits(job)
        self._limits = compile_schema(limits) if limits is not None else None
        self._known = job.secrets | set(member_names(limits or {}))
        self.patches = request.encoding is Encoding.JSON_PATCH
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
        """Return an item's request; the item has to be without problems.

        Where it cannot be made without the record, `complete` makes the rest of it.
        """
        values = {**item.values, "@item": item.number} if self._numbered else item.values
        key = "" if self._limiter_column is None else f"{values.get(self._limiter_column, '')}@"
        state = self._render(values)
        body = None if state is NOTHING else encode_json(state)
        secrets = tuple(value for name in self._secrets if isinstance(value := values.get(name), Secret))
        credentials = None
        if self._auth.columns:
            credentials = self._auth.header_of(values)
            secrets = (*secrets, credentials[1])
            key += f"{blake2b(credentials[1].reveal().encode(), digest_size=8).hexdigest()}@"
        request = Request(
            item=item.number,
            key=item.key,
            method=self._method,
            url=self._base_url + path_of(self._path, values),
            body=body,
            rules=self._rules,
            secrets=secrets,
            credentials=credentials,
            limiter_key=key + self._origin,
            idempotent=self._idempotent,
            headers=tuple(
                (name, str(text)) for name, render in self._headers if (text := render(values)) is not NOTHING
            ),
            needs_record=self._needs_record,
        )
        if self._read is not None:
            request = replace(request, reading=self._reading(request, values))
        if self._bare and not self._needs_record:
            return request
        frame = self._framed(values)
        request = replace(
            request,
            wanted=encode_json(without_marks(state)) if self._bare else body,
            frame=encode_json(state if self._bare else frame) if self._bare or frame is not None else None,
        )
        return request if self._needs_record else self.complete(request)

    def complete(
        self,
        request: Request,
        *,
        wanted: Mapping[str, Any] | None = None,
        removed: Iterable[str] = (),
        record: Mapping[str, Any] | None = None,
        etag: str | None = None,
    ) -> Request:
        """Return a request with what depends on the record, or with another state than its own.

        Args:
            request: made by `request`.
            wanted: the state to bring about; None for the request's own.
            removed: the pointers of the members that are to go.
            record: the record as it is; None where it was not read.
            etag: the record's ETag.

        Raises:
            LackingError: the record or its ETag lacks what the request needs.
        """
        other = wanted is not None
        text = request.wanted or b"{}"
        known: dict[str, Any] = {"@record": record or {}} | ({} if etag is None else {"@etag": etag})
        state: Mapping[str, Any] = msgspec.json.decode(text) if wanted is None else wanted
        document = patch(self._encoding, state, removed=frozenset(removed), record=record, rules=self._rules)
        frame = None if request.frame is None else msgspec.json.decode(request.frame)
        if self._encoding is Encoding.JSON_PATCH:
            # Operations have no envelope; where one is declared, it is where the record stands in the API's document.
            document = [{**one, "path": place_of("@wanted", frame) + one["path"]} for one in document]
        elif frame is not None and not (other and self._bare):
            document = filled(frame, {**known, "@wanted": document})
        batch = self._rules.batch
        if other and self._bare and batch is not None and batch.match is not None:
            # What names the item among others is sent with every state of it.
            sent = msgspec.json.decode(text)
            document = {batch.match: sent.get(batch.match, request.key), **document}
        if self._encoding is Encoding.GRAPHQL:
            document = {"query": self._query, "variables": document}
        if self._encoding is Encoding.PUT_MERGE and has_mask(document):
            raise LackingError("the API masks a member of the record, and a PUT of the whole would write the mask")
        return replace(
            request,
            body=encode_document(self._encoding, document),
            wanted=encode_json(state) if other or request.wanted is not None else None,
            headers=self._later(request.headers, etag),
        )

    def _later(self, headers: tuple[tuple[str, str], ...], etag: str | None) -> tuple[tuple[str, str], ...]:
        """Return headers with the ETag in its places; a PUT of the whole record is sent for that state alone."""
        if any(f"{LATER}@etag{LATER}" in text for _, text in headers):
            if etag is None:
                raise LackingError("{@etag} is not known: the answer with the record has no ETag")
            return tuple((name, filled_text(text, {"@etag": etag})) for name, text in headers)
        named = {name.lower() for name, _ in headers}
        if self._encoding is Encoding.PUT_MERGE and etag is not None and "if-match" not in named:
            return (*headers, ("If-Match", etag))
        return headers

    def _framed(self, values: Mapping[str, Any]) -> Any:
        """Return what stands around the document, with its marks; None where nothing does."""
        frame = None if self._frame is None else self._frame(values)
        if self._encoding is not Encoding.GRAPHQL:
            return None if frame is NOTHING else frame
        named = {name: plain(values[name]) for name in graphql_variables(self._query or "") if name in values}
        return {**named, **(frame if isinstance(frame, Mapping) else {SPREAD: True})}

    def _reading(self, request: Request, values: Mapping[str, Any]) -> Request:
        """Return the request that reads the record, where that is not a GET of the same URL."""
        path, query = self._read or ((), None)
        body = None
        if query is not None:
            names = graphql_variables(query)
            body = encode_json(
                {"query": query, "variables": {name: plain(values[name]) for name in names if name in values}}
            )
        return replace(
            request, method="GET" if query is None else "POST", url=self._base_url + path_of(path, values), body=body
        )

    def is_fine(self, item: Item) -> bool:
        """Tell whether an item can be sent; `problems` says why it cannot."""
        values = item.values
        for column in self._path_columns:
            value = values.get(column)
            if type(value) is not str or not is_plain_segment(value):
                return False
        body = self._render(values)
        return (
            body is not NOTHING
            and self._wrong_credentials(values) is None
            and self._headers_are_fine(values)
            and (self._limits is None or self._limits.is_valid(body))
        )

    def problems(self, item: Item) -> Iterator[tuple[str | None, str]]:
        """Yield the column and the message of each thing that keeps an item from being sent."""
        values = item.values
        for column in self._path_columns:
            if message := unsafe_segment(values.get(column)):
                yield column, message
        if (message := self._wrong_credentials(values)) is not None:
            yield None, message
        for name, render in self._headers:
            if not _is_header(render(values)):
                yield None, f"makes a header {name} that holds a line break, or is not ASCII"
        body = self._render(values)
        if body is NOTHING:
            if self._method != "DELETE":
                yield None, "has nothing to send: every value is empty"
        elif self._limits is not None and not self._limits.is_valid(body):
            found = [(self._column(path), message) for path, message in explain(self._limits.iter_errors(body))]
            for (column, message), hint in zip(found, hints((one for one, _ in found), self._known), strict=True):
                yield column, "unknown column" + hint if message == UNKNOWN else message

    def _wrong_credentials(self, values: Mapping[str, Any]) -> str | None:
        if self._auth.columns:
            try:
                self._auth.header_of(values)
            except ValueError as error:
                return f"the column {error}"
        return None

    def _headers_are_fine(self, values: Mapping[str, Any]) -> bool:
        return all(_is_header(render(values)) for _, render in self._headers)

    def _column(self, path: tuple[str | int, ...]) -> str:
        """Return the column that fills a place in the body, or the place itself."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._places:
                return self._places[path[:end]]
        return ".".join(str(step) for step in path)

    def _all_columns(self, values: Mapping[str, Any]) -> Any:
        """Return every column but those in the path; a dotted name nests."""
        body: dict[str, Any] = {}
        for column, value in values.items():
            if column in self._beside:
                continue
            *above, name = column.split(".")
            inner = body
            for step in above:
                nested = inner.setdefault(step, {})
                inner = nested if isinstance(nested, dict) else {}
            inner[name] = plain(value)
        return body or NOTHING


def rules_of(job: Job) -> AnswerRules:
    """Return how a job's answers are read."""
    rules = job.api.rules if job.request.batch is None else replace(job.api.rules, batch=job.request.batch)
    if job.request.encoding is Encoding.FORM:
        return replace(rules, as_text=True)
    if job.request.encoding is not Encoding.GRAPHQL:
        return rules
    return replace(graphql_rules(rules), record=rules.record or "data.* | [0]")


def with_run(request: Request, run: str) -> Request:
    """Return a request with a run's id in the places of {@run} in its headers."""
    if not any(LATER in text for _, text in request.headers):
        return request
    return replace(request, headers=tuple((name, filled_text(text, {"@run": run})) for name, text in request.headers))


def needs_record(request: RequestTemplate) -> bool:
    """Tell whether a request cannot be made before its record was read."""
    named = placeholders_in([request.body, request.wanted, *request.headers.values()])
    return request.encoding is Encoding.PUT_MERGE or any(
        name == "@etag" or name.startswith("@record.") for name in named
    )


def _with_media_type(job: Job) -> list[tuple[str, str]]:
    """Return a request's own headers; the encoding's media type is one where no other is given."""
    headers = list(job.request.headers.items())
    media_type = MEDIA_TYPES[job.request.encoding]
    given = {name.lower() for name in (*job.request.headers, *job.api.headers)}
    if media_type != MEDIA_TYPES[Encoding.JSON] and "content-type" not in given:
        headers.append(("Content-Type", media_type))
    return headers


def _is_quoted_key(name: str, text: str) -> bool:
    """Tell whether a header has the form of draft-ietf-httpapi-idempotency-key-header: a text in quotes."""
    return name.lower() == "idempotency-key" and len(text) > 1 and text[0] == text[-1] == '"'


def _limits(job: Job) -> Mapping[str, Any] | None:
    """Return the API's limits of a request, found by its path's shape: what its columns are called does not matter."""
    if (
        job.request.encoding not in {Encoding.JSON, Encoding.MERGE_PATCH}
        or job.request.has_wanted * job.request.has_body
    ):
        return None
    shape = _shape(f"{job.request.method} {job.request.path}")
    return next((limits for place, limits in job.api.limits.items() if _shape(place) == shape), None)


def _shape(place: str) -> str:
    return re.sub(r"\{[^{}]*\}", "{}", place.partition("?")[0])


def _is_header(text: Any) -> bool:
    """Tell whether a text can be a header's value (RFC 9110, section 5.5); marks are filled in later."""
    return text is NOTHING or (isinstance(text, str | int) and CONTROLS.search(MARK.sub("", str(text))) is None)


def origin(url: str) -> str:
    """Return a URL's scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


STATE_ITEMS: Final = 16
"""Items between two looks at whether their file is being written to."""


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
    done, look_at = next(ends, None), 0

    def skip(number: int) -> bool:
        nonlocal done
        while done is not None and done < number:
            done = next(ends, None)
        return done == number or (only is not None and number <= total and number not in only)

    state = source.state()
    for item in read_items(source.rewound(), form=source.form, job=job, name=source.name, skip=skip):
        if isinstance(item, Problem):
            raise InputChanged(f"{source.name} was changed while it was being sent")
        if item.number >= look_at:
            look_at = item.number + STATE_ITEMS
            if source.state() != state:
                raise InputChanged(f"{source.name} was changed while it was being sent")
        if item.number > total:
            return
        yield template.request(item)
