"""The disk and the state folder at their worst: one clear message, nothing recorded is lost, nothing more is sent."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import MIGRATOR, Finished, Workplace, wait_until
from sandboxes import SandboxProcess, StartSandbox

ITEMS, SLOTS = 200, 4
SLOW = ("--items", str(ITEMS), "--limit", "0", "--latency", "10ms")
MOUNT, UMOUNT = "/bin/mount", "/bin/umount"


@pytest.fixture
def slow(start_sandbox: StartSandbox) -> Iterator[SandboxProcess]:
    """Start a sandbox that leaves time for something to happen during a run."""
    with start_sandbox(*SLOW) as sandbox:
        yield sandbox


def command(sandbox: SandboxProcess, *options: str) -> list[str]:
    """Return the arguments of the run that all of these tests give, again and again."""
    return ["run", "job.json", "--base-url", sandbox.url, "--concurrency", str(SLOTS), *options]


def finish(process: "subprocess.Popen[str]") -> Finished:
    """Wait for the end of a command."""
    out, err = process.communicate(timeout=200)
    return Finished(process.returncode, out, err)


def until_sent(sandbox: SandboxProcess, count: int, process: "subprocess.Popen[str]") -> None:
    """Wait until the server has had so many requests of a process."""
    wait_until(lambda: len(sandbox.stats()["attempts"]) >= count or process.poll() is not None)
    assert process.poll() is None, process.communicate()


def broken_off(workplace: Workplace, sandbox: SandboxProcess, number: signal.Signals = signal.SIGINT) -> set[str]:
    """Begin a run, end it with a signal half way, and return the keys that were recorded."""
    workplace.write_job(ITEMS)
    process = workplace.start(*command(sandbox))
    until_sent(sandbox, ITEMS // 4, process)
    process.send_signal(number)
    finish(process)
    return recorded(workplace.last_run())


def recorded(run: Path) -> set[str]:
    """Return the keys of the items that a ledger holds as succeeded."""
    with closing(sqlite3.connect(run / "ledger.db")) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM item WHERE status = 'succeeded'")}


def assert_clear(done: Finished, *words: str, codes: tuple[int, ...] = (2, 3)) -> None:
    """Hold an ending against the promise: a code of the contract, the words that help, and no word of a bug."""
    said = done.out + done.err
    assert done.code in codes, said
    assert "a bug" not in said
    assert "Traceback" not in said
    assert 'File "' not in said
    messages = [line for line in done.err.splitlines() if line.startswith("migrator: ")]
    assert len(messages) <= 1, messages
    for word in words:
        assert word in said


def assert_goes_on(workplace: Workplace, sandbox: SandboxProcess, before: set[str], *options: str) -> None:
    """The same command ends the run, and sends only what was not recorded."""
    attempts = sandbox.stats()["attempts"]

    done = workplace.run(*command(sandbox, *options))

    assert done.code == 0, done.out + done.err
    after = sandbox.stats()["attempts"]
    assert {key: after[key] for key in before} == {key: attempts[key] for key in before}
    assert sum(count - 1 for count in after.values()) <= SLOTS
    assert len(after) == ITEMS


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a file system of its own in a folder, where that is allowed."""
    folder.mkdir(mode=0o700)
    done = subprocess.run(
        [MOUNT, "-t", "tmpfs", "-o", f"mode=700,{options}", "none", str(folder)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run([UMOUNT, "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left on a file system."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


def filled_half_way(workplace: Workplace, sandbox: SandboxProcess, disk: Path) -> Finished:
    """Begin a run with its state on a disk, and take away all room on it half way."""
    workplace.write_job(ITEMS)
    process = workplace.start(*command(sandbox, "--state", str(disk / "state")))
    until_sent(sandbox, ITEMS // 4, process)
    filler = fill(disk)
    done = finish(process)
    filler.unlink()
    return done


def test_disk_full_half_way(workplace: Workplace, slow: SandboxProcess, tmp_path: Path) -> None:
    """A disk that is full during a run stops it with 3 and the cause."""
    with mounted(tmp_path / "disk", "size=2m") as disk:
        done = filled_half_way(workplace, slow, disk)

    assert_clear(done, "disk is full", codes=(3,))


def test_disk_full_half_way_and_room_again(workplace: Workplace, slow: SandboxProcess, tmp_path: Path) -> None:
    """After a full disk no more is sent than was in flight, and with room again the same command goes on."""
    with mounted(tmp_path / "disk", "size=16m") as disk:
        filled_half_way(workplace, slow, disk)
        sent = set(slow.stats()["attempts"])
        (run,) = (disk / "state" / "runs").iterdir()
        before = recorded(run)

        assert len(sent - before) <= SLOTS
        assert len(sent) < ITEMS
        assert_goes_on(workplace, slow, before, "--state", str(disk / "state"))
        assert len((run / "results.jsonl").read_text().splitlines()) == ITEMS


def test_disk_full_from_the_start(workplace: Workplace, slow: SandboxProcess, tmp_path: Path) -> None:
    """With no room for a ledger nothing is sent at all, and the message says what is missing."""
    workplace.write_job(ITEMS)
    with mounted(tmp_path / "disk", "size=2m") as disk:
        fill(disk)

        done = workplace.run(*command(slow, "--state", str(disk / "state")))

    assert_clear(done)
    assert "disk is full" in done.err or "No space left" in done.err
    assert slow.stats()["requests"] == 0


def test_file_size_limit(workplace: Workplace, slow: SandboxProcess) -> None:
    """A limit on the size of files (`ulimit -f`) stops the run as a full disk does."""
    workplace.write_job(ITEMS)
    size = 120_000
    done = finish(
        subprocess.Popen(
            [*MIGRATOR, *command(slow)],
            cwd=workplace.folder,
            env=workplace.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),  # noqa: PLW1509  no threads here
        )
    )
    sent = set(slow.stats()["attempts"])
    before = recorded(workplace.last_run())

    assert_clear(done, "space", codes=(3,))
    assert len(sent - before) <= SLOTS
    assert len(sent) < ITEMS
    assert_goes_on(workplace, slow, before)


def test_read_only_state_folder(workplace: Workplace, sandbox: SandboxProcess, tmp_path: Path) -> None:
    """A state folder that cannot be written to is named, and nothing is sent."""
    workplace.write_job(3)
    if os.geteuid():
        (tmp_path / "read-only").mkdir(mode=0o500)
        done = workplace.run(*command(sandbox, "--state", str(tmp_path / "read-only")))
    else:
        with mounted(tmp_path / "read-only", "ro") as folder:
            done = workplace.run(*command(sandbox, "--state", str(folder)))

    assert_clear(done, "read-only")
    assert sandbox.stats()["requests"] == 0


def test_state_folder_below_a_file(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A state folder that cannot be made is named, and nothing is sent."""
    workplace.write_job(3)

    done = workplace.run(*command(sandbox, "--state", "items.csv/state"))

    assert_clear(done, "items.csv/state", "Not a directory", codes=(2,))
    assert sandbox.stats()["requests"] == 0


def test_state_folder_deleted_half_way(workplace: Workplace, slow: SandboxProcess) -> None:
    """A run whose records are deleted under it notices, and does not send the rest of its items without any."""
    workplace.write_job(ITEMS)
    process = workplace.start(*command(slow))
    until_sent(slow, 20, process)
    shutil.rmtree(workplace.folder / ".migrator")

    done = finish(process)

    assert_clear(done, ".migrator", codes=(3,))
    assert len(slow.stats()["attempts"]) < ITEMS


@contextmanager
def locked(ledger: Path) -> Iterator[None]:
    """Hold SQLite's exclusive lock, as a curious administrator does who forgot a shell."""
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def test_ledger_locked_at_the_start(workplace: Workplace, slow: SandboxProcess) -> None:
    """An unfinished run whose ledger someone else has locked is not gone on with, and the cause is named."""
    before = broken_off(workplace, slow)
    requests = slow.stats()["requests"]

    with locked(workplace.last_run() / "ledger.db"):
        done = workplace.run(*command(slow))

    assert_clear(done, "locked by another program", codes=(3,))
    assert slow.stats()["requests"] == requests
    assert_goes_on(workplace, slow, before)


def test_ledger_locked_half_way(workplace: Workplace, slow: SandboxProcess) -> None:
    """A ledger that is locked for longer than is waited for ends the run, with no more sent than was in flight."""
    workplace.write_job(ITEMS)
    process = workplace.start(*command(slow))
    until_sent(slow, 20, process)
    run = workplace.last_run()
    with locked(run / "ledger.db"):
        done = finish(process)
    sent = set(slow.stats()["attempts"])
    before = recorded(run)

    assert_clear(done, "locked by another program", codes=(3,))
    assert len(sent - before) <= SLOTS
    assert_goes_on(workplace, slow, before)


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 16), (16, 84), (100, 3996), (4096, 1 << 20), (20_000, 1 << 20)],
    ids=["magic", "header", "schema", "all pages but the first", "later pages"],
)
def test_damaged_ledger(workplace: Workplace, slow: SandboxProcess, start: int, length: int) -> None:
    """A ledger with bytes that are not its own is not believed: the run is not gone on with, and --fresh is named."""
    broken_off(workplace, slow)
    run = workplace.last_run()
    shown = (run / "results.jsonl").read_bytes()
    requests = slow.stats()["requests"]
    whole = (run / "ledger.db").read_bytes()
    assert start < len(whole)
    damage = bytes((7 * place) % 251 for place in range(min(length, len(whole) - start)))
    (run / "ledger.db").write_bytes(whole[:start] + damage + whole[start + len(damage) :])

    done = workplace.run(*command(slow))

    assert_clear(done, "ledger.db", codes=(2, 3))
    assert "--fresh" in done.err
    assert slow.stats()["requests"] == requests
    assert (run / "results.jsonl").read_bytes() == shown


def test_ledger_of_a_newer_version(workplace: Workplace, slow: SandboxProcess) -> None:
    """A ledger that a newer version wrote is left alone."""
    broken_off(workplace, slow)
    requests = slow.stats()["requests"]
    with closing(sqlite3.connect(workplace.last_run() / "ledger.db")) as connection:
        connection.execute("PRAGMA user_version = 99")

    done = workplace.run(*command(slow))

    assert_clear(done, "newer version")
    assert slow.stats()["requests"] == requests


def test_ledger_that_was_never_begun(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A kill between the ledger's making and its first page has sent nothing, and does not stand in anybody's way."""
    workplace.write_job(3)
    state = workplace.folder / ".migrator"
    run = state / "runs" / "rotate-20260101T000000Z-0000"
    for folder in (state, run.parent, run):
        folder.mkdir(mode=0o700)
    (run / "ledger.db").touch(mode=0o600)

    done = workplace.run(*command(sandbox))

    assert done.code == 0, done.err


def test_ledger_of_another_job_is_damaged(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """What is wrong with the records of one job keeps no other job from its run."""
    workplace.write_job(3, name="other")
    workplace.run(*command(sandbox))
    (workplace.last_run() / "ledger.db").write_bytes(b"no database" * 1000)
    workplace.write_job(3)

    done = workplace.run(*command(sandbox))

    assert done.code == 0, done.err


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_results_cut_in_mid_line(workplace: Workplace, slow: SandboxProcess, cut: int) -> None:
    """Whatever a crash has left of `results.jsonl`, a resumed run makes it whole again from the ledger."""
    before = broken_off(workplace, slow, signal.SIGKILL)
    results = workplace.last_run() / "results.jsonl"
    os.truncate(results, max(0, results.stat().st_size - cut))

    assert_goes_on(workplace, slow, before)
    assert sorted(record["item"] for record in workplace.results()) == list(range(1, ITEMS + 1))


def test_results_deleted(workplace: Workplace, slow: SandboxProcess) -> None:
    """A `results.jsonl` that is gone is written again from the ledger."""
    before = broken_off(workplace, slow)
    (workplace.last_run() / "results.jsonl").unlink()

    assert_goes_on(workplace, slow, before)
    assert sorted(record["item"] for record in workplace.results()) == list(range(1, ITEMS + 1))


VICTIM = b"someone else's file\n"


@pytest.mark.parametrize(
    "name",
    [
        "{run}/ledger.db",
        "{run}/events.jsonl",
        "{run}/results.jsonl",
        "{run}/summary.json",
        "{run}/succeeded.csv",
        "{run}/failed.csv",
        "{state}/fingerprint.key",
        "{state}/locks/rotate.lock",
        "{state}/locks/rotate.holder",
    ],
)
def test_links_in_the_state_folder(workplace: Workplace, slow: SandboxProcess, name: str, tmp_path: Path) -> None:
    """A link in the place of a file is replaced or refused, and never written or read through."""
    broken_off(workplace, slow)
    requests = slow.stats()["requests"]
    victim = tmp_path / "victim"
    victim.write_bytes(VICTIM)
    link = Path(name.format(run=workplace.last_run(), state=workplace.folder / ".migrator"))
    link.unlink(missing_ok=True)
    link.symlink_to(victim)

    done = workplace.run(*command(slow))

    assert victim.read_bytes() == VICTIM
    if done.code:
        assert_clear(done, link.name)
        assert slow.stats()["requests"] == requests
    else:
        assert len(slow.stats()["attempts"]) == ITEMS
        assert not link.is_symlink()


@pytest.mark.parametrize(
    "name",
    [
        "runs",
        "locks",
        "apis",
        "",
    ],
)
def test_linked_folders(workplace: Workplace, sandbox: SandboxProcess, name: str, tmp_path: Path) -> None:
    """A link in the place of a folder is refused before anything is sent, and nothing is written behind it."""
    workplace.write_job(3)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    state = workplace.folder / ".migrator"
    if name:
        state.mkdir(mode=0o700)
    (state / name if name else state).symlink_to(elsewhere)

    done = workplace.run(*command(sandbox))

    assert_clear(done, name or ".migrator", codes=(2,))
    assert sandbox.stats()["requests"] == 0
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_state_folder_open_to_others(workplace: Workplace, sandbox: SandboxProcess, mode: int) -> None:
    """A state folder that others may look into is refused, with the command that mends it."""
    workplace.write_job(3)
    state = workplace.folder / ".migrator"
    state.mkdir()
    state.chmod(mode)

    done = workplace.run(*command(sandbox))

    assert_clear(done, "chmod 700", codes=(2,))
    assert sandbox.stats()["requests"] == 0
    assert stat.S_IMODE(state.stat().st_mode) == mode


def test_reader_of_the_output_goes_away(workplace: Workplace, slow: SandboxProcess) -> None:
    """No one has to read standard output and standard error for a run to come to its end and be recorded."""
    workplace.write_job(ITEMS)
    read, write = os.pipe()
    process = subprocess.Popen(
        [*MIGRATOR, *command(slow)],
        cwd=workplace.folder,
        env=workplace.env,
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=write,
    )
    os.close(write)
    os.close(read)
    process.wait(45)

    assert len(slow.stats()["attempts"]) == ITEMS
    assert workplace.summary()["counts"]["succeeded"] == ITEMS
    assert {record["status"] for record in workplace.results()} == {"succeeded"}


def test_full_standard_output(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A standard output that takes nothing is no bug of ours, and the run is recorded."""
    if not sys.platform.startswith("linux"):
        pytest.skip("there is no /dev/full here")
    workplace.write_job(3)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*MIGRATOR, *command(sandbox)],
            cwd=workplace.folder,
            env=workplace.env,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=45,
        )

    summary: dict[str, Any] = json.loads((workplace.last_run() / "summary.json").read_text())
    assert summary["counts"]["succeeded"] == 3
    assert_clear(Finished(done.returncode, "", done.stderr), codes=(0, 3))
