"""Which webhooks fit which kind of integration, and which hosts are retired: rules with their date and source.

A rule is a warning and no error: hosts change, and tools that refused unknown ones broke when Teams changed its own.
What is not known is not claimed: a host that no rule names passes.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from migrator.job.items import Item
from migrator.job.job_file import Job
from migrator.job.placeholders import Column, parse
from migrator.secret import Secret

__all__ = ["Place", "Rules", "Warned", "messages_of", "places_in"]

URL: Final = re.compile(
    r"(?P<scheme>https?)://(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|[^/?#:]*)(?P<port>:\d*)?(?P<path>[^?#]*)", re.IGNORECASE
)
URL_MEMBERS: Final = ("webhook_url", "url", "endpoint_url", "uri")
SLACK: Final = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})
EXAMPLE_HOST: Final = re.compile(r"(?:.*\.)?(?:example(?:\.(?:com|net|org))?|test|invalid)")
"""Names that are reserved for examples and tests (RFC 2606, sections 2 and 3; RFC 6761)."""

MADE_UP: Final = "the host is made up for examples, or is this machine: no message arrives there (RFC 2606)"

LONGEST_TABLE: Final = 2_000_000
"""Webhooks whose repetitions are looked for; each takes some hundred bytes."""


class Place(msgspec.Struct, frozen=True):
    """Where an item has a webhook.

    Attributes:
        column: the webhook's column.
        kind: the integration's kind, where it is the same for all items.
        kind_column: the column that has it otherwise.
    """

    column: str
    kind: str | None = None
    kind_column: str | None = None


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """One warning for all the rows that have it.

    Attributes:
        column: the webhook's column.
        message: what may be wrong, with date and source.
        rows: how many rows have it.
        line: the first of them.
    """

    column: str
    message: str
    rows: int
    line: int

    def __str__(self) -> str:
        rows = f"{self.rows:,} rows, first: line {self.line}" if self.rows > 1 else f"line {self.line}"
        return f"{self.column}: {self.message} ({rows})"


def messages_of(url: str, kind: str | None) -> Iterator[str]:
    """Yield what may be wrong with a webhook, without the webhook.

    Args:
        url: the webhook.
        kind: the kind of integration that it is for, such as Slack; None where that is not known.
    """
    found = URL.match(url)
    if found is None:
        return
    host, path = found["host"].lower().rstrip("."), found["path"]
    address = _address(host)
    if EXAMPLE_HOST.fullmatch(host) or host == "localhost" or (address is not None and address.is_loopback):
        yield MADE_UP
        return
    if address is not None and (address.is_link_local or address.is_private or address.is_unspecified):
        what = "link-local" if address.is_link_local else "private"
        yield f"the address is {what}: the API's servers cannot reach it, or reach another machine (RFC 1918, RFC 3927)"
    if found["scheme"].lower() == "http":
        yield "is plain HTTP: others on the way can read the messages and the webhook"
    yield from _of_slack(host, path, kind)
    yield from _of_teams(host, path, kind)


def _of_slack(host: str, path: str, kind: str | None) -> Iterator[str]:
    """Slack: incoming webhooks are below /services/ (docs.slack.dev, "Sending messages using incoming webhooks")."""
    if host not in SLACK:
        if kind == "Slack" and not _is_teams(host):
            yield "is no Slack webhook: those begin with https://hooks.slack.com/services/ (docs.slack.dev, 2026)"
        return
    if path.startswith(("/workflows/", "/triggers/")):
        yield "starts a Slack workflow and is no incoming webhook, which is below /services/ (docs.slack.dev, 2026)"
    elif not path.startswith("/services/"):
        yield "is no Slack webhook: those are below /services/ (docs.slack.dev, 2026)"
    if kind is not None and kind != "Slack":
        yield f"is a Slack webhook under the kind {kind}"


def _of_teams(host: str, path: str, kind: str | None) -> Iterator[str]:
    """Teams: connectors were switched off in May 2026, triggers of logic.azure.com ended on 30 November 2025."""
    if not _is_teams(host):
        return
    if host.endswith("logic.azure.com"):
        yield (
            "trigger URLs of logic.azure.com ended on 2025-11-30; those of Power Platform have replaced them "
            "(*.environment.api.powerplatform.com; Microsoft Q&A, November 2025)"
        )
    elif not host.endswith("powerplatform.com"):
        if host.startswith("outlook.") and not path.startswith("/webhook"):
            return
        yield (
            "Teams connectors (Office 365) were switched off in May 2026; Workflows have replaced them "
            "(learn.microsoft.com, custom connectors; databrickslabs/dqx, docs)"
        )
    if kind is not None and kind != "MsTeams":
        yield f"is a Teams webhook under the kind {kind}"


def _is_teams(host: str) -> bool:
    ends = ("webhook.office.com", "logic.azure.com", "environment.api.powerplatform.com")
    return host.endswith(ends) or host in {"outlook.office.com", "outlook.office365.com"}


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def places_in(job: Job) -> list[Place]:
    """Return where a job's items have webhooks, as far as its body, its preflight and its secrets tell.

    A member of a body that is named as a URL is one where a `kind` stands beside it; without a body, a secret column
    that is named so is one.
    """
    found: dict[str, Place] = {}
    if job.request.has_body or job.request.has_wanted:
        for place in _in_body([job.request.body, job.request.wanted]):
            found[place.column] = place
    else:
        for column in sorted(job.secrets):
            above, dot, name = column.rpartition(".")
            if name in URL_MEMBERS:
                found[column] = Place(column, kind_column=f"{above}{dot}kind")
    if job.preflight is not None:
        found.setdefault(job.preflight.column, Place(job.preflight.column, kind="Slack"))
    return list(found.values())


def _in_body(value: Any) -> Iterator[Place]:
    if isinstance(value, Mapping):
        if "kind" in value:
            kind, kind_column = _filler(value["kind"])
            for name in URL_MEMBERS:
                _, column = _filler(value.get(name))
                if column is not None:
                    yield Place(column, kind, kind_column)
        for member in value.values():
            yield from _in_body(member)
    elif isinstance(value, list):
        for entry in value:
            yield from _in_body(entry)


def _filler(value: Any) -> tuple[str | None, str | None]:
    """Return a text, or the column that it is taken from."""
    if not isinstance(value, str):
        return None, None
    match parse(value):
        case (str(text),):
            return text, None
        case (Column(name),):
            return None, name
        case _:
            return None, None


class Rules:
    """Looks at the webhooks of a job's items, one after the other, and keeps one warning for each cause.

    Args:
        job: says where its items have webhooks.
        rehearsal: whether hosts that are made up are what one expects.
    """

    def __init__(self, job: Job, *, rehearsal: bool) -> None:
        self._rehearsal = rehearsal
        self._places = places_in(job)
        self._warned: dict[tuple[str, str], Warned] = {}
        self._first: dict[int, int] = {}
        self._again: dict[str, tuple[int, int]] = {}
        self._judged: dict[tuple[str, str | None], tuple[str, ...]] = {}

    @property
    def wanted(self) -> bool:
        """Whether the job has webhooks to look at."""
        return bool(self._places)

    def see(self, item: Item) -> None:
        """Look at an item."""
        for place in self._places:
            value = item.values.get(place.column)
            url = value.reveal() if isinstance(value, Secret) else value
            if not isinstance(url, str):
                continue
            kind = place.kind
            if place.kind_column is not None:
                held = item.values.get(place.kind_column)
                kind = held if isinstance(held, str) else None
            for message in self._messages(url, kind):
                if message != MADE_UP:
                    self._warn(place.column, message, item.line)
                elif not self._rehearsal:
                    self._warn(self._places[0].column, message, item.line)
            self._see_again(place.column, url, item.line)

    def _messages(self, url: str, kind: str | None) -> tuple[str, ...]:
        """Return the warnings for a webhook; most rows share host and first segment, so that they are judged once."""
        parts = url.split("/", 4)
        key = "/".join(parts[:4]), kind
        found = self._judged.get(key)
        if found is None:
            found = tuple(messages_of("/".join((*parts[:4], "")) if len(parts) > 4 else url, kind))
            if len(self._judged) < 10_000:
                self._judged[key] = found
        return found

    def _warn(self, column: str, message: str, line: int) -> None:
        before = self._warned.get((column, message))
        self._warned[column, message] = (
            Warned(column=column, message=message, rows=1, line=line)
            if before is None
            else replace(before, rows=before.rows + 1)
        )

    def _see_again(self, column: str, url: str, line: int) -> None:
        # Python's hash of a text is keyed differently in each process, so that none of them gives a webhook away.
        first = self._first.setdefault(hash(url), line) if len(self._first) < LONGEST_TABLE else line
        if first != line:
            count, shown = self._again.get(column, (0, first))
            self._again[column] = count + 1, min(shown, first)

    def warnings(self) -> list[Warned]:
        """Return the warnings so far, the most frequent first."""
        again = [
            Warned(
                column=column,
                message="has a webhook that another row has too: their messages go to one channel",
                rows=count,
                line=line,
            )
            for column, (count, line) in self._again.items()
        ]
        return sorted([*self._warned.values(), *again], key=lambda warned: (-warned.rows, warned.line))
