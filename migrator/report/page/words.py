"""Words and numbers of a report for people: what causes are called, how durations and counts are said."""

import html
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from migrator.results import ErrorKind, Exit, ItemResult, Status, StopKind

__all__ = [
    "EXIT_WORDS",
    "KIND_WORDS",
    "LONGEST",
    "MOMENTS_MS",
    "STATUS_WORDS",
    "STOP_WORDS",
    "clock_text",
    "day_text",
    "escaped",
    "escaped_or_none",
    "item_count",
    "kind_of",
    "milliseconds_of",
    "nice_top",
    "number_text",
    "sentence",
    "tick_text",
    "time_html",
    "words_of_kind",
]

LONGEST: Final = 600
"""Characters of a server's text that are shown; all of it is in `failed.csv` and `results.jsonl`."""

MOMENTS_MS: Final = (
    *(1000 * seconds for seconds in (1, 2, 5, 10, 15, 30)),
    *(60_000 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3_600_000 * hours for hours in (1, 2, 3, 6, 12, 24, 48, 120, 240, 720, 2400, 8760)),
)


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
    ErrorKind.INTERNAL: "a bug in migrator",
}


EXIT_WORDS: Final[Mapping[int, str]] = {
    Exit.OK: "everything was done",
    Exit.SOME_FAILED: "not every item succeeded",
    Exit.USAGE: "the command or the job is wrong, and nothing was sent",
    Exit.STOPPED: "the run was stopped before its end",
    Exit.RUNNING: "another run of the job was active",
    Exit.BUG: "the program itself failed",
    Exit.INTERRUPTED: "a person interrupted the run (Ctrl-C)",
    Exit.TERMINATED: "the system or another program ended the run (SIGTERM)",
    Exit.HUNG_UP: "the terminal was closed (SIGHUP)",
}


STOP_WORDS: Final[Mapping[str, str]] = {
    StopKind.CREDENTIALS: "The server refused the credentials, as it would have for every other item.",
    StopKind.UNREACHABLE: "The server could not be reached, so that no item could have succeeded.",
    StopKind.OUTAGE: "The server went down during the run and did not come back in time.",
    StopKind.FAILURES: "More items failed than the run allows, so it stopped.",
    StopKind.CANARY: "One of the first items, which go alone as a trial, did not succeed; the others were not tried.",
    StopKind.QUOTA_WAIT: "The server's rate limit would have made the run wait for longer than it was allowed.",
    StopKind.INPUT_CHANGED: "The items file was changed while it was being sent.",
    StopKind.LEDGER: "The run's own record could not be written, and nothing is sent that cannot be recorded.",
    StopKind.FILES: "The files of results could not be written; the ledger has all that they would say.",
    StopKind.UNREADABLE: "The server did not return what the run had to read before it could write.",
    StopKind.DEADLINE: "The deadline of the run was reached.",
    StopKind.STAGE: "The run goes in stages, and the conditions for the next one were not met.",
    StopKind.CONTROL: "A person stopped the run with migrator ctl.",
    StopKind.SIGINT: "A person interrupted the run (Ctrl-C); what was in flight could finish.",
    StopKind.SIGHUP: "The terminal was closed (SIGHUP); what was in flight could finish.",
    StopKind.SIGTERM: "The system or another program asked the run to end (SIGTERM); what was in flight could finish.",
    StopKind.KILLED: "The process ended before it could report: it was killed, or the machine went down.",
}


UNSEEN: Final = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
"""Control characters, of which HTML forbids some, to pictures of them."""


def kind_of(row: ItemResult) -> str:
    """Return a failure's kind."""
    return "in_doubt" if row.status is Status.IN_DOUBT or row.error is None else row.error.kind.value


def milliseconds_of(at: str) -> int:
    """Return a timestamp's milliseconds since the epoch."""
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def escaped(text: str, longest: int = LONGEST) -> str:
    """Return a text that means nothing to HTML, and not more of it than is good for a page."""
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return html.escape(cut.translate(UNSEEN))


def number_text(value: float) -> str:
    """Return a number as people write it."""
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.1f}"


def item_count(count: object) -> str:
    """Return a count of items."""
    return f"{count:,} item{'' if count == 1 else 's'}" if isinstance(count, int) else f"{count} items"


def tick_text(milliseconds: float, step_ms: float, *, colon: bool) -> str:
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


def nice_top(value: float) -> float:
    """Return the next number up that an axis may well end with, and whose half is as good."""
    if value <= 2:
        return 2.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if step * power >= value)


def day_text(at: str) -> str:
    """Return a timestamp's day, in UTC."""
    found = datetime.fromisoformat(at).astimezone(UTC)
    return f"{found.day} {found:%B %Y}"


def clock_text(at: str) -> str:
    """Return a timestamp's time of day, in UTC."""
    return f"{datetime.fromisoformat(at).astimezone(UTC):%H:%M:%S}"


def time_html(at: str) -> str:
    """Return a timestamp for people and programs."""
    return f'<time datetime="{html.escape(at)}">{day_text(at)}, {clock_text(at)} UTC</time>'


def words_of_kind(kind: str) -> str:
    """Return what a kind of failure is called."""
    return "in doubt" if kind == "in_doubt" else KIND_WORDS[ErrorKind(kind)]


def escaped_or_none(value: str | None) -> str | None:
    """Return a text that means nothing to HTML, if there is one."""
    return None if value is None else escaped(value)


def sentence(begin: str, parts: Sequence[str]) -> str:
    """Return a sentence of a main clause and what has to be said besides."""
    *most, last = parts
    return f"{begin}; {', '.join(most)}{' and ' if most else ''}{last}."
