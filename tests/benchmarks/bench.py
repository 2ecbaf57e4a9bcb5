"""What `make bench` prints: throughput, memory, start-up and checking, as ratios measured side by side in one run."""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

MIGRATOR = [sys.executable, "-m", "migrator"]
JOB = Path(__file__).parents[2] / "jobs" / "rotate-slack-webhooks.json"
KEY = {"CONFLUENT_CLOUD_API_KEY": "BENCH", "CONFLUENT_CLOUD_API_SECRET": "made-up-for-the-bench"}
ENV = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATOR_")} | KEY
WORKERS = 64
REQUESTS = 6000
ROUNDS = 3


def webhook(number: int) -> str:
    """Return the made-up webhook of a row."""
    return f"https://hooks.slack.example/services/TEXAMPLE/BEXAMPLE{number:07d}/example-{number:07d}"


def write_items(path: Path, rows: int) -> Path:
    """Write an items file."""
    with path.open("w") as file:
        file.write("id,webhook_url\n")
        file.writelines(f"i-{number:05d},{webhook(number)}\n" for number in range(1, rows + 1))
    return path


@contextmanager
def sandbox(items: int) -> Iterator[str]:
    """Start a sandbox without a limit in a process of its own."""
    command = [*MIGRATOR, "sandbox", "--items", str(items), "--limit", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            yield line.removeprefix("listening on ").strip()
        finally:
            process.terminate()


def report(what: str, value: str, target: str, *, good: bool) -> None:
    """Print a line."""
    print(f"{what:<58} {value:>22}   {target:<28} {'ok' if good else 'MISSED'}", flush=True)


async def bare_loop(url: str) -> float:
    """Return the requests per second of what one would write with aiohttp alone: workers that share an iterator."""
    numbers = iter(range(1, REQUESTS + 1))

    async def work(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            body = {"target": {"kind": "Slack", "webhook_url": webhook(number)}}
            path = f"{url}/notifications/v1/integrations/i-{number:05d}"
            async with session.patch(path, json=body) as response:
                await response.json()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(work(session))
        return REQUESTS / (time.perf_counter() - began)


def run_job(folder: Path, url: str, items: Path, *options: str) -> tuple[dict[str, float], int]:
    """Run a job and return its summary, and the peak resident memory in KiB."""
    command = [*MIGRATOR, "run", str(JOB), "--items", str(items), "--base-url", url, "--state", str(folder / "state")]
    process = subprocess.Popen(
        [*command, "--yes", "--json", "--fresh", "--progress", "none", *options],
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    out = process.stdout.read() if process.stdout is not None else b""
    _, _, usage = os.wait4(process.pid, 0)
    summary: dict[str, float] = json.loads(out)
    return summary, usage.ru_maxrss


def peak_kib(*arguments: str) -> int:
    """Return the peak resident memory of a command."""
    process = subprocess.Popen([*MIGRATOR, *arguments], env=ENV, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments} failed")
    return usage.ru_maxrss


def seconds(*command: str, times: int = 1) -> float:
    """Return the processor seconds of a command, the least of some times."""
    found = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=ENV, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def bench_throughput(folder: Path) -> None:
    """Compare a run with a bare loop: the same workers, bodies and server."""
    items = write_items(folder / "items.csv", REQUESTS)
    ratios = []
    with sandbox(REQUESTS) as url:
        for _ in range(ROUNDS):
            bare = asyncio.run(bare_loop(url))
            summary, _ = run_job(folder, url, items, "--concurrency", str(WORKERS))
            ratios.append(summary["throughput_per_s"] / bare)
            print(f"  bare loop {bare:.0f}/s, migrator {summary['throughput_per_s']:.0f}/s", flush=True)
    ratio = statistics.median(ratios)
    report("throughput against a bare aiohttp loop", f"{ratio:.2f}", ">= 0.80", good=ratio >= 0.8)


def bench_check(folder: Path) -> None:
    """Compare checking a million rows with reading them."""
    items = write_items(folder / "million.csv", 1_000_000)
    reading = seconds(
        sys.executable, "-c", f"import csv\nfor row in csv.DictReader(open({str(items)!r}, newline='')): pass", times=2
    )
    checking = seconds(*MIGRATOR, "check", str(JOB), "--items", str(items), times=2)
    report(
        "check of 1,000,000 rows against csv.DictReader",
        f"{reading / checking:.2f}",
        ">= 0.25",
        good=reading / checking >= 0.25,
    )


def bench_memory(folder: Path) -> None:
    """Compare the memory for a million rows with that for ten thousand, checked and run."""
    small, large = write_items(folder / "small.csv", 10_000), folder / "million.csv"
    checks = [peak_kib("check", str(JOB), "--items", str(items)) for items in (small, large)]
    runs = [run_job(folder, "http://127.0.0.1:9", items, "--dry-run")[1] for items in (small, large)]
    for what, (few, many) in (("check", checks), ("run --dry-run", runs)):
        value = f"{many / 1024:.0f} MiB, {many / few - 1:+.0%}"
        good = many < 150 * 1024 and many <= 1.2 * few
        report(f"peak memory of {what}: 1,000,000 rows, against 10,000", value, "< 150 MiB, <= +20 %", good=good)


def bench_start() -> None:
    """Compare the help's start with that of the standard library's parser and of click."""
    argparse = seconds(sys.executable, "-c", "import argparse", times=7)
    click = seconds(sys.executable, "-c", "import click", times=7)
    helped = seconds(*MIGRATOR, "--help", times=7)
    target = f"<= {2.5 * argparse + click - argparse:.3f} s (2.5 x argparse + click)"
    report("start of --help", f"{helped:.3f} s", target, good=helped <= 2.5 * argparse + click - argparse)


def main() -> None:
    """Run every benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_start()
        bench_throughput(folder)
        bench_check(folder)
        bench_memory(folder)


if __name__ == "__main__":
    main()
