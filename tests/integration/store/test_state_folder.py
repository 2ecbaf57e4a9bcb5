"""The state folder is its owner's alone, and its files are whole."""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import FolderError, MigratorError
from migrator.run.control import ask
from migrator.secret import Secret
from migrator.store.files import decoded, open_private, private_folder, remove_leftovers, write_atomically
from migrator.store.plan_file import read_plan
from migrator.store.state_folder import RUN_ID, StateFolder, new_run_id, read_key

NOON = 1_795_435_200.9


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Let the umask take nothing away, so that modes are the program's own."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    """Return a file's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_private_all_the_way(tmp_path: Path) -> None:
    """A folder is made with mode 0700, and so is each one above it that was missing."""
    made = private_folder(tmp_path / "a" / "b" / "c")

    assert [mode(folder) for folder in (made, made.parent, made.parent.parent)] == [0o700] * 3
    assert private_folder(made) == made


@pytest.mark.parametrize("bits", [0o755, 0o750, 0o701])
def test_open_folder_is_refused(tmp_path: Path, bits: int) -> None:
    """A folder that others, or the group, may enter is refused, with the command that mends it."""
    (tmp_path / "state").mkdir(mode=bits)

    with pytest.raises(FolderError, match="chmod 700"):
        private_folder(tmp_path / "state")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    """A folder of someone else's is refused, private or not."""
    folder = private_folder(tmp_path / "state")
    os.chown(folder, 12345, -1)

    with pytest.raises(FolderError, match="another user"):
        private_folder(folder)


def test_link_is_refused(tmp_path: Path) -> None:
    """A link in the folder's place is refused, wherever it leads."""
    (tmp_path / "state").symlink_to(private_folder(tmp_path / "elsewhere"))

    with pytest.raises(FolderError, match="no folder of its own"):
        private_folder(tmp_path / "state")


def test_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """A file where a folder should be is told, and not touched."""
    (tmp_path / "state").write_text("x")

    with pytest.raises(FolderError, match="no folder of its own"):
        private_folder(tmp_path / "state")
    with pytest.raises(FolderError, match="Not a directory"):
        private_folder(tmp_path / "state" / "runs")


def test_private_file(tmp_path: Path) -> None:
    """A file has mode 0600 from its creation, and is appended to or started again."""
    path = tmp_path / "file"
    for how, text in (("ab", b"one"), ("ab", b"two"), ("wb", b"three"), ("ab", b"four")):
        with open_private(path, how) as file:
            file.write(text)

    assert (mode(path), path.read_bytes()) == (0o600, b"threefour")


