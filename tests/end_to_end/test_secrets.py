"""No secret leaves the process, whatever a server echoes and however the process ends."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from secret_spellings import SPELLINGS

if TYPE_CHECKING:
    from conftest import Workplace

PASSWORD, HEADER, OLD, NOTICE = "canary-Passw0rd/+x", "canary-Header-9", "canary-0ld-hook-7", "canary-n0tice-hook"
ROWS = 2 * len(SPELLINGS)


def canary(row: int) -> str:
    """Return the secret part of a row's webhook."""
    return f"canary-New-hook-{row:04d}-Zq"


class Echo(BaseHTTPRequestHandler):
    """Repeats every secret that it has been sent, in another spelling with each answer, in every place of an answer."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    count = 0
    seen: tuple[str, ...] = ()
    old: tuple[str, ...] = ()

    def do_GET(self) -> None:
        """Show the old webhook, which becomes a before-image and may be repeated from then on."""
        type(self).old = (OLD,)
        self._answer(200, {"id": self.path, "target": {"kind": "Slack", "webhook_url": f"https://old.example/s/{OLD}"}})

    def do_PATCH(self) -> None:
        """Repeat what was sent."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.lock:
            number = type(self).count
            type(self).count += 1
            before, type(self).seen = self.seen, (*self.seen[-3:], body["target"]["webhook_url"].rpartition("/")[2])
        name = list(SPELLINGS)[number // 2 % len(SPELLINGS)]
        pair = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        mine = (*before, self.seen[-1], pair, PASSWORD, self.headers["X-Secret"], *self.old)
        echo = " | ".join(SPELLINGS[name](value) for value in mine)
        if number % 2:
            self._answer(200, body, echo)
        else:
            error = {"errors": [{"code": echo, "title": echo, "detail": f"no: {echo}", "source": {"pointer": echo}}]}
            self._answer((409, 422, 400, 404)[number // 2 % 4], error, echo)

    def _answer(self, status: int, document: Any, echo: str = "") -> None:
        data = json.dumps(document).encode()
        self.send_response(status, echo.encode("ascii", "ignore").decode()[:50] or None)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        if echo:
            # A header holds one id; the secrets take turns.
            words = echo.split(" | ")
            shown = words[type(self).count % len(words)]
            self.send_header("X-Request-Id", shown.encode("utf-8", "replace").decode("latin-1"))
            self.send_header("RateLimit-Policy", f'"{shown}";q=100000;w=1'.encode("utf-8", "replace").decode("latin-1"))
            self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def echo_server() -> Iterator[str]:
    """Serve on a free port."""
    Echo.count, Echo.seen, Echo.old = 0, (), ()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def write_job(workplace: "Workplace", url: str) -> dict[str, str]:
    """Write a job with a secret in every place, and return its environment."""
    api = {
        "base_url": url,
        "auth": {"type": "basic", "username": "key", "password": "${THE_PASSWORD}"},
        "headers": {"X-Secret": "${file:header}"},
        "read": True,
    }
    workplace.write_job(1, api=api, notify=[{"webhook": "${THE_NOTICE}"}])
    rows = [f"i-{row:04d},https://hooks.example/services/T000/{canary(row)}" for row in range(ROWS)]
    (workplace.folder / "items.csv").write_text("\n".join(["id,webhook_url", *rows, ""]))
    (workplace.folder / "header").write_text(HEADER + "\n")
    (workplace.folder / "tmp").mkdir(exist_ok=True)
    return workplace.env | {
        "THE_PASSWORD": PASSWORD,
        "THE_NOTICE": f"{url}/{NOTICE}",
        "MIGRATOR_ALLOW_ENV": "THE_PASSWORD,THE_NOTICE",
        "MIGRATOR_KEY": "canary-key-of-the-vault",
        "TMPDIR": str(workplace.folder / "tmp"),
    }


def leaks(workplace: "Workplace", *streams: str) -> list[str]:
    """Return where a secret stands, in any spelling: in a file, but for the inputs, or in a stream."""
    inputs = {"items.csv", "header", "job.json"}
    texts = {
        str(path): path.read_bytes().decode("latin-1")
        for path in workplace.folder.rglob("*")
        if path.is_file() and path.name not in inputs
    }
    texts |= {f"stream {place}": text for place, text in enumerate(streams)}
    secrets = (PASSWORD, HEADER, OLD, NOTICE, "canary-key-of-the-vault", *map(canary, range(0, ROWS, 7)))
    found = []
    for secret in secrets:
        for name, spell in SPELLINGS.items():
            # Without the ends, which a base64 alignment may change.
            spelt = spell(secret).strip("=")[4:-4]
            found += [f"{secret}, {name}: {where}" for where, text in texts.items() if spelt in text]
    return found


def with_limit(limit: str) -> list[str]:
    """Return the start of a command that is run with another limit, where that may be set."""
    return ["sh", "-c", f'ulimit {limit} 2>/dev/null; exec "$@"', "sh", sys.executable, "-m", "migrator"]


ARGUMENTS = (
    "run",
    "job.json",
    "--yes",
    "--canary",
    "0",
    "--max-failures",
    "100%",
    "--redact-files",
    "--concurrency",
    "3",
)


@pytest.mark.parametrize("more", [(), ("--keep-before", "--verify", "read")], ids=["plain", "with before-images"])
def test_a_server_that_echoes(workplace: "Workplace", more: tuple[str, ...]) -> None:
    """Neither files nor streams hold a secret, of whatever item, in whatever spelling."""
    with echo_server() as url:
        env = write_job(workplace, url)
        done = workplace.run(*ARGUMENTS, "--log-level", "debug", *more, env=env)

    assert done.code == 1, done.err
    assert len(workplace.results()) == ROWS
    assert leaks(workplace, done.out, done.err) == []


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGSEGV])
def test_ends_of_a_process(workplace: "Workplace", stop: signal.Signals) -> None:
    """However the process ends, there is no secret in what it leaves, and no core file."""
    with echo_server() as url:
        env = write_job(workplace, url)
        command = [*with_limit("-c unlimited"), *ARGUMENTS, "--rate", "20/s", "--log-level", "debug"]
        process = subprocess.Popen(
            command,
            cwd=workplace.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if '"item"' in line:
                break
        limits = Path(f"/proc/{process.pid}/limits")
        core = (
            next((line for line in limits.read_text().splitlines() if "core file" in line), "")
            if limits.exists()
            else ""
        )
        process.send_signal(stop)
        out, err = process.communicate(timeout=50)

    assert not core or core.split()[4:6] == ["0", "0"], core
    assert not list(workplace.folder.glob("core*"))
    assert leaks(workplace, out, err) == []


@pytest.mark.parametrize(
    ("limit", "codes"),
    [
        pytest.param("-n 20", {1, 2, 3}, id="files"),
        *(pytest.param(f"-v {kilobytes}", {1, 3}, id=f"{kilobytes} KB") for kilobytes in (82_000, 98_000, 105_000)),
    ],
)
def test_out_of(workplace: "Workplace", limit: str, codes: set[int]) -> None:
    """With few file descriptors, or little memory, the run ends by itself and leaks nothing, wherever it fails."""
    with echo_server() as url:
        env = write_job(workplace, url)
        command = [*with_limit(limit), *ARGUMENTS[:-1], "32", "--max-outage", "2s", "--max-attempts", "2"]
        done = subprocess.run(
            command,
            cwd=workplace.folder,
            env=env,
            input="",
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    assert done.returncode in codes, done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode != 3 or "-v" not in limit or "memory ran out" in done.stdout + done.stderr
    assert leaks(workplace, done.stdout, done.stderr) == []


def test_a_password_in_a_url(workplace: "Workplace") -> None:
    """A password on the command line is refused, and repeated nowhere."""
    workplace.write_job(1)

    for url in (f"http://key:{PASSWORD}@127.0.0.1:9", f"https://{PASSWORD}@host.example/x"):
        for given in (("--base-url", url), ()):
            env = workplace.env | ({} if given else {"MIGRATOR_BASE_URL": url})
            done = workplace.run("run", "job.json", "--yes", *given, env=env)
            assert done.code == 2
            assert "canary" not in done.out + done.err
            assert "CONFLUENT_CLOUD_API_SECRET" in done.err
    for option in (
        ("--base-url", f"http://127.0.0.1:9/#{PASSWORD}"),
        ("--base-url", f"http://127.0.0.1:9/?token={PASSWORD}"),
        ("--scheduler", f"tls://user:{PASSWORD}@host:1/x"),
    ):
        done = workplace.run("run", "job.json", "--yes", *option)
        assert (done.code, "canary" in done.out + done.err) == (2, False)
    assert not (workplace.folder / ".migrator" / "runs").exists()


def test_variables_of_a_job_file(workplace: "Workplace") -> None:
    """A job file reads the variables that the user names, and never one of migrator's own."""
    env = workplace.env | {"THE_TOKEN": "canary-token", "MIGRATOR_KEY": "canary-key"}

    def checked(variable: str, *more: str) -> tuple[int, str]:
        api = {"base_url": "http://127.0.0.1:9", "auth": {"type": "bearer", "token": f"${{{variable}}}"}}
        workplace.write_job(1, api=api)
        done = workplace.run("check", "job.json", *more, env=env)
        assert "canary" not in done.out + done.err
        return done.code, done.err

    assert checked("THE_TOKEN")[0] == 2
    assert "--allow-env THE_TOKEN" in checked("THE_TOKEN")[1]
    assert checked("THE_TOKEN", "--allow-env", "OTHER,THE_TOKEN")[0] == 0
    assert checked("MIGRATOR_KEY", "--allow-env", "MIGRATOR_KEY")[0] == 2
    assert checked("CONFLUENT_CLOUD_API_SECRET")[0] == 2


def test_files_of_a_job_file(workplace: "Workplace", tmp_path_factory: pytest.TempPathFactory) -> None:
    """A job file reads files below its own folder, and those that the user names; a link leads to where it points."""
    outside = tmp_path_factory.mktemp("outside") / "token"
    outside.write_text("canary-token")
    (workplace.folder / "sub").mkdir()
    (workplace.folder / "sub" / "token").write_text("canary-token")
    (workplace.folder / "link").symlink_to(outside)

    def code(name: str, *more: str) -> int:
        api = {"base_url": "http://127.0.0.1:9", "auth": {"type": "bearer", "token": f"${{file:{name}}}"}}
        workplace.write_job(1, api=api)
        return workplace.run("check", "job.json", *more).code

    assert code("sub/token") == 0
    for name in (str(outside), f"../{outside.parent.name}/token", "link", "/etc/passwd", "sub/../../x"):
        assert code(name) == 2
    assert code(str(outside), "--allow-file", str(outside)) == 0
    assert code("link", "--allow-file", str(outside.parent)) == 0


def test_files_that_would_not_end(workplace: "Workplace") -> None:
    """A pipe, or a file of gigabytes, is refused and not waited for."""
    os.mkfifo(workplace.folder / "pipe")
    with (workplace.folder / "large").open("wb") as file:
        file.truncate(3 << 30)

    for name, said in (("pipe", "is no regular file"), ("large", "is larger than 1 MB")):
        api = {"base_url": "http://127.0.0.1:9", "auth": {"type": "bearer", "token": f"${{file:{name}}}"}}
        workplace.write_job(1, api=api)
        done = workplace.run("check", "job.json")
        assert (done.code, said in done.err) == (2, True)
