"""What a report shows: the events and the ledger of a run, in as much memory for many items as for few."""

import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.report.page.words import LONGEST, cut, item_count, kind_of, milliseconds_of
from migrator.report.summary import Summary
from migrator.results import ErrorKind, ItemResult, Status, StopKind
from migrator.store.ledger_reader import LedgerReader
from migrator.times import timestamp

__all__ = ["FAILURES", "Bin", "Cause", "Invocation", "Latencies", "Note", "RunData"]

FAILURES: Final = 2000
"""Rows of the table of failures: a browser still sorts them at once."""

FAILURES_BYTES: Final = 2_500_000
"""The size of the table, however long the server's texts are: with all the rest it fits into a mail."""

CAUSES: Final = 300
"""Different causes that are told apart."""

INVOCATIONS: Final = 12
"""Invocations that are told apart on the axis of time; all later ones are drawn as one."""

BINS: Final = 4096
"""Bins of time for each invocation: many for each bar that is drawn, so that bars come out even."""

FIRST_BIN_MS: Final = 50

REPEATED: Final = frozenset({"item.unread", "file.unwritten", "notice.failed"})
"""Several of these events in a row are one line, whatever their words; others only where their words are the same."""

EVENT_WORDS: Final[Mapping[str, str]] = {
    "run.stopping": "began to stop, {reason}: {message}",
    "run.waiting": "waits: {waiting_for}",
    "run.ended": "ended with exit code {exit_code}",
    "server.down": "the server seems to be down: nothing is sent until it answers again",
    "stage.ended": "stage {stage} ended after {items} items",
    "stage.passed": "stage {stage} was passed",
    "rollback.started": "rolls back the run {of}, which is {age_h} hours old",
    "item.unread": "item {item} was written, but could not be read back: {cause}",
}
"""Events in words, with the names of their members."""

EVENTS: Final = 60
"""Events that are listed: half of them the first, half the last."""


class Bin(msgspec.Struct):
    """What happened in a span of time; `low` and `high` are of the quota that was left."""

    good: int = 0
    bad: int = 0
    refused: int = 0
    low: int | None = None
    high: int | None = None

    def quota(self, remaining: int) -> None:
        """Note what was left."""
        self.low = remaining if self.low is None else min(self.low, remaining)
        self.high = remaining if self.high is None else max(self.high, remaining)

    def add(self, other: "Bin") -> None:
        """Add another span's."""
        self.good += other.good
        self.bad += other.bad
        self.refused += other.refused
        for remaining in (other.low, other.high):
            if remaining is not None:
                self.quota(remaining)


