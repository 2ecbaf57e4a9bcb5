"""What a report shows: the events and the ledger of a run, gathered in as much room for many items as for few."""

import math
import re
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.report.page.words import (
    KIND_WORDS,
    LONGEST,
    STATUS_WORDS,
    clock_text,
    escaped,
    item_count,
    kind_of,
    milliseconds_of,
)
from migrator.report.summary import Summary
from migrator.results import ErrorKind, ItemError, ItemResult, Status, StopKind
from migrator.store.ledger_reader import LedgerReader
from migrator.times import timestamp

__all__ = ["COLUMNS", "FAILURES", "Bin", "Seen", "Stretch"]

FAILURES: Final = 2000
"""Rows of the table of failures: more than anybody reads, and a browser still sorts them at once."""

FAILURES_BYTES: Final = 2_500_000
"""Of the table, however long the server's texts are; with all the rest it fits into a mail."""

CAUSES: Final = 300
"""Different causes that are told apart."""

STRETCHES: Final = 12
"""Invocations that are told apart on the axis of time; all later ones are drawn as one."""

BINS: Final = 4096
"""Of time, for each invocation: many for each bar that is drawn, so that bars come out even."""

FIRST_BIN_MS: Final = 50

REPEATED: Final = frozenset({"item.unread", "file.unwritten", "notice.failed"})
"""Events of which several in a row are one line, whatever their words; of the others only those of the same words."""

EVENTS: Final = 60
"""Events that are listed, from the beginning and from the end."""


@dataclass(slots=True)
class Bin:
    """What happened in a span of time."""

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


