"""The extra `speed`: a command runs on uvloop where that is installed, and does what it does on asyncio's loop."""

import subprocess
import sys

import pytest
from conftest import Workplace
from sandboxes import SandboxProcess

LOOP = """
import asyncio, sys
{before}
from migrator.cli.display.terminal import run_attended
async def command():
    return type(asyncio.get_running_loop()).__module__
print(run_attended(command()))
"""


def loop_of(before: str) -> str:
    """Return the module of the event loop on which a command runs."""
    done = subprocess.run(
        [sys.executable, "-c", LOOP.format(before=before)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_chosen_where_it_is_installed() -> None:
    """Without uvloop, a command runs on asyncio's own loop."""
    assert loop_of("sys.modules['uvloop'] = None") == "asyncio.unix_events"
    pytest.importorskip("uvloop", reason="the extra speed is not installed")
    assert loop_of("") == "uvloop"


def test_stages_and_a_program_that_is_asked(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """On uvloop too a gate is a process that is told the counts, and a rerun goes on where it said no."""
    pytest.importorskip("uvloop", reason="the extra speed is not installed")
    gate = workplace.folder / "gate"
    gate.write_text("#!/bin/sh\ncat >> told; test -e open\n")
    gate.chmod(0o700)
    workplace.write_job(6, gate=[str(gate)])
    command = ("run", "job.json", "--base-url", sandbox.url, "--stages", "2,100%", "--allow-commands", "--yes")

    with workplace.start(*command) as stopped:
        stopped.communicate(timeout=60)
    assert stopped.returncode == 3
    assert len(workplace.results()) == 2
    (workplace.folder / "open").touch()
    with workplace.start(*command) as resumed:
        resumed.communicate(timeout=60)
    assert resumed.returncode == 0
    assert len(workplace.results()) == 6
    assert (workplace.folder / "told").read_text()
