"""Every durable step of a command as a named point at which the process can be killed.

The steps are found where they leave the process, whatever code makes them: fsync, rename, link, unlink and mkdir, the
statements of SQLite that write, the writes to private files, and the bytes that are sent to a socket. So a new step is
a new point without a word in the product's code. `run_command` is the target of a forked process.
"""

import asyncio
import asyncio.selector_events
import gc
import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from tempfile import TemporaryDirectory
from typing import IO, Any, Final, Self

__all__ = ["Order", "Point", "run_command"]

WRITES: Final = ("BEGIN", "COMMIT", "INSERT", "UPDATE", "DELETE", "CREATE")
PRODUCT: Final = f"{os.sep}migrator{os.sep}"


@dataclass(frozen=True, slots=True)
class Point:
    """One moment of a command: before or after the n-th time that a step is made at a place in the code."""

    step: str
    nth: int

    def __str__(self) -> str:
        return f"{self.step} #{self.nth}"


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to do.

    Attributes:
        arguments: of the command line.
        folder: the working folder.
        environment: the variables of the process.
        log: the file that gets a line for each point that is reached.
        kill_at: the point at which the process is killed; None to let it end.
        signal_after: the number of points after which the process sends itself the signal; 0 for never.
        signal: which one.
        clock_s: seconds by which the wall clock is wrong.
    """

    arguments: Sequence[str]
    folder: Path
    environment: dict[str, str]
    log: Path
    kill_at: Point | None = None
    signal_after: int = 0
    signal: int = signal.SIGKILL
    clock_s: float = 0.0


_seen: Counter[str] = Counter()
_log: IO[bytes] | None = None
_order: Order | None = None
_time: Final = time.time


def _place() -> str:
    """Return the function of the product that makes the present step."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if PRODUCT in name and f"{os.sep}tests{os.sep}" not in name:
            module = name.rsplit(PRODUCT, 1)[1].removesuffix(".py").replace(os.sep, ".")
            return f"{module}.{frame.f_code.co_name}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "loop"


def _reach(step: str) -> None:
    """Note that a point is reached, and die there if that is the order."""
    if _log is None or _order is None:
        return
    _seen[step] += 1
    point = Point(step, _seen[step])
    _log.write(f"{point.step}\t{point.nth}\n".encode())
    _log.flush()
    if point == _order.kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    if _seen.total() == _order.signal_after:
        os.kill(os.getpid(), _order.signal)


def _around(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is a point before and a point after."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        place = f"{name} {_place()}"
        _reach(f"before {place}")
        result = function(*arguments, **named)
        _reach(f"after {place}")
        return result

    return wrapped


class _Connection(sqlite3.Connection):
    """A connection whose writing statements are points."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if not sql.lstrip().upper().startswith(WRITES):
            return super().execute(sql, *arguments)
        place = f"{sql.split(None, 1)[0].strip(';').upper()} {_place()}"
        _reach(f"before {place}")
        cursor = super().execute(sql, *arguments)
        _reach(f"after {place}")
        return cursor


class _File:
    """A private file whose writes are points."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return int(_around("write", self._file.write)(data))

    def writelines(self, lines: Any) -> None:
        _around("write", self._file.writelines)(lines)

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _install() -> None:
    """Put points around everything that is durable or leaves the process, then import the program."""
    # A send is a point in asyncio's own loop alone.
    sys.modules["uvloop"] = None  # type: ignore[assignment]
    for name in ("fsync", "fdatasync", "replace", "rename", "link", "unlink", "mkdir"):
        setattr(os, name, _around(name, getattr(os, name)))
    time.time = lambda: _time() + (0.0 if _order is None else _order.clock_s)
    connect = sqlite3.connect
    sqlite3.connect = lambda *arguments, **named: connect(*arguments, **named | {"factory": _Connection})
    transport = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    transport.write = _around("send", transport.write)
    transport.writelines = _around("send", transport.writelines)

    from migrator.store import files

    opened = files.open_private
    files.open_private = lambda path, mode: _File(opened(path, mode))  # type: ignore[assignment, return-value]

    # Once for all forks: a command imports what it needs when it runs, and compiles the report's templates.
    for module in walk_packages(import_module("migrator").__path__, "migrator."):
        if not module.name.endswith("__main__") and not module.name.startswith("migrator.cluster"):
            import_module(module.name)
    # Killed at any step of it, a cheap derivation of the key is as good as a dear one.
    vars(import_module("migrator.store.vault"))["COST"] = 2
    with TemporaryDirectory() as folder:
        asyncio.run(_write_a_page(Path(folder)))
    gc.freeze()


async def _write_a_page(folder: Path) -> None:
    from migrator.report.page.render import write_page
    from migrator.report.summary import summarise
    from migrator.store.ledger_reader import read_ledger
    from migrator.store.ledger_writer import Ledger

    async with Ledger.open(folder / "ledger.db") as ledger:
        await ledger.put(job="none")
        with read_ledger(folder / "ledger.db") as reader:
            write_page(folder, reader, summarise(reader, folder))


def run_command(order: Order) -> None:
    """Be the command: the working folder, the environment, the arguments, and the death if it is ordered."""
    global _log, _order  # noqa: PLW0603  one process is one command
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    for stream, name in ((0, os.devnull), (1, order.folder / "out.txt"), (2, order.folder / "err.txt")):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, stream)
    sys.argv = ["migrator", *order.arguments]
    _log = order.log.open("wb", buffering=0)
    _order = order

    from migrator.cli.main import main

    main()


_install()
