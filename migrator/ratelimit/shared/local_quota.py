"""The runs of one host share a quota through a small file, with no process in between.

The file has a fixed record for each limiter key: a digest that names it, the run that asked last, and the numbers of
its `Budget`. A run maps the file into memory and changes a record only while it holds the file's lock (`flock(2)`),
which the system takes from a process that dies. The clock is the system's monotonic one, which is the same for all
processes of a host.

A run that has the file for itself is never held back, since its own pacer knows more kinds of servers. But it keeps the
numbers true for a run that joins it. Each run holds a shared lock on a second file; who could have an exclusive one is
alone.
"""

import fcntl
import math
import mmap
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Final, Self

from migrator.ratelimit.shared.budget import Budget
from migrator.ratelimit.shared.model import Report, Share

__all__ = ["LocalQuota", "boot_name"]

NUMBERS: Final = struct.Struct("=16sqqqqqddddqqq")
"""The run that asked last, and the budget's fields in their order."""

RECORD: Final = struct.Struct(f"=16s{NUMBERS.format[1:]}")
"""The digest of a limiter key, then the numbers."""

NO_RUN: Final = bytes(16)

_fields: Final = attrgetter(*Budget.__struct_fields__)

GROWTH: Final = 64
MOST: Final = 10_000
"""Records by which the file grows, and the most that it has: 1.2 MB. Further keys are not shared."""

LOOK_S: Final = 1.0
"""Seconds between two looks whether other runs have gone."""

TRIES: Final = 50
RETRY_S: Final = 0.0002
"""A process holds the lock for microseconds. One that was stopped while it held it is not waited for any longer."""


def boot_name() -> str:
    """Return what differs from host to host and changes when a host is started, as its monotonic clock does."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        started = os.uname().nodename
    return blake2b(started.encode(), digest_size=4).hexdigest()


class LocalQuota:
    """A quota that the processes of one host share; a context manager.

    Args:
        path: the file, which is made where it is missing; a second one, with `.users` after its name, beside it.
        one_pacer: whether one pacer asks for all requests of this run, so that it may be alone.

    Raises:
        OSError: on entering, where a file cannot be used.
    """

    def __init__(self, path: Path, *, one_pacer: bool = True) -> None:
        self._path = path
        self._run = secrets.token_bytes(16)
        self._file = self._users = -1
        self._map: mmap.mmap | None = None
        self._holds = False
        self._places: dict[str, int] = {}
        self._alone, self._look_at = False, 0.0 if one_pacer else math.inf

    def __enter__(self) -> Self:
        self._file = _open(self._path)
        self._users = _open(self._path.with_name(f"{self._path.name}.users"))
        fcntl.flock(self._users, fcntl.LOCK_SH)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._map is not None:
            self._map.close()
        os.close(self._file)
        os.close(self._users)

    async def take(self, limiter_key: str) -> Share:
        """Take one request, or learn when to ask again."""
        return self._ask(limiter_key)

    def take_at_once(self, limiter_key: str) -> int | None:
        """Take one request from the window that is returned; None where it has to be waited for."""
        share = self._ask(limiter_key)
        return share.window if share.wait_s <= 0.0 else None

    def report(self, report: Report) -> None:
        """Say how a request ended."""
        with self._locked() as held:
            if held and (place := self._place(report.limiter_key)) is not None:
                run, budget = self._read(place)
                budget.tell(report, monotonic())
                self._write(place, run, budget)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold the lock for all questions and reports of the block."""
        with self._locked() as held:
            self._holds = held
            try:
                yield
            finally:
                self._holds = False

    def _ask(self, limiter_key: str) -> Share:
        with self._locked() as held:
            if not held or (place := self._place(limiter_key)) is None:
                return Share(0.0, 0)
            now = monotonic()
            last, budget = self._read(place)
            share = budget.force(now) if self._is_alone(last, now) else budget.take(now)
            self._write(place, self._run, budget)
            return share

    def _is_alone(self, last: bytes, now: float) -> bool:
        """Tell whether no other run has the file open; `last` asked last, and may just have joined."""
        joined = self._alone and last not in {self._run, NO_RUN}
        if joined or now >= self._look_at:
            self._look_at = now + LOOK_S
            self._alone = _lock(self._users, fcntl.LOCK_EX, tries=1)
            # A lock that could not be changed may be lost, says flock(2).
            _lock(self._users, fcntl.LOCK_SH)
        return self._alone

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the lock, and yield whether it is held: another process may not let go of it."""
        if self._holds:
            yield True
            return
        held = _lock(self._file, fcntl.LOCK_EX)
        try:
            yield held
        finally:
            if held:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _place(self, limiter_key: str) -> int | None:
        """Return where a key's record stands, which is made where there is none; None where there is no room."""
        place = self._places.get(limiter_key)
        if place is None:
            name = blake2b(limiter_key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            place = self._places[limiter_key] = self._find(name)
        return None if place < 0 else place

    def _find(self, name: bytes) -> int:
        for place in range(0, MOST * RECORD.size, RECORD.size):
            records = self._records(place + RECORD.size)
            found = records[place : place + len(name)]
            if found in {name, NO_RUN}:
                records[place : place + len(name)] = name
                return place
        return -1

    def _records(self, size: int) -> mmap.mmap:
        """Return at least so many bytes of the file, which other runs may have made longer."""
        if self._map is None or len(self._map) < size:
            if os.fstat(self._file).st_size < size:
                os.ftruncate(self._file, size + (GROWTH - 1) * RECORD.size)
            self._map = mmap.mmap(self._file, 0)
        return self._map

    def _read(self, place: int) -> tuple[bytes, Budget]:
        last, *numbers = NUMBERS.unpack_from(self._records(0), place + len(NO_RUN))
        return last, Budget(*numbers)

    def _write(self, place: int, run: bytes, budget: Budget) -> None:
        NUMBERS.pack_into(self._records(0), place + len(NO_RUN), run, *_fields(budget))


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _lock(file: int, kind: int, *, tries: int = TRIES) -> bool:
    for attempt in range(tries):
        if attempt:
            sleep(RETRY_S)
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False
