"""The journal: what is written while a run goes on.

An event is a structlog event and goes to `events.jsonl`; it is masked in one place, the last step before it is
rendered. An item's record goes to `results.jsonl` as the bytes that the ledger has, where nothing secret comes: a line
that is written again after a crash is the same bytes. Subscribers, such as standard error, are told of both.

The journal is a view of the ledger. A disk that takes no more of it ends the journal and not the run.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import msgspec
import structlog
from structlog.typing import Processor

from migrator.messages import Clock
from migrator.results import ItemResult
from migrator.secret import Masker, Secret
from migrator.store.files import open_private, remove_leftovers, sync, write_atomically
from migrator.store.item_record import record
from migrator.store.ledger_reader import LedgerReader
from migrator.times import timestamp

__all__ = ["Event", "Journal", "Subscriber", "open_journal", "write_results"]

LARGEST_EVENTS: Final = 16 << 20
"""Bytes of `events.jsonl`; then it becomes `events.1.jsonl`, so that a storm of retries cannot fill the disk."""

FLUSH_MS: Final = 200
"""Milliseconds for which results may stay in the buffer while more come in: as often as the display is drawn."""


Event: TypeAlias = Mapping[str, Any]
Subscriber: TypeAlias = Callable[[Event], None]

_encoder = msgspec.json.Encoder()


def _render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> bytes:
    return _encoder.encode(event) + b"\n"


class _Sink:
    """A structlog logger that hands lines to a buffered file, until the disk takes no more.

    Args:
        file: opened for appending.
        turned_over: makes room once the file has its full size, and returns a new one; None for a file that may grow.
    """

    def __init__(self, file: IO[bytes], turned_over: Callable[[IO[bytes]], IO[bytes]] | None = None) -> None:
        self._file = file
        self._turned_over = turned_over
        self._size = file.tell()
        self.failure: str | None = None

    def msg(self, line: bytes) -> None:
        if self.failure is None:
            if self._turned_over is not None and self._size + len(line) > LARGEST_EVENTS:
                self._attempt(self._turn_over)
            self._size += len(line)
            self._attempt(lambda: self._file.write(line))

    def _turn_over(self) -> None:
        if self._turned_over is not None:
            self._file, self._size = self._turned_over(self._file), 0

    def flush(self) -> None:
        if self.failure is None:
            self._attempt(self._file.flush)

    def close(self) -> None:
        self._attempt(self._file.close)

    def _attempt(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self.failure = self.failure or error.strerror or type(error).__name__

    def logger(self, processors: Iterable[Processor], **fields: str) -> structlog.BoundLogger:
        """Return a logger that writes here; the names of `fields` come first in every line, in their order."""
        logger = structlog.wrap_logger(self, processors=processors, wrapper_class=structlog.BoundLogger)
        bound: structlog.BoundLogger = logger.bind(**fields)
        return bound


class Journal:
    """Writes what happens; made by `open_journal`.

    Args:
        run: the run's id, which every line names.
        events: where events go.
        results: where results go.
        masker: keeps secrets out of events.
        clock: dates events.
        subscribers: who else is told.
        turn_over: makes room for events once their file is full; None where it may grow.
    """

    def __init__(
        self,
        *,
        run: str,
        events: IO[bytes],
        results: IO[bytes],
        masker: Masker,
        clock: Clock,
        subscribers: Iterable[Subscriber] = (),
        turn_over: Callable[[IO[bytes]], IO[bytes]] | None = None,
    ) -> None:
        self._run = run
        self._clock = clock
        self._masker = masker
        self._subscribers = tuple(subscribers)
        self._flushed_ms = 0
        self._events, self._results = _Sink(events, turn_over), _Sink(results)
        # structlog puts an event's name last where it is not bound before (its `_process_event`).
        first = {"timestamp": "", "event": "", "level": "info", "run": run}
        self._event = self._events.logger([self._date, self._mask, self._tell, _render], **first)

    @property
    def failure(self) -> str | None:
        """Why the journal is not whole; `write_results` makes it good from the ledger."""
        return self._results.failure or self._events.failure

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Write an event, and all before it; its name is stable and dotted, its fields are JSON."""
        self._event.msg(event, level=level, **fields)
        self.flush()

    def item(self, row: ItemResult, line: bytes) -> None:
        """Write an item's record as the ledger has it, where it has to be durable already."""
        self._results.msg(line)
        if self._subscribers:
            told = msgspec.to_builtins(record(row, run=self._run))
            for subscriber in self._subscribers:
                subscriber(told)
        if abs(row.finished_ms - self._flushed_ms) >= FLUSH_MS:
            self._flushed_ms = row.finished_ms
            self._results.flush()

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._events.flush()
        self._results.flush()

    def close(self) -> None:
        """Write what is buffered, and close both files."""
        self._events.close()
        self._results.close()

    def _date(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["timestamp"] = timestamp(round(self._clock().utc * 1000))
        return event

    def _mask(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {name: self._masked(value) for name, value in event.items()}

    def _masked(self, value: Any) -> Any:
        """Return a value fit for JSON and for strangers; an object of any other type is shown as its text."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self._masked_text(str(name)): self._masked(member) for name, member in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._masked(member) for member in value]
        return self._masker.shown(value) if isinstance(value, Secret) else self._masked_text(str(value))

    def _masked_text(self, text: str) -> str:
        # A file's name that is no UTF-8 comes with lone surrogates (PEP 383), which JSON does not take.
        whole = text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
        return self._masker.text(whole)

    def _tell(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for subscriber in self._subscribers:
            subscriber(event)
        return event

    def __repr__(self) -> str:
        return f"<journal of {self._run}: {self.failure or 'open'}>"


@contextmanager
def open_journal(
    folder: Path, *, run: str, masker: Masker, clock: Clock, subscribers: Iterable[Subscriber] = ()
) -> Iterator[Journal]:
    """Open a run's journal for appending, and close it on leaving; no other process may have it open.

    What a process that was killed has left unfinished in the folder is removed.

    Raises:
        FolderError: it cannot be opened.
    """
    remove_leftovers(folder)
    place = folder / "events.jsonl"

    def turn_over(full: IO[bytes]) -> IO[bytes]:
        """Keep the full file as the earlier one, in the place of the one before it."""
        full.close()
        place.replace(folder / "events.1.jsonl")
        return open_private(place, "ab")

    events = open_private(place, "ab")
    with ExitStack() as stack:
        stack.callback(events.close)
        results = open_private(folder / "results.jsonl", "ab")
        journal = Journal(
            run=run,
            events=events,
            results=results,
            masker=masker,
            clock=clock,
            subscribers=subscribers,
            turn_over=turn_over,
        )
        stack.callback(journal.close)
        yield journal


def write_results(path: Path, ledger: LedgerReader) -> bool:
    """Make `results.jsonl` what the ledger says, durably, and return whether it was not.

    After a crash its last lines may be cut off or missing, and a result that was taken back is superfluous. A file that
    is as it should be is not written again. A journal that has it open may write no more to it.

    Raises:
        FolderError: it cannot be written.
    """
    if _is_same(path, ledger.lines_as_finished()):
        sync(path)
        return False
    with write_atomically(path) as file:
        file.writelines(ledger.lines_as_finished())
    return True


def _is_same(path: Path, lines: Iterable[bytes]) -> bool:
    try:
        with path.open("rb") as file:
            return all(file.read(len(line)) == line for line in lines) and not file.read(1)
    except OSError:
        return False
