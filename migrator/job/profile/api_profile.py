"""API profiles: what is known of an API, from a built-in file or from a job file, with its variables filled in."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any, Final

import jsonschema_rs
import msgspec

from migrator.job.json_reader import StrictJSONError, read_json
from migrator.job.placeholders import parse
from migrator.job.problems import Findings, Problem, compile_schema, did_you_mean
from migrator.job.profile.auth import Auth, AuthReader
from migrator.job.profile.collection import Collection, CollectionReader, check_expression
from migrator.job.profile.variables import VARIABLE, Outside
from migrator.messages import JSON, NO_RULES, AnswerRules, BodyLimits, Poll, host_of, is_loopback, unsafe_url
from migrator.options import run_schema
from migrator.ratelimit.dialect.reset_time import ResetForm
from migrator.ratelimit.headers import Dialect
from migrator.secret import Secret
from migrator.times import parse_duration

__all__ = ["ApiProfile", "ChannelTest", "ProfileReader", "built_in", "built_in_names", "job_schema"]

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
SPACING: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class ChannelTest(msgspec.Struct, frozen=True):
    """How an API sends a test message through a webhook that is not stored yet, by a POST of a whole record.

    Attributes:
        path: where it is posted.
        named: the member that has to be there; the item's key stands for it where the row has none.
    """

    path: str
    named: str


class ApiProfile(msgspec.Struct, frozen=True, kw_only=True):
    """An API.

    Attributes:
        name: names it in messages.
        base_url: what paths are appended to, without a slash at its end.
        auth: the credentials.
        headers: sent with every request; a value that came from a variable or a file is a secret.
        proxy: the proxy's URL; True for the one that the environment names, and False for none.
        rate_limit: how it writes its rate limit.
        body_limits: where the bodies of its answers tell of its rate limit; None where they do not.
        write_spacing_s: seconds between two writes, where it asks for that.
        limiter_column: the column whose value has a quota of its own.
        limits: JSON Schema of a request's body, by ``METHOD path``.
        readable: whether a GET of a request's own URL returns the record; None where it is not declared.
        test_message: how it sends a test message.
        rules: how its answers are read.
        collection: the list of all records, where there is one.
    """

    name: str
    base_url: str
    auth: Auth = msgspec.field(default_factory=Auth)
    headers: Mapping[str, str | Secret] = msgspec.field(default_factory=dict)
    proxy: bool | str | Secret = False
    rate_limit: Dialect = msgspec.field(default_factory=Dialect)
    body_limits: BodyLimits | None = None
    write_spacing_s: float = 0.0
    limiter_column: str | None = None
    limits: Mapping[str, Mapping[str, JSON]] = msgspec.field(default_factory=dict)
    readable: bool | None = None
    test_message: ChannelTest | None = None
    rules: AnswerRules = NO_RULES
    collection: Collection | None = None

    @property
    def many_keys(self) -> bool:
        """Whether items draw on many quotas, each by its own column or credentials."""
        return self.limiter_column is not None or bool(self.auth.columns)

    def credentials(self) -> list[Secret]:
        """Return every secret that requests carry in their headers."""
        found = [value for value in self.headers.values() if isinstance(value, Secret)]
        return found + self.auth.secrets()

    @property
    def has_credentials(self) -> bool:
        """Whether requests carry any, the profile's or their rows'."""
        return bool(self.credentials() or self.auth.columns)

    def identity(self) -> list[str]:
        """Return what tells one credential's quota from another's, in clear; a token that ends does not."""
        headers = [value.reveal() for value in self.headers.values() if isinstance(value, Secret)]
        return headers + self.auth.identity()


@cache
def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, with profiles and the options that `run` may hold."""
    found: dict[str, Any] = json.loads(_packaged("schema.json"))
    found["properties"]["run"] = run_schema()
    return found


@cache
def _profile_schema() -> dict[str, Any]:
    """Return the JSON Schema of a profile in a file of its own."""
    definitions: dict[str, Any] = job_schema()["$defs"]
    return {**definitions["profile"], "$defs": definitions}


