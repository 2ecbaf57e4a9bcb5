"""What `make bench` prints: throughput, memory, start-up and checking, as ratios measured side by side in one run.

The figures of two programs are taken in turns, and their ratio is the median of all turns: so it carries over to other
machines, while seconds do not. `--full` takes the sizes of the targets, and some 20 minutes; without it the inputs are
smaller.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bare_loop import WORKERS, webhook

MIGRATOR = [sys.executable, "-m", "migrator"]
PLAIN = "import sys; sys.modules['uvloop'] = None; from migrator.__main__ import main; main()"
"""The program as it is where the extra `speed` is not installed."""

JOB = Path(__file__).parents[2] / "jobs" / "rotate-slack-webhooks.json"
KEY = {"CONFLUENT_CLOUD_API_KEY": "BENCH", "CONFLUENT_CLOUD_API_SECRET": "made-up-for-the-bench"}
ENV = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATOR_")} | KEY

READ_CSV = "import csv, sys\nfor row in csv.DictReader(open(sys.argv[1], newline='')): pass"
READ_ARRAY = "import ijson, sys\nfor row in ijson.items(open(sys.argv[1], 'rb'), 'item'): pass"
READ_ARRAY_STRICTLY = """import sys
from migrator.job.json_reader import array_entries
for row in array_entries(open(sys.argv[1], 'rb'), 'items'): pass"""

WRITE_VIEWS = """import csv, sys, time
from pathlib import Path
from migrator.report.views import write_all
from migrator.store.ledger_reader import read_ledger
from migrator.store.state_folder import StateFolder
def cells():
    rows = csv.reader(open(sys.argv[3], newline=""))
    return next(rows), enumerate(rows, 1)
