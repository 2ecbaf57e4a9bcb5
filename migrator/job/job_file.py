"""Job files: from a text to a `Job` with its `ApiProfile`, or to every problem that it has."""

import hashlib
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Final

import jsonschema_rs
import msgspec
from msgspec.structs import replace

from migrator.errors import MigratorError
from migrator.job.encodings import Encoding
from migrator.job.json_reader import StrictJSONError, read_json
from migrator.job.placeholders import placeholders_in
from migrator.job.problems import Findings, JobError, Problem, compile_schema, did_you_mean
from migrator.job.profile.api_profile import ApiProfile, ProfileReader, built_in, built_in_names, job_schema
from migrator.job.profile.collection import check_expression
from migrator.job.profile.variables import Outside
from migrator.messages import JSON, Batch, host_of, is_loopback
from migrator.options import wrong_members
from migrator.secret import Secret

__all__ = ["Empty", "Job", "Join", "Preflight", "RequestTemplate", "builtin_template", "load_job"]

IDEMPOTENT: Final = frozenset({"PATCH", "PUT", "DELETE"})
"""Methods that set absolute values; PATCH by the job's declaration, the others by RFC 9110, section 9.2.2."""

Lookup = Callable[[str], "Mapping[str, str] | str"]


class Empty(StrEnum):
    """What an empty CSV cell becomes."""

    OMIT = "omit"
    NULL = "null"
    STRING = "string"


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """A look at the new webhooks before they are written.

    Attributes:
        column: which holds them.
        server: a stand-in for their own server.
    """

    column: str
    server: str | None = None


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """How items find their records where they have no ids.

    Attributes:
        column: the item's, whose value is looked for.
        member: of a record of the API's collection, by its dotted name.
    """

    column: str
    member: str


class ReadTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """How one record is read, where that is not a GET of the request's path."""

    path: str
    query: str | None = None


class RequestTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """The request that an item becomes; without a body, every column that is not in the path goes into it.

    Attributes:
        method: the HTTP method.
        path: with columns in braces.
        body: the document, or what stands around the one that `encoding` makes of `wanted`.
        has_body: whether there is one.
        wanted: the state that the record is to hold.
        has_wanted: whether there is one.
        encoding: how the state is said.
        headers: the request's own.
        read: how one record is read.
        query: the text of a GraphQL operation.
        batch: how several items share a request.
        idempotent: whether it may be sent twice.
    """

    method: str
    path: str
    body: JSON = None
    has_body: bool = False
    wanted: JSON = None
    has_wanted: bool = False
    encoding: Encoding = Encoding.JSON
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    read: ReadTemplate | None = None
    query: str | None = None
    batch: Batch | None = None
    idempotent: bool = True

    @property
    def creates(self) -> bool:
        """Whether it makes a record that has no address yet: a POST that names no state and no way to read it."""
        return self.method == "POST" and not self.has_wanted and self.read is None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job file's content.

    Attributes:
        name: names the job and its runs.
        description: what it is for.
        api: the API.
        request: what an item becomes.
        key: the columns that name an item.
        secrets: columns whose values are never shown.
        ignored: columns that may be there and are not used; ``*`` stands for all that the job does not name.
        item_schema: JSON Schema of an item.
        empty: what an empty CSV cell becomes.
        trim: whether blanks around values are taken off.
        items: the items file, relative to the job file, or the items.
        run: options of the run, as they are written.
        keep_before: whether the state before each write is kept.
        preflight: the look at the new webhooks, if one is wanted.
        join: how items find their records; None where they hold what the path needs.
        lookup: returns the members of the record that a value names, or says why there are none; None before the
            records are known.
        gate: the command that decides after each stage.
        notify: who is told, as `notice.read_targets` takes it, with variables and files filled in.
        source: the job file's name.
        arguments: how the job and its items were named: `job`, `items` and `template`; empty where another part of the
            program knows.
        digest: SHA-256 of what decides which requests are sent; no variable's value is in it.
        document: the job file, with the profile in the place of its file's name.
    """

    name: str
    description: str = ""
    api: ApiProfile
    request: RequestTemplate
    key: tuple[str, ...]
    secrets: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    item_schema: Mapping[str, JSON] = msgspec.field(default_factory=dict)
    empty: Empty = Empty.OMIT
    trim: bool = False
    items: str | tuple[Mapping[str, JSON], ...] | None = None
    run: Mapping[str, JSON] = msgspec.field(default_factory=dict)
    keep_before: bool = False
    preflight: Preflight | None = None
    join: Join | None = None
    lookup: Lookup | None = None
    gate: tuple[str, ...] = ()
    notify: tuple[Mapping[str, Any], ...] = ()
    source: str = ""
    arguments: Mapping[str, str] = msgspec.field(default_factory=dict)
    digest: str = ""
    document: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<job {self.name}>"

    @property
    def readable(self) -> bool:
        """Whether its records can be read, as far as is known: that is declared, or no POST and not ruled out."""
        if self.request.read is not None or self.api.readable:
            return True
        return self.api.readable is None and self.request.method != "POST"

    def must_be_readable(self, needs: str) -> None:
        """Refuse what needs to read records, where that is not declared.

        Args:
            needs: what needs it, for the message.

        Raises:
            MigratorError: no record can be read.
        """
        if not self.readable:
            declared = "'read' of the profile or of the request"
            raise MigratorError(f"{self.api.name} declares no way to read a record ({declared}), which {needs} needs")


@cache
def _validator() -> jsonschema_rs.Validator:
    return compile_schema(job_schema())


def builtin_template(name: str, outside: Outside) -> Job:
    """Return a built-in job file, which goes with an items file.

    Raises:
        JobError: there is none of that name, or a variable that it needs is not set.
    """
    text = built_in(name) if name in built_in_names(templates=True) else None
    if text is None:
        known = built_in_names(templates=True)
        message = f"is no template: there are {', '.join(known)}, and files that end in .json" + did_you_mean(
            name, known
        )
        raise JobError((Problem(name, None, None, None, message),))
    return load_job(text, source=f"template {name}", outside=outside)


def load_job(text: str, *, source: str, outside: Outside) -> Job:
    """Return the job that a job file describes.

    Args:
        text: the file's content.
        source: the file's name, for messages.
        outside: what its values may take from elsewhere.

    Raises:
        JobError: with every problem that was found.
    """
    try:
        document = read_json(text)
    except StrictJSONError as error:
        line, column = error.place or (None, None)
        raise JobError((Problem(source, line, column, None, error.message),)) from None
    findings = Findings(text, source)
    run = document.get("run") if isinstance(document, dict) else None
    errors = _validator().iter_errors(document)
    # The table of options says more about a member of `run` than its schema does.
    findings.take(
        (one for one in errors if not isinstance(run, dict) or one.instance_path[:1] != ["run"]), job_schema()
    )
    if isinstance(run, dict):
        for name, message in wrong_members(run):
            findings.wrong(("run", name), message)
    findings.refuse()
    job = _JobReader(findings, outside).job(document, source)
    if findings.problems:
        wrong = {problem.field for problem in findings.problems}
        sound = tuple(
            {} if any(f"notify.{place}.{name}" in wrong for name in one) else one
            for place, one in enumerate(job.notify)
        )
        raise JobError(tuple(findings.problems), name=job.name, notify=sound)
    return job


class _JobReader:
    """Turns a document that its schema has found valid into a job; what is still wrong with it goes to the findings."""

    def __init__(self, findings: Findings, outside: Outside) -> None:
        self._wrong = findings.wrong
        self._profiles = ProfileReader(findings, outside)

    def job(self, document: Mapping[str, Any], source: str) -> Job:
        """Return the document's job."""
        request = document["request"]
        key = document["key"]
        items = document.get("items")
        self._check_schemas(document)
        self._profiles.check_placeholders(request["path"], ("request", "path"))
        for member in ("body", "wanted", "headers"):
            self._profiles.check_placeholders(request.get(member), ("request", member))
        self._check_request(request)
        for column in [key] if isinstance(key, str) else key:
            if column in document.get("secrets", ()):
                self._wrong(("key",), f"names the secret {column}, but keys are shown; use another column")
        api = _with_item_path(self._profiles.profile(document["api"]), request)
        for member, column in api.auth.columns.items():
            if column not in document.get("secrets", ()):
                self._wrong(("api", "auth", member), f"names the column {column}, which has to be in secrets")
        if api.auth.columns and "batch" in request:
            self._wrong(("request", "batch"), "cannot hold items of several credentials; leave it out")
        digest = {name: document.get(name) for name in ("api", "request", "key", "item_schema", "empty", "join")}
        digest |= {name: document[name] for name in ("trim", "ignore_columns") if name in document}
        digest["api"] = self._profiles.document or document["api"]
        return Job(
            name=document["name"],
            description=document.get("description", ""),
            api=api,
            request=RequestTemplate(
                method=request["method"],
                path=request["path"],
                body=request.get("body"),
                has_body="body" in request,
                wanted=request.get("wanted"),
                has_wanted="wanted" in request,
                encoding=Encoding(request.get("encoding", Encoding.JSON)),
                headers=request.get("headers", {}),
                read=ReadTemplate(**request["read"]) if "read" in request else None,
                query=request.get("query"),
                batch=self._batch(request),
                idempotent=request.get(
                    "idempotent", request["method"] in IDEMPOTENT or _idempotency_key(request) is not None
                ),
            ),
            key=(key,) if isinstance(key, str) else tuple(key),
            secrets=frozenset(document.get("secrets", ())),
            ignored=frozenset(document.get("ignore_columns", ())),
            item_schema=document.get("item_schema", {}),
            empty=Empty(document.get("empty", Empty.OMIT)),
            trim=document.get("trim", False),
            items=tuple(items) if isinstance(items, list) else items,
            run=document.get("run", {}),
            keep_before=document.get("before") == "read",
            join=self._join(document),
            preflight=self._preflight(document.get("preflight")),
            gate=tuple(document.get("gate", ())),
            notify=tuple(self._notice(place, one) for place, one in enumerate(document.get("notify", ()))),
            source=source,
            document={**document, "api": digest["api"]},
            digest=hashlib.sha256(json.dumps(digest, sort_keys=True).encode()).hexdigest(),
        )

    def _batch(self, request: Mapping[str, Any]) -> Batch | None:
        given = request.get("batch")
        if given is None:
            return None
        for member in ("result", "error"):
            check_expression(given.get(member), self._wrong, ("request", "batch", member))
        body = given.get("body", "{@items}")
        self._profiles.check_placeholders(body, ("request", "batch", "body"))
        if list(placeholders_in(body)) != ["@items"]:
            self._wrong(("request", "batch", "body"), "needs {@items} once, and no column")
        if Encoding(request.get("encoding", Encoding.JSON)) is not Encoding.JSON:
            self._wrong(("request", "batch"), "goes only with the encoding json: items share one JSON document")
        return Batch(
            size=given["size"],
            body=body,
            result=given.get("result"),
            match=given.get("match"),
            error=given.get("error"),
        )

    def _check_request(self, request: Mapping[str, Any]) -> None:
        """Say what does not go together in a request."""
        encoding = Encoding(request.get("encoding", Encoding.JSON))
        if encoding is not Encoding.JSON and "wanted" not in request:
            self._wrong(("request", "encoding"), f"is {encoding}, which makes a body of wanted; wanted is missing")
        if (encoding is Encoding.GRAPHQL) != ("query" in request):
            self._wrong(("request",), "needs a query and the encoding graphql, both or none")
        if encoding is Encoding.PUT_MERGE and request["method"] != "PUT":
            self._wrong(("request", "method"), "has to be PUT: the encoding put-merge writes the whole record")
        if "wanted" in request and "body" in request and "@wanted" not in placeholders_in(request["body"]):
            self._wrong(("request", "body"), "has no {@wanted}, so that what is wanted would not be sent")
        known = {"@wanted"} if "wanted" in request else set()
        places = {"body": known | {"@item"}, "wanted": {"@item"}, "headers": {"@item", "@run"}}
        for member, allowed in places.items():
            for name in placeholders_in(request.get(member)):
                of_record = member != "wanted" and (name == "@etag" or name.startswith("@record."))
                if name.startswith("@") and name not in allowed and not of_record:
                    self._wrong(("request", member), f"has {{{name}}}, which is not known here")
        if "read" in request:
            self._profiles.check_placeholders(request["read"]["path"], ("request", "read", "path"))
        self._check_headers(request)

    def _check_headers(self, request: Mapping[str, Any]) -> None:
        """Say what is wrong with a request's own headers."""
        one_key = _idempotency_key(request)
        if one_key is not None and not set(placeholders_in(one_key)) - {"@run"}:
            self._wrong(
                ("request", "headers"), "has the same Idempotency-Key for every item; put {@item} or a column into it"
            )
        named = [name.lower() for name in request.get("headers", {})]
        if repeated := {name for name in named if named.count(name) > 1}:
            self._wrong(("request", "headers"), f"has {min(repeated)} twice, since names do not heed case")

    def _notice(self, place: int, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an entry of `notify` with its URL filled in, as a secret."""
        return {
            name: Secret(self._profiles.filled(value, ("notify", place, name))) if isinstance(value, str) else value
            for name, value in given.items()
        }

    def _join(self, document: Mapping[str, Any]) -> Join | None:
        given = document.get("join")
        if given is None:
            return None
        if not document["request"].keys() & {"body", "wanted"}:
            self._wrong(
                ("join",), "needs a request with a body or wanted, since the column that it names is not to be sent"
            )
        return Join(column=given["column"], member=given["member"])

    def _preflight(self, given: Mapping[str, str] | None) -> Preflight | None:
        if given is None:
            return None
        server = given.get("server")
        if server is not None and not is_loopback(host_of(server) or ""):
            self._wrong(("preflight", "server"), "has to be on this machine: webhooks are credentials")
        return Preflight(column=given["column"], server=server)

    def _check_schemas(self, document: Mapping[str, Any]) -> None:
        schemas: list[tuple[tuple[str, ...], Any]] = [(("item_schema",), document.get("item_schema", {}))]
        if isinstance(document["api"], Mapping):
            limits = document["api"].get("limits", {})
            schemas += [(("api", "limits", name), schema) for name, schema in limits.items()]
        for path, schema in schemas:
            try:
                compile_schema(schema)
            except ValueError:
                self._wrong(path, "is no valid JSON Schema (2020-12)")


def _with_item_path(api: ApiProfile, request: Mapping[str, Any]) -> ApiProfile:
    """Return a profile whose list knows a record's own path: the one that is read, where none is declared."""
    reading = request.get("read", request)
    if api.collection is None or api.collection.item is not None or "query" in reading:
        return api
    return replace(api, collection=replace(api.collection, item=reading["path"].partition("?")[0]))


def _idempotency_key(request: Mapping[str, Any]) -> str | None:
    """Return the text of a request's Idempotency-Key, by which a server knows a request that is sent again.

    The field is that of draft-ietf-httpapi-idempotency-key-header-07, where it is a string in quotes (RFC 9651), or the
    bare text that Stripe and others take.
    """
    return next((text for name, text in request.get("headers", {}).items() if name.lower() == "idempotency-key"), None)
