"""Sandboxes for tests, each the real command in a process of its own.

They are forked from a server that has imported everything already, since there are hundreds of them.
"""

import json
import multiprocessing
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

__all__ = ["KEY", "SECRET", "SandboxProcess", "StartSandbox", "sandbox_process"]

KEY, SECRET = "TESTKEY", "s3cr3t-of-the-test-key"

FORKS: Final = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["migrator.cli.main", "migrator.sandbox.app"])


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
    reading, writing = FORKS.Pipe(duplex=False)
    arguments = ["sandbox", "--api-key", KEY, "--api-secret", SECRET, *options]
    process = FORKS.Process(target=_serve, args=(arguments, writing), daemon=True)
    process.start()
    writing.close()
    try:
        with os.fdopen(os.dup(reading.fileno())) as said:
            line = said.readline()
        reading.close()
        yield SandboxProcess(line.removeprefix("listening on ").strip())
    finally:
        process.terminate()
        process.join()
        process.close()


def _serve(arguments: list[str], writing: Connection) -> None:
    """Be the command, with a pipe for its standard output."""
    from migrator.cli.main import cli

    sys.stdout = os.fdopen(os.dup(writing.fileno()), "w")
    writing.close()
    cli.main(arguments)
