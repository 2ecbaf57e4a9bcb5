"""Job files: from a text to a `Job` with its `ApiProfile`, or to every problem that it has."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import jmespath
import jmespath.exceptions
import jsonschema_rs

from migrator.exchange import JSON
from migrator.placeholder import parse
from migrator.problem import Problem, StrictJSONError, compile_schema, did_you_mean, explain, locate, read_json
from migrator.quota import Dialect, ResetForm
from migrator.secret import Secret

__all__ = [
    "ApiProfile",
    "Auth",
    "AuthKind",
    "Collection",
    "Empty",
    "Job",
    "JobError",
    "Join",
    "Preflight",
    "ReadFile",
    "RequestTemplate",
    "RunCommand",
    "builtin_profile",
    "builtin_template",
    "host_of",
    "is_loopback",
    "job_schema",
    "load_job",
    "no_commands",
    "unsafe_url",
]

VARIABLE: Final = re.compile(r"\$\{(?P<name>[^}]*)\}")
SPACING: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
IDEMPOTENT: Final = frozenset({"PATCH", "PUT", "DELETE"})
"""Methods that set absolute values; PATCH by the job's declaration, the others by RFC 9110, section 9.2.2."""

ReadFile = Callable[[str], str]
RunCommand = Callable[[str], str]
Lookup = Callable[[str], "Mapping[str, str] | str"]


def no_commands(_command: str) -> str:
    """Refuse every command, which is what a job file from elsewhere deserves."""
    raise OSError("is not run: commands in a job file need --allow-commands")


class AuthKind(StrEnum):
    """How a request shows who sends it."""

    BASIC = "basic"
    BEARER = "bearer"
    HEADER = "header"
    NONE = "none"


class Empty(StrEnum):
    """What an empty CSV cell becomes."""

    OMIT = "omit"
    NULL = "null"
    STRING = "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Credentials.

    Attributes:
        kind: how they are shown.
        username: the user of basic authentication; an API key's id, which is no secret.
        secret: the password, the token, or the header's value.
        header: the header's name.
    """

    kind: AuthKind = AuthKind.NONE
    username: str | None = None
    secret: Secret | None = None
    header: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The list of all records of an API, page by page.

    Attributes:
        path: the first page's, with its query.
        items: where a page has its records, in JMESPath.
        next: where it has the next page's URL, in JMESPath; None where there is one page.
        item: a record's own path, with its members as placeholders.
        columns: the members that are exported; a dotted name nests.
        secrets: those of them that are never shown.
    """

    path: str
    items: str
    next: str | None
    item: str
    columns: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """A look at the new webhooks before they are written.

    Attributes:
        column: which holds them.
        server: a stand-in for their own server.
    """

    column: str
    server: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """How items find their records, where nobody holds ids.

    Attributes:
        column: the item's, whose value is looked for.
        member: of a record of the API's collection, by its dotted name.
    """

    column: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiProfile:
    """An API.

    Attributes:
        name: names it in messages.
        base_url: what paths are appended to, without a slash at its end.
        auth: the credentials.
        headers: sent with every request; a value that came from a variable or a file is a secret.
        rate_limit: how it writes its rate limit.
        write_spacing_s: seconds between two requests, where it asks for that.
        limiter_column: the column whose value has a quota of its own.
        limits: JSON Schema of a request's body, by ``METHOD path``.
        readable: whether a GET of a request's own URL returns the record.
        collection: the list of all records, where there is one.
    """

    name: str
    base_url: str
    auth: Auth = field(default_factory=Auth)
    headers: Mapping[str, str | Secret] = field(default_factory=dict)
    rate_limit: Dialect = field(default_factory=Dialect)
    write_spacing_s: float = 0.0
    limiter_column: str | None = None
    limits: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)
    readable: bool = False
    collection: Collection | None = None

    def credentials(self) -> list[Secret]:
        """Return every secret that requests carry in their headers."""
        found = [value for value in self.headers.values() if isinstance(value, Secret)]
        return found + ([self.auth.secret] if self.auth.secret is not None else [])


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTemplate:
    """The request that an item becomes; without a body, every column that is not in the path goes into it."""

    method: str
    path: str
    body: JSON = None
    has_body: bool = False
    idempotent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job file's content.

    Attributes:
        name: names the job and its runs.
        description: what it is for.
        api: the API.
        request: what an item becomes.
        key: the columns that name an item.
        secrets: columns whose values are never shown.
        item_schema: JSON Schema of an item.
        empty: what an empty CSV cell becomes.
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
        digest: SHA-256 of what decides which requests are sent; no variable's value is in it.
    """

    name: str
    description: str = ""
    api: ApiProfile
    request: RequestTemplate
    key: tuple[str, ...]
    secrets: frozenset[str] = frozenset()
    item_schema: Mapping[str, JSON] = field(default_factory=dict)
    empty: Empty = Empty.OMIT
    items: str | tuple[Mapping[str, JSON], ...] | None = None
    run: Mapping[str, JSON] = field(default_factory=dict)
    keep_before: bool = False
    preflight: Preflight | None = None
    join: Join | None = None
    lookup: Lookup | None = field(default=None, repr=False, compare=False)
    gate: tuple[str, ...] = ()
    notify: tuple[Mapping[str, Any], ...] = ()
    source: str = ""
    digest: str = ""


class JobError(Exception):
    """A job file is not valid."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