folder = Path(sys.argv[2])
with read_ledger(folder / "ledger.db") as ledger:
    started = time.process_time()
    write_all(folder, ledger, masker=StateFolder(Path(sys.argv[1])).masker(), cells=cells)
    print(time.process_time() - started)"""


class Sizes(NamedTuple):
    """How much is measured: requests, rounds, and rows of a large input."""

    requests: int
    rounds: int
    rows: int


SMALL = Sizes(5_000, 3, 300_000)
FULL = Sizes(20_000, 5, 1_000_000)


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


@contextmanager
def echo() -> Iterator[str]:
    """Start the server that costs next to nothing, in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("echo_server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout is not None else ""
        finally:
            process.terminate()


def bench_throughput(folder: Path, sizes: Sizes) -> None:
    """Compare runs with a bare loop on plain asyncio: the same connector, workers, bodies and server, in turns."""
    requests, items, state = sizes.requests, write_items(folder / "items.csv", sizes.requests), folder / "state"
    bare = [sys.executable, str(Path(__file__).with_name("bare_loop.py"))]
    kinds = {"plain": ([sys.executable, "-c", PLAIN], 0.8)}
    if find_spec("uvloop") is None:
        print("  uvloop is not installed: the row of the extra speed is left out")
    else:
        kinds["with speed"] = (MIGRATOR, 1.0)
    taken: dict[str, list[Cost]] = {kind: [] for kind in ("bare", *kinds)}
    with echo() as url:
        job = ["run", str(JOB), "--items", str(items), "--base-url", url, "--state", str(state), "--yes"]
        job += ["--fresh", "--progress", "none", "--concurrency", str(WORKERS)]
        for _ in range(sizes.rounds):
            taken["bare"].append(cost(*bare, url, str(requests)))
            for kind, (program, _) in kinds.items():
                taken[kind].append(cost(*program, *job))
            each = (f"{kind} {costs[-1].cpu / requests * 1e6:.0f}" for kind, costs in taken.items())
            print(f"  us of CPU an item: {', '.join(each)}", flush=True)
    for kind, (_, target) in kinds.items():
        turns = [*zip(taken["bare"], taken[kind], strict=True)]
        cpu = statistics.median(bare.cpu / ours.cpu for bare, ours in turns)
        wall = statistics.median(bare.wall / ours.wall for bare, ours in turns)
        value, wanted = f"{cpu:.2f} ({wall:.2f})", f">= {target:.2f}"
        report(f"{requests:,} items, {kind}: a bare loop's CPU (wall)", value, wanted, good=cpu >= target)
    last = max((state / "runs").iterdir(), key=lambda run: run.stat().st_mtime)
    views = subprocess.check_output([sys.executable, "-c", WRITE_VIEWS, str(state), str(last), str(items)], text=True)
    share = float(views) / taken[[*kinds][-1]][-1].cpu
    report(f"views of {requests:,} items, of the run's CPU", f"{share:.1%}", "< 10 %", good=share < 0.1)


def bench_check(folder: Path, rows: int) -> None:
    """Compare checking many rows with reading them, as CSV and as an array."""
    items = write_items(folder / "large.csv", rows)
    reading = seconds(sys.executable, "-c", READ_CSV, str(items), times=2)
    ratio = seconds(*MIGRATOR, "check", str(JOB), "--items", str(items), times=2) / reading
    report(f"check of {rows:,} rows against csv.DictReader, CPU", f"{ratio:.2f}", "<= 6.00", good=ratio <= 6.0)
    array = folder / "large.json"
    with items.open(newline="") as source, array.open("w") as file:
        for number, row in enumerate(csv.DictReader(source)):
            file.write(f"{',' if number else '['}\n{json.dumps(row)}")
        file.write("\n]\n")
    reading = seconds(sys.executable, "-c", READ_ARRAY, str(array), times=2)
    rate = reading / seconds(sys.executable, "-c", READ_ARRAY_STRICTLY, str(array), times=2)
    report(f"array of {rows:,} rows, rows/s against ijson", f"{rate:.2f}", ">= 0.25", good=rate >= 0.25)


def bench_resume(folder: Path, rows: int) -> None:
    """Compare the start of a resume of which 99.9 % are done with a check: the CPU until its first request."""
    items, state = folder / "large.csv", folder / "resumed"
    checking = seconds(*MIGRATOR, "check", str(JOB), "--items", str(items), times=2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [*MIGRATOR, "run", str(JOB), "--items", str(items), "--state", str(state), "--yes"]
        command += ["--base-url", f"http://127.0.0.1:{server.getsockname()[1]}"]
        until_first_request(server, command)
        (ledger,) = (state / "runs").glob("*/ledger.db")
        finish(ledger, rows - rows // 1000)
        ratio = until_first_request(server, command) / checking
    report(f"resume of {rows:,}, 99.9 % done, against check, CPU", f"{ratio:.2f}", "<= 1.20", good=ratio <= 1.2)


def until_first_request(server: socket.socket, command: list[str]) -> float:
    """Start a run, kill it once its first request is here, and return the CPU until then in seconds."""
    with subprocess.Popen(command, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        connection, _ = server.accept()
        connection.recv(1)
        process.kill()
        connection.close()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    return usage.ru_utime + usage.ru_stime


def finish(ledger: Path, items: int) -> None:
    """Write into a ledger that its first items succeeded."""
    line: dict[str, Any] = {
        "timestamp": "2026-11-23T12:00:00.123Z",
        "event": "item",
        "level": "info",
        "run": ledger.parent.name,
    }
    line |= {"status": "succeeded", "method": "PATCH", "http_status": 200, "attempts": 1, "request_id": None}
    line |= {"duration_ms": 84.2, "waited_ms": 12.0, "verified": True, "rate_limit": None, "error": None}
    rows = (
        (n, f"i-{n:05d}", json.dumps(line | {"item": n, "key": f"i-{n:05d}", "url": "https://api.example"}).encode(), n)
        for n in range(1, items + 1)
    )
    columns = "(item, key, status, attempt, line, sequence) VALUES (?, ?, 'succeeded', 1, ?, ?)"
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.executemany(f"INSERT OR REPLACE INTO item {columns}", rows)


def bench_memory(folder: Path, rows: int) -> None:
    """Compare the memory for many rows with that for ten thousand, checked and run."""
    small, large = write_items(folder / "small.csv", 10_000), folder / "large.csv"
    checks = [peak_kib("check", str(JOB), "--items", str(items)) for items in (small, large)]
    runs = [run_job(folder, "http://127.0.0.1:9", items, "--dry-run")[1] for items in (small, large)]
    for what, (few, many) in (("check", checks), ("run --dry-run", runs)):
        value = f"{many / 1024:.0f} MiB, {many / few - 1:+.0%}"
        good = many < 150 * 1024 and many <= 1.2 * few
        report(f"peak memory of {what}: {rows:,} rows, against 10,000", value, "< 150 MiB, <= +20 %", good=good)


def bench_start() -> None:
    """Compare the help's start with that of the standard library's parser and of click."""
    argparse = seconds(sys.executable, "-c", "import argparse", times=7)
    click = seconds(sys.executable, "-c", "import click", times=7)
    helped = seconds(*MIGRATOR, "--help", times=7)
    target = f"<= {2.5 * argparse + click - argparse:.3f} s (2.5 x argparse + click)"
    report("start of --help", f"{helped:.3f} s", target, good=helped <= 2.5 * argparse + click - argparse)


def bench_small_run(folder: Path, rounds: int) -> None:
    """Compare a run of one item with the import of aiohttp."""
    items = write_items(folder / "one.csv", 1)
    with sandbox(1) as url:
        job = ["run", str(JOB), "--items", str(items), "--base-url", url, "--state", str(folder / "one"), "--yes"]
        pairs = [
            (seconds(*MIGRATOR, *job, "--fresh", "--progress", "none"), seconds(sys.executable, "-c", "import aiohttp"))
            for _ in range(rounds)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the sizes of the targets")
    sizes = FULL if parser.parse_args().full else SMALL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_start()
        bench_small_run(folder, 5)
        bench_status(folder)
        bench_throughput(folder, sizes)
        bench_check(folder, sizes.rows)
        bench_resume(folder, sizes.rows)
        bench_memory(folder, sizes.rows)


if __name__ == "__main__":
    main()
