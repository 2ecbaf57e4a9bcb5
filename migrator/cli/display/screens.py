"""How runs look on a terminal: the question before one starts, the table of `status`, one run, `ctl`."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from migrator.run.migrate import Confirmation
from migrator.times import age_text, duration_text

__all__ = ["control_text", "in_flight_text", "question_text", "run_table", "run_text", "wrapped"]

HEAD: Final = ("server", "kind", "state", "left", "failed", "in doubt", "started")


def run_table(found: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """Return a table of runs: the name of each, what is known of it, and the command to give next.

    A run's name is long, and has a line of its own, so that the rest fits a terminal of 80 columns.

    Args:
        found: what is known of each run.
        now: the present, for their ages.
    """
    if not found:
        return "There are no runs. Start one with: migrator run JOB"
    rows = [HEAD, *(_row(one, now) for one in found)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEAD))]
    lines = []
    for row, one in zip(rows, [{"run": "run"}, *found], strict=True):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines += [one["run"], f"  {cells}".rstrip()]
        if one.get("next"):
            lines.append(wrapped(f"  next: {one['next']}"))
    return "\n".join(lines)


def _row(one: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    if "damaged" in one:
        return ("", "", "damaged", "", "", "", "")
    counts, age_s = one["counts"], (now - datetime.fromisoformat(one["started"])).total_seconds()
    left = f"{one['pending']:,} of {one['items']:,}"
    return (
        urlsplit(one["server"] or "").netloc,
        one["kind"],
        one["state"],
        left if one["pending"] else f"0 of {one['items']:,}",
        f"{counts['failed']:,}",
        f"{counts['in_doubt']:,}",
        age_text(age_s),
    )


def run_text(one: Mapping[str, Any], now: datetime) -> str:
    """Return one run."""
    age_s = (now - datetime.fromisoformat(one["started"])).total_seconds()
    lines = [
        f"{one['run']}: {one['state']}, {one['items'] - one['pending']:,} of {one['items']:,} items finished",
        f"  server   {one['server']}",
        f"  started  {one['started'][:19].replace('T', ' ')} UTC, {age_text(age_s)}",
        f"  items    {_counts(one['counts']) or 'none finished yet'}",
    ]
    if one["errors"]:
        lines.append("  causes   " + ", ".join(f"{count:,} {kind}" for kind, count in one["errors"].items()))
    if one["live"] is not None:
        lines.append(f"  now      {_live(one['live'])}")
    elif one["stopped"] is not None:
        lines.append(f"  stopped  {one['stopped']['message']}")
    lines.append(f"  results  {one['folder']}")
    if one["next"]:
        lines.append(f"  next     {one['next']}")
    return "\n".join(wrapped(line) for line in lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {status.replace('_', ' ')}" for status, count in counts.items() if count)


def in_flight_text(in_flight: int, workers: int | None) -> str:
    """Return how many requests are in flight, and on how many workers; 0 or None where the run's process sends them."""
    where = "" if not workers else " on 1 worker" if workers == 1 else f" on {workers} workers"
    return f"{in_flight} in flight{where}"


def _live(live: Mapping[str, Any]) -> str:
    parts = [f"{live['rate_per_s']:g}/s", in_flight_text(live["in_flight"], live.get("workers"))]
    if live["eta_s"] is not None:
        parts.append(f"about {duration_text(live['eta_s'])} left, limited by {live['limited_by']}")
    if live["waiting_for"] is not None:
        parts.append(f"waiting: {live['waiting_for']}")
    return ", ".join(parts)


DONE: Final = {
    "pause": "is paused: it starts no more items",
    "resume": "continues",
    "stop": "stops: it finishes what is in flight; the same command resumes it later",
    "status": "is active",
}


def control_text(verb: str, value: str | None, now: Mapping[str, Any]) -> str:
    """Return what `ctl` did, and how the run is doing, in sentences.

    Args:
        verb: what the user asked for.
        value: the new rate or concurrency.
        now: the run's status after it.
    """
    said = DONE.get(verb, f"has the {verb} {value} from now on")
    quota = now["quota"]
    counts = _counts(now["counts"])
    finished = f"{now['finished']:,} of {now['items']:,} items finished" + (f" ({counts})" if counts else "")
    lines = [f"{now['run']} {said}.", f"{finished}, {_live(now)}."]
    if quota["remaining"] is not None:
        limit = "" if quota["limit"] is None else f" of {quota['limit']:,}"
        reset = "" if quota["reset_s"] is None else f", reset in {duration_text(round(quota['reset_s']))}"
        lines.append(f"{quota['remaining']:,}{limit} requests of the quota left{reset}.")
    if verb == "pause":
        lines.append(f"Resume it with: migrator ctl {now['run']} resume")
    return "\n".join(wrapped(line) for line in lines)


def question_text(asked: Confirmation) -> str:
    """Return what a person reads before a run starts; the answer has to be yes."""
    what = asked.job if asked.kind == "run" else f"{asked.job} ({asked.kind})"
    items = "1 item" if asked.total == 1 else f"{asked.total:,} items"
    lines = [f"{what}: {asked.method} {items} on {urlsplit(asked.server).netloc}"]
    if asked.unfinished is not None:
        lines.append(f"Resumes {asked.unfinished}: {asked.left:,} of {items} {'is' if asked.left == 1 else 'are'} left")
    least = "" if asked.least_s is None else f", which take at least {duration_text(math.ceil(asked.least_s))}"
    lines.append(f"Requests: at most {asked.requests:,}{least}")
    return "\n".join([*map(wrapped, lines), wrapped(f"Rollback: {asked.undo}"), "Type yes to start"])


COMMAND: Final = re.compile(r"migrator [a-z]+(?: \S*[^\s,;:])*")
"""A command that the program advises: it stays in one line, so that it can be copied."""


def wrapped(line: str, width: int = 80) -> str:
    """Return a line wrapped at a width, with its continuation under its text; words and commands are never cut."""
    indent = " " * 11 if line.startswith("  ") else "  "
    whole = COMMAND.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), line)
    filled = textwrap.fill(
        whole, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return filled.replace("\N{NO-BREAK SPACE}", " ")
