"""What a user can cause has a message that says what to do."""

import errno

import pytest

from migrator.errors import shortage


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(MemoryError(), "memory ran out", id="memory"),
        pytest.param(OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out", id="the system's memory"),
        pytest.param(RuntimeError("can't start new thread"), "memory ran out", id="a thread's stack"),
        pytest.param(ImportError("x.so: failed to map segment from shared object"), "memory ran out", id="a library"),
        pytest.param(OSError(errno.EMFILE, "Too many open files"), "no more open files", id="files"),
        pytest.param(ExceptionGroup("", [ValueError(), ExceptionGroup("", [MemoryError()])]), "memory", id="in groups"),
    ],
)
def test_shortage_is_no_bug(error: Exception, said: str) -> None:
    """Whatever form it comes in, the user is told what ran out."""
    assert said in (shortage(error) or "")


@pytest.mark.parametrize(
    "error", [ValueError(), OSError(errno.EIO, "I/O error"), RuntimeError("cannot"), KeyError("x")]
)
def test_other_errors_are_no_shortage(error: Exception) -> None:
    """They keep their own message."""
    assert shortage(error) is None
