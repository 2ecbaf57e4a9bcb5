"""The sandbox as the command line starts it: its settings, its one line, and what is wrong with them."""

import socket
from contextlib import closing
from typing import Any

import click
import pytest
from sandboxes import sandbox_process

from migrator.cli.sandbox_command import sandbox

pytestmark = pytest.mark.anyio

DEFAULTS: dict[str, Any] = {
    "items": 1, "limit": 0, "window": 60.0, "algorithm": "fixed", "reset": "relative", "rounding": "up",
    "latency": "0ms", "jitter": "0ms", "error_rate": "0%", "concurrency_limit": 0, "masked": False, "unknown": "403",
    "envelope": "errors", "seed": 1, "api_key": None, "api_secret": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [{"latency": "soon"}, {"error_rate": "many"}, {"window": 0.0}, {"jitter": "-1s"}],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_settings_that_make_no_server(wrong: dict[str, Any]) -> None:
    """It is wrong use, told before anything listens."""
    with pytest.raises(click.UsageError, match="sandbox takes"):
        await sandbox(0, **(DEFAULTS | wrong))


async def test_port_that_is_taken_is_told() -> None:
    """The message has the port and the system's reason."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(click.UsageError, match=f"cannot listen on port {port}: "):
            await sandbox(port, **DEFAULTS)


def test_one_line_says_where_it_listens() -> None:
    """A script reads it, and starts when it is there."""
    with sandbox_process("--items", "3", "--limit", "5") as running:
        assert running.url.startswith("http://127.0.0.1:")
        assert running.stats()["requests"] == 0