@cache
def _profile_validator() -> jsonschema_rs.Validator:
    return compile_schema(_profile_schema())


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
    """Turns a job file's `api` into a profile; what is wrong with it goes to the findings.

    Args:
        findings: takes the problems.
        outside: what values may take from elsewhere.
        place: where the profile stands in the findings' document.
        trusted: whether the profile is built in, or in the user's own folder.

    Attributes:
        document: what a profile's file holds, which may change between two runs; None for one without a file.
    """

    def __init__(
        self, findings: Findings, outside: Outside, *, place: tuple[str, ...] = ("api",), trusted: bool = False
    ) -> None:
        self.document: Mapping[str, Any] | None = None
        self._trusted = trusted
        self._findings = findings
        self._wrong = findings.wrong
        self._outside = outside
        self._place = place

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
        """Return an API's profile: built in, in the user's own folder, in a file, or given."""
        if not isinstance(api, str):
            return self._given(api)
        if api.endswith(".json"):
            try:
                text = self._outside.read_file(api)
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or str(error)
                self._wrong(self._place, f"the file {api}: {why}")
                return ApiProfile(name=api, base_url="")
            return self._from_text(text, api, self._outside, trusted=False)
        if api in built_in_names(templates=False):
            reader = ProfileReader(self._findings, self._outside, place=self._place, trusted=True)
            return reader._given(json.loads(built_in(api) or "{}"))
        own = self._outside.own_profiles
        texts = own.texts()
        if api in texts:
            outside = replace(self._outside, read_file=own.read_file)
            return self._from_text(texts[api], f"{api}.json", outside, trusted=True)
        known = sorted({*built_in_names(templates=False), *texts})
        self._wrong(
            self._place,
            f"is no profile: there is {', '.join(known)}, and a file is named with .json{did_you_mean(api, known)}",
        )
        return ApiProfile(name=api, base_url="")

    def _from_text(self, text: str, name: str, outside: Outside, *, trusted: bool) -> ApiProfile:
        """Return the profile of a file, whose problems are told with the file's own places."""
        findings = Findings(text, name)
        profile = ApiProfile(name=name.removesuffix(".json").rpartition("/")[2], base_url="")
        try:
            document = read_json(text.removeprefix("\ufeff"))
        except StrictJSONError as error:
            line, column = error.place or (None, None)
            self._findings.problems.append(Problem(name, line, column, None, error.message))
            return profile
        findings.take(_profile_validator().iter_errors(document), _profile_schema())
        if not findings.problems:
            self.document = {"name": profile.name} | document
            profile = ProfileReader(findings, outside, place=(), trusted=trusted).profile(self.document)
        self._findings.problems += findings.problems
        return profile

    def _given(self, api: Mapping[str, Any]) -> ApiProfile:
        rate = api.get("rate_limit", {})
        base_url = self.filled(api["base_url"], (*self._place, "base_url")).rstrip("/")
        headers = {
            name: self._text(value, (*self._place, "headers", name)) for name, value in api.get("headers", {}).items()
        }
        proxy = api.get("proxy", False)
        auth = AuthReader(self.filled, self._filled_again, self._wrong, (*self._place, "auth"))
        profile = ApiProfile(
            name=api.get("name", host_of(base_url) or "api"),
            base_url=base_url,
            auth=auth.auth(api.get("auth", {"type": "none"})),
            headers=headers,
            proxy=proxy if isinstance(proxy, bool) else self._text(proxy, (*self._place, "proxy")),
            rate_limit=_dialect(rate),
            body_limits=self._body_limits(rate.get("body")),
            write_spacing_s=self._spacing(rate.get("write_spacing")),
            limiter_column=rate["key"].removeprefix("column:") if "key" in rate else None,
            limits=api.get("limits", {}),
            readable=api.get("read"),
            test_message=ChannelTest(**api["test_message"]) if "test_message" in api else None,
            rules=self._rules(api),
            collection=self._collection(api.get("collection")),
        )
        token_url = profile.auth.oauth2.token_url if profile.auth.oauth2 is not None else base_url
        for url in () if self._trusted else {base_url: None, token_url: None}:
            self._check_owner(api, url)
        if base_url and (message := unsafe_url(base_url, credentials=profile.has_credentials)):
            self._wrong((*self._place, "base_url"), message)
        return profile

    def _check_owner(self, api: Mapping[str, Any], url: str) -> None:
        """Refuse a profile that would send a built-in profile's credentials to another server."""
        host = host_of(url) or ""
        named = {found["name"] for found in VARIABLE.finditer(json.dumps(api))}
        for name in built_in_names(templates=False):
            text = built_in(name) or "{}"
            # Some APIs have a server for each customer, which a variable names.
            own = host_of(
                VARIABLE.sub(lambda found: self._outside.env.get(found["name"], ""), json.loads(text)["base_url"])
            )
            if host != own and not is_loopback(host):
                for variable in sorted(named & {found["name"] for found in VARIABLE.finditer(text)}):
                    self._wrong(
                        self._place,
                        f"would send {variable} to {host}, but it belongs to {own or name} (profile {name})",
                    )

    def _collection(self, given: Mapping[str, Any] | None) -> Collection | None:
        if given is None:
            return None
        return CollectionReader(self._wrong, self.check_placeholders).collection(given, (*self._place, "collection"))

    def _rules(self, api: Mapping[str, Any]) -> AnswerRules:
        for member in ("record", "success", "error"):
            check_expression(api.get(member), self._wrong, (*self._place, member))
        return AnswerRules(
            record=api.get("record"),
            success=api.get("success"),
            error=api.get("error"),
            replaced_whole=frozenset(api.get("replaced_whole", ())),
            read_only=frozenset(api.get("read_only", ())),
            shown_as=api.get("shown_as", {}),
            poll=self._poll(api.get("poll")),
        )

    def _poll(self, given: Mapping[str, Any] | None) -> Poll | None:
        if given is None:
            return None
        for member in ("url", "state"):
            check_expression(given.get(member), self._wrong, (*self._place, "poll", member))
        times = {"every": 2.0, "at_most": 600.0}
        for name in times.keys() & given.keys():
            try:
                times[name] = parse_duration(given[name])
            except ValueError as error:
                self._wrong((*self._place, "poll", name), f"has to be {error}")
        return Poll(
            url=given.get("url"),
            state=given.get("state"),
            done=tuple(given.get("done", ())),
            failed=tuple(given.get("failed", ())),
            every_s=times["every"],
            at_most_s=times["at_most"],
        )

    def _text(self, value: str, path: tuple[str, ...]) -> str | Secret:
        filled = self.filled(value, path)
        return Secret(filled) if VARIABLE.search(value) else filled

    def filled(self, value: str, path: tuple[str | int, ...]) -> str:
        """Return a value with variables, files and commands put in; a file's last line break is no part of it."""

        def fill(found: re.Match[str]) -> str:
            try:
                return self._value_of(found["name"])
            except (OSError, UnicodeDecodeError) as error:
                self._wrong(path, str(error))
                return ""

        filled = VARIABLE.sub(fill, value)
        if CONTROL.search(filled):
            self._wrong(path, "may not hold line breaks or other control characters")
        return filled

    def _filled_again(self, value: str) -> str:
        """Return a value as `filled` does, later on.

        Raises:
            OSError: a file cannot be read, a command fails, or a variable is not set; no value is in its text.
        """
        try:
            filled = VARIABLE.sub(lambda found: self._value_of(found["name"]), value)
        except UnicodeDecodeError:
            raise OSError("the token is not UTF-8") from None
        if not filled or CONTROL.search(filled):
            raise OSError("the token is empty, or holds line breaks or other control characters")
        return filled

    def _value_of(self, name: str) -> str:
        """Return what ``${name}`` stands for.

        Raises:
            OSError: there is no such value; its text says why.
        """
        kind, colon, rest = name.partition(":")
        if colon and kind == "file":
            try:
                return self._outside.read_file(rest).removesuffix("\n").removesuffix("\r")
            except (OSError, UnicodeDecodeError) as error:
                why = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
                raise OSError(f"the file {rest}: {why}") from None
        if colon and kind == "command":
            try:
                return self._outside.run_command(rest)
            except OSError as error:
                raise OSError(f"the command {error}") from None
        return self._outside.variable(name, trusted=self._trusted)

    def _body_limits(self, given: Mapping[str, str] | None) -> BodyLimits | None:
        for member in given or ():
            check_expression((given or {})[member], self._wrong, (*self._place, "rate_limit", "body", member))
        return None if given is None else BodyLimits(**given)

    def _spacing(self, text: str | None) -> float:
        if text is None:
            return 0.0
        found = SPACING.fullmatch(text)
        if not found:
            self._wrong((*self._place, "rate_limit", "write_spacing"), "has to be a duration such as 1s or 500ms")
            return 0.0
        return float(found[1]) * (0.001 if found[2] == "ms" else 1.0)


def named_profile(name: str, outside: Outside) -> ApiProfile:
    """Return a profile: built in, in the user's own folder, or a file.

    Raises:
        JobError: there is none of that name, or a variable that it needs is not set.
    """
    findings = Findings("", name)
    profile = ProfileReader(findings, outside).profile(name)
    findings.refuse()
    return profile


def _dialect(rate: Mapping[str, str]) -> Dialect:
    def lower(name: str) -> str | None:
        return rate[name].lower() if name in rate else None

    return Dialect(
        reset=ResetForm(rate.get("dialect", ResetForm.AUTO)),
        limit_header=lower("limit_header"),
        remaining_header=lower("remaining_header"),
        reset_header=lower("reset_header"),
    )
