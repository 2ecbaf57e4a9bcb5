"""API profiles: what is known of an API, from a built-in file or from a job file, with its variables filled in."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Final

import jmespath.exceptions

from migrator.job.placeholders import parse
from migrator.job.problems import Findings, did_you_mean
from migrator.job.variables import VARIABLE, Outside
from migrator.messages import JSON, host_of, is_loopback, unsafe_url
from migrator.ratelimit.headers import Dialect
from migrator.ratelimit.reset_time import ResetForm
from migrator.secret import Secret

__all__ = ["ApiProfile", "Auth", "AuthKind", "Collection", "ProfileReader", "built_in", "built_in_names", "job_schema"]

SPACING: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class AuthKind(StrEnum):
    """How a request shows who sends it."""

    BASIC = "basic"
    BEARER = "bearer"
    HEADER = "header"
    NONE = "none"


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


@cache
def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, profiles included."""
    found: dict[str, Any] = json.loads(_packaged("schema.json"))
    return found


def _packaged(name: str) -> str:
    return (resources.files("migrator.job") / name).read_text("utf-8")


def built_in(name: str) -> str | None:
    """Return the text of a built-in profile or template, if there is one of that name."""
    try:
        return _packaged(f"builtin/{name}.json") if re.fullmatch(r"[a-z0-9-]+", name) else None
    except FileNotFoundError:
        return None


def built_in_names(*, templates: bool) -> list[str]:
    """Return the names of the built-in templates, or of the built-in profiles."""
    return sorted(
        path.name.removesuffix(".json")
        for path in (resources.files("migrator.job") / "builtin").iterdir()
        if path.name.endswith(".json") and ("request" in json.loads(path.read_text("utf-8"))) is templates
    )


class ProfileReader:
    """Turns a job file's `api` into a profile; what is wrong with it goes to the findings."""

    def __init__(self, findings: Findings, outside: Outside) -> None:
        self._wrong = findings.wrong
        self._outside = outside

    def check_placeholders(self, value: Any, path: tuple[str | int, ...]) -> None:
        """Take down every string in a value whose placeholders are not well written."""
        if isinstance(value, str):
            try:
                parse(value)
            except ValueError as error:
                self._wrong(path, str(error))
        elif isinstance(value, Mapping):
            for name, member in value.items():
                self.check_placeholders(member, (*path, name))
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                self.check_placeholders(entry, (*path, index))

    def profile(self, api: str | Mapping[str, Any]) -> ApiProfile:
        """Return an API's profile, built in or given."""
        if isinstance(api, str):
            text = built_in(api) if api in built_in_names(templates=False) else None
            if text is None:
                known = built_in_names(templates=False)
                self._wrong(("api",), f"is no built-in profile: there is {', '.join(known)}{did_you_mean(api, known)}")
                return ApiProfile(name=api, base_url="")
            return self.profile(json.loads(text))
        rate = api.get("rate_limit", {})
        base_url = self.filled(api["base_url"], ("api", "base_url")).rstrip("/")
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
            self._wrong(("api", "base_url"), message)
        return profile

    def _check_owner(self, api: Mapping[str, Any], base_url: str) -> None:
        """Refuse a profile that would send a built-in profile's credentials to another server."""
        host = host_of(base_url) or ""
        named = {found["name"] for found in VARIABLE.finditer(json.dumps(api))}
        for name in built_in_names(templates=False):
            text = built_in(name) or "{}"
            own = host_of(json.loads(text)["base_url"])
            if host != own and not is_loopback(host):
                for variable in sorted(named & {found["name"] for found in VARIABLE.finditer(text)}):
                    self._wrong(("api",), f"would send {variable} to {host}, but it belongs to {own} (profile {name})")

    def _collection(self, given: Mapping[str, Any] | None) -> Collection | None:
        if given is None:
            return None
        self.check_placeholders(given["item"], ("api", "collection", "item"))
        for member in ("items", "next"):
            try:
                jmespath.compile(given.get(member, "@"))
            except (jmespath.exceptions.JMESPathError, RecursionError):
                self._wrong(("api", "collection", member), "is no valid JMESPath expression")
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
                username = self.filled(auth["username"], ("api", "auth", "username"))
                if ":" in username:
                    self._wrong(("api", "auth", "username"), "may not hold a colon (RFC 7617, section 2)")
                secret = self.filled(auth["password"], ("api", "auth", "password"))
                return Auth(kind=kind, username=username, secret=Secret(secret))
            case AuthKind.BEARER:
                return Auth(kind=kind, secret=Secret(self.filled(auth["token"], ("api", "auth", "token"))))
            case AuthKind.HEADER:
                value = self.filled(auth["value"], ("api", "auth", "value"))
                return Auth(kind=kind, header=auth["name"], secret=Secret(value))
            case AuthKind.NONE:
                return Auth()

    def _header(self, value: str, path: tuple[str, ...]) -> str | Secret:
        filled = self.filled(value, path)
        return Secret(filled) if VARIABLE.search(value) else filled

    def filled(self, value: str, path: tuple[str | int, ...]) -> str:
        """Return a value with variables, files and commands put in; a file's last line break is no part of it."""

        def fill(found: re.Match[str]) -> str:
            name = found["name"]
            if name.startswith("file:"):
                try:
                    return self._outside.read_file(name.removeprefix("file:")).removesuffix("\n").removesuffix("\r")
                except (OSError, UnicodeDecodeError) as error:
                    why = getattr(error, "strerror", None) or "cannot be read"
                    self._wrong(path, f"the file {name.removeprefix('file:')}: {why}")
                    return ""
            if name.startswith("command:"):
                try:
                    return self._outside.run_command(name.removeprefix("command:"))
                except OSError as error:
                    self._wrong(path, f"the command {error}")
                    return ""
            if not self._outside.env.get(name):
                self._wrong(path, f"the variable {name} is not set")
            return self._outside.env.get(name, "")

        filled = VARIABLE.sub(fill, value)
        if re.search(r"[\x00-\x1f\x7f]", filled):
            self._wrong(path, "may not hold line breaks or other control characters")
        return filled

    def _spacing(self, text: str | None) -> float:
        if text is None:
            return 0.0
        found = SPACING.fullmatch(text)
        if not found:
            self._wrong(("api", "rate_limit", "write_spacing"), "has to be a duration such as 1s or 500ms")
            return 0.0
        return float(found[1]) * (0.001 if found[2] == "ms" else 1.0)


def _dialect(rate: Mapping[str, str]) -> Dialect:
    def lower(name: str) -> str | None:
        return rate[name].lower() if name in rate else None

    return Dialect(
        reset=ResetForm(rate.get("dialect", ResetForm.AUTO)),
        limit_header=lower("limit_header"),
        remaining_header=lower("remaining_header"),
        reset_header=lower("reset_header"),
    )
