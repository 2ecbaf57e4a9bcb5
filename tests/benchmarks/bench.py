"""What `make bench` prints: throughput, memory, start-up and checking, as ratios measured side by side in one run."""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bare_loop import WORKERS, webhook

MIGRATOR = [sys.executable, "-m", "migrator"]
JOB = Path(__file__).parents[2] / "jobs" / "rotate-slack-webhooks.json"
KEY = {"CONFLUENT_CLOUD_API_KEY": "BENCH", "CONFLUENT_CLOUD_API_SECRET": "made-up-for-the-bench"}
ENV = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATOR_")} | KEY
REQUESTS = 20_000
ROUNDS = 5


class Cost(NamedTuple):
    """What a process took, in seconds."""

    cpu: float
    wall: float


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


def cost(*command: str) -> Cost:
    """Return what a command took as a whole process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - began)


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
    """Compare a run with a bare loop on plain asyncio: the same workers, bodies and server, in turns."""
    items = write_items(folder / "items.csv", REQUESTS)
    bare = [sys.executable, str(Path(__file__).with_name("bare_loop.py"))]
    ratios: list[Cost] = []
    with sandbox(REQUESTS) as url:
        job = ["run", str(JOB), "--items", str(items), "--base-url", url, "--state", str(folder / "state"), "--yes"]
        job += ["--fresh", "--progress", "none", "--concurrency", str(WORKERS)]
        for _ in range(ROUNDS):
            yardstick, ours = cost(*bare, url, str(REQUESTS)), cost(*MIGRATOR, *job)
            ratios.append(Cost(yardstick.cpu / ours.cpu, yardstick.wall / ours.wall))
            micro = f"{yardstick.cpu / REQUESTS * 1e6:.0f} and {ours.cpu / REQUESTS * 1e6:.0f} us of CPU an item"
            print(f"  bare loop and migrator: {micro}", flush=True)
    cpu, wall = (statistics.median(one) for one in zip(*ratios, strict=True))
    report("a bare aiohttp loop against a run, CPU (wall)", f"{cpu:.2f} ({wall:.2f})", ">= 0.80", good=cpu >= 0.8)


def bench_check(folder: Path) -> None:
    """Compare checking a million rows with reading them."""
    items = write_items(folder / "million.csv", 1_000_000)
    reading = seconds(
        sys.executable, "-c", f"import csv\nfor row in csv.DictReader(open({str(items)!r}, newline='')): pass", times=2
    )
    checking = seconds(*MIGRATOR, "check", str(JOB), "--items", str(items), times=2)
    ratio = checking / reading
    report("check of 1,000,000 rows against csv.DictReader, CPU", f"{ratio:.2f}", "<= 6.00", good=ratio <= 6.0)


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


def bench_small_run(folder: Path) -> None:
    """Compare a run of one item with the import of aiohttp."""
    items = write_items(folder / "one.csv", 1)
    with sandbox(1) as url:
        job = ["run", str(JOB), "--items", str(items), "--base-url", url, "--state", str(folder / "one"), "--yes"]
        pairs = [
            (seconds(*MIGRATOR, *job, "--fresh", "--progress", "none"), seconds(sys.executable, "-c", "import aiohttp"))
            for _ in range(ROUNDS)
        ]
    ratio = statistics.median(ours / yardstick for ours, yardstick in pairs)
    report("run of one item against import aiohttp, CPU", f"{ratio:.2f}", "<= 1.30", good=ratio <= 1.3)


def bench_status(folder: Path) -> None:
    """Compare the status of 500 runs with that of 5: copies of one run under other ids."""
    found = []
    for count in (5, 500):
        state = folder / f"state-{count}"
        run_job(folder, "http://127.0.0.1:9", folder / "one.csv", "--dry-run", "--state", str(state))
        first = next((state / "runs").iterdir())
        for number in range(1, count):
            name, started, _ = first.name.rsplit("-", 2)
            shutil.copytree(first, first.with_name(f"{name}-{started}-{number:04x}"), dirs_exist_ok=True)
        found.append(seconds(*MIGRATOR, "status", "--state", str(state), times=3))
    ratio = found[1] / found[0]
    report("status with 500 runs against 5, CPU", f"{ratio:.2f}", "<= 3.00", good=ratio <= 3.0)


def main() -> None:
    """Run every benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_start()
        bench_small_run(folder)
        bench_status(folder)
        bench_throughput(folder)
        bench_check(folder)
        bench_memory(folder)


if __name__ == "__main__":
    main()
