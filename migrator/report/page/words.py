"""Words and numbers of a report: the names of causes, the texts of durations, times and counts."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from migrator.results import ErrorKind, Exit, ItemError, ItemResult, Status, StopKind

__all__ = [
    "EXIT_WORDS",
    "KIND_WORDS",
    "LONGEST",
    "MOMENTS_MS",
    "STATUS_WORDS",
    "STOP_WORDS",
    "clock_text",
    "cut",
    "day_text",
    "item_count",
    "kind_of",
    "kind_words",
    "milliseconds_of",
    "nice_top",
    "number_text",
    "own_words",
    "sentence",
    "tick_text",
    "visible",
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
    Status.UNCHANGED: ("as wanted already", "same"),
    Status.FAILED: ("failed", "bad"),
    Status.IN_DOUBT: ("in doubt", "doubt"),
    Status.SKIPPED: ("skipped", "idle"),
}
"""The words of a status, and the tone of the page in which it is shown."""


KIND_WORDS: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.VALIDATION: "refused as invalid",
    ErrorKind.AUTH: "credentials refused",
    ErrorKind.FORBIDDEN: "not permitted",
    ErrorKind.NOT_FOUND: "not found",
    ErrorKind.CONFLICT: "in conflict with the server's state",
    ErrorKind.QUOTA: "a limit of the account is reached",
    ErrorKind.RATE_LIMITED: "refused for the rate limit",
    ErrorKind.SERVER: "server error",
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
    StopKind.CREDENTIALS: "The server refused the credentials. It would refuse them for every other item too.",
    StopKind.UNREACHABLE: "The server could not be reached.",
    StopKind.OUTAGE: "The server went down during the run and did not come back in time.",
    StopKind.FAILURES: "More items failed than the run allows.",
    StopKind.CANARY: "The first items are a trial. One of them did not succeed, so the others were not sent.",
    StopKind.QUOTA_WAIT: "The wait for the server's rate limit was longer than the run allows.",
    StopKind.INPUT_CHANGED: "The items file changed during the run.",
    StopKind.LEDGER: "The run's ledger could not be written. Nothing is sent that cannot be recorded.",
    StopKind.FILES: "The files of results could not be written. The ledger has all results.",
    StopKind.UNREADABLE: "The server did not return what the run had to read before it could write.",
    StopKind.DEADLINE: "The deadline of the run was reached.",
    StopKind.STAGE: "The conditions for the next stage were not met.",
    StopKind.CONTROL: "A person stopped the run with migrator ctl.",
    StopKind.WORKERS: "No worker of the cluster was left.",
    StopKind.SIGINT: "A person interrupted the run (Ctrl-C). The requests in flight could finish.",
    StopKind.SIGHUP: "The terminal was closed (SIGHUP). The requests in flight could finish.",
    StopKind.SIGTERM: "The system or another program ended the run (SIGTERM). The requests in flight could finish.",
    StopKind.KILLED: "The process ended without a report: it was killed, or the machine went down.",
}


UNSEEN: Final = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
"""Control characters, of which HTML forbids some, to pictures of them."""


def visible(value: object) -> object:
    """Return a text with pictures in place of control characters; anything else as it is."""
    return value.translate(UNSEEN) if type(value) is str else value


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a text, or its start where it is longer than so many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def kind_of(row: ItemResult) -> str:
    """Return the kind of failure by which the table is narrowed."""
    return "in_doubt" if row.status is Status.IN_DOUBT or row.error is None else row.error.kind.value


def own_words(error: ItemError) -> str:
    """Return what a message says beyond the server's own words."""
    server = ": ".join(part for part in (error.title, error.detail) if part)
    usual = f"the server answered {error.status}: {server}" if server else ""
    return error.message.removeprefix(usual).removeprefix("; ").strip() if server else error.message


def kind_words(kind: str) -> str:
    """Return the words of a kind of failure, or of `in_doubt`."""
    return "in doubt" if kind == "in_doubt" else KIND_WORDS[ErrorKind(kind)]


def milliseconds_of(at: str) -> int:
    """Return a timestamp's milliseconds since the epoch."""
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def number_text(value: float) -> str:
    """Return a number with separators, and with a decimal where it is small and has one."""
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.1f}"


def item_count(count: object) -> str:
    """Return a count of items."""
    return f"{count:,} item{'' if count == 1 else 's'}" if isinstance(count, int) else f"{count} items"


def tick_text(milliseconds: float, step_ms: float, *, colon: bool) -> str:
    """Return a label for the axis of time."""
    seconds = milliseconds / 1000
    if not seconds:
        return "0"
    for unit_s, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if step_ms >= 1000 * unit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{seconds // 60:.0f}:{seconds % 60:02.0f}" if colon else f"{seconds:g} s"


def nice_top(value: float) -> float:
    """Return the next round number, whose half is round too, for the end of an axis."""
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


def sentence(begin: str, parts: Sequence[str]) -> str:
    """Return a sentence of a main clause and some further facts."""
    *most, last = parts
    return f"{begin}; {', '.join(most)}{' and ' if most else ''}{last}."
