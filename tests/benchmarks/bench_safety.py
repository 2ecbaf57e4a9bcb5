"""What `make bench-safety` prints: how long runs with the safety flags take, over the least time their requests need.

The server reads in 100 ms, writes in 300 ms, and allows 500 requests per 5 s. The least time is the whole windows that
come before the one of the last request. Two runs go on at a time, each with a server of its own. The machine has to be
idle: latency that it adds looks like a server's. `tests/unit/run/test_engine.py` holds the same in virtual time.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from aiohttp import web

MIGRATOR = [sys.executable, "-m", "migrator"]
ENV = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATOR_")}
LIMIT, WINDOW_S = 500, 5.0
READ_S, WRITE_S = 0.1, 0.3
MOST = 1.15
FLAGS = {
    "--keep-before": ["--keep-before"],
    "--only-changed": ["--only-changed"],
    "--verify read": ["--verify", "read"],
    "--plan": ["--plan", "plan.json"],
}


def make_server() -> web.Application:
    """Return a server of things at /things/{id}, with a window that starts with the first request in it."""
    records: dict[str, dict[str, Any]] = {}
    seen = {"requests": 0, "refused": 0, "in_window": 0}
    ends = 0.0

    async def handle(request: web.Request) -> web.Response:
        nonlocal ends
        now = time.monotonic()
        if now >= ends:
            ends, seen["in_window"] = now + WINDOW_S, 0
        seen["in_window"] += 1
        seen["requests"] += 1
        headers = {
            "X-RateLimit-Limit": str(LIMIT),
            "X-RateLimit-Remaining": str(max(0, LIMIT - seen["in_window"])),
            "X-RateLimit-Reset": str(int(ends - now) + 1),
        }
        if seen["in_window"] > LIMIT:
            seen["refused"] += 1
            return web.json_response({"error": "too many requests"}, status=429, headers=headers)
        record = records.setdefault(request.match_info["id"], {"id": request.match_info["id"], "title": "old"})
        if request.method == "PATCH":
            record |= await request.json()
        await asyncio.sleep(READ_S if request.method == "GET" else WRITE_S)
        return web.json_response(record, headers=headers)

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(seen)

    app = web.Application()
    app.router.add_get("/stats", stats)
    app.router.add_route("*", "/things/{id}", handle)
    return app


async def serve() -> None:
    """Serve on a free port, and print it."""
    runner = web.AppRunner(make_server(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)  # type: ignore[union-attr]  # noqa: SLF001
    await asyncio.Event().wait()


@contextmanager
def server() -> Iterator[str]:
    """Start a server in a process of its own; yield its URL."""
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline() if process.stdout is not None else ""
            yield f"http://127.0.0.1:{port.strip()}"
        finally:
            process.terminate()


def stats_of(url: str) -> dict[str, int]:
    """Return what a server has seen."""
    with urlopen(f"{url}/stats") as answer:  # noqa: S310  a server on loopback
        found: dict[str, int] = json.load(answer)
        return found


def job_file(folder: Path, url: str, items: int) -> Path:
    """Write a job of so many items, each of which changes."""
    job = {
        "name": "things",
        "api": {"base_url": url, "auth": {"type": "none"}, "read": True},
        "request": {"method": "PATCH", "path": "/things/{id}", "body": {"title": "{title}"}},
        "key": "id",
        "items": [{"id": f"t-{number}", "title": f"new {number}"} for number in range(items)],
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def measure(flags: tuple[str, ...], items: int) -> str:
    """Run a job with some flags; return a line of the table."""
    with tempfile.TemporaryDirectory() as name, server() as url:
        folder, env = Path(name), ENV | {"MIGRATOR_KEY": "made-up-passphrase-of-the-bench"}
        job = str(job_file(folder, url, items))
        if "--plan" in flags:
            plan = [*MIGRATOR, "plan", job, "--out", "plan.json"]
            subprocess.run(plan, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(WINDOW_S)
        before = stats_of(url)["requests"]
        command = [*MIGRATOR, "run", job, "--yes", "--json", "--progress", "none"]
        command += [word for flag in flags for word in FLAGS[flag]]
        began = time.monotonic()
        done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True)
        took_s = time.monotonic() - began
        if done.returncode:
            return f"{' '.join(flags):<32} FAILED: {done.stderr[-500:]}"
        seen = stats_of(url)
        requests = seen["requests"] - before
        least_s = (-(-requests // LIMIT) - 1) * WINDOW_S
        good = took_s <= MOST * least_s and not seen["refused"]
        figures = f"{requests:>6} requests {took_s:>7.1f} s, least {least_s:>5.0f} s: {took_s / least_s:.3f}"
        return f"{' '.join(flags) or 'none':<32} {figures}, {seen['refused']} refused   {'ok' if good else 'MISSED'}"


def main() -> None:
    """Measure each flag and each pair of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--only", help="these flags, such as --only='--keep-before --plan'")
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    sets = [(), *((flag,) for flag in FLAGS), *combinations(FLAGS, 2)]
    if given.only is not None:
        sets = [flags for flags in sets if " ".join(flags) == given.only]
    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(lambda flags: measure(flags, given.items), sets):
            print(line, flush=True)


if __name__ == "__main__":
    main()
