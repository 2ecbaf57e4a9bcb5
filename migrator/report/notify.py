"""Notices of a run's start and end: a ping, a webhook, a command, or one of the services that Apprise knows.

A target's URL is a credential: no message, log or summary ever has more of it than the host's name. What is sent is the
summary, whose texts are masked, and never the job's credentials or an item's values. A notice that cannot be given is
told in words and changes nothing about the run.

The pings are those of healthchecks.io (healthchecks.io/docs/http_api): the URL itself means success, `/start` and
`/fail` after it the other two.
"""

import logging
import os
import signal
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import anyio
import msgspec

from migrator import __version__
from migrator.errors import NoticeError
from migrator.messages import is_loopback
from migrator.report.observer import Observer
from migrator.report.summary import Summary, summary_text
from migrator.secret import Secret

__all__ = ["NOTICE_S", "Kind", "Moment", "Notice", "Target", "notify", "read_targets", "usable_targets"]

ATTEMPTS: Final = 3
"""A false alarm for one lost packet wakes a person; the time limit holds for all attempts together."""

PAUSE_S: Final = 1.0

SENT: Final = frozenset(Summary.__annotations__) | {"message"}
"""The members that leave the machine; the message says why there is no summary."""

NOTICE_S: Final = 15.0
"""Seconds that one notice may take, all attempts included."""

ENVIRONMENT: Final = frozenset(
    {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "XDG_RUNTIME_DIR"}
)
"""The variables that a command is given: the others hold the job's credentials, as likely as not."""

NO_URL: Final = Secret("")
NO_APPRISE: Final = "needs the package apprise: pip install apprise"


class Moment(StrEnum):
    """What there is to tell."""

    START = "start"
    SUCCESS = "success"
    FAILURE = "failure"


class Kind(StrEnum):
    """How it is told; the values are the members of the job file."""

    PING = "ping"
    WEBHOOK = "webhook"
    COMMAND = "command"
    APPRISE = "apprise"


PING_SUFFIX: Final = {Moment.START: "/start", Moment.SUCCESS: "", Moment.FAILURE: "/fail"}
ENDS: Final = frozenset({Moment.SUCCESS, Moment.FAILURE})


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told, and when.

    Attributes:
        place: its place in `notify`.
        kind: how.
        url: where; empty for a command.
        command: the program and its arguments.
        on: the moments at which it is told.
    """

    place: int = 0
    kind: Kind
    url: Secret = NO_URL
    command: tuple[str, ...] = ()
    on: frozenset[Moment] = ENDS

    def __str__(self) -> str:
        """Name it without anything secret: arguments and the hosts of Apprise's URLs may be tokens."""
        if self.kind is Kind.COMMAND:
            return f"command {PurePath(self.command[0]).name}"
        scheme, _, _ = self.url.reveal().partition("://")
        return f"{self.kind} {scheme}" if self.kind is Kind.APPRISE else f"{self.kind} {_host(self.url.reveal())}"


class _Problem(Exception):
    """Why a notice was not given, in words without anything secret."""


def read_targets(given: Sequence[Mapping[str, Any]], *, allow_commands: bool) -> tuple[Target, ...]:
    """Return the targets of a job file's `notify`, which its schema has found valid.

    A ping is told of every moment and the others of a run's end, where `on` does not say otherwise.

    Args:
        given: the array, its URLs as secrets.
        allow_commands: whether commands may be run.

    Raises:
        NoticeError: a URL is plain HTTP to another machine or none at all, commands are not allowed, or the package
            that Apprise's URLs need is not there. It names every such target.
    """
    targets, problems = usable_targets(given, allow_commands=allow_commands)
    if problems:
        raise NoticeError("; ".join(problems))
    return targets


