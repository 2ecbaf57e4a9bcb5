"""Fixtures that every test may ask for."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import pytest
from hypothesis import HealthCheck, settings
from sandboxes import KEY, SECRET, SandboxProcess, StartSandbox, sandbox_process

# The gate tries the same examples each time, and time says nothing on a busy machine. New examples are what `make fuzz`
# and `make model` are for.
settings.register_profile("gate", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gate")


def pytest_unconfigure() -> None:
    """End the server that processes are forked from."""
    forked.stop()


CREDENTIALS = {"CONFLUENT_CLOUD_API_KEY": KEY, "CONFLUENT_CLOUD_API_SECRET": SECRET}
MIGRATOR = [sys.executable, "-m", "migrator"]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: aiohttp and aiolimiter know no other loop."""
    return "asyncio"


@pytest.fixture
def start_sandbox() -> StartSandbox:
    """Return what starts a sandbox with options of its own."""
    return sandbox_process


@pytest.fixture
def sandbox() -> Iterator[SandboxProcess]:
    """Start a sandbox of 400 integrations without a limit."""
    with sandbox_process("--items", "400", "--limit", "0") as running:
        yield running


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Workplace:
    """A folder in which commands are run, with credentials in the environment."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment of commands."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATOR_")}
        return kept | CREDENTIALS

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            [*MIGRATOR, *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Finished:
        """Run a command to its end."""
        return Finished(*forked.run(arguments, folder=self.folder, env=self.env if env is None else env, stdin=stdin))

    def write_job(self, rows: int, **changes: Any) -> str:
        """Write a job of so many rows and its items, and return its name."""
        job: dict[str, Any] = {
            "name": "rotate",
            "api": "confluent-cloud",
            "request": {
                "method": "PATCH",
                "path": "/notifications/v1/integrations/{id}",
                "body": {"target": {"kind": "Slack", "webhook_url": "{webhook_url}"}},
            },
            "key": "id",
            "secrets": ["webhook_url"],
            "items": "items.csv",
        }
        (self.folder / "job.json").write_text(json.dumps(job | changes))
        lines = [f"i-{number:05d},{webhook(number)}" for number in range(1, rows + 1)]
        (self.folder / "items.csv").write_text("\n".join(["id,webhook_url", *lines, ""]))
        return "job.json"

    def last_run(self) -> Path:
        """Return the folder of the latest run."""
        return max((self.folder / ".migrator" / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)

    def results(self) -> list[dict[str, Any]]:
        """Return the records of the latest run."""
        return [json.loads(line) for line in (self.last_run() / "results.jsonl").read_text().splitlines()]

    def summary(self) -> dict[str, Any]:
        """Return the summary of the latest run."""
        found: dict[str, Any] = json.loads((self.last_run() / "summary.json").read_text())
        return found


def wait_until(true: Callable[[], object]) -> None:
    """Wait for something to come about."""
    for _ in range(15_000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about within 150 s")


def webhook(number: int) -> str:
    """Return the made-up webhook of a row."""
    return f"https://hooks.slack.example/services/TEXAMPLE/BEXAMPLE{number:04d}/new-secret-{number:04d}"


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """Return an empty folder to work in."""
    return Workplace(tmp_path)
