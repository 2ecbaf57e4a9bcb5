"""Many organisations in one job: each row brings its own credentials, and each credential has its own quota."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from time import monotonic
from typing import Any

import pytest
from conftest import Workplace


class Server(ThreadingHTTPServer):
    """An API with a fixed window for each tenant; it refuses some tenants."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *, limit: int, window_s: float, refused: frozenset[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.limit, self.window_s, self.refused = limit, window_s, refused
        self.lock = Lock()
        self.windows: dict[str, tuple[float, int]] = {}
        self.accepted: Counter[str] = Counter()
        self.unauthorised: Counter[str] = Counter()
        self.throttled = 0

    def count(self, tenant: str) -> tuple[int, int, float]:
        """Return the status, what is left and the seconds until the window's end."""
        with self.lock:
            if tenant in self.refused:
                self.unauthorised[tenant] += 1
                return 401, 0, 0.0
            now = monotonic()
            ends, count = self.windows.get(tenant, (0.0, 0))
            if now >= ends:
                ends, count = now + self.window_s, 0
            count += 1
            self.windows[tenant] = ends, count
            if count > self.limit:
                self.throttled += 1
                return 429, 0, ends - now
            self.accepted[tenant] += 1
            return 200, self.limit - count, ends - now


class Handler(BaseHTTPRequestHandler):
    """Answers a PATCH."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_PATCH(self) -> None:
        """Count the request for its tenant."""
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        pair = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        tenant, _, password = pair.partition(":")
        assert password == f"secret-of-{tenant}"
        status, left, reset_s = self.server.count(tenant)
        self.send_response(status)
        if status != 401:
            self.send_header("RateLimit-Limit", str(self.server.limit))
            self.send_header("RateLimit-Remaining", str(left))
            self.send_header("RateLimit-Reset", str(int(reset_s) + 1))
        body = json.dumps({"detail": f"{pair} is refused"}).encode() if status == 401 else sent
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
        """Write nothing."""


@contextmanager
def serve(*, limit: int, window_s: float, refused: frozenset[str] = frozenset()) -> Iterator[Server]:
    """Serve on a free port."""
    with Server(limit=limit, window_s=window_s, refused=refused) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()


def write_job(workplace: Workplace, server: Server, tenants: list[str], rows: int, **changes: Any) -> str:
    """Write a job of so many rows a tenant, one tenant after the other."""
    job = {
        "name": "tenants",
        "api": {
            "base_url": f"http://127.0.0.1:{server.server_port}",
            "auth": {"type": "basic", "username": "{api_key}", "password": "{api_secret}"},
        },
        "request": {"method": "PATCH", "path": "/users/{id}"},
        "key": "id",
        "secrets": ["api_key", "api_secret"],
        "items": "items.csv",
    }
    (workplace.folder / "job.json").write_text(json.dumps(job | changes))
    lines = [f"{name}-{row},{name},secret-of-{name},new" for name in tenants for row in range(rows)]
    (workplace.folder / "items.csv").write_text("\n".join(["id,api_key,api_secret,title", *lines, ""]))
    return "job.json"


def test_each_tenant_has_its_own_quota_and_they_are_served_side_by_side(workplace: Workplace) -> None:
    """Six tenants, one after the other in the file, take no longer than one: two windows, and none is refused."""
    with serve(limit=5, window_s=2.0) as server:
        done = workplace.run("run", write_job(workplace, server, [f"org{number}" for number in range(6)], 10), "--json")
        assert done.code == 0, done.err
        assert server.accepted == {f"org{number}": 10 for number in range(6)}
        assert server.throttled == 0
        # One after the other they would take six times the wait of one tenant.
        assert json.loads(done.out)["elapsed_s"] < 6 * 2.0


def test_a_refused_tenant_ends_its_own_items_only(workplace: Workplace) -> None:
    """Its first item is the canary too. One request shows the refused credentials, and none of them leaks."""
    names = ["bad", "good", "fine"]
    with serve(limit=1_000, window_s=60.0, refused=frozenset({"bad"})) as server:
        done = workplace.run("run", write_job(workplace, server, names, 40), "--max-failures", "1")
        assert done.code == 1, done.err
        assert server.accepted == {"good": 40, "fine": 40}
        assert server.unauthorised["bad"] == 1
        kinds = Counter((one["status"], (one["error"] or {}).get("kind")) for one in workplace.results())
        assert kinds == {("failed", "auth"): 40, ("succeeded", None): 80}
        for path in workplace.last_run().iterdir():
            if path.is_file() and path.name not in {"failed.csv", "succeeded.csv"}:
                content = path.read_bytes()
                assert b"secret-of" not in content, path.name
                assert base64.b64encode(b"bad:secret-of-bad") not in content, path.name
        server.refused = frozenset()
        again = workplace.run("retry", "last")
        assert again.code == 0, again.err
        assert server.accepted == {"bad": 40, "good": 40, "fine": 40}


@pytest.mark.parametrize(
    ("changes", "cell", "said"),
    [
        ({"secrets": ["api_secret"]}, "org", "api_key, which has to be in secrets"),
        ({}, "", "api_key is a credential"),
        ({}, "a:b", "api_key may not hold a colon"),
    ],
)
def test_credentials_that_cannot_be_sent_are_found_by_the_check(
    workplace: Workplace, changes: dict[str, Any], cell: str, said: str
) -> None:
    """Nothing is sent, and no value is shown."""
    with serve(limit=5, window_s=1.0) as server:
        done = workplace.run("run", write_job(workplace, server, [cell], 1, **changes))
        assert done.code == 2
        assert said in done.out + done.err
        assert "secret-of" not in done.out + done.err
        assert not server.accepted
