"""Those who want to hear of a run's start or end are told, and none learns another URL."""

import asyncio
import json
import os
import ssl
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from summaries import summary

from migrator import __version__
from migrator.errors import NoticeError
from migrator.report.notify import Kind, Moment, Target, notify, read_targets, usable_targets
from migrator.report.summary import Summary
from migrator.secret import Secret

pytestmark = pytest.mark.anyio

SECRET = "0b1c2d3e-secret-uuid"
FAILED: Summary = summary(exit_code=1)


@dataclass
class Hearer:
    """A server that notes what it is told.

    Attributes:
        url: where it listens, with a secret path.
        heard: method, path with query, headers and body of each request.
        answers: statuses to give, one after the other; 200 afterwards.
        delay_s: how long it takes.
    """

    url: str = ""
    heard: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    delay_s: float = 0.0

    @property
    def lines(self) -> list[str]:
        """Method and path of each request."""
        return [f"{method} {path}" for method, path, _, _ in self.heard]

    async def answer(self, request: web.Request) -> web.Response:
        """Note a request and answer it."""
        self.heard.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        await asyncio.sleep(self.delay_s)
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": f"{self.url}/moved"})


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Hearer]:
    """Serve on loopback."""
    hearer = Hearer()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", hearer.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    hearer.url = f"{'https' if tls else 'http'}://{host}:{port}/{SECRET}"
    try:
        yield hearer
    finally:
        await runner.cleanup()


@pytest.fixture
async def hearer() -> AsyncIterator[Hearer]:
    """Return a server on loopback."""
    async with listening() as found:
        yield found


def targets(*given: dict[str, Any], allow_commands: bool = True) -> tuple[Target, ...]:
    """Read targets as a job has them, whose texts are secrets."""
    entries = [
        {name: Secret(value) if isinstance(value, str) else value for name, value in entry.items()} for entry in given
    ]
    return read_targets(entries, allow_commands=allow_commands)


def script(tmp_path: Path, code: str) -> list[str]:
    """Return a command that is Python code in a program of its own."""
    path = tmp_path / "tell"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


async def test_ping_at_each_moment(hearer: Hearer) -> None:
    """A check is told of the start, the success and the failure, by the paths that healthchecks.io gives them."""
    told = targets({"ping": hearer.url})

    problems = [await notify(told, moment, summary(), timeout_s=5) for moment in Moment]

    assert problems == [[], [], []]
    assert hearer.lines == [f"GET /{SECRET}/start", f"GET /{SECRET}", f"GET /{SECRET}/fail"]


async def test_ping_keeps_its_query(hearer: Hearer) -> None:
    """What stands after the question mark stays there, and a slash at the end is not doubled."""
    assert await notify(targets({"ping": f"{hearer.url}/?create=1"}), Moment.FAILURE, FAILED, timeout_s=5) == []
    assert hearer.lines == [f"GET /{SECRET}/fail?create=1"]


async def test_webhook_gets_the_summary(hearer: Hearer) -> None:
    """A webhook is posted the whole summary as one JSON object, with what happened, and says who sends it."""
    assert await notify(targets({"webhook": hearer.url}), Moment.FAILURE, FAILED, timeout_s=5) == []

    ((method, path, headers, body),) = hearer.heard
    assert (method, path) == ("POST", f"/{SECRET}")
    assert json.loads(body) == {"event": "failure", **FAILED}
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == f"migrator/{__version__}"