def usable_targets(
    given: Sequence[Mapping[str, Any]], *, allow_commands: bool
) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Return the targets that can be told, and what is wrong with each of the others.

    Args:
        given: the array, its URLs as secrets; an entry with which something is wrong is empty.
        allow_commands: whether commands may be run.
    """
    targets, problems = [], []
    for place, entry in enumerate(given):
        try:
            targets += [_read(place, entry, allow_commands=allow_commands)] if entry else []
        except NoticeError as error:
            problems.append(str(error))
    return tuple(targets), tuple(problems)


def _read(place: int, entry: Mapping[str, Any], *, allow_commands: bool) -> Target:
    kind = next(kind for kind in Kind if kind in entry)
    on = frozenset(Moment(name) for name in entry["on"]) if "on" in entry else None
    if kind is Kind.COMMAND:
        if not allow_commands:
            raise NoticeError(f"notify.{place}.command: a command needs --allow-commands")
        return Target(place=place, kind=kind, command=tuple(entry[kind]), on=ENDS if on is None else on)
    url: Secret = entry[kind]
    if why := _unusable(kind, url.reveal()):
        raise NoticeError(f"notify.{place}.{kind} {why}")
    usual = frozenset(Moment) if kind is Kind.PING else ENDS
    return Target(place=place, kind=kind, url=url, on=usual if on is None else on)


def _unusable(kind: Kind, url: str) -> str | None:
    """Return why a URL is not used, or None where it is."""
    if kind is Kind.APPRISE:
        return None if find_spec("apprise") is not None else NO_APPRISE
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "has to be an http or https URL"
    if not host or parts.scheme not in {"http", "https"} or not url.isprintable() or " " in url:
        return "has to be an http or https URL"
    if parts.scheme == "http" and not is_loopback(host):
        return "is plain HTTP, which goes only to this machine (localhost, 127.0.0.1): its URL is a credential"
    return None


async def notify(
    targets: Sequence[Target], moment: Moment, summary: Mapping[str, object], *, timeout_s: float
) -> list[str]:
    """Tell every target that wants to hear of this moment, all at the same time, and return what went wrong.

    Webhooks are sent, and commands get on standard input, one JSON object: `event`, which is the moment, and the
    members of `summary`, of which a start has some alone. A command has the time limit for itself and is killed with
    all that it started; its output is dropped. Redirects are not followed, and no proxy and no `.netrc` is heeded, for
    each would show the URL, or credentials, to another user.

    Args:
        targets: who may be told.
        moment: what there is to tell.
        summary: what is known of the run; members that no summary has are left out.
        timeout_s: seconds that each target may take, all attempts included.

    Returns:
        A sentence for each target that could not be told, in the targets' order, without anything secret. Nothing is
        raised but a cancellation from outside.
    """
    problems: dict[int, str] = {}

    async def tell(target: Target) -> None:
        if problem := await _told(target, moment, summary, timeout_s=timeout_s):
            problems[target.place] = problem

    async with anyio.create_task_group() as tasks:
        for target in targets:
            tasks.start_soon(tell, target)
    return [problems[place] for place in sorted(problems)]


async def _told(target: Target, moment: Moment, summary: Mapping[str, object], *, timeout_s: float) -> str | None:
    """Tell a target if it wants to hear of this moment; return what went wrong, or None."""
    if moment not in target.on:
        return None
    name = f"notify.{target.place} ({target})"
    try:
        with anyio.fail_after(timeout_s):
            await _tell(target, moment, summary)
    except _Problem as problem:
        return f"{name}: {problem}"
    except TimeoutError:
        return f"{name}: not done within {timeout_s:g} s"
    except Exception as error:  # noqa: BLE001  a notice is no reason for a run to fail, and a text may quote a URL
        return f"{name}: {type(error).__name__}"
    return None


class Notice(Observer):
    """Tells one target of a job file that a run starts, and how it ended.

    Args:
        target: who is told.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.once = f"notify.{target.place}"

    async def started(self, facts: Mapping[str, str]) -> Sequence[str]:
        """Tell that the run starts; return what went wrong."""
        return await self._tell(Moment.START, facts)

    async def ended(self, summary: Summary) -> Sequence[str]:
        """Tell how the run ended; return what went wrong."""
        return await self._tell(Moment.SUCCESS if summary["exit_code"] == 0 else Moment.FAILURE, dict(summary))

    async def _tell(self, moment: Moment, summary: Mapping[str, object]) -> Sequence[str]:
        problem = await _told(self._target, moment, summary, timeout_s=NOTICE_S)
        return () if problem is None else (problem,)


