"""What several runs reach on one quota: real processes, a real Redis, and @fastify/rate-limit as the server.

It needs redis-server (or valkey-server), node and npm, and says so where one is missing. It takes about four minutes.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent))

from redis_server import PROGRAM, RedisServer, redis_server

HERE: Final = Path(__file__).parent
PACKAGES: Final = ("fastify@5", "@fastify/rate-limit@11")
WINDOW_S: Final = 5.0
LIMIT: Final = 100


@dataclass
class Seen:
    """What the server saw of a scenario."""

    name: str
    codes: list[int]
    seconds: float
    least_s: float
    accepted: int
    refused: int
    share: float

    def line(self) -> str:
        """Return it as a line of the report."""
        return (
            f"{self.name:42} {self.accepted:6} accepted {self.refused:4} refused "
            f"{self.seconds:6.1f} s of {self.least_s:5.1f} ({self.share:6.1%} of the quota)  "
            f"exit codes {set(self.codes)}"
        )


@contextmanager
def node_server(folder: Path, *arguments: str) -> Iterator[str]:
    """Start the server, and kill it on leaving."""
    env = {**os.environ, "NODE_PATH": str(folder / "node_modules")}
    command = [shutil.which("node") or "node", str(HERE / "server.js"), *arguments]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def stats(url: str) -> dict[str, Any]:
    """Return what the server saw."""
    with urllib.request.urlopen(f"{url}/stats") as answer:  # noqa: S310  loopback
        found: dict[str, Any] = json.load(answer)
    return found


def write_job(folder: Path, name: str, url: str, rows: list[str], auth: dict[str, str]) -> str:
    """Write a job and its items."""
    job = {
        "name": name,
        "api": {"base_url": url, "auth": auth},
        "request": {"method": "PATCH", "path": "/items/{id}", "body": {"title": "{title}"}},
        "key": "id",
        "secrets": ["token"] if "{token}" in auth.values() else [],
        "items": f"{name}.csv",
    }
    (folder / f"{name}.json").write_text(json.dumps(job))
    (folder / f"{name}.csv").write_text("\n".join(["id,title" + (",token" if job["secrets"] else ""), *rows, ""]))
    return f"{name}.json"


def start(folder: Path, job: str, *options: str) -> "subprocess.Popen[bytes]":
    """Start a run with a state folder of its own."""
    command = [sys.executable, "-m", "migrator", "run", job, "--state", f"state-{job}", "--quiet", *options]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "TOKEN": "made-up"}, stdin=subprocess.DEVNULL)


def several_runs(folder: Path, packages: Path, runs: int, *, strict: bool, kill_after_s: float | None) -> Seen:
    """Let runs with separate state folders share 100 requests in 5 s."""
    folder.mkdir()
    items = 100
    with (
        redis_server(folder) as redis,
        node_server(packages, str(LIMIT), str(int(WINDOW_S * 1000)), "strict" if strict else "plain") as url,
    ):
        options = ("--shared-quota", redis.url, "--quota-name", "measured", "--allow-env", "TOKEN")
        auth = {"type": "bearer", "token": "${TOKEN}"}
        jobs = [
            write_job(folder, f"run-{run}", url, [f"{run}-{row},new" for row in range(items)], auth)
            for run in range(runs)
        ]
        processes = [start(folder, job, *options) for job in jobs]
        if kill_after_s is not None:
            _kill_later(redis, url, kill_after_s)
        codes = [process.wait(timeout=180) for process in processes]
        seen = stats(url)
    least_s = (runs * items // LIMIT - 1) * WINDOW_S
    name = f"{runs} runs{', each refusal renews the window' if strict else ''}"
    name += ", Redis killed half way" if kill_after_s is not None else ""
    accepted, refused = seen["statuses"].get("200", 0), seen["statuses"].get("429", 0)
    return Seen(name, codes, seen["seconds"], least_s, accepted, refused, least_s / seen["seconds"])


def _kill_later(redis: RedisServer, url: str, delay_s: float) -> None:
    """Kill Redis so long after the first request."""
    while not stats(url)["statuses"]:
        time.sleep(0.05)
    time.sleep(delay_s)
    redis.kill()


def tenants(folder: Path, packages: Path, count: int, items: int) -> Seen:
    """Let one run use the quotas of many tenants, 100 a minute each; the least time is each tenant's own."""
    folder.mkdir()
    window_s = 60.0
    with node_server(packages, "100", str(int(window_s * 1000)), "plain") as url:
        rows = [f"{one}-{row},new,token-of-{one}" for one in range(count) for row in range(items)]
        auth = {"type": "bearer", "token": "{token}"}
        codes = [start(folder, write_job(folder, "tenants", url, rows, auth)).wait(timeout=400)]
        seen = stats(url)
    least_s = (items // 100 - 1) * window_s
    shares = [least_s * 1000 / (one["last"] - one["first"]) for one in seen["tenants"]]
    accepted, refused = seen["statuses"].get("200", 0), seen["statuses"].get("429", 0)
    name = f"{count} tenants in one run"
    return Seen(name, codes, seen["seconds"], least_s, accepted, refused, sum(shares) / len(shares))


def main() -> int:
    """Measure all scenarios, or those that are named."""
    missing = [name for name, found in (("redis-server", PROGRAM), ("node", shutil.which("node"))) if not found]
    if missing or shutil.which("npm") is None:
        print(f"skipped: {', '.join(missing or ['npm'])} is not installed")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packages = Path(os.environ.get("SHARED_QUOTA_PACKAGES", name))
        if not (packages / "node_modules").exists():
            subprocess.run(
                [
                    shutil.which("npm") or "npm",
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--prefix",
                    str(packages),
                    *PACKAGES,
                ],
                check=True,
                timeout=300,
                stdout=subprocess.DEVNULL,
            )
        scenarios: dict[str, tuple[Callable[[], Seen], float, float]] = {
            "eight": (lambda: several_runs(folder / "1", packages, 8, strict=False, kill_after_s=None), 1.08, 0.0),
            "strict": (lambda: several_runs(folder / "2", packages, 8, strict=True, kill_after_s=None), 1.08, 0.0),
            "killed": (lambda: several_runs(folder / "3", packages, 4, strict=False, kill_after_s=7.5), 9.9, 0.02),
            "tenants": (lambda: tenants(folder / "4", packages, 100, 200), 1.0 / 0.97, 0.0),
        }
        failed = False
        for chosen in sys.argv[1:] or scenarios:
            scenario, most, refusals = scenarios[chosen]
            seen = scenario()
            good = set(seen.codes) == {0} and 1.0 / seen.share <= most
            good = good and seen.refused <= refusals * (seen.accepted + seen.refused)
            failed = failed or not good
            print(seen.line(), "" if good else "  BELOW THE GOAL", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
