"""A Dask cluster of real processes on the loopback interface, over TLS, as an operator starts one."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from sandboxes import KEY, SECRET

__all__ = ["DaskProcesses", "dask_processes"]

DASK = Path(sys.executable).parent / "dask"
QUIET = {
    "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
    "DASK_DISTRIBUTED__WORKER__DAEMON": "false",
    "DASK_LOGGING__DISTRIBUTED": "debug",
}


@dataclass
class DaskProcesses:
    """A scheduler and its workers.

    Attributes:
        folder: with certificates and logs.
        env: what a run needs to reach them.
        workers: the workers' processes.
        address: the scheduler's.
    """

    folder: Path
    env: dict[str, str]
    address: str = ""
    scheduler: "subprocess.Popen[bytes] | None" = None
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start_scheduler(self) -> None:
        """Start the scheduler, and wait for its address."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self._start(
            "scheduler", "--host", "tls://127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)
        )
        wait_for(lambda: file.exists() and b'"address"' in file.read_bytes())
        text = file.read_text()
        self.address = text.split('"address": "')[1].split('"')[0]

    def start_worker(self, *, env: dict[str, str] | None = None, preload: str | None = None) -> None:
        """Start a worker, which takes the API's credentials from its own environment."""
        options = ["--no-nanny", "--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--death-timeout", "20"]
        options += ["--local-directory", str(self.folder)]
        if preload is not None:
            path = self.folder / "preload.py"
            path.write_text(preload)
            options += ["--preload", str(path)]
        credentials = {"CONFLUENT_CLOUD_API_KEY": KEY, "CONFLUENT_CLOUD_API_SECRET": SECRET}
        self.workers.append(
            self._start(
                "worker", self.address, "--host", "127.0.0.1", *options, env=credentials if env is None else env
            )
        )

    def kill_worker(self) -> None:
        """Kill the worker that was started last."""
        worker = self.workers.pop()
        worker.kill()
        worker.wait()

    def log(self) -> bytes:
        """Return all that the processes have said; they say all that Dask can."""
        return b"".join(path.read_bytes() for path in self.folder.glob("*.log"))

    def _start(self, what: str, *arguments: str, env: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
        number = len(self.workers)
        with (self.folder / f"{what}-{number}.log").open("ab") as log:
            return subprocess.Popen(
                [DASK, what, *arguments], env={**self.env, **(env or {})}, stdout=log, stderr=log, cwd=self.folder
            )


def wait_for(true: Callable[[], bool]) -> None:
    """Wait until a condition holds, for twenty seconds."""
    for _ in range(400):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about within 20 s")


@contextmanager
def dask_processes(folder: Path, *, workers: int) -> Iterator[DaskProcesses]:
    """Start a scheduler and workers, and end them on leaving."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (folder / "cert.pem").write_bytes(certificate.cert_chain_pems[0].bytes())
    (folder / "key.pem").write_bytes(certificate.private_key_pem.bytes())
    tls = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(folder / "ca.pem")}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        tls[f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT"] = str(folder / "cert.pem")
        tls[f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY"] = str(folder / "key.pem")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START") if name in os.environ}
    cluster = DaskProcesses(folder, kept | QUIET | tls)
    try:
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.start_worker()
        yield cluster
    finally:
        for process in [*cluster.workers, *([cluster.scheduler] if cluster.scheduler else [])]:
            process.kill()
            process.wait()
