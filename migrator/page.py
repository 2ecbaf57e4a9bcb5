"""The page: a run's report as one HTML file for people, which needs no network and can be sent in a mail.

It is written from the ledger, the summary and `events.jsonl` alone, in one pass over each and in constant memory, so
that it can be written again at any time. All is drawn here, as HTML and SVG: a viewer that runs no scripts, such as
that of a build server, shows the same page without its search. A server's text is only ever text: it is escaped, and
the page forbids every script and every style but its own two by their digests.
"""

import base64
import hashlib
import html
import io
import math
import re
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from migrator import __version__
from migrator.brakes import Exit, StopKind
from migrator.envelope import ErrorKind, ItemError
from migrator.folder import write_atomically
from migrator.journal import timestamp
from migrator.ledger import LedgerReader, Row
from migrator.outcome import Status
from migrator.report import GOOD, Summary

__all__ = ["write_page"]

NAME: Final = "report.html"

FAILURES: Final = 2000
"""Rows of the table of failures: more than anybody reads, and a browser still sorts them at once."""

FAILURES_BYTES: Final = 2_500_000
"""Of the table, however long the server's texts are; with all the rest it fits into a mail."""

PRINTED: Final = 500
"""Rows of it that are printed, as the style sheet says too."""

LONGEST: Final = 600
"""Characters of a server's text that are shown; all of it is in `failed.csv` and `results.jsonl`."""

CAUSES: Final = 300
"""Different causes that are told apart."""

CAUSES_SHOWN: Final = 12
STRETCHES: Final = 12
"""Invocations that are told apart on the axis of time; all later ones are drawn as one."""

BINS: Final = 4096
"""Of time, for each invocation: many for each bar that is drawn, so that bars come out even."""

FIRST_BIN_MS: Final = 50
BARS: Final = 120
EVENTS: Final = 60
"""Events that are listed, from the beginning and from the end."""

MOMENTS_MS: Final = (
    *(1000 * seconds for seconds in (1, 2, 5, 10, 15, 30)),
    *(60_000 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3_600_000 * hours for hours in (1, 2, 3, 6, 12, 24, 48, 120, 240, 720, 2400, 8760)),
)
BARS_MS: Final = (100, 200, 500, *MOMENTS_MS)
"""Widths that a person would choose, for ticks and for bars."""

STATUS_WORDS: Final[Mapping[Status, tuple[str, str]]] = {
    Status.SUCCEEDED: ("succeeded", "good"),
    Status.UNCHANGED: ("as wanted already", "band"),
    Status.FAILED: ("failed", "bad"),
    Status.IN_DOUBT: ("in doubt", "doubt"),
    Status.SKIPPED: ("skipped", "idle"),
}

KIND_WORDS: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.VALIDATION: "refused as invalid",
    ErrorKind.AUTH: "credentials refused",
    ErrorKind.FORBIDDEN: "not permitted",
    ErrorKind.NOT_FOUND: "not found",
    ErrorKind.CONFLICT: "in conflict with what is there",
    ErrorKind.QUOTA: "a limit of the account is reached",
    ErrorKind.RATE_LIMITED: "refused for the rate limit",
    ErrorKind.SERVER: "error of the server",
    ErrorKind.TIMEOUT: "no answer in time",
    ErrorKind.CONNECTION: "connection failed",
    ErrorKind.PROTOCOL: "answer not understood",
    ErrorKind.MISMATCH: "the server holds something else",
}

EXIT_WORDS: Final[Mapping[int, str]] = {
    Exit.OK: "everything was done",
    Exit.SOME_FAILED: "not every item succeeded",
    Exit.USAGE: "the command or the job is wrong, and nothing was sent",
    Exit.STOPPED: "the run was stopped before its end",
    Exit.RUNNING: "another run of the job was under way",
    Exit.BUG: "the program itself failed",
    Exit.INTERRUPTED: "a person interrupted the run (Ctrl-C)",
    Exit.TERMINATED: "the system or another program ended the run (SIGTERM)",
}

STOP_WORDS: Final[Mapping[str, str]] = {
    StopKind.CREDENTIALS: "The server refused the credentials, as it would have for every other item.",
    StopKind.UNREACHABLE: "The server could not be reached, so that no item could have succeeded.",
    StopKind.OUTAGE: "The server went down during the run and did not come back in the time that it was given.",
    StopKind.FAILURES: "More items failed than the run was allowed, so it stopped before it did more harm.",
    StopKind.CANARY: "One of the first items, which go alone as a trial, did not succeed; the others were not tried.",
    StopKind.QUOTA_WAIT: "The server's rate limit would have made the run wait for longer than it was allowed.",
    StopKind.INPUT_CHANGED: "Somebody changed the file of items while it was being sent.",
    StopKind.LEDGER: "The run's own record could not be written, and nothing is sent that cannot be recorded.",
    StopKind.FILES: "The files of results could not be written; the ledger has all that they would say.",
    StopKind.UNREADABLE: "The server did not show what the run had to look at before it could write.",
    StopKind.DEADLINE: "The time that the run was given was over.",
    StopKind.STAGE: "The run goes in stages, and the conditions for the next one were not met.",
    StopKind.CONTROL: "A person stopped the run with migrator ctl.",
    StopKind.SIGINT: "A person interrupted the run (Ctrl-C); what was in flight could finish.",
    StopKind.SIGTERM: "The system or another program asked the run to end (SIGTERM); what was in flight could finish.",
}

UNSEEN: Final = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
"""Control characters, of which HTML forbids some, to pictures of them."""