@cache
def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file."""
    found: dict[str, Any] = json.loads(_packaged("job.schema.json"))
    return found


@cache
def _validator() -> jsonschema_rs.Validator:
    return compile_schema(job_schema())


@cache
def _profile_validator() -> jsonschema_rs.Validator:
    schema = job_schema()
    return compile_schema({**schema["$defs"]["profile"], "$defs": schema["$defs"]})


def _packaged(name: str) -> str:
    return (resources.files("migrator") / name).read_text("utf-8")


def _built_in(name: str) -> str | None:
    try:
        return _packaged(f"apis/{name}.json") if re.fullmatch(r"[a-z0-9-]+", name) else None
    except FileNotFoundError:
        return None


def _built_in_names(*, templates: bool) -> list[str]:
    return sorted(
        path.name.removesuffix(".json")
        for path in (resources.files("migrator") / "apis").iterdir()
        if path.name.endswith(".json") and ("request" in json.loads(path.read_text("utf-8"))) is templates
    )


def builtin_template(
    name: str, *, env: Mapping[str, str], read_file: ReadFile, run_command: RunCommand = no_commands
) -> Job:
    """Return a built-in job file, which goes with an items file.

    Raises:
        JobError: there is none of that name, or a variable that it needs is not set.
    """
    text = _built_in(name) if name in _built_in_names(templates=True) else None
    if text is None:
        known = _built_in_names(templates=True)
        message = f"is no template: there are {', '.join(known)}, and files that end in .json" + did_you_mean(
            name, known
        )
        raise JobError((Problem(name, None, None, None, message),))
    return load_job(text, source=f"template {name}", env=env, read_file=read_file, run_command=run_command)


def builtin_profile(
    name: str, *, env: Mapping[str, str], read_file: ReadFile, run_command: RunCommand = no_commands
) -> ApiProfile:
    """Return a built-in profile.

    Raises:
        JobError: there is none of that name, or a variable that it needs is not set.
    """
    loader = _Loader("", name, env, read_file, run_command)
    profile = loader.profile(name)
    if loader.problems:
        raise JobError(tuple(loader.problems))
    return profile


def load_job(
    text: str, *, source: str, env: Mapping[str, str], read_file: ReadFile, run_command: RunCommand = no_commands
) -> Job:
    """Return the job that a job file describes.

    Args:
        text: the file's content.
        source: the file's name, for messages.
        env: the variables that ``${NAME}`` stands for.
        read_file: returns the content of the file that ``${file:PATH}`` names; raises OSError.
        run_command: returns what the command of ``${command:…}`` prints; raises OSError.

    Raises:
        JobError: with every problem that was found.
    """
    try:
        document = read_json(text)
    except StrictJSONError as error:
        line, column = error.place or (None, None)
        raise JobError((Problem(source, line, column, None, error.message),)) from None
    loader = _Loader(text, source, env, read_file, run_command)
    loader.check(_validator().iter_errors(document))
    if loader.problems:
        raise JobError(tuple(loader.problems))
    job = loader.job(document)
    if loader.problems:
        raise JobError(tuple(loader.problems))
    return job


class _Loader:
    """Turns one document into a job, collecting problems on the way."""

    def __init__(
        self, text: str, source: str, env: Mapping[str, str], read_file: ReadFile, run_command: RunCommand
    ) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._source = source
        self._env = env
        self._read_file = read_file
        self._run_command = run_command

    def check(self, errors: Iterator[jsonschema_rs.ValidationError]) -> None:
        """Take down what a JSON Schema finds."""
        for path, message in explain(errors):
            known = _names_at(job_schema(), path[:-1]) if message == "is not known" else ()
            self.wrong(path, message + did_you_mean(str(path[-1]) if path else "", known))

    def wrong(self, path: tuple[str | int, ...], message: str) -> None:
        """Take down a problem with the member at a path."""
        line, column = locate(self._text, path)
        dotted = ".".join(str(step) for step in path)
        self.problems.append(Problem(self._source, line, column, dotted or None, message))

    def job(self, document: Mapping[str, Any]) -> Job:
        """Return the job of a document that its schema has found valid."""
        request = document["request"]
        key = document["key"]
        items = document.get("items")
        self._check_schemas(document)
        self._check_placeholders(request["path"], ("request", "path"))
        self._check_placeholders(request.get("body"), ("request", "body"))
        for column in [key] if isinstance(key, str) else key:
            if column in document.get("secrets", ()):
                self.wrong(("key",), f"names the secret {column}, but keys are shown; take another column")
        digest = {name: document.get(name) for name in ("api", "request", "key", "item_schema", "empty", "join")}
        return Job(
            name=document["name"],
            description=document.get("description", ""),
            api=self.profile(document["api"]),
            request=RequestTemplate(
                method=request["method"],
                path=request["path"],
                body=request.get("body"),
                has_body="body" in request,
                idempotent=request.get("idempotent", request["method"] in IDEMPOTENT),
            ),
            key=(key,) if isinstance(key, str) else tuple(key),
            secrets=frozenset(document.get("secrets", ())),
            item_schema=document.get("item_schema", {}),
            empty=Empty(document.get("empty", Empty.OMIT)),
            items=tuple(items) if isinstance(items, list) else items,
            run=document.get("run", {}),
            keep_before=document.get("before") == "read",
            join=self._join(document),
            preflight=self._preflight(document.get("preflight")),
            gate=tuple(document.get("gate", ())),
            notify=tuple(self._notice(place, one) for place, one in enumerate(document.get("notify", ()))),
            source=self._source,
            digest=hashlib.sha256(json.dumps(digest, sort_keys=True).encode()).hexdigest(),
        )

    def _notice(self, place: int, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an entry of `notify` with its URL filled in, as a secret."""
        return {
            name: Secret(self._filled(value, ("notify", place, name))) if isinstance(value, str) else value
            for name, value in given.items()
        }

    def _join(self, document: Mapping[str, Any]) -> Join | None:
        given = document.get("join")
        if given is None:
            return None
        if "body" not in document["request"]:
            self.wrong(("join",), "needs a request with a body, since the column that it names is not to be sent")
        return Join(column=given["column"], member=given["member"])

    def _preflight(self, given: Mapping[str, str] | None) -> Preflight | None:
        if given is None:
            return None
        server = given.get("server")
        if server is not None and not is_loopback(host_of(server) or ""):
            self.wrong(("preflight", "server"), "has to be on this machine: webhooks are credentials")
        return Preflight(column=given["column"], server=server)

    def _check_placeholders(self, value: Any, path: tuple[str | int, ...]) -> None:
        if isinstance(value, str):
            try:
                parse(value)
            except ValueError as error:
                self.wrong(path, str(error))
        elif isinstance(value, Mapping):
            for name, member in value.items():
                self._check_placeholders(member, (*path, name))
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                self._check_placeholders(entry, (*path, index))

    def _check_schemas(self, document: Mapping[str, Any]) -> None:
        schemas: list[tuple[tuple[str, ...], Any]] = [(("item_schema",), document.get("item_schema", {}))]
        if isinstance(document["api"], Mapping):
            limits = document["api"].get("limits", {})
            schemas += [(("api", "limits", name), schema) for name, schema in limits.items()]
        for path, schema in schemas:
            try:
                compile_schema(schema)
            except ValueError:
                self.wrong(path, "is no valid JSON Schema (2020-12)")

    def profile(self, api: str | Mapping[str, Any]) -> ApiProfile:
        """Return an API's profile, built in or given."""
        if isinstance(api, str):
            text = _built_in(api) if api in _built_in_names(templates=False) else None
            if text is None:
                known = _built_in_names(templates=False)
                self.wrong(("api",), f"is no built-in profile: there is {', '.join(known)}{did_you_mean(api, known)}")
                return ApiProfile(name=api, base_url="")
            return self.profile(json.loads(text))
        rate = api.get("rate_limit", {})
        base_url = self._filled(api["base_url"], ("api", "base_url")).rstrip("/")
        headers = {
            name: self._header(value, ("api", "headers", name)) for name, value in api.get("headers", {}).items()
        }
        profile = ApiProfile(
            name=api.get("name", host_of(base_url) or "api"),
            base_url=base_url,
            auth=self._auth(api.get("auth", {"type": "none"})),
            headers=headers,
            rate_limit=_dialect(rate),
            write_spacing_s=self._spacing(rate.get("write_spacing")),
            limiter_column=rate["key"].removeprefix("column:") if "key" in rate else None,
            limits=api.get("limits", {}),
            readable=api.get("read", False),
            collection=self._collection(api.get("collection")),
        )
        self._check_owner(api, base_url)
        if base_url and (message := unsafe_url(base_url, credentials=bool(profile.credentials()))):
            self.wrong(("api", "base_url"), message)
        return profile

    def _check_owner(self, api: Mapping[str, Any], base_url: str) -> None:
        """Refuse a profile that would send a built-in profile's credentials to another server."""
        host = host_of(base_url) or ""
        named = {found["name"] for found in VARIABLE.finditer(json.dumps(api))}
        for name in _built_in_names(templates=False):
            text = _built_in(name) or "{}"
            own = host_of(json.loads(text)["base_url"])
            if host != own and not is_loopback(host):
                for variable in sorted(named & {found["name"] for found in VARIABLE.finditer(text)}):
                    self.wrong(("api",), f"would send {variable} to {host}, but it belongs to {own} (profile {name})")

    def _collection(self, given: Mapping[str, Any] | None) -> Collection | None:
        if given is None:
            return None
        self._check_placeholders(given["item"], ("api", "collection", "item"))
        for member in ("items", "next"):
            try:
                jmespath.compile(given.get(member, "@"))
            except jmespath.exceptions.JMESPathError:
                self.wrong(("api", "collection", member), "is no valid JMESPath expression")
        return Collection(
            path=given["path"],
            items=given["items"],
            next=given.get("next"),
            item=given["item"],
            columns=tuple(given.get("columns", ())),
            secrets=frozenset(given.get("secrets", ())),
        )

    def _auth(self, auth: Mapping[str, str]) -> Auth:
        kind = AuthKind(auth["type"])
        match kind:
            case AuthKind.BASIC:
                username = self._filled(auth["username"], ("api", "auth", "username"))
                if ":" in username:
                    self.wrong(("api", "auth", "username"), "may not hold a colon (RFC 7617, section 2)")
                secret = self._filled(auth["password"], ("api", "auth", "password"))
                return Auth(kind=kind, username=username, secret=Secret(secret))
            case AuthKind.BEARER:
                return Auth(kind=kind, secret=Secret(self._filled(auth["token"], ("api", "auth", "token"))))
            case AuthKind.HEADER:
                value = self._filled(auth["value"], ("api", "auth", "value"))
                return Auth(kind=kind, header=auth["name"], secret=Secret(value))
            case AuthKind.NONE:
                return Auth()

    def _header(self, value: str, path: tuple[str, ...]) -> str | Secret:
        filled = self._filled(value, path)
        return Secret(filled) if VARIABLE.search(value) else filled

    def _filled(self, value: str, path: tuple[str | int, ...]) -> str:
        """Return a value with its variables and files put in; one trailing newline of a file is not part of it."""

        def fill(found: re.Match[str]) -> str:
            name = found["name"]
            if name.startswith("file:"):
                try:
                    return self._read_file(name.removeprefix("file:")).removesuffix("\n").removesuffix("\r")
                except (OSError, UnicodeDecodeError) as error:
                    why = getattr(error, "strerror", None) or "cannot be read"
                    self.wrong(path, f"the file {name.removeprefix('file:')}: {why}")
                    return ""
            if name.startswith("command:"):
                try:
                    return self._run_command(name.removeprefix("command:"))
                except OSError as error:
                    self.wrong(path, f"the command {error}")
                    return ""
            if not self._env.get(name):
                self.wrong(path, f"the variable {name} is not set")
            return self._env.get(name, "")

        filled = VARIABLE.sub(fill, value)
        if re.search(r"[\x00-\x1f\x7f]", filled):
            self.wrong(path, "may not hold line breaks or other control characters")
        return filled

    def _spacing(self, text: str | None) -> float:
        if text is None:
            return 0.0
        found = SPACING.fullmatch(text)
        if not found:
            self.wrong(("api", "rate_limit", "write_spacing"), "has to be a duration such as 1s or 500ms")
            return 0.0
        return float(found[1]) * (0.001 if found[2] == "ms" else 1.0)


