"""One run of a job at a time: the operating system holds the lock, so that it ends with the process that took it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from migrator.errors import FolderError, MigratorError
from migrator.options import IfRunning
from migrator.results import Exit
from migrator.store.lock import holder, is_held, lock_job

pytestmark = pytest.mark.anyio

HOLDER = """
import fcntl
import sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state folder."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@contextmanager
def other_process(state: Path) -> Iterator["subprocess.Popen[str]"]:
    """Hold the lock of the job `rotate` in another process."""
    (state / "locks").mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, "-c", HOLDER, str(state / "locks" / "rotate.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


async def test_lock_names_its_process_and_is_given_back(state: Path) -> None:
    """While it is held everybody can see by whom; afterwards it is free."""
    async with lock_job(state, "rotate", IfRunning.FAIL) as other:
        assert other is None
        assert is_held(state, "rotate")
        assert f"process {os.getpid()} since 20" in (holder(state, "rotate") or "")

    assert not is_held(state, "rotate")


async def test_jobs_do_not_stand_in_each_others_way(state: Path) -> None:
    """Each job has a lock of its own."""
    async with lock_job(state, "one", IfRunning.FAIL), lock_job(state, "two", IfRunning.FAIL) as other:
        assert other is None


async def test_second_run_is_refused_skipped_or_waits(state: Path) -> None:
    """What becomes of a second run is the user's choice, and the message says who runs."""
    told: list[str] = []
    with other_process(state) as process:
        (state / "locks" / "rotate.holder").write_text("process 4711 since yesterday")

        with pytest.raises(MigratorError, match=r"another run of rotate is active \(process 4711") as refused:
            async with lock_job(state, "rotate", IfRunning.FAIL):
                pass
        assert refused.value.exit_code == Exit.RUNNING

        async with lock_job(state, "rotate", IfRunning.SKIP) as other:
            assert other == "process 4711 since yesterday"

        def end(sentence: str) -> None:
            told.append(sentence)
            process.kill()

        async with lock_job(state, "rotate", IfRunning.WAIT, tell=end) as other:
            assert other is None
    assert told == ["waiting for the active run of rotate (process 4711 since yesterday)"]


async def test_killed_process_leaves_no_lock(state: Path) -> None:
    """After kill -9 the job can be run at once."""
    with other_process(state) as process:
        assert is_held(state, "rotate")
        process.send_signal(signal.SIGKILL)
        process.wait()

        async with lock_job(state, "rotate", IfRunning.FAIL) as other:
            assert other is None


async def test_lock_that_is_a_link_is_refused(state: Path, tmp_path: Path) -> None:
    """A link in the lock's place is not followed: it could point at a file of another user."""
    (state / "locks").mkdir(mode=0o700)
    (state / "locks" / "rotate.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FolderError, match="is a link, which is not followed"):
        async with lock_job(state, "rotate", IfRunning.FAIL):
            pass
    assert not (tmp_path / "elsewhere").exists()


async def test_cancelled_wait_takes_nothing(state: Path) -> None:
    """A run that is stopped while it waits for the other leaves the lock as it was."""
    with other_process(state):
        with anyio.move_on_after(0):
            async with lock_job(state, "rotate", IfRunning.WAIT):
                raise AssertionError("the other process has it")
        assert is_held(state, "rotate")
    assert holder(state, "rotate") is None


def test_holder_that_cannot_be_read_is_unknown(state: Path, tmp_path: Path) -> None:
    """The file that names the holder is for people: a link or bytes that are no text are as good as none."""
    (state / "locks").mkdir(mode=0o700)
    note = state / "locks" / "rotate.holder"
    note.write_bytes(b"\xff\xfe")
    assert holder(state, "rotate") is None

    note.unlink()
    (tmp_path / "elsewhere").write_text("process 1")
    note.symlink_to(tmp_path / "elsewhere")
    assert holder(state, "rotate") is None
