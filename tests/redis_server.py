"""A real Redis server for tests, on a free port of the loopback interface; Valkey serves as well."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

__all__ = ["PROGRAM", "RedisServer", "needs_redis", "redis_server"]

PROGRAM: Final = shutil.which("redis-server") or shutil.which("valkey-server")

needs_redis: Final = pytest.mark.skipif(
    PROGRAM is None, reason="redis-server is not installed: apt-get install redis-server"
)


@dataclass
class RedisServer:
    """A server that can be killed and started again on the same port.

    Attributes:
        port: on 127.0.0.1.
        folder: for its files.
        arguments: further options of its command line.
    """

    port: int
    folder: Path
    arguments: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert PROGRAM is not None
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self.process = subprocess.Popen(
            [PROGRAM, *options, "--dir", str(self.folder), *self.arguments], stdout=subprocess.DEVNULL
        )
        for _ in range(2_000):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return
            time.sleep(0.01)
        raise AssertionError("redis-server did not start within 20 s")

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def redis_server(folder: Path, *arguments: str) -> Iterator[RedisServer]:
    """Start a server, and kill it on leaving."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = RedisServer(port, folder, arguments)
    server.start()
    try:
        yield server
    finally:
        server.kill()