async def test_nothing_else_is_sent(hearer: Hearer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a member that no summary has, nor a password from .netrc, nor a cookie goes with a notice."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    known = {"job": "rotate", "items_cells": ["https://hooks.slack.example/services/x"]}

    assert await notify(targets({"webhook": hearer.url, "on": ["start"]}), Moment.START, known, timeout_s=5) == []

    ((_, _, headers, body),) = hearer.heard
    assert json.loads(body) == {"event": "start", "job": "rotate"}
    assert not {"Authorization", "Cookie"} & headers.keys()


@pytest.mark.parametrize(
    ("on", "heard"),
    [
        (None, ["success", "failure"]),
        (["failure"], ["failure"]),
        (["start", "success"], ["start", "success"]),
        ([], []),
    ],
)
async def test_moments_can_be_chosen(hearer: Hearer, on: list[str] | None, heard: list[str]) -> None:
    """A target hears of the moments it names, and but for a ping of a run's end alone where it names none."""
    told = targets({"webhook": hearer.url} | ({} if on is None else {"on": on}))

    for moment in Moment:
        await notify(told, moment, summary(), timeout_s=5)

    assert [json.loads(body)["event"] for *_, body in hearer.heard] == heard


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_passing_trouble_is_tried_again(hearer: Hearer, status: int) -> None:
    """A server that is not well for a moment is asked again, so that no one is woken for nothing."""
    hearer.answers = [status]

    assert await notify(targets({"ping": hearer.url}), Moment.SUCCESS, summary(), timeout_s=10) == []
    assert len(hearer.heard) == 2


@pytest.mark.parametrize("status", [301, 307, 404])
async def test_refusal_is_told(hearer: Hearer, status: int) -> None:
    """Any other answer than a success is told, once and without the URL, and a redirect is not followed."""
    hearer.answers = [status]

    (problem,) = await notify(targets({"webhook": hearer.url}), Moment.SUCCESS, summary(), timeout_s=5)

    assert problem == f"notify.0 (webhook 127.0.0.1): the server answered {status}"
    assert len(hearer.heard) == 1


async def test_slow_target_keeps_nobody_waiting(hearer: Hearer) -> None:
    """Each target has the time limit for itself, all are told at the same time, and who was not is named in order."""
    hearer.delay_s = 30
    slow = {"webhook": hearer.url}
    async with listening() as quick:
        problems = await notify(targets(slow, {"webhook": quick.url}, slow), Moment.SUCCESS, summary(), timeout_s=0.5)

    assert problems == [f"notify.{place} (webhook 127.0.0.1): not done within 0.5 s" for place in (0, 2)]
    assert len(quick.heard) == 1


async def test_nobody_listens(unused: int) -> None:
    """A server that is down is told of in words without the URL."""
    told = targets({"ping": f"http://127.0.0.1:{unused}/{SECRET}"})

    (problem,) = await notify(told, Moment.SUCCESS, summary(), timeout_s=10)

    assert problem == "notify.0 (ping 127.0.0.1): the server cannot be reached"


@pytest.fixture
async def unused() -> int:
    """Return a port on which no one listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


@pytest.mark.parametrize("trusted", [True, False])
async def test_certificates_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool) -> None:
    """A notice goes to a server whose certificate is trusted, and to no other."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async with listening(tls) as hearer:
        problems = await notify(targets({"webhook": hearer.url}), Moment.SUCCESS, summary(), timeout_s=10)

    refused = ["notify.0 (webhook 127.0.0.1): the server's certificate is refused"]
    assert (problems, len(hearer.heard)) == (([], 1) if trusted else (refused, 0))


@pytest.mark.parametrize("url", ["http://hooks.example/{}", "http://10.0.0.1/{}", "http://127.0.0.1.example/{}"])
@pytest.mark.parametrize("kind", ["ping", "webhook"])
async def test_plain_http_is_refused(kind: str, url: str) -> None:
    """Plain HTTP to another machine is refused before the run, and again where a target is made in another way."""
    with pytest.raises(NoticeError, match=rf"notify\.0\.{kind} is plain HTTP") as caught:
        targets({kind: url.format(SECRET)})
    assert SECRET not in str(caught.value)

    made = Target(kind=Kind(kind), url=Secret(url.format(SECRET)))
    (problem,) = await notify([made], Moment.SUCCESS, summary(), timeout_s=5)
    assert "is plain HTTP" in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    "url", ["", "ftp://hooks.example/x", "https://", "https://[::1/x", "https://h:x/", "https://h/\n"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    """What is no http or https URL is refused before the run."""
    with pytest.raises(NoticeError, match=r"notify\.0\.webhook has to be"):
        targets({"webhook": url})


def test_url_stays_secret() -> None:
    """No text about a target shows its URL."""
    (target,) = targets({"ping": f"https://hc.example/{SECRET}"})

    assert target.url.reveal() == f"https://hc.example/{SECRET}"
    assert SECRET not in f"{target} {target!r}"
    assert str(target) == "ping hc.example"


async def test_command_reads_the_summary(tmp_path: Path) -> None:
    """A command gets the summary on its standard input."""
    out = tmp_path / "out.json"
    command = script(tmp_path, "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())")

    assert await notify(targets({"command": [*command, str(out)]}), Moment.FAILURE, FAILED, timeout_s=20) == []

    assert json.loads(out.read_text()) == {"event": "failure", **FAILED}


async def test_command_gets_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's environment has what finds programs and a home, and none of the job's credentials."""
    monkeypatch.setenv("CONFLUENT_CLOUD_API_SECRET", "s3cret")
    monkeypatch.setenv("MIGRATOR_KEY", "k3y")
    out = tmp_path / "out.json"
    command = script(
        tmp_path, "import json, os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(json.dumps(dict(os.environ)))"
    )

    assert await notify(targets({"command": [*command, str(out)]}), Moment.SUCCESS, summary(), timeout_s=20) == []

    found = json.loads(out.read_text())
    assert found["PATH"] == os.environ["PATH"]
    assert not {"CONFLUENT_CLOUD_API_SECRET", "MIGRATOR_KEY"} & found.keys()


async def test_command_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What a command prints is mixed neither into the summary nor into the log; its exit code is told."""
    command = script(tmp_path, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")

    (problem,) = await notify(targets({"command": [*command, SECRET]}), Moment.SUCCESS, summary(), timeout_s=20)

    assert problem == "notify.0 (command tell): ended with 7; run it by hand to see why"
    assert capfd.readouterr() == ("", "")


async def test_command_need_not_read(tmp_path: Path) -> None:
    """A command that leaves a long summary unread is no problem."""
    command = script(tmp_path, "import os; os.close(0)")
    long = summary(next_steps=["x" * 1_000_000])

    assert await notify(targets({"command": command}), Moment.SUCCESS, long, timeout_s=20) == []


async def test_command_is_killed_with_its_children(tmp_path: Path) -> None:
    """A command that takes too long is killed with all that it has started."""
    alive = tmp_path / "alive"
    (tmp_path / "tell").write_text(f"#!/bin/sh\n(while :; do date +%s%N > {alive}; sleep 0.05; done) & wait\n")
    (tmp_path / "tell").chmod(0o700)

    (problem,) = await notify(targets({"command": [str(tmp_path / "tell")]}), Moment.SUCCESS, summary(), timeout_s=1)

    assert problem == "notify.0 (command tell): not done within 1 s"
    before = alive.read_text()
    await asyncio.sleep(0.3)
    assert alive.read_text() == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "missing", "cannot be run: No such file or directory"),
        (lambda folder: folder, "cannot be run: Permission denied"),
        (lambda folder: f"{folder}/\0", "cannot be run: not a valid command"),
    ],
)
async def test_command_that_cannot_be_run(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    """A program that is not there, or is none, is told."""
    (problem,) = await notify(targets({"command": [str(make(tmp_path))]}), Moment.SUCCESS, summary(), timeout_s=5)

    assert problem.endswith(words)


def test_commands_have_to_be_allowed() -> None:
    """A job file cannot run commands by itself."""
    with pytest.raises(NoticeError, match=r"notify\.1\.command: .* --allow-commands"):
        targets({"ping": "https://hc.example/x"}, {"command": ["true"]}, allow_commands=False)


async def test_nothing_is_raised(hearer: Hearer) -> None:
    """What cannot even be written as JSON is told as a problem, and the others are told all the same."""
    strange: dict[str, object] = {"job": object()}

    problems = await notify(
        targets({"webhook": hearer.url}, {"ping": hearer.url}), Moment.SUCCESS, strange, timeout_s=5
    )

    assert problems == ["notify.0 (webhook 127.0.0.1): TypeError"]
    assert hearer.lines == [f"GET /{SECRET}"]


async def test_apprise_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package a URL of Apprise's is refused before the run, with the command that mends it."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(NoticeError, match=r"notify\.0\.apprise needs .* pip install apprise"):
        targets({"apprise": "tgram://123:token/1"})

    made = Target(kind=Kind.APPRISE, url=Secret("tgram://123:token/1"))
    assert await notify([made], Moment.SUCCESS, summary(), timeout_s=5) == [
        "notify.0 (apprise tgram): needs the package apprise: pip install apprise"
    ]


async def test_a_problem_names_the_entry_of_the_job_file() -> None:
    """Entries before it that cannot be used count as well."""
    told, problems = usable_targets(
        [{}, {"command": ["true"]}, {"webhook": Secret("http://127.0.0.1:9/x")}], allow_commands=False
    )

    assert problems == ("notify.1.command: a command needs --allow-commands",)
    (refused,) = await notify(told, Moment.FAILURE, FAILED, timeout_s=5)
    assert refused.startswith("notify.2 (webhook 127.0.0.1)")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the package's own
async def test_apprise_tells_people(hearer: Hearer, capfd: pytest.CaptureFixture[str]) -> None:
    """A service of Apprise's gets the summary for people, one that fails is told, and plain text stays at home."""
    local = hearer.url.replace("http://", "json://")
    told = targets({"apprise": local}, {"apprise": f"json://hooks.example/{SECRET}"}, {"apprise": f"no://{SECRET}"})

    problems = await notify(told, Moment.FAILURE, FAILED, timeout_s=10)
    hearer.answers = [500]
    problems += await notify(told[:1], Moment.SUCCESS, summary(), timeout_s=10)

    assert problems == [
        "notify.1 (apprise json): goes over the network in plain text, which is only done to this machine",
        "notify.2 (apprise no): is no URL that Apprise knows",
        "notify.0 (apprise json): the service refused the notice, or cannot be reached",
    ]
    first = json.loads(hearer.heard[0][3])
    assert (first["title"], first["type"]) == ("migrator: rotate: failure", "failure")
    assert "rotate on https://api.example" in first["message"]
    assert capfd.readouterr() == ("", "")
