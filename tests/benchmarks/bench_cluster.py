"""What `make bench-cluster` prints: what an item costs the driver, a worker and the scheduler of a run on workers.

Two cores cannot show what many machines do, so that processor time is measured, which carries over. For the driver the
workers answer at once, without a server. What a process needs to start is taken off: each figure is the difference
between a long and a short run, by the items between them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench import ENV, JOB, MIGRATOR, report, sandbox, write_items
from dask_processes import DaskProcesses, dask_processes

MANY, FEW = 12_000, 2_000
ROUNDS = 3
WORKERS = 2

NULL_SENDER = """
from contextlib import asynccontextmanager
from functools import partial
from migrator.cluster import plugin
from migrator.messages import Reply


class Null:
    def __init__(self, clock):
        self.clock = clock

    async def send(self, request):
        return Reply(status=200, headers={}, body=b"", sent=self.clock(), received=self.clock())


@asynccontextmanager
async def opened(needs):
    yield Null(needs.clock)


plugin.serve = partial(plugin.serve, open_sender=opened)
"""


@dataclass(frozen=True)
class Costs:
    """Microseconds of processor time an item.

    Attributes:
        driver: of the run's process.
        workers: of all workers.
        scheduler: of the scheduler.
    """

    driver: float
    workers: float = 0.0
    scheduler: float = 0.0


def seconds_of(process: int) -> float:
    """Return the processor seconds that a process has used (proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return float(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def seconds_of_run(items: Path, url: str, folder: Path, *options: str, env: dict[str, str]) -> float:
    """Return the processor seconds of a run's own process."""
    command = [*MIGRATOR, "run", str(JOB), "--items", str(items), "--base-url", url, "--state", str(folder / "state")]
    process = subprocess.Popen(
        [*command, "--yes", "--fresh", "--progress", "none", "--concurrency", "64", *options],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    said = process.stderr.read() if process.stderr is not None else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(said.decode())
    shutil.rmtree(folder / "state")
    return float(usage.ru_utime + usage.ru_stime)


@contextmanager
def lists(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Write a long and a short items file."""
    yield write_items(folder / "many.csv", MANY), write_items(folder / "few.csv", FEW)


def per_item(run: Callable[[Path], Costs], many: Path, few: Path) -> Costs:
    """Return what an item costs beyond the start: the median of some rounds."""
    rounds = [(run(many), run(few)) for _ in range(ROUNDS)]

    def each(name: str) -> float:
        pairs = [(float(getattr(long, name)), float(getattr(short, name))) for long, short in rounds]
        return median((long - short) / (MANY - FEW) * 1e6 for long, short in pairs)

    return Costs(each("driver"), each("workers"), each("scheduler"))


def on_cluster(cluster: DaskProcesses, folder: Path) -> Callable[[Path], Costs]:
    """Return what runs items on a cluster's workers."""

    def run(items: Path) -> Costs:
        assert cluster.scheduler is not None
        pids = [cluster.scheduler.pid, *(worker.pid for worker in cluster.workers)]
        before = [seconds_of(pid) for pid in pids]
        driver = seconds_of_run(
            items, "http://127.0.0.1:9", folder, "--scheduler", cluster.address, env={**ENV, **cluster.env}
        )
        scheduler, *workers = (seconds_of(pid) - start for pid, start in zip(pids, before, strict=True))
        return Costs(driver, sum(workers), scheduler)

    return run


def alone(url: str, folder: Path) -> Callable[[Path], Costs]:
    """Return what runs items in one process, against a real server."""
    return lambda items: Costs(seconds_of_run(items, url, folder, env=ENV))


def table(driver: float, process: float) -> None:
    """Print what so many workers would do: calculated, not measured."""
    ceiling = 1e6 / driver
    print("workers and items a second: CALCULATED from the figures above, with a core for each process, no quota")
    for workers in (1, 2, 4, 8, 16, 32, 64, 100):
        rate = min(workers * 1e6 / process, ceiling)
        bound = "the driver" if rate == ceiling else "the workers"
        print(f"  {workers:>3}  {rate:>8,.0f}/s  bound by {bound}")


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as name, lists(Path(name)) as (many, few):
        folder = Path(name)
        with sandbox(MANY) as url:
            single = per_item(alone(url, folder), many, few)
        (folder / "dask").mkdir()
        with dask_processes(folder / "dask", workers=0) as cluster:
            for _ in range(WORKERS):
                cluster.start_worker(env=ENV, preload=NULL_SENDER)
            found = per_item(on_cluster(cluster, folder), many, few)
    print(f"microseconds of processor time an item, {MANY - FEW:,} items, {WORKERS} workers that answer at once, TLS")
    print(f"  one process, real HTTP {single.driver:>8.0f}")
    print(f"  driver                 {found.driver:>8.0f}")
    print(f"  workers                {found.workers:>8.0f}")
    print(f"  scheduler              {found.scheduler:>8.0f}")
    ratio = found.driver / single.driver
    report("the driver's CPU an item against one process's", f"{ratio:.2f}", "<= 0.25", good=ratio <= 0.25)
    table(found.driver, single.driver)


if __name__ == "__main__":
    main()
