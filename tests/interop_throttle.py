"""The throttle against limiters that others wrote: what `make interop-throttle` prints.

Express, Fastify, Hono, Koa and Nest limiters from npm, Flask-Limiter, slowapi, limits and throttled-py from PyPI, and
nginx, each on loopback in its usual settings, some at a time. Speed is the least time of an oracle that knows the
limiter (in simulation, with the same quota, slots and latency), over ours. Environments are made under
`build/interop-throttle`; what cannot be installed is named, and is no failure.
"""

import argparse
import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import anyio
from simulation import World, least_seconds

from migrator.ratelimit.throttle import Throttle
from migrator.sandbox.limits import Algorithm, ResetStyle

HOME = Path(__file__).parents[1] / "build" / "interop-throttle"
SERVERS = Path(__file__).parent / "interop_servers"

NPM = [
    "express@5",
    "express-rate-limit@8",
    "rate-limiter-flexible",
    "fastify",
    "@fastify/rate-limit",
    "hono",
    "@hono/node-server",
    "hono-rate-limiter",
    "koa",
    "koa-ratelimit",
    "@nestjs/common@11",
    "@nestjs/core@11",
    "@nestjs/platform-express@11",
    "@nestjs/throttler@6",
    "reflect-metadata",
    "rxjs",
]
PYPI = ["flask", "flask-limiter", "waitress", "fastapi", "slowapi", "uvicorn", "limits", "throttled-py"]

SLOTS = 8
LATENCY_S = (0.001, 0.004)
QUOTAS = {"60 s": (100, 60, 300), "10 s": (50, 10, 200), "1 s": (10, 1, 100), "7 s": (30, 7, 120), "3 s": (20, 3, 120)}
NGINX = (11, 0.22, 600)

NGINX_CONFIG = """
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home};
  uwsgi_temp_path {home}; scgi_temp_path {home};
  limit_req_zone $binary_remote_addr zone=one:1m rate=50r/s; limit_req_status {status};
  server {{
    listen 127.0.0.1:{port};
    location / {{ limit_req zone=one burst=10 {delay}; try_files /none @done; }}
    location @done {{ return 200 "{{}}"; }}
  }}
}}
"""


@dataclass(frozen=True)
class Row:
    """One limiter: how it is started, and what it is like."""

    kind: str
    by: str
    algorithm: Algorithm = Algorithm.FIRST


ROWS = [
    *(
        Row(kind, "node")
        for kind in (
            "express-rate-limit, draft 8",
            "express-rate-limit, legacy",
            "rate-limiter-flexible",
            "@fastify/rate-limit",
            "hono-rate-limiter",
            "koa-ratelimit",
        )
    ),
    Row("@nestjs/throttler", "node", Algorithm.SLIDING),
    Row("Flask-Limiter, fixed window", "python"),
    Row("Flask-Limiter, moving window", "python", Algorithm.SLIDING),
    Row("Flask-Limiter, sliding counter", "python", Algorithm.COUNTER),
    Row("slowapi", "python"),
    Row("throttled-py, GCRA", "python", Algorithm.GCRA),
    Row("throttled-py, token bucket", "python", Algorithm.GCRA),
    Row("limits, Retry-After", "python"),
    Row("limits, bare 429", "python"),
    Row("nginx, 429", "nginx", Algorithm.GCRA),
    Row("nginx, 503", "nginx", Algorithm.GCRA),
    Row("nginx with delay, 503", "nginx", Algorithm.GCRA),
]


def install() -> dict[str, str]:
    """Install what is missing; return the command of each runtime, and print what there is not."""
    HOME.mkdir(parents=True, exist_ok=True)
    found = {}
    if shutil.which("npm"):
        (HOME / "package.json").write_text('{"private": true}')
        npm = ["npm", "install", "--no-audit", "--no-fund", "--silent", *NPM]
        ready = (HOME / "node_modules" / "@nestjs" / "throttler").is_dir()
        if ready or subprocess.run(npm, cwd=HOME, timeout=240, check=False).returncode == 0:
            found["node"] = shutil.which("node") or "node"
    python = HOME / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", HOME / "venv"], timeout=120, check=False)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PYPI], timeout=240, check=False)
    if subprocess.run([python, "-c", "import flask_limiter, slowapi, throttled"], check=False).returncode == 0:
        found["python"] = str(python)
    if nginx := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        found["nginx"] = nginx
    for runtime in {"node", "python", "nginx"} - found.keys():
        print(f"not installed, so left out: the limiters of {runtime}")
    return found