class Invocation:
    """One invocation's time, in bins that grow as it does.

    Args:
        start_ms: when it started, in milliseconds since the epoch.
        ended: its end is known.
    """

    def __init__(self, start_ms: int, *, ended: bool = False) -> None:
        self.start_ms = self.end_ms = start_ms
        self.ended = ended
        self._width_ms = FIRST_BIN_MS
        self._bins: dict[int, Bin] = {}

    def at(self, at_ms: int) -> Bin:
        """Return the bin of a moment."""
        self.start_ms, self.end_ms = min(self.start_ms, at_ms), max(self.end_ms, at_ms)
        while (place := at_ms // self._width_ms) not in self._bins and len(self._bins) >= BINS:
            self._width_ms *= 2
            narrow, self._bins = self._bins, {}
            for before, one in narrow.items():
                self._bins.setdefault(before // 2, Bin()).add(one)
        return self._bins.setdefault(place, Bin())

    def bins(self) -> Iterator[tuple[float, Bin]]:
        """Yield the bins with their time since the start, in milliseconds."""
        for place, one in self._bins.items():
            middle = (place + 0.5) * self._width_ms
            yield min(max(middle, self.start_ms), self.end_ms) - self.start_ms, one


class Latencies:
    """Durations by their magnitude, so that many take no more memory than a few; exact to 1.2 percent."""

    PER_DECADE: Final = 100

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self.total = 0
        self.low_ms, self.high_ms = math.inf, 0.0

    def add(self, duration_ms: float) -> None:
        """Count a duration."""
        value = max(duration_ms, 0.1)
        self._bins[math.floor(math.log10(value) * self.PER_DECADE)] += 1
        self.total += 1
        self.low_ms, self.high_ms = min(self.low_ms, value), max(self.high_ms, value)

    def quantile(self, share: float) -> float:
        """Return the duration that this share of all did not exceed."""
        rest = math.ceil(share * self.total)
        for place in sorted(self._bins):
            rest -= self._bins[place]
            if rest <= 0:
                return float(min(max(10 ** ((place + 0.5) / self.PER_DECADE), self.low_ms), self.high_ms))
        return self.high_ms

    def bars(self) -> tuple[int, int, list[int]]:
        """Return how many bars make a decade, the place of the first one, and how many durations each holds."""
        first, last = min(self._bins), max(self._bins)
        per_decade = 20 if last - first <= 1.5 * self.PER_DECADE else 10
        wide = self.PER_DECADE // per_decade
        # An empty bar on both sides: a single bar would be a wall.
        start = first // wide - 1
        bars = [0] * (last // wide - start + 2)
        for place, count in self._bins.items():
            bars[place // wide - start] += count
        return per_decade, start, bars


class Cause(msgspec.Struct):
    """Failures of which the server said the same."""

    kind: ErrorKind | None
    http_status: int | None
    words: str
    count: int = 0


class Note(msgspec.Struct):
    """An event that is listed, or several of the same name in a row."""

    at: str
    event: str
    words: str
    bad: bool
    count: int = 1


class RunData:
    """What the events and the ledger of a run say.

    Args:
        summary: the run's.
        failure_row: makes a failure's row of the page's table.
    """

    def __init__(self, summary: Summary, failure_row: Callable[[ItemResult], str]) -> None:
        self._summary = summary
        self._failure_row = failure_row
        self._known: list[Invocation] = []
        self._head: list[Note] = []
        self._tail: deque[Note] = deque(maxlen=EVENTS // 2)
        self.left_out = 0
        self.killed = 0
        self.counts: Counter[Status] = Counter()
        self.http: Counter[int] = Counter()
        self.attempts = 0
        self.latencies = Latencies()
        self.causes: dict[object, Cause] = {}
        self.failures: list[tuple[int, str]] = []
        self.kinds: Counter[str] = Counter()
        self._failures_size = 0
        self.limit: int | None = summary["quota"]["limit"]
        self.request: str | None = None

    @property
    def bad(self) -> int:
        """Items that failed or are in doubt."""
        return self.counts[Status.FAILED] + self.counts[Status.IN_DOUBT]

    @property
    def invocations(self) -> list[Invocation]:
        """The invocations in their order; where no event tells of one, the last of the summary."""
        if not self._known:
            self._known.append(Invocation(milliseconds_of(self._summary["started"]), ended=True))
        return self._known

    @property
    def unfinished(self) -> bool:
        """Whether the last invocation has no end, and the summary is that of an earlier one."""
        last = self.invocations[-1]
        return not last.ended and milliseconds_of(self._summary["finished"]) < last.start_ms

    @property
    def notes(self) -> Iterable[Note]:
        """The events that are listed, in their order."""
        return chain(self._head, self._tail)

    def read_events(self, path: Path) -> None:
        """Read the events; a line that is cut off, and a file that is not there, tell nothing."""
        with suppress(OSError), path.open("rb") as file:
            for line in file:
                with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, ValueError):
                    event = msgspec.json.decode(line, type=dict[str, Any])
                    name = str(event["event"])
                    # The page is the same, written before the event of the end or after it.
                    at = str(event["finished"] if name == "run.ended" and "finished" in event else event["timestamp"])
                    self._read_event(event, name, at, milliseconds_of(at))
        summary = self._summary
        killed = summary["stopped"] is not None and summary["stopped"]["reason"] == StopKind.KILLED
        if not (self.unfinished or self.invocations[-1].ended or killed):
            self.invocations[-1].at(milliseconds_of(summary["finished"]))
            self.invocations[-1].ended = True
            code = summary["exit_code"]
            self._note(Note(summary["finished"], "run.ended", f"ended with exit code {code}", code != 0))

    def _read_event(self, event: Mapping[str, Any], name: str, at: str, at_ms: int) -> None:
        if name == "run.started":
            if self._known and not self._known[-1].ended:
                self.killed += 1
                last = timestamp(self._known[-1].end_ms)
                self._note(Note(last, "run.killed", "the process was killed: this is its last event", bad=True))
            if len(self._known) < INVOCATIONS:
                self._known.append(Invocation(at_ms))
        last_one = self.invocations[-1]
        last_one.end_ms = max(last_one.end_ms, at_ms)
        if name in {"run.started", "run.ended"}:
            last_one.ended = name == "run.ended"
        if name == "item.retry":
            # The level tells a refusal for the rate limit from a failed attempt.
            last_one.at(at_ms).refused += event.get("level") == "debug"
        elif name == "run.progress":
            if isinstance(remaining := event.get("quota_remaining"), int):
                last_one.at(at_ms).quota(remaining)
        else:
            bad = event.get("level") in {"warning", "error"} or (name == "run.ended" and event.get("exit_code") != 0)
            self._note(Note(at, name, _words(event, name, resumed=len(self._known) > 1), bad))

    def _note(self, note: Note) -> None:
        last = self._tail[-1] if self._tail else self._head[-1] if self._head else None
        if last is not None and last.event == note.event and (last.words == note.words or note.event in REPEATED):
            last.count += 1
        elif len(self._head) < EVENTS // 2:
            self._head.append(note)
        else:
            self.left_out += len(self._tail) == self._tail.maxlen
            self._tail.append(note)

    def read_results(self, ledger: LedgerReader) -> None:
        """Read every result once, in the order in which the items finished."""
        starts = [invocation.start_ms for invocation in self.invocations]
        for row in ledger.rows_as_finished():
            self.counts[row.status] += 1
            self.attempts += row.attempts
            good = row.status.is_success or row.status is Status.SKIPPED
            one = self.invocations[max(0, bisect_right(starts, row.finished_ms) - 1)].at(row.finished_ms)
            one.good += good
            one.bad += not good
            if row.remaining is not None:
                one.quota(row.remaining)
            if row.limit is not None:
                self.limit = max(self.limit or 0, row.limit)
            if row.attempts and row.duration_ms:
                self.latencies.add(row.duration_ms)
            if row.http_status is not None:
                self.http[row.http_status] += 1
            self.request = self.request or f"{row.method} {row.url}"
            if not good:
                self._fail(row)

    def _fail(self, row: ItemResult) -> None:
        error = row.error
        words = (error.title or error.detail or error.code or error.message) if error is not None else None
        # The same sentence about another item is the same cause.
        identity: object = (
            row.status,
            error and error.kind,
            row.http_status,
            re.sub(r"\d+", "#", words or "")[:LONGEST],
        )
        if identity not in self.causes and len(self.causes) >= CAUSES:
            cause = self.causes.setdefault("others", Cause(None, None, "other causes"))
        else:
            new = Cause(
                None if error is None else error.kind, row.http_status, cut(words or "no reason was given", 240)
            )
            cause = self.causes.setdefault(identity, new)
        cause.count += 1
        if len(self.failures) < FAILURES and self._failures_size < FAILURES_BYTES:
            text = self._failure_row(row)
            self._failures_size += len(text.encode(errors="backslashreplace"))
            self.kinds[kind_of(row)] += 1
            self.failures.append((row.item, text))


def _words(event: Mapping[str, Any], name: str, *, resumed: bool) -> str:
    """Return an event in words."""
    shown = {key: value for key, value in event.items() if key not in {"timestamp", "event", "level", "run"}}
    if name == "run.started":
        total = "" if (items := event.get("items")) is None else f": {item_count(items)} total"
        again = f"; {item_count(resent)} in flight when it was interrupted" if (resent := event.get("resent")) else ""
        return f"{'resumed' if resumed else 'started'}{total}{again}"
    if name == "control":
        return " ".join(str(word) for word in ("migrator ctl:", event.get("verb"), event.get("value")) if word)
    if name in EVENT_WORDS:
        return EVENT_WORDS[name].format_map(defaultdict(lambda: "unknown", shown))
    parts = (f"{key.replace('_', ' ')} {value}" for key, value in shown.items() if isinstance(value, str | int | float))
    return f"{name}: {', '.join(parts)}" if shown else name