def host_of(url: str) -> str | None:
    """Return a URL's host, if it is one."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        # `unsafe_url` says what is wrong with it.
        return None


def _dialect(rate: Mapping[str, str]) -> Dialect:
    def lower(name: str) -> str | None:
        return rate[name].lower() if name in rate else None

    return Dialect(
        reset=ResetForm(rate.get("dialect", ResetForm.AUTO)),
        limit_header=lower("limit_header"),
        remaining_header=lower("remaining_header"),
        reset_header=lower("reset_header"),
    )


def _names_at(schema: Mapping[str, Any], path: tuple[str | int, ...]) -> list[str]:
    """Return the members that the job file's schema knows at a path."""
    here: Mapping[str, Any] = schema
    for step in path:
        here = here.get("properties", {}).get(step, {})
        for branch in here.get("oneOf", ()):
            here = branch if "$ref" in branch else here
        if "$ref" in here:
            here = schema["$defs"][here["$ref"].rpartition("/")[2]]
    return list(here.get("properties", {}))


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: the names and addresses of RFC 6761, section 6.3, and RFC 1122."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def unsafe_url(url: str, *, credentials: bool) -> str | None:
    """Return why a server's URL is not used, or None where it is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "has to be an http or https URL without query and fragment"
    if not host or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        return "has to be an http or https URL without query and fragment"
    if parts.username is not None:
        return "may not hold credentials: they belong into auth"
    if parts.scheme == "http" and credentials and not is_loopback(host):
        return "is plain HTTP: credentials go over it to this machine alone (localhost, 127.0.0.1)"
    return None