class Stretch:
    """One invocation's time, in bins that grow as it does."""

    def __init__(self, start_ms: int) -> None:
        self.start_ms = start_ms
        self.end_ms = start_ms
        self.ended = False
        self._width_ms = FIRST_BIN_MS
        self._bins: dict[int, Bin] = {}

    def at(self, at_ms: int) -> Bin:
        """Return the bin of a moment."""
        self.start_ms, self.end_ms = min(self.start_ms, at_ms), max(self.end_ms, at_ms)
        found = self._bins.get(at_ms // self._width_ms)
        if found is None:
            while len(self._bins) >= BINS:
                self._halve()
            found = self._bins.setdefault(at_ms // self._width_ms, Bin())
        return found

    def _halve(self) -> None:
        self._width_ms *= 2
        bins, self._bins = self._bins, {}
        for place, one in bins.items():
            self._bins.setdefault(place // 2, Bin()).add(one)

    def bins(self) -> Iterator[tuple[float, Bin]]:
        """Yield the bins with their time since the start, in milliseconds."""
        for place, one in self._bins.items():
            middle = (place + 0.5) * self._width_ms
            yield min(max(middle, self.start_ms), self.end_ms) - self.start_ms, one


class _Latencies:
    """Durations by their magnitude, so that a hundred thousand take no more room than a few; exact to 1.2 percent."""

    PER_DECADE: Final = 100

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self.total = 0
        self.low_ms, self.high_ms = math.inf, 0.0

    def add(self, duration_ms: float) -> None:
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
        # A bar of air on both sides: a single bar would be a wall.
        start = first // wide - 1
        bars = [0] * (last // wide - start + 2)
        for place, count in self._bins.items():
            bars[place // wide - start] += count
        return per_decade, start, bars


@dataclass(slots=True)
class _Cause:
    """Failures of which the server said the same."""

    kind: ErrorKind | None
    http_status: int | None
    words: str
    count: int = 0


@dataclass(slots=True)
class _Note:
    """An event that is listed, or several of the same name in a row."""

    first: str
    event: str
    words: str
    bad: bool
    count: int = 1


@dataclass(slots=True)
class _Failures:
    """The rows of the table, as many as it takes."""

    rows: list[tuple[int, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    size: int = 0
    total: int = 0

    def add(self, row: ItemResult) -> None:
        self.total += 1
        if len(self.rows) >= FAILURES or self.size >= FAILURES_BYTES:
            return
        text = _failure_row(row)
        self.size += len(text.encode(errors="backslashreplace"))
        self.kinds[kind_of(row)] += 1
        self.rows.append((row.item, text))


class Seen:
    """What the events and the ledger say, in as much room for many items as for few."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._events = 0
        self._stretches: list[Stretch] = []
        self._head: list[_Note] = []
        self._tail: deque[_Note] = deque(maxlen=EVENTS // 2)
        self.left_out = 0
        self.counts: Counter[Status] = Counter()
        self.http: Counter[int] = Counter()
        self.latencies = _Latencies()
        self.causes: dict[object, _Cause] = {}
        self.failures = _Failures()
        self.limit: int | None = summary["quota"]["limit"]
        self.request: str | None = None

    @property
    def stretches(self) -> Sequence[Stretch]:
        """The invocations in their order; without any event that tells of one, what the summary says of the last."""
        if not self._stretches:
            self._stretches.append(Stretch(milliseconds_of(self._summary["started"])))
            self._stretches[0].ended = True
        return self._stretches

    @property
    def broken_off(self) -> bool:
        """Whether the last invocation has no end, and the summary is that of one before."""
        last = self.stretches[-1]
        return not last.ended and milliseconds_of(self._summary["finished"]) < last.start_ms

    @property
    def notes(self) -> Iterable[_Note]:
        """What is worth to be told, in its order."""
        return chain(self._head, self._tail)

    def read_events(self, path: Path) -> None:
        """Read the events; a line that was cut off is passed over, as is a file that is not there."""
        with suppress(OSError), path.open("rb") as file:
            for line in file:
                self._read_event(line)
        self._end()

    def _end(self) -> None:
        """Note the end that the summary tells of: the page is written before the event."""
        stopped = self._summary["stopped"]
        if (
            self.broken_off
            or self.stretches[-1].ended
            or (stopped is not None and stopped["reason"] == StopKind.KILLED)
        ):
            return
        at, code = self._summary["finished"], self._summary["exit_code"]
        self.stretches[-1].at(milliseconds_of(at))
        self.stretches[-1].ended = True
        self._note(_Note(at, "run.ended", f"ended with exit code {code}", code != 0))

    def _read_event(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=dict[str, Any])
            name = str(event["event"])
            # A run ends when its summary says so: the page is the same, written before this event or after it.
            at = str(event["finished"] if name == "run.ended" and "finished" in event else event["timestamp"])
            at_ms = milliseconds_of(at)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, ValueError):
            return
        if name == "run.started" and len(self._stretches) < STRETCHES:
            self._stretches.append(Stretch(at_ms))
        stretch = self.stretches[-1]
        stretch.end_ms = max(stretch.end_ms, at_ms)
        if name in {"run.started", "run.ended"}:
            stretch.ended = name == "run.ended"
        if name == "item.retry":
            # The level tells a refusal for the rate limit, which is the quota's affair, from an item's own trouble.
            stretch.at(at_ms).refused += event.get("level") == "debug"
        elif name == "run.progress":
            if isinstance(remaining := event.get("quota_remaining"), int):
                stretch.at(at_ms).quota(remaining)
        else:
            self._note(_noted(event, name, at, resumed=len(self._stretches) > 1))

    def _note(self, note: _Note) -> None:
        last = self._tail[-1] if self._tail else self._head[-1] if self._head else None
        if last is not None and last.event == note.event and (last.words == note.words or note.event in REPEATED):
            last.count += 1
        elif len(self._head) < EVENTS // 2:
            self._head.append(note)
        else:
            self.left_out += len(self._tail) == self._tail.maxlen
            self._tail.append(note)

    def read_rows(self, ledger: LedgerReader) -> None:
        """Read every result once, in the order in which the items came to their end."""
        stretches = self.stretches
        starts = [stretch.start_ms for stretch in stretches]
        for row in ledger.rows_as_finished():
            self.counts[row.status] += 1
            good = row.status.is_success or row.status is Status.SKIPPED
            place = max(0, bisect_right(starts, row.finished_ms) - 1)
            one = stretches[place].at(row.finished_ms)
            one.good += good
            one.bad += not good
            if row.remaining is not None:
                one.quota(row.remaining)
            if row.limit is not None:
                self.limit = row.limit if self.limit is None else max(self.limit, row.limit)
            if row.attempts and row.duration_ms:
                self.latencies.add(row.duration_ms)
            if row.http_status is not None:
                self.http[row.http_status] += 1
            if self.request is None:
                self.request = f"{row.method} {row.url}"
            if not good:
                self._blame(row)
                self.failures.add(row)

    def _blame(self, row: ItemResult) -> None:
        error = row.error
        words = (error.title or error.detail or error.code or error.message) if error is not None else None
        kind = None if error is None else error.kind
        # The same sentence about another item is the same cause.
        identity: object = (row.status, kind, row.http_status, re.sub(r"\d+", "#", words or "")[:LONGEST])
        if identity not in self.causes and len(self.causes) >= CAUSES:
            identity, kind, words = "others", None, "other causes"
        status = None if identity == "others" else row.http_status
        found = self.causes.setdefault(identity, _Cause(kind, status, words or "no reason was given"))
        found.count += 1


def _noted(event: Mapping[str, Any], name: str, at: str, *, resumed: bool) -> _Note:
    bad = event.get("level") in {"warning", "error"}
    match name:
        case "run.started":
            again = f"{item_count(event.get('items'))} total" if event.get("items") is not None else ""
            resent = event.get("resent")
            sent_again = f"; {item_count(resent)} in flight when it was interrupted" if resent else ""
            words = f"{'resumed' if resumed else 'started'}: {again}{sent_again}".removesuffix(": ")
        case "run.stopping":
            words = f"began to stop, {event.get('reason')}: {event.get('message')}"
        case "run.ended":
            words = f"ended with exit code {event.get('exit_code')}"
            bad = event.get("exit_code") != 0
        case "server.down":
            words = "the server seems to be down; nothing is sent until it answers again"
        case "stage.ended":
            words = f"stage {event.get('stage')} ended after {item_count(event.get('items'))}"
        case "stage.passed":
            words = f"stage {event.get('stage')} was passed"
        case "control":
            words = " ".join(str(word) for word in ("migrator ctl:", event.get("verb"), event.get("value")) if word)
        case "rollback.started":
            words = f"takes back the run {event.get('of')}, {event.get('age_h')} hours old"
        case "item.unread":
            words = f"item {event.get('item')} was written, but could not be read back: {event.get('cause')}"
        case _:
            known = {"timestamp", "event", "level", "run"}
            words = ", ".join(
                f"{field_name.replace('_', ' ')} {value}"
                for field_name, value in event.items()
                if field_name not in known and isinstance(value, str | int | float)
            )
    return _Note(at, name, words, bad)


COLUMNS: Final = (
    ("Item", "item", "number"),
    ("Key", "key", "text"),
    ("Outcome", "out", "text"),
    ("HTTP", "http", "number"),
    ("What the server said", "said", "text"),
    ("Attempts", "tries", "number"),
    ("Request id", "id", "text"),
    ("Time", "time", "number"),
)


def _failure_row(row: ItemResult) -> str:
    error = row.error
    kind = kind_of(row)
    outcome, tone = STATUS_WORDS[row.status]
    cause = "" if error is None else f'<span class="line soft">{KIND_WORDS[error.kind]}</span>'
    http_status = "" if row.http_status is None else str(row.http_status)
    request_id = "" if row.request_id is None else f'<span class="mono server">{escaped(row.request_id, 120)}</span>'
    at = timestamp(row.finished_ms)
    cells = (
        (str(row.item), f"<span>{row.item}</span>"),
        (None, f'<span class="mono server">{escaped(row.key, 200)}</span>'),
        (None, f'<span><b class="{tone}">{outcome}</b>{cause}</span>'),
        (http_status, f"<span>{http_status}</span>" if http_status else ""),
        (None, f'<span class="said" dir="auto">{"".join(_said(error))}</span>'),
        (str(row.attempts), f"<span>{row.attempts}</span>"),
        (None, request_id),
        (str(row.finished_ms), f'<span><time datetime="{at}">{clock_text(at)}</time></span>'),
    )
    shown = "".join(
        f'<td data-label="{label}"'
        + (f' data-v="{value}"' if value is not None else "")
        + ("" if content else ' class="none"')
        + f">{content}</td>"
        for (label, _, _), (value, content) in zip(COLUMNS, cells, strict=True)
    )
    return f'<tr data-kind="{kind}">{shown}</tr>\n'


def _said(error: ItemError | None) -> Iterator[str]:
    """Yield the server's own words, and of ours what they do not say."""
    if error is None:
        yield '<span class="soft">no reason was given</span>'
        return
    words = [part for part in (error.title, error.detail) if part]
    if error.title:
        yield f'<b class="line server">{escaped(error.title)}</b>'
    if error.detail:
        yield f'<span class="line server">{escaped(error.detail)}</span>'
    usual = f"the server answered {error.status}" + (f": {': '.join(words)}" if words else "")
    rest = error.message.removeprefix(usual).removeprefix("; ").strip() if words else error.message
    if rest:
        yield f'<span class="line soft server">{escaped(rest)}</span>'
    if error.code:
        yield f'<span class="tag" title="the server\'s code">{escaped(error.code, 120)}</span>'
    if error.pointer:
        yield f'<span class="tag" title="the member that the server blames">{escaped(error.pointer, 200)}</span>'