async def _tell(target: Target, moment: Moment, summary: Mapping[str, object]) -> None:
    if target.kind is not Kind.COMMAND and (why := _unusable(target.kind, target.url.reveal())):
        raise _Problem(why)
    match target.kind:
        case Kind.PING:
            await _request("GET", _ping_url(target.url.reveal(), moment), None)
        case Kind.WEBHOOK:
            await _request("POST", target.url.reveal(), _document(moment, summary))
        case Kind.COMMAND:
            await _run(target.command, _document(moment, summary))
        case Kind.APPRISE:
            await _apprise(target.url.reveal(), moment, summary)


def _document(moment: Moment, summary: Mapping[str, object]) -> bytes:
    return msgspec.json.encode({"event": moment, **{name: value for name, value in summary.items() if name in SENT}})


def _ping_url(url: str, moment: Moment) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + PING_SUFFIX[moment]))


async def _request(method: str, url: str, body: bytes | None) -> None:
    """Make a request, again after a while where the server or the way there is not well."""
    headers = {"User-Agent": f"migrator/{__version__}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    # aiohttp's own context is not used: it is as it was when aiohttp was imported, or trusts no certificate.
    trust = ssl.create_default_context() if url.startswith("https:") else True
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, ssl=trust),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with session.request(method, url, data=body, allow_redirects=False) as response:
                    if response.ok and response.status < 300:
                        return
                    problem = _Problem(f"the server answered {response.status}")
                    passing = response.status >= 500 or response.status == 429
            except (aiohttp.ClientError, OSError, ValueError) as error:
                problem, passing = (
                    _Problem(_in_words(error)),
                    isinstance(error, OSError | aiohttp.ServerDisconnectedError),
                )
            if not passing or attempt == ATTEMPTS:
                raise problem
            await anyio.sleep(PAUSE_S)


def _in_words(error: Exception) -> str:
    """Say what went wrong in words of our own: the texts of exceptions quote URLs."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return "the server's certificate is refused"
        case aiohttp.ClientConnectorDNSError():
            return "the server's name cannot be resolved"
        case aiohttp.ClientSSLError():
            return "no TLS connection could be made"
        case aiohttp.ClientConnectorError():
            return "the server cannot be reached"
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection without an answer"
        case aiohttp.InvalidURL() | ValueError():
            return "the URL is not valid"
        case OSError():
            return "the connection broke"
        case _:
            return "the answer is no valid HTTP"


async def _run(command: Sequence[str], document: bytes) -> None:
    """Run a command in a process group of its own, so that what it has started can be ended with it."""
    try:
        process = await anyio.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name in ENVIRONMENT},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _Problem(f"cannot be run: {getattr(error, 'strerror', None) or 'not a valid command'}") from None
    try:
        if process.stdin is not None:
            # A command need not read what it is told.
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                await process.stdin.send(document)
            with suppress(anyio.BrokenResourceError, OSError):
                await process.stdin.aclose()
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.wait()
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await process.aclose()
    if code:
        how = f"ended with {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
        raise _Problem(f"{how}; run it by hand to see why")


async def _apprise(url: str, moment: Moment, summary: Mapping[str, object]) -> None:
    """Hand a text for people to Apprise, an optional package that takes a second to import."""
    apprise: Any = import_module("apprise")
    logging.getLogger("apprise").disabled = True  # it quotes URLs
    service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if service is None:
        raise _Problem("is no URL that Apprise knows")
    plain = service.protocol or ()
    scheme = url.partition("://")[0].lower()
    if scheme in ((plain,) if isinstance(plain, str) else plain) and not is_loopback(_host(url)):
        raise _Problem("goes over the network in plain text, which is only done to this machine")
    told = apprise.Apprise()
    told.add(service)
    kind = {Moment.START: "info", Moment.SUCCESS: "success", Moment.FAILURE: "failure"}[moment]
    if "counts" in summary:
        text = summary_text(cast("Summary", summary))
    else:
        text = str(summary.get("message") or summary.get("run", ""))
    if not await told.async_notify(
        title=f"migrator: {summary.get('job', 'a job')}: {moment}", body=text or moment, notify_type=kind
    ):
        raise _Problem("the service refused the notice, or cannot be reached")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