@contextmanager
def server(row: Row, command: str, limit: int, window_s: int) -> Iterator[int]:
    """Run a limiter, and yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if row.by == "nginx":
        home = HOME / f"nginx-{port}"
        home.mkdir()
        delay, status = "" if "delay" in row.kind else "nodelay", row.kind[-3:]
        (home / "nginx.conf").write_text(NGINX_CONFIG.format(home=home, port=port, status=status, delay=delay))
        arguments = [command, "-p", str(home), "-c", str(home / "nginx.conf")]
    else:
        script = SERVERS / {"node": "limiters.cjs", "python": "limiters.py"}[row.by]
        arguments = [command, str(script), row.kind, str(port), str(limit), str(window_s)]
    environment = os.environ | {"NODE_PATH": str(HOME / "node_modules")}
    with subprocess.Popen(arguments, cwd=HOME, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


async def job(port: int, items: int) -> tuple[float, int, int]:
    """Send so many requests by the public face; return the seconds, the refusals and what was not told as one."""
    left, unknown, last = iter(range(items)), 0, time.monotonic()

    async def worker(sender: Throttle, client: aiohttp.ClientSession) -> None:
        nonlocal unknown, last
        for number in left:
            status = 0
            while status != 200:
                async with (
                    sender.permit("key") as permit,
                    client.patch(f"http://127.0.0.1:{port}/{number}", json={}) as response,
                ):
                    status = response.status
                    signal = permit.answered(status=status, headers=response.headers)
                    unknown += status != 200 and not signal.throttled
                    last = time.monotonic()
                if status not in {200, 429, 503}:
                    raise RuntimeError(f"the server answered {status}")

    started = last
    async with Throttle(concurrency=SLOTS) as sender, aiohttp.ClientSession() as client:
        with anyio.fail_after(240):
            async with anyio.create_task_group() as tasks:
                for _ in range(SLOTS):
                    tasks.start_soon(worker, sender, client)
        refused = sender.statistics().refused
    return last - started, refused, unknown


def measure(row: Row, command: str, length: str) -> str:
    """Return a cell of the table."""
    limit, window_s, items = NGINX if row.by == "nginx" else QUOTAS[length]
    with server(row, command, limit, int(window_s)) as port:
        try:
            seconds, refused, unknown = asyncio.run(job(port, items))
        except Exception as failed:  # noqa: BLE001  one limiter that does not work is named, and the others go on
            return f"{length}: failed: {getattr(failed, 'exceptions', [failed])[0]!r}"
    world = World(
        algorithm=row.algorithm, limit=limit, window_s=window_s, latency_s=LATENCY_S, style=ResetStyle.RELATIVE
    )
    best = least_seconds(world, items=items, slots=SLOTS, seed=1)
    return f"{length}: {best / seconds:6.1%} {refused:>3}" + (f" (and {unknown} not told)" if unknown else "")


async def bench(lengths: list[str], word: str, at_once: int) -> None:
    """Print the table, some rows at a time."""
    found = install()
    slots = anyio.CapacityLimiter(at_once)
    print(f"{'limiter':<32} speed of the oracle's, refusals, by the window's length")

    async def one(row: Row) -> None:
        cells = []
        for length in lengths[:1] if row.by == "nginx" else lengths:
            async with slots:
                cells.append(await asyncio.to_thread(measure, row, found[row.by], length))
        print(f"{row.kind:<32} {' | '.join(cells)}", flush=True)

    async with anyio.create_task_group() as tasks:
        for row in ROWS:
            if row.by in found and word in row.kind:
                tasks.start_soon(one, row)


def main() -> None:
    """Print the table for the windows and the limiters that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="60 s,10 s,1 s", help=f"of {', '.join(QUOTAS)}")
    parser.add_argument("--only", default="", help="limiters whose name has this")
    parser.add_argument("--at-once", type=int, default=4)
    chosen = parser.parse_args()
    asyncio.run(bench(chosen.lengths.split(","), chosen.only, chosen.at_once))


if __name__ == "__main__":
    main()
