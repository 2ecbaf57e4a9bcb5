"""Sandboxes for tests, each the real command in a process of its own.

They are forked from a server that has imported everything already, since there are hundreds of them.
"""

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked

__all__ = ["KEY", "SECRET", "SandboxProcess", "StartSandbox", "sandbox_process"]

KEY, SECRET = "TESTKEY", "s3cr3t-of-the-test-key"


@dataclass(frozen=True)
class SandboxProcess:
    """A sandbox in a process of its own."""

    url: str

    def stats(self) -> dict[str, Any]:
        """Return what it saw."""
        with urllib.request.urlopen(f"{self.url}/_sandbox/stats") as answer:  # noqa: S310  loopback
            found: dict[str, Any] = json.load(answer)
        return found

    def order(self, *faults: dict[str, Any]) -> None:
        """Order faults."""
        request = urllib.request.Request(f"{self.url}/_sandbox/faults", json.dumps(faults).encode(), method="POST")  # noqa: S310
        with urllib.request.urlopen(request):  # noqa: S310  loopback
            pass


StartSandbox = Callable[..., AbstractContextManager[SandboxProcess]]


@contextmanager
def sandbox_process(*options: str) -> Iterator[SandboxProcess]:
    """Start a sandbox and stop it on leaving."""
    reading, writing = os.pipe()
    arguments = ["sandbox", "--api-key", KEY, "--api-secret", SECRET, *options]
    process = forked.start(arguments, folder=Path.cwd(), env=os.environ, streams=(reading, writing, 2))
    os.close(writing)
    with os.fdopen(reading) as said:
        line = said.readline()
        try:
            yield SandboxProcess(line.removeprefix("listening on ").strip())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
