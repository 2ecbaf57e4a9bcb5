"""What was sent last is known by a keyed digest: the same request is recognised, in this process and in a later one."""

import stat
import tempfile
from pathlib import Path

import pytest
from driven_run import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from migrator.errors import FolderError
from migrator.messages import Request
from migrator.secret import Fingerprinter
from migrator.store.last_sent import BATCH, SentBefore

KEY = Fingerprinter(b"k" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file is."""
    return tmp_path / "sent.db"


def test_request_is_known_after_it_succeeded(path: Path) -> None:
    """A request that was noted is known to the next process; one that was not is unknown."""
    first, second = requests(2)
    with SentBefore.open(path, KEY) as sent:
        assert not sent.holds(first)
        sent.note(first)

    with SentBefore.open(path, KEY) as sent:
        assert sent.holds(first)
        assert not sent.holds(second)


@pytest.mark.parametrize(
    "change",
    [{"body": b"{}"}, {"wanted": b"{}"}, {"method": "PUT"}, {"url": "https://other.example/items/i-1"}],
    ids=lambda change: next(iter(change)),
)
def test_other_request_for_the_same_item_is_sent(path: Path, change: dict[str, object]) -> None:
    """Whatever the server would see differently makes another request of it."""
    (request,) = requests(1)
    with SentBefore.open(path, KEY) as sent:
        sent.note(request)
        sent.flush()

        assert not sent.holds(replace(request, **change))


def test_last_one_counts(path: Path) -> None:
    """An item that went from A to B and back to A is sent each time."""
    (a,) = requests(1)
    b = replace(a, body=b'{"name":"other"}')
    with SentBefore.open(path, KEY) as sent:
        for request in (a, b):
            sent.note(request)
            sent.flush()

        assert (sent.holds(a), sent.holds(b)) == (False, True)


def test_many_are_written_without_waiting_for_the_end(path: Path) -> None:
    """A process that dies has lost at most the last batch."""
    many = requests(BATCH + 1)
    with SentBefore.open(path, KEY) as sent:
        for request in many:
            sent.note(request)

        with SentBefore.open(path, KEY) as beside:
            assert all(beside.holds(request) for request in many[:BATCH])
            assert not beside.holds(many[-1])


def test_nothing_secret_is_in_the_file(path: Path) -> None:
    """The file holds digests only, and is its owner's alone."""
    (request,) = requests(1)
    with SentBefore.open(path, KEY) as sent:
        sent.note(replace(request, body=b'{"webhook_url":"https://hooks.example/made-up-secret"}'))

    assert b"made-up-secret" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_other_key_knows_nothing(path: Path) -> None:
    """Digests are keyed: a file that was copied to another state folder tells nothing there."""
    (request,) = requests(1)
    with SentBefore.open(path, KEY) as sent:
        sent.note(request)

    with SentBefore.open(path, Fingerprinter(b"x" * 32)) as sent:
        assert not sent.holds(request)


def test_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(FolderError, match="sent"), SentBefore.open(tmp_path / "missing" / "sent.db", KEY):
        pass


@settings(max_examples=25)
@given(st.binary(max_size=20), st.binary(max_size=20))
def test_two_bodies_are_the_same_only_if_their_bytes_are(one: bytes, other: bytes) -> None:
    """A body need not be text; each has a digest of its own."""
    (request,) = requests(1)

    def held(noted: Request, asked: Request) -> bool:
        with tempfile.TemporaryDirectory() as folder, SentBefore.open(Path(folder, "sent.db"), KEY) as sent:
            sent.note(noted)
            sent.flush()
            return sent.holds(asked)

    assert held(replace(request, body=one), replace(request, body=other)) == (one == other)