def write_page(
    folder: Path,
    ledger: LedgerReader,
    summary: Summary,
    *,
    user: str | None = None,
    host: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write `report.html`, from the ledger, the summary and the folder's `events.jsonl`.

    Args:
        folder: the run's.
        ledger: the run's; counts are taken from it, since it may know more than a summary of before.
        summary: the run's last one.
        user: who ran it; None for what the ledger's `user` says.
        host: where it ran; None for what the ledger's `host` says.
        facts: more to be told of the run, by their names; nothing secret.

    Raises:
        FolderError: it cannot be written; the one of before is left as it was.
        LedgerError: the ledger cannot be read.
    """
    seen = _Seen(summary)
    seen.read_events(folder / "events.jsonl")
    seen.read_rows(ledger)
    meta = ledger.meta()
    people = {"user": user or meta.get("user"), "host": host or meta.get("host")}
    page = _Page(summary, seen, meta, in_flight=len(ledger.in_flight()), people=people, facts=facts or {})
    with write_atomically(folder / NAME) as file:
        # What the name of a folder holds that is no text must not keep the page from being written.
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="\n")
        text.writelines(_filled(page.parts()))
        text.detach()


@lru_cache(maxsize=1)
def _template() -> Sequence[str]:
    """Return the template's text and the names of its places, by turns."""
    text = resources.files("migrator").joinpath(NAME).read_text("utf-8")
    for place, tag in (("style_hash", "style"), ("script_hash", "script")):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        content = found[1] if found else ""
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        text = text.replace(f"{{{{{place}}}}}", f"sha256-{digest}")
    return re.split(r"\{\{(\w+)\}\}", text)


def _filled(parts: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield the page, each part once in its place: what stands in a part is never taken for a place."""
    for turn, piece in enumerate(_template()):
        if turn % 2:
            yield from parts[piece]
        else:
            yield piece


# What is gathered


@dataclass(slots=True)
class _Bin:
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

    def add(self, other: "_Bin") -> None:
        """Add another span's."""
        self.good += other.good
        self.bad += other.bad
        self.refused += other.refused
        for remaining in (other.low, other.high):
            if remaining is not None:
                self.quota(remaining)


class _Stretch:
    """One invocation's time, in bins that grow as it does."""

    def __init__(self, start_ms: int) -> None:
        self.start_ms = start_ms
        self.end_ms = start_ms
        self.ended = False
        self._width_ms = FIRST_BIN_MS
        self._bins: dict[int, _Bin] = {}

    def at(self, at_ms: int) -> _Bin:
        """Return the bin of a moment."""
        self.start_ms, self.end_ms = min(self.start_ms, at_ms), max(self.end_ms, at_ms)
        found = self._bins.get(at_ms // self._width_ms)
        if found is None:
            while len(self._bins) >= BINS:
                self._halve()
            found = self._bins.setdefault(at_ms // self._width_ms, _Bin())
        return found

    def _halve(self) -> None:
        self._width_ms *= 2
        bins, self._bins = self._bins, {}
        for place, one in bins.items():
            self._bins.setdefault(place // 2, _Bin()).add(one)

    def bins(self) -> Iterator[tuple[float, _Bin]]:
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

    def add(self, row: Row) -> None:
        self.total += 1
        if len(self.rows) >= FAILURES or self.size >= FAILURES_BYTES:
            return
        text = _failure_row(row)
        self.size += len(text.encode(errors="backslashreplace"))
        self.kinds[_kind(row)] += 1
        self.rows.append((row.item, text))


class _Seen:
    """What the events and the ledger say, in as much room for many items as for few."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._events = 0
        self._stretches: list[_Stretch] = []
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
    def stretches(self) -> Sequence[_Stretch]:
        """The invocations in their order; without any event that tells of one, what the summary says of the last."""
        if not self._stretches:
            self._stretches.append(_Stretch(_ms(self._summary["started"])))
            self._stretches[0].ended = True
        return self._stretches

    @property
    def broken_off(self) -> bool:
        """Whether the last invocation has no end, and the summary is that of one before."""
        last = self.stretches[-1]
        return not last.ended and _ms(self._summary["finished"]) < last.start_ms

    @property
    def notes(self) -> Iterable[_Note]:
        """What is worth to be told, in its order."""
        return chain(self._head, self._tail)

    def read_events(self, path: Path) -> None:
        """Read the events; a line that was cut off is passed over, as is a file that is not there."""
        try:
            with path.open("rb") as file:
                for line in file:
                    self._read_event(line)
        except OSError:
            return

    def _read_event(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=dict[str, Any])
            name, at = str(event["event"]), str(event["timestamp"])
            at_ms = _ms(at)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, ValueError):
            return
        if name == "run.started" and len(self._stretches) < STRETCHES:
            self._stretches.append(_Stretch(at_ms))
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
        if last is not None and last.event == note.event and not note.event.startswith("run."):
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
            good = row.status in GOOD or row.status is Status.SKIPPED
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

    def _blame(self, row: Row) -> None:
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
            again = f"{_items(event.get('items'))} in all" if event.get("items") is not None else ""
            resent = event.get("resent")
            sent_again = f"; {_items(resent)} in flight when it was interrupted" if resent else ""
            words = f"{'taken up again' if resumed else 'started'}: {again}{sent_again}".removesuffix(": ")
        case "run.stopping":
            words = f"began to stop, {event.get('reason')}: {event.get('message')}"
        case "run.ended":
            words = f"ended with exit code {event.get('exit_code')}"
            bad = event.get("exit_code") != 0
        case "server.down":
            words = "the server seems to be down; nothing is sent until it answers again"
        case "stage.ended":
            words = f"stage {event.get('stage')} ended after {_items(event.get('items'))}"
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


def _kind(row: Row) -> str:
    return "in_doubt" if row.status is Status.IN_DOUBT or row.error is None else row.error.kind.value


# Words and numbers


def _ms(at: str) -> int:
    """Return a timestamp's milliseconds since the epoch."""
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def _shown(text: str, longest: int = LONGEST) -> str:
    """Return a text that means nothing to HTML, and not more of it than is good for a page."""
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return html.escape(cut.translate(UNSEEN))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.1f}"


def _items(count: object) -> str:
    return f"{count:,} item{'' if count == 1 else 's'}" if isinstance(count, int) else f"{count} items"


def _duration(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 0.05:
        return "0 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, part, part_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{whole} s"


def _short(milliseconds: float) -> str:
    """Return a latency with two or three digits that count."""
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s" if seconds < 99.95 else _duration(seconds)


def _tick(milliseconds: float, step_ms: float, *, colon: bool) -> str:
    """Return a label for the axis of time."""
    seconds = milliseconds / 1000
    if not seconds:
        return "0"
    if step_ms >= 86_400_000:
        return f"{seconds / 86_400:.0f} d"
    if step_ms >= 3_600_000:
        return f"{seconds / 3600:.0f} h"
    if step_ms >= 60_000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 60:.0f}:{seconds % 60:02.0f}" if colon else f"{seconds:g} s"


def _nice(value: float) -> float:
    """Return the next number up that an axis may well end with, and whose half is as good."""
    if value <= 2:
        return 2.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _day(at: str) -> str:
    found = datetime.fromisoformat(at).astimezone(UTC)
    return f"{found.day} {found:%B %Y}"


def _clock(at: str) -> str:
    return f"{datetime.fromisoformat(at).astimezone(UTC):%H:%M:%S}"


def _time(at: str) -> str:
    return f'<time datetime="{html.escape(at)}">{_day(at)}, {_clock(at)} UTC</time>'


# Charts


@dataclass(frozen=True, slots=True)
class _Span:
    """A bar's time."""

    start_ms: int
    bin: _Bin


@dataclass(frozen=True, slots=True)
class _Timeline:
    """The time in which the run was at work, without the pauses between invocations, in bars of one width."""

    width_ms: int
    total_ms: float
    spans: Sequence[_Span]
    seams: Sequence[float]
    """Where an invocation took the run up again, as shares of the whole."""

    @classmethod
    def of(cls, stretches: Sequence[_Stretch]) -> "_Timeline":
        lengths = [stretch.end_ms - stretch.start_ms for stretch in stretches]
        total_ms = max(1000, sum(lengths))
        width_ms = next((width for width in BARS_MS if total_ms / width <= BARS), math.ceil(total_ms / BARS))
        bins = [_Bin() for _ in range(math.ceil(total_ms / width_ms))]
        starts, seams, before_ms = [stretches[0].start_ms] * len(bins), [], 0.0
        for stretch, length_ms in zip(stretches, lengths, strict=True):
            if before_ms:
                seams.append(before_ms / total_ms)
            for place in range(math.ceil(before_ms / width_ms), len(bins)):
                starts[place] = round(stretch.start_ms + place * width_ms - before_ms)
            for since_ms, one in stretch.bins():
                bins[min(len(bins) - 1, int((before_ms + since_ms) // width_ms))].add(one)
            before_ms += length_ms
        spans = [_Span(start, one) for start, one in zip(starts, bins, strict=True)]
        return cls(width_ms, max(total_ms, len(bins) * width_ms), spans, seams)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield shares of the axis with their labels, five at the most."""
        step = self._step_ms
        for place in range(int(self.total_ms // step) + 1):
            yield place * step / self.total_ms, _tick(place * step, step, colon=self.total_ms > 60_000)

    @property
    def _step_ms(self) -> float:
        return next((step for step in MOMENTS_MS if self.total_ms / step <= 5), math.ceil(self.total_ms / 5))

    @property
    def unit(self) -> str:
        """What the labels of the ticks are in, where they do not say so themselves."""
        return " (min:s)" if self.total_ms > 60_000 > self._step_ms else ""


@dataclass(slots=True)
class _Chart:
    """A chart whose shapes stretch with the page while its letters do not.

    Attributes:
        label: what it shows, for those who do not see it.
        top: where its axis of values ends.
        height: of the plot, in pixels.
        unit: what the values are.
    """

    label: str
    top: float
    height: int = 132
    shapes: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    hits: list[str] = field(default_factory=list)

    def y(self, value: float) -> float:
        return round(100 - 100 * value / self.top, 2)

    def bar(self, left: float, width: float, low: float, high: float, tone: str) -> None:
        """Draw a bar from one value to another; left and width are shares of the axis."""
        if high > low:
            top = self.y(high)
            self.shapes.append(
                f'<rect class="f-{tone}" x="{1000 * left:.2f}" width="{1000 * width:.2f}" y="{top}"'
                f' height="{round(self.y(low) - top, 2)}"/>'
            )

    def hit(self, left: float, width: float, words: str) -> None:
        """Tell more where the pointer rests."""
        self.hits.append(
            f'<rect class="hit" x="{1000 * left:.2f}" width="{1000 * width:.2f}" y="0" height="100">'
            f"<title>{html.escape(words)}</title></rect>"
        )

    def seams(self, seams: Iterable[float]) -> None:
        for seam in seams:
            self.over.append(
                f'<line class="dash" x1="{100 * seam:.2f}%" x2="{100 * seam:.2f}%" y1="10" y2="{self.height + 10}"/>'
            )

    def mark(self, share: float, name: str, row: int) -> None:
        """Draw a line from top to bottom with its name beside it, on the side where there is room."""
        at = f"{100 * share:.2f}%"
        anchor, shift = ("start", 5) if share < 0.9 else ("end", -5)
        y = 9 + 15 * row
        self.over.append(
            f'<line class="rule" x1="{at}" x2="{at}" y1="{y - 9}" y2="{self.height + 10}"/>'
            f'<text class="mark" x="{at}" dx="{shift}" y="{y}" text-anchor="{anchor}">{name}</text>'
        )

    def svg(self, ticks: Iterable[tuple[float, str]]) -> str:
        """Return the chart, with ticks at these shares of the axis."""
        air, height = 10, self.height
        values = [(value, self.y(value) * height / 100 + air) for value in (0.0, self.top / 2, self.top)]
        gutter = 12 + 7 * max(len(_number(value)) for value, _ in values)
        labels = "".join(
            f'<text x="{gutter - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>' for value, y in values
        )
        grid = "".join(
            f'<line class="{"axis" if value == 0 else "grid"}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
            for value, y in values
        )
        below = "".join(
            f'<text x="{100 * share:.2f}%" y="{height + air + 17}"'
            f' text-anchor="{"start" if share < 0.04 else "end" if share > 0.96 else "middle"}">{words}</text>'
            for share, words in ticks
        )
        inner = f'<svg y="{air}" width="100%" height="{height}" viewBox="0 0 1000 100" preserveAspectRatio="none">'
        total = height + air + 24
        return (
            f'<div class="chart"><svg width="{gutter}" height="{total}" aria-hidden="true">{labels}</svg>'
            f'<svg width="100%" height="{total}" role="img" aria-label="{html.escape(self.label)}">'
            f"{grid}{inner}{''.join(self.shapes)}</svg>{''.join(self.over)}{below}"
            f"{inner}{''.join(self.hits)}</svg></svg></div>"
        )


def _legend(*entries: tuple[str, str]) -> str:
    swatches = "".join(
        '<span><svg viewBox="0 0 11 11" aria-hidden="true">'
        f'<rect class="f-{tone}" width="11" height="11" rx="2"/></svg>'
        f"{html.escape(words)}</span>"
        for tone, words in entries
    )
    return f'<p class="legend">{swatches}</p>'


def _card(title: str, note: str, *content: str, wide: bool = False, long: bool = False) -> str:
    classes = "card" + " wide" * wide + " long" * long
    said = f'<p class="note">{note}</p>' if note else ""
    return f'<section class="{classes}"><h2>{title}</h2>{said}{"".join(content)}</section>'


# The table of failures

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


def _failure_row(row: Row) -> str:
    error = row.error
    kind = _kind(row)
    outcome, tone = STATUS_WORDS[row.status]
    cause = "" if error is None else f'<span class="line soft">{KIND_WORDS[error.kind]}</span>'
    http_status = "" if row.http_status is None else str(row.http_status)
    request_id = "" if row.request_id is None else f'<span class="mono server">{_shown(row.request_id, 120)}</span>'
    at = timestamp(row.finished_ms)
    cells = (
        (str(row.item), f"<span>{row.item}</span>"),
        (None, f'<span class="mono server">{_shown(row.key, 200)}</span>'),
        (None, f'<span><b class="{tone}">{outcome}</b>{cause}</span>'),
        (http_status, f"<span>{http_status}</span>" if http_status else ""),
        (None, f'<span class="said" dir="auto">{"".join(_said(error))}</span>'),
        (str(row.attempts), f"<span>{row.attempts}</span>"),
        (None, request_id),
        (str(row.finished_ms), f'<span><time datetime="{at}">{_clock(at)}</time></span>'),
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
        yield f'<b class="line server">{_shown(error.title)}</b>'
    if error.detail:
        yield f'<span class="line server">{_shown(error.detail)}</span>'
    usual = f"the server answered {error.status}" + (f": {': '.join(words)}" if words else "")
    rest = error.message.removeprefix(usual).removeprefix("; ").strip() if words else error.message
    if rest:
        yield f'<span class="line soft server">{_shown(rest)}</span>'
    if error.code:
        yield f'<span class="tag" title="the server\'s code">{_shown(error.code, 120)}</span>'
    if error.pointer:
        yield f'<span class="tag" title="the member that the server blames">{_shown(error.pointer, 200)}</span>'


# The page


class _Page:
    """The parts of the page, by the names of their places."""

    def __init__(
        self,
        summary: Summary,
        seen: _Seen,
        meta: Mapping[str, str],
        *,
        in_flight: int,
        people: Mapping[str, str | None],
        facts: Mapping[str, str],
    ) -> None:
        self._summary, self._seen, self._meta = summary, seen, meta
        self._people, self._facts, self._in_flight = people, facts, in_flight
        self._items = summary["items"]
        self._dry = meta.get("dry_run") == "true"
        self._counts = {status: seen.counts[status] for status in Status}
        self._pending = max(0, self._items - seen.counts.total())
        self._bad = seen.counts[Status.FAILED] + seen.counts[Status.IN_DOUBT]
        self._invocations = max(summary["invocations"], int(meta.get("invocations", "0")), 1)
        stretches = seen.stretches
        if len(stretches) == 1 and not seen.broken_off and self._invocations == 1:
            self._took_s = summary["elapsed_s"]
        else:
            self._took_s = sum(stretch.end_ms - stretch.start_ms for stretch in stretches) / 1000
        self._timeline = _Timeline.of(stretches)

    def parts(self) -> Mapping[str, Iterable[str]]:
        """Return the parts; each is read once."""
        summary = self._summary
        tone, verdict = self._verdict()
        server = urlsplit(summary["server"]).netloc or summary["server"]
        return {
            "version": [_shown(self._meta.get("version", __version__))],
            "title": [f"{_shown(summary['job'])}: {_shown(verdict)}"],
            "tone": [tone],
            "kicker": [f"<b>{_shown(summary['job'])}</b> on {_shown(server)} · {self._when()}"],
            # A number and its unit stay in one line.
            "verdict": [re.sub(r"(?<=\d) (?=(?:s|min|h|d)\b)", "&nbsp;", _shown(verdict))],
            "why": self._why(),
            "next": self._next(),
            "tiles": [self._tiles()],
            "charts": self._charts(),
            "facts": [self._run()],
            "log": [self._log()],
            "failures": self._failures(),
            "footer": [f"Run {_shown(summary['run'])}. Times are UTC. Secrets are masked. This page loads nothing."],
        }

    def _verdict(self) -> tuple[str, str]:
        """Return the tone, and one sentence that says all to somebody who reads no other."""
        counts, items, took = self._counts, self._items, self._took()
        good = counts[Status.SUCCEEDED] + counts[Status.UNCHANGED]
        of = f"of {_items(items)}"
        if self._seen.broken_off:
            return "doubt", f"The run has not come to its end: {items - self._pending:,} {of} have a result so far."
        if self._dry:
            ready = f"{counts[Status.SKIPPED]:,} {of} {'was' if items == 1 else 'were'} made ready"
            return ("doubt" if self._pending else "good"), f"Dry run: {ready}, and nothing was sent."
        if not items:
            return "good", "There was nothing to do: the input has no items."
        trouble = [
            f"{count:,} {words}"
            for count, words in (
                (counts[Status.FAILED], "failed"),
                (counts[Status.IN_DOUBT], "is in doubt" if counts[Status.IN_DOUBT] == 1 else "are in doubt"),
                (counts[Status.SKIPPED], "was skipped" if counts[Status.SKIPPED] == 1 else "were skipped"),
                (self._pending, "is still to do" if self._pending == 1 else "are still to do"),
            )
            if count
        ]
        if self._pending or self._summary["stopped"] is not None:
            begin = f"Stopped after {took}: {good:,} {of} succeeded"
            return ("bad" if self._bad else "doubt"), _sentence(begin, trouble or ["nothing is left to do"])
        unchanged = counts[Status.UNCHANGED]
        already = f", {unchanged:,} {'was' if unchanged == 1 else 'were'} as wanted already" if unchanged else ""
        begin = f"{counts[Status.SUCCEEDED]:,} {of} succeeded in {took}{already}"
        if not trouble:
            return "good", _sentence(begin, ["nothing is left to do"])
        return ("bad" if self._bad else "good"), _sentence(begin, trouble)

    def _took(self) -> str:
        again = f" over {self._invocations} invocations" if self._invocations > 1 else ""
        return f"{_duration(self._took_s)}{again}"

    def _when(self) -> str:
        first, last = timestamp(self._seen.stretches[0].start_ms), self._summary["finished"]
        if _day(first) == _day(last):
            return f"{_day(first)}, {_clock(first)} to {_clock(last)} UTC"
        return f"{_day(first)}, {_clock(first)} to {_day(last)}, {_clock(last)} UTC"

    def _why(self) -> Iterator[str]:
        code, stopped = self._summary["exit_code"], self._summary["stopped"]
        if self._seen.broken_off:
            yield (
                '<p class="why">It was taken up again after its last summary and has not said that it ended: '
                "either it is still at work, or it was killed.</p>"
            )
            return
        if stopped is not None:
            known = STOP_WORDS.get(stopped["reason"], f"It was stopped: {stopped['reason']}.")
            yield f'<p class="why">{_shown(known)} <span class="soft server">“{_shown(stopped["message"])}”</span></p>'
        elif self._counts[Status.IN_DOUBT]:
            yield (
                '<p class="why">An item is in doubt where it was sent, and no answer says whether it took effect.</p>'
            )
        yield f'<p class="why soft">Exit code {code}: {self._exit_words()}.</p>'
        if self._in_flight:
            yield (
                f'<p class="why soft">{_items(self._in_flight)} in flight had no answer when it ended: going on with '
                "the run sends again what can do no harm, and says that the rest is in doubt.</p>"
            )

    def _exit_words(self) -> str:
        code = self._summary["exit_code"]
        return "every request could be made" if self._dry and code == Exit.OK else EXIT_WORDS.get(code, "unknown")

    def _next(self) -> Iterator[str]:
        summary = self._summary
        if self._dry or self._seen.broken_off or not (summary["resumable"] or self._bad):
            return
        step = _shown(summary["next_step"], 2000)
        yield f'<p class="next"><b>What to do next</b><span class="server">{step}</span></p>'

    def _tiles(self) -> str:
        shown: list[tuple[str, str, str]] = []
        for status in Status:
            words, tone = STATUS_WORDS[status]
            words = "made ready, not sent" if self._dry and status is Status.SKIPPED else words
            always = status in {Status.SUCCEEDED, Status.FAILED} and not self._dry
            if self._counts[status] or always:
                loud = tone if self._counts[status] and tone in {"bad", "doubt"} else ""
                shown.append((f"{self._counts[status]:,}", words, loud))
        shown.append((f"{self._pending:,}", "to do", "doubt" if self._pending else ""))
        shown.append((f"{self._items:,}", "in all", ""))
        shown.append((_duration(self._took_s), "at work", ""))
        if not self._dry:
            rate = (self._seen.counts.total() / self._took_s) if self._took_s else 0.0
            shown.append((f"{rate:,.1f}", "items a second", ""))
        tiles = "".join(f'<li><b class="{loud}">{value}</b><span>{words}</span></li>' for value, words, loud in shown)
        return f'<ul class="tiles" aria-label="counts">{tiles}</ul>{self._shares()}'

    def _shares(self) -> str:
        """Return a bar of all items by what became of them."""
        at, shapes = 0.0, []
        for status, count in self._counts.items():
            if count and self._items:
                width = 100 * count / self._items
                # A single failure among thousands is to be seen.
                seen = max(width, 0.4)
                words, tone = STATUS_WORDS[status]
                shapes.append(
                    f'<rect class="f-{tone}" x="{min(at, 100 - seen):.3f}%" width="{seen:.3f}%" height="10">'
                    f"<title>{count:,} {words}</title></rect>"
                )
                at += width
        return f'<svg class="share" role="img" aria-label="{html.escape(self._label())}">{"".join(shapes)}</svg>'

    def _label(self) -> str:
        counts = ", ".join(f"{count:,} {STATUS_WORDS[status][0]}" for status, count in self._counts.items() if count)
        return f"Items by outcome: {counts or 'none'}; {self._pending:,} to do"

    def _charts(self) -> Iterator[str]:
        if not self._seen.counts or self._dry:
            return
        yield self._progress()
        yield self._pace()
        yield self._quota()
        yield self._latency()
        yield self._outcomes()

    def _progress(self) -> str:
        line = self._timeline
        done = self._seen.counts.total()
        chart = _Chart(
            f"Items finished over time: {done:,} of {self._items:,} in {self._took()}, {self._bad:,} not succeeded.",
            _nice(max(self._items, done)),
        )
        share, good, bad = line.width_ms / line.total_ms, 0, 0
        upper, lower = [f"0,{chart.y(0)}"], [f"0,{chart.y(0)}"]
        for place, span in enumerate(line.spans):
            good += span.bin.good
            bad += span.bin.bad
            x = f"{1000 * min(1, (place + 1) * share):.2f}"
            lower.append(f"{x},{chart.y(good)}")
            upper.append(f"{x},{chart.y(good + bad)}")
            words = f"{self._moment(span)}: {good + bad:,} finished" + (f", {bad:,} not succeeded" if bad else "")
            chart.hit(place * share, share, words)
        chart.shapes.append(f'<polygon class="f-band" points="{" ".join(lower)} 1000,100 0,100"/>')
        if bad:
            chart.shapes.append(f'<polygon class="f-bad" points="{" ".join(upper)} {" ".join(reversed(lower))}"/>')
        chart.shapes.append(f'<polyline class="stroke" points="{" ".join(lower)}"/>')
        y = chart.y(self._items) * chart.height / 100 + 10
        chart.over.append(f'<line class="dash" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        if self._pending:
            chart.over.append(f'<text x="6" y="{y - 4:.1f}">{self._items:,} in all</text>')
        chart.seams(line.seams)
        entries = [("good", "succeeded")] + ([("bad", "failed or in doubt")] if bad else [])
        seams = len(line.seams)
        again = f"; taken up again at the upright dashed line{'' if seams == 1 else 's'}" if seams else ""
        note = self._axis("items finished so far") + again
        return _card("Progress", note, chart.svg(line.ticks()), _legend(*entries))

    def _pace(self) -> str:
        line = self._timeline
        most = max(span.bin.good + span.bin.bad for span in line.spans)
        width = _duration(line.width_ms / 1000).replace(".0 s", " s")
        chart = _Chart(f"Items finished in each {width}: {most:,} at the most.", _nice(most))
        share = line.width_ms / line.total_ms
        for place, span in enumerate(line.spans):
            good, bad = span.bin.good, span.bin.bad
            chart.bar((place + 0.08) * share, 0.84 * share, 0, good, "good")
            chart.bar((place + 0.08) * share, 0.84 * share, good, good + bad, "bad")
            words = f"{self._moment(span)}: {good + bad:,} finished" + (f", {bad:,} not succeeded" if bad else "")
            chart.hit(place * share, share, words)
        chart.seams(line.seams)
        entries = [("good", "succeeded")] + ([("bad", "failed or in doubt")] if self._bad else [])
        return _card("Pace", self._axis(f"items finished in each {width}"), chart.svg(line.ticks()), _legend(*entries))

    def _axis(self, values: str) -> str:
        return f"{values}, by time at work{self._timeline.unit}"

    def _moment(self, span: _Span) -> str:
        at = timestamp(span.start_ms)
        return at[11:21] if self._timeline.width_ms < 1000 else at[11:19]

    def _quota(self) -> str:
        line, quota = self._timeline, self._summary["quota"]
        refused_seen = sum(span.bin.refused for span in line.spans)
        refused = max(quota["refused"], refused_seen)
        lows = [span.bin.low for span in line.spans if span.bin.low is not None]
        said = f"{refused:,} refusal{'' if refused == 1 else 's'} (429)" if refused else "no refusals (429)"
        waited = [
            f"{_duration(seconds)} for {_shown(why)}" for why, seconds in quota["waited_s"].items() if seconds > 0.05
        ]
        below = f'<p class="sub">Requests were ready and waited {", ".join(waited)}.</p>' if waited else ""
        if not lows and not refused_seen:
            return _card("Quota", f"The server announced no quota; {said}.", below)
        highs = [span.bin.high for span in line.spans if span.bin.high is not None]
        limit = self._seen.limit
        top = _nice(max([1, *highs, *([limit] if limit and limit <= 4 * max([1, *highs]) else [])]))
        least = f", {min(lows):,} at the least" if lows else ""
        chart = _Chart(f"Quota remaining over time{least}; {said}.", top)
        share = line.width_ms / line.total_ms
        points: list[str] = []
        last: int | None = None
        for place, span in enumerate(line.spans):
            one, words = span.bin, []
            if one.low is not None and one.high is not None:
                # What was left stays so until an answer says otherwise; within a span it is used up.
                begin, end = f"{1000 * place * share:.2f}", f"{1000 * (place + 1) * share:.2f}"
                points += [f"{begin},{chart.y(value)}" for value in (last, one.high) if value is not None]
                points.append(f"{end},{chart.y(one.low)}")
                last = one.low
                words.append(f"{one.low:,} left" if one.low == one.high else f"{one.low:,} to {one.high:,} left")
            if one.refused:
                words.append(f"{one.refused:,} refused")
            if words:
                chart.hit(place * share, share, f"{self._moment(span)}: {', '.join(words)}")
        chart.shapes.append(f'<polyline class="stroke" points="{" ".join(points)}"/>')
        for place, span in enumerate(line.spans):
            if span.bin.refused:
                at = 100 * (place + 0.5) * share
                chart.over.append(f'<rect class="f-bad" x="{at:.2f}%" width="3" y="0" height="16"/>')
        chart.seams(line.seams)
        of = f", of {limit:,}" if limit is not None else ""
        entries = [("good", "requests left")] if lows else []
        if refused_seen:
            entries.append(("bad", said))
        note = self._axis(f"requests that the server still allows{of}")
        return _card(
            "Quota", note if refused_seen else f"{note}; {said}", chart.svg(line.ticks()), _legend(*entries), below
        )

    def _latency(self) -> str:
        latencies = self._seen.latencies
        if not latencies.total:
            return _card("Latency", "No item's last attempt was timed.")
        per_decade, start, bars = latencies.bars()
        marks = {f"p{share}": latencies.quantile(share / 100) for share in (50, 95, 99)}
        said = ", ".join(f"{name} {_short(value)}" for name, value in marks.items())
        chart = _Chart(f"How long the last attempt of each item took: {said}.", _nice(max(bars)))
        share = 1 / len(bars)
        for place, count in enumerate(bars):
            if count:
                low, high = (10 ** ((start + place + side) / per_decade) for side in (0, 1))
                chart.bar((place + 0.06) * share, 0.88 * share, 0, count, "good")
                chart.hit(place * share, share, f"{_short(low)} to {_short(high)}: {_items(count)}")
        for row, (name, value) in enumerate(marks.items()):
            chart.mark((math.log10(value) * per_decade - start) * share, name, row)
        ticks = []
        for place in range(math.ceil(start / per_decade) - 1, math.ceil((start + len(bars)) / per_decade) + 1):
            for step in (1, 2, 5) if len(bars) <= 2 * per_decade else (1, 3) if len(bars) <= 3 * per_decade else (1,):
                value = step * 10.0**place
                at = (math.log10(value) * per_decade - start) * share
                if 0 <= at <= 1:
                    ticks.append((at, _label_of(value)))
        entries = [*marks.items(), ("most", latencies.high_ms)]
        below = "".join(f"<span>{name} <b>{_short(value)}</b></span>" for name, value in entries)
        note = "of each item's last attempt, on a logarithmic scale"
        return _card("Latency", note, chart.svg(ticks), f'<p class="legend">{below}</p>')

    def _outcomes(self) -> str:
        """Return what became of the items, and why those failed that did, the server's most frequent words first."""
        if not self._bad:
            answers = ", ".join(f"{count:,} with {status}" for status, count in self._seen.http.most_common(8))
            return _card(
                "Outcomes",
                "",
                '<p class="empty">No item failed, and none is in doubt.</p>',
                f'<p class="sub">HTTP answers: {answers}.</p>' if answers else "",
                wide=True,
            )
        causes = sorted(self._seen.causes.values(), key=lambda cause: -cause.count)
        most = causes[0].count
        rows = "".join(
            f'<tr><td class="num">{cause.count:,}</td><td><svg class="bar" viewBox="0 0 100 10"'
            f' preserveAspectRatio="none" aria-hidden="true"><rect class="f-bad" height="10"'
            f' width="{max(0.8, 100 * cause.count / most):.1f}"/></svg></td>'
            f'<td class="num minor">{"" if cause.http_status is None else cause.http_status}</td>'
            f"<td>{'' if cause.kind is None else KIND_WORDS[cause.kind]}</td>"
            f'<td><span class="server" dir="auto">{_shown(cause.words, 240)}</span></td></tr>'
            for cause in causes[:CAUSES_SHOWN]
        )
        rest = len(causes) - CAUSES_SHOWN
        more = f'<p class="sub">{rest:,} more causes, each less frequent.</p>' if rest > 0 else ""
        answers = ", ".join(f"{count:,} with {status}" for status, count in self._seen.http.most_common(8))
        head = (
            '<tr><th scope="col" class="num">Items</th><th scope="col"><span class="minor">Share</span></th>'
            '<th scope="col" class="num minor">HTTP</th><th scope="col">Kind</th><th scope="col">In words</th></tr>'
        )
        return _card(
            "Why items failed",
            f"{_items(self._bad)} by cause, the most frequent first",
            f'<table class="causes small"><thead>{head}</thead><tbody>{rows}</tbody></table>{more}',
            f'<p class="sub">HTTP answers to all items: {answers}.</p>' if answers else "",
            wide=True,
        )

    def _run(self) -> str:
        summary, meta, quota = self._summary, self._meta, self._summary["quota"]
        stretches, request = self._seen.stretches, self._seen.request
        code = summary["exit_code"]
        facts: list[tuple[str, str | None]] = [
            ("Job", _shown(summary["job"])),
            ("Server", f'<span class="mono">{_shown(summary["server"])}</span>'),
            ("First request", None if request is None else f'<span class="mono server">{_shown(request, 300)}</span>'),
            ("Items from", _maybe(meta.get("items_source"))),
            ("User", _maybe(self._people["user"])),
            ("Host", _maybe(self._people["host"])),
            ("Started", _time(timestamp(stretches[0].start_ms))),
            ("Last summary" if self._seen.broken_off else "Finished", _time(summary["finished"])),
            (
                "At work",
                f"{_duration(self._took_s)}" + (f" in {self._invocations} invocations" * (self._invocations > 1)),
            ),
            ("Requests sent", f"{quota['requests']:,}" + (" by the last invocation" * (self._invocations > 1))),
            ("Sent again", f"{_items(summary['resent'])} in flight at an interruption" if summary["resent"] else None),
            ("Exit code", f"{code}, {self._exit_words()}"),
            ("Stopped for", None if summary["stopped"] is None else _shown(summary["stopped"]["reason"])),
            ("Mode", "dry run, nothing was sent" if self._dry else None),
            ("Run", f'<span class="mono">{_shown(summary["run"])}</span>'),
            ("Folder", f'<span class="mono">{_shown(summary["folder"])}</span>'),
            *((_shown(name, 60), _shown(value)) for name, value in self._facts.items()),
        ]
        shown = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts if value)
        return _card("The run", "", f'<dl class="facts">{shown}</dl>')

    def _log(self) -> str:
        rows = "".join(
            f'<tr><td><time datetime="{_shown(note.first, 40)}">{_clock(note.first)}</time></td>'
            f'<td{" class=doubt" * note.bad}><span class="server">{_shown(note.words or note.event, 300)}'
            f"{f' ({note.count:,} times in a row)' if note.count > 1 else ''}</span></td></tr>"
            for note in self._seen.notes
        )
        if not rows:
            return _card("What happened", "", '<p class="empty">No events were recorded.</p>')
        more = f'<p class="sub">{self._seen.left_out:,} more are in events.jsonl.</p>' if self._seen.left_out else ""
        head = '<tr><th scope="col">Time</th><th scope="col">Event</th></tr>'
        return _card(
            "What happened", "", f'<table class="log small"><thead>{head}</thead><tbody>{rows}</tbody></table>{more}'
        )

    def _failures(self) -> Iterator[str]:
        failures = self._seen.failures
        if not failures.total:
            return
        listed = len(failures.rows)
        note = f"{_items(failures.total)} that failed or are in doubt, with the server's own words"
        if listed < failures.total:
            note = (
                f"the first {listed:,} to fail of {failures.total:,}; "
                f"the {failures.total - listed:,} others are in failed.csv"
            )
        yield f'<section class="card wide long"><h2 id="failures-title">Failures</h2><p class="note">{note}</p>'
        if listed > PRINTED:
            yield f'<p class="note only-print">The first {PRINTED:,} rows are printed.</p>'
        kinds = "".join(
            f'<option value="{kind}">{html.escape(_kind_words(kind))} ({count:,})</option>'
            for kind, count in failures.kinds.most_common()
        )
        yield (
            '<div class="tools" id="tools" hidden><div class="search"><label for="search">Search</label>'
            '<input id="search" type="search" autocomplete="off" spellcheck="false"></div>'
            '<div><label for="kind">Kind</label><select id="kind"><option value="">all kinds</option>'
            f"{kinds}</select></div>"
            '<div class="narrow"><label for="order">Order by</label><select id="order"></select></div>'
            '<p class="found" id="found" role="status"></p></div>'
        )
        heads = "".join(
            f'<th scope="col" class="c-{short}" data-type="{kind}"'
            f' aria-sort="{"ascending" if short == "item" else "none"}">{words}</th>'
            for words, short, kind in COLUMNS
        )
        yield f'<table id="failures" aria-labelledby="failures-title"><thead><tr>{heads}</tr></thead><tbody>\n'
        for _, text in sorted(failures.rows, key=lambda row: row[0]):
            yield text
        yield '</tbody></table><button type="button" class="more" id="more" hidden>Show more</button></section>'


def _kind_words(kind: str) -> str:
    return "in doubt" if kind == "in_doubt" else KIND_WORDS[ErrorKind(kind)]


def _label_of(milliseconds: float) -> str:
    return f"{milliseconds:g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"


def _maybe(value: str | None) -> str | None:
    return None if value is None else _shown(value)


def _sentence(begin: str, parts: Sequence[str]) -> str:
    """Return a sentence of a main clause and what has to be said besides."""
    *most, last = parts
    return f"{begin}; {', '.join(most)}{' and ' if most else ''}{last}."