def test_link_is_not_written_through(tmp_path: Path) -> None:
    """A link that someone has put in a file's place leads nowhere."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "file").symlink_to(tmp_path / "victim")

    with pytest.raises(FolderError, match="link"):
        open_private(tmp_path / "file", "wb")
    assert (tmp_path / "victim").read_text() == "untouched"


def test_atomic_file_is_whole_or_as_before(tmp_path: Path) -> None:
    """A file is replaced at once; an error on the way leaves the old one and nothing beside it."""
    path = tmp_path / "file"
    with write_atomically(path) as file:
        file.write(b"old")
    with pytest.raises(ZeroDivisionError), write_atomically(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        raise ZeroDivisionError

    assert (path.read_bytes(), mode(path), list(tmp_path.iterdir())) == (b"old", 0o600, [path])


def test_atomic_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A user is told which file could not be written, and why."""
    (tmp_path / "file").mkdir()

    with (
        pytest.raises(FolderError, match=r"file cannot be written: Is a directory"),
        write_atomically(tmp_path / "file") as file,
    ):
        file.write(b"x")
    with pytest.raises(FolderError, match="No such file or directory"), write_atomically(tmp_path / "no" / "file"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_leftovers_are_removed(tmp_path: Path) -> None:
    """What a killed process has left half written is removed, and nothing else."""
    with write_atomically(tmp_path / "failed.csv") as file:
        file.write(b"whole")
    generator = write_atomically(tmp_path / "failed.csv")
    generator.__enter__().write(b"half")
    assert len(list(tmp_path.iterdir())) == 2

    remove_leftovers(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["failed.csv"]


def test_leftovers_of_the_dead_are_removed_with_the_next_write(tmp_path: Path) -> None:
    """A file outside of a run's folder, such as a plan, is tidied up; a living writer keeps its own."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (
        f".new-plan.json.{dead.pid}.ab",
        f".new-other.json.{dead.pid}.ab",
        f".new-plan.json.{os.getppid()}.ab",
    ):
        (tmp_path / name).write_text("half")

    with write_atomically(tmp_path / "plan.json") as file:
        file.write(b"whole")

    left = {f".new-other.json.{dead.pid}.ab", f".new-plan.json.{os.getppid()}.ab", "plan.json"}
    assert {path.name for path in tmp_path.iterdir()} == left


@pytest.mark.parametrize("folder", [".", "apis", "locks", "unfinished"])
def test_leftovers_of_the_dead_are_removed_from_a_state_folder(tmp_path: Path, folder: str) -> None:
    """Whatever file was being written when a process was killed, the next command removes what is left of it."""
    place = tmp_path / "state" / folder
    private_folder(place)
    (place / ".new-name.999999999.ab").write_text("half")

    StateFolder.open(tmp_path / "state")

    assert not list(place.glob(".new-*"))


def test_key_is_made_once(tmp_path: Path) -> None:
    """The key is private and stays the same; those who ask at once for the first time get the same one."""
    keys: list[bytes] = []
    askers = [threading.Thread(target=lambda: keys.append(read_key(tmp_path))) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()

    assert set(keys) == {read_key(tmp_path)}
    assert len(keys) == 8
    assert len(keys[0]) == 32
    assert [(path.name, mode(path)) for path in tmp_path.iterdir()] == [("fingerprint.key", 0o600)]


def test_damaged_key_is_told(tmp_path: Path) -> None:
    """A key of the wrong length is not used, since its fingerprints would be weak."""
    (tmp_path / "fingerprint.key").write_bytes(b"short")

    with pytest.raises(FolderError, match="damaged"):
        read_key(tmp_path)


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ("rotate-slack-webhooks", "rotate-slack-webhooks"),
        ("../../etc/passwd", "etc-passwd"),
        ("a b\n/c", "a-b-c"),
        ("...", "job"),
        ("x" * 500, "x" * 100),
    ],
)
def test_run_id(job: str, name: str) -> None:
    """A run's id is the job's name, the time in UTC, and four hex digits; it is always one folder's name."""
    found = RUN_ID.fullmatch(new_run_id(job, NOON))

    assert found is not None
    assert (found["job"], found["started"]) == (name, "20261123T120000Z")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state folder with two runs, and three things that are none."""
    for name in ("b-20261123T120000Z-0001", "a-20261123T120001Z-0002"):
        (private_folder(tmp_path / "runs" / name) / "ledger.db").touch()
    private_folder(tmp_path / "runs" / "c-20261123T120002Z-0003")
    (tmp_path / "runs" / "notes.txt").touch()
    (tmp_path / "runs" / "d-20261123T120003Z-0004").symlink_to(tmp_path / "runs" / "b-20261123T120000Z-0001")
    return tmp_path


def test_runs_in_order(state: Path) -> None:
    """Runs come in the order of their beginning, whatever their names; what has no ledger, or is a link, is no run."""
    assert [path.name for path in StateFolder(state).runs()] == ["b-20261123T120000Z-0001", "a-20261123T120001Z-0002"]


def test_find_run(state: Path) -> None:
    """A run is found by its id, its folder, or as the last one that has started."""
    first, last = StateFolder(state).runs()
    (first / "ledger.db").write_text("no database, but not empty either")

    assert StateFolder(state).find(first.name) == first
    assert StateFolder(state).find(str(first)) == first
    assert StateFolder(state).find("last") == first
    (last / "ledger.db").write_text("no database either")
    assert StateFolder(state).find("last") == last


@pytest.mark.parametrize("name", ["nothing", "", "c-20261123T120002Z-0003", "../runs"])
def test_unknown_run(state: Path, name: str) -> None:
    """A run that is not there is told, with where one sees what there is."""
    with pytest.raises(FolderError, match="migrator status"):
        StateFolder(state).find(name)


def test_no_runs_yet(tmp_path: Path) -> None:
    """Before the first run there is none, and no last one."""
    assert StateFolder(tmp_path).runs() == []
    with pytest.raises(FolderError, match="no run 'last'"):
        StateFolder(tmp_path).find("last")


def test_folder_has_one_key_and_private_folders(tmp_path: Path) -> None:
    """Two maskers of one state folder show a secret in the same way; all that is made in it is its owner's."""
    state = StateFolder.open(tmp_path / "state")
    secret = Secret("a-webhook-of-someone")

    run = state.new_run("rotate", NOON)
    learned = state.learned("api.example", "0a1b")

    assert state.masker().shown(secret) == StateFolder(state.path).masker([Secret("another")]).shown(secret)
    assert (run.parent, learned) == (state.path / "runs", state.path / "apis" / "api.example-0a1b.json")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (state.path, run.parent, run, learned.parent)} == {0o700}


class Shape(msgspec.Struct):
    """What a file of the program has to be."""

    a: Any


@given(st.binary() | st.builds(lambda depth: b'{"a":' + b"[" * depth, st.integers(0, 100_000)))
def test_a_damaged_file_of_our_own_is_only_that(data: bytes) -> None:
    """Whatever bytes stand in it, reading it raises nothing."""
    found = decoded(data, Shape)

    assert found is None or isinstance(found, Shape)


@pytest.mark.parametrize("damage", [b"", b"\xff", b'{"a": "\xff"}', b"[" * 100_000, b"null", b'{"schema": 1}'])
def test_damaged_plan_is_told(tmp_path: Path, damage: bytes) -> None:
    """A plan that is damaged is one message, which says how to make another."""
    (tmp_path / "plan.json").write_bytes(damage)

    with pytest.raises(MigratorError, match="is no plan; migrator plan JOB --out"):
        read_plan(
            tmp_path / "plan.json",
            job_digest="",
            items_digest="",
            server="",
            fingerprint=StateFolder.open(tmp_path / "state").fingerprinter(),
        )


@pytest.mark.parametrize("answer", [b"", b"\xff\n", b"[]\n", b"7\n", b"[" * 60_000 + b"\n", b'{"status": 1}\n'])
def test_damaged_answer_of_a_run_is_told(tmp_path: Path, answer: bytes) -> None:
    """What is no answer of a run is one message, whatever listens at its socket."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "control.sock"))
        server.listen()

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        speaker = threading.Thread(target=speak)
        speaker.start()
        with pytest.raises(MigratorError, match=r"does not answer as a run does|is not active"):
            ask(tmp_path, "status")
        speaker.join()
