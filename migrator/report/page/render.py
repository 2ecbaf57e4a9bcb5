"""The page: a run's report as one HTML file, which needs no network and can be sent in a mail.

It is written from the ledger, the summary and `events.jsonl` alone, in one pass over each and in constant memory, so
that it can be written again at any time. A server's text is only ever text: jinja2 escapes every value, and the page
forbids every script and every style but its own two, by their digests (CSP level 2, section 7.17).
"""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from migrator import __version__
from migrator.report.page import charts
from migrator.report.page import words as texts
from migrator.report.page.data import RunData
from migrator.report.page.words import EXIT_WORDS, KIND_WORDS, STATUS_WORDS, STOP_WORDS, item_count
from migrator.report.summary import Summary, time_text
from migrator.results import Exit, Status
from migrator.store.files import write_atomically
from migrator.store.ledger_reader import LedgerReader
from migrator.times import duration_text, timestamp

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["COLUMNS", "write_page"]

NAME: Final = "report.html"

COLUMNS: Final = (
    ("Item", "item", "number"),
    ("Key", "key", "text"),
    ("Outcome", "out", "text"),
    ("HTTP", "http", "number"),
    ("Reason", "said", "text"),
    ("Attempts", "tries", "number"),
    ("Request id", "id", "text"),
    ("Time", "time", "number"),
)
"""The table of failures: headings, classes, and how a column is sorted."""


def write_page(folder: Path, ledger: LedgerReader, summary: Summary, *, live: bool = False) -> None:
    """Write `report.html`, from the ledger, the summary and the folder's `events.jsonl`.

    Args:
        folder: the run's.
        ledger: the run's; counts are taken from it, since it may know more than an earlier summary.
        summary: the run's, as it stands.
        live: the run is active: the page says so, and a browser loads it again every five seconds.

    Raises:
        FolderError: it cannot be written; an earlier page is left as it was.
        LedgerError: the ledger cannot be read.
    """
    environment = _environment()
    data = RunData(summary, environment.get_template("failure.html.j2").module.failure)  # type: ignore[attr-defined]
    data.read_events(folder / "events.jsonl")
    data.read_results(ledger)
    run = _Run(data, summary, ledger.meta(), live=live)
    page = environment.get_template("page.html.j2").generate(
        {**run.values(), "in_flight": len(ledger.in_flight()), "columns": COLUMNS, "version": __version__}
    )
    with write_atomically(folder / NAME) as file:
        # A lone surrogate, such as in the name of a folder, must not keep the page from being written.
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="\n")
        text.writelines(page)
        text.detach()


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    """Return what renders the templates. jinja2 takes 40 ms to import, which no command but a run's end needs."""
    import jinja2  # noqa: PLC0415  quick start
    from markupsafe import Markup, escape  # noqa: PLC0415  as jinja2

    from migrator.report.page.bytecode import Bytecode  # noqa: PLC0415  as jinja2

    def asset(name: str) -> Mapping[str, str]:
        text = resources.files(__package__).joinpath("templates", name).read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(f"\n{text}".encode()).digest()).decode()
        return {"text": Markup(text), "digest": f"sha256-{digest}"}  # noqa: S704  the program's own file

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=texts.visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
        bytecode_cache=Bytecode(),
    )
    environment.filters |= {
        "cut": texts.cut,
        "clock": texts.clock_text,
        "day": texts.day_text,
        "duration": duration_text,
        "number": "{:,}".format,
        "item_count": item_count,
        "kind_of": texts.kind_of,
        "kind_words": texts.kind_words,
        "own_words": texts.own_words,
        "timestamp": timestamp,
        # A number and its unit stay in one line.
        "unbroken": lambda text: Markup(re.sub(r"(?<=\d) (?=(?:s|min|h|d)\b)", "&nbsp;", escape(text))),  # noqa: S704
    }
    environment.globals |= {
        "style": asset("page.css"),
        "script": asset("page.js"),
        "status_words": STATUS_WORDS,
        "kind_words": KIND_WORDS,
    }
    return environment


class _Run:
    """A run in the values that the page's template takes."""

    def __init__(self, data: RunData, summary: Summary, meta: Mapping[str, str], *, live: bool) -> None:
        self._data, self._summary, self._meta, self._live = data, summary, meta, live
        self._items = summary["items"]
        self._dry = meta.get("dry_run") == "true"
        self._counts = {status.value: data.counts[status] for status in Status}
        self._pending = max(0, self._items - data.counts.total())
        self._invocations = max(summary["invocations"], int(meta.get("invocations", "0")), 1)
        invocations = data.invocations
        if len(invocations) == 1 and not data.unfinished and self._invocations == 1:
            self._took_s = summary["elapsed_s"]
        else:
            self._took_s = sum(one.end_ms - one.start_ms for one in invocations) / 1000

    def values(self) -> Mapping[str, Any]:
        """Return the values by their names in the template."""
        summary, data, meta = self._summary, self._data, self._meta
        tone, verdict = self._verdict()
        quiet = self._live or self._dry or data.unfinished or not (summary["resumable"] or data.bad)
        code = summary["exit_code"]
        reason = "" if summary["stopped"] is None else summary["stopped"]["reason"]
        ready = self._dry and code == Exit.OK
        return {
            "summary": summary,
            "meta": meta,
            "settings": msgspec.json.decode(meta.get("settings", "{}"), type=dict[str, str]),
            "data": data,
            "live": self._live,
            "dry": self._dry,
            "tone": tone,
            "verdict": verdict,
            "server": urlsplit(summary["server"]).netloc or summary["server"],
            "started": timestamp(data.invocations[0].start_ms),
            "counts": self._counts,
            "pending": self._pending,
            "invocations": self._invocations,
            "took_s": self._took_s,
            "time": time_text(summary["time_s"]),
            "rate": data.counts.total() / self._took_s if self._took_s else 0.0,
            "reads": 0 if self._invocations > 1 else max(0, summary["quota"]["requests"] - data.attempts),
            "stop_words": STOP_WORDS.get(reason, f"The run was stopped: {reason}."),
            "exit_words": "every request could be made" if ready else EXIT_WORDS.get(code, "unknown"),
            "next_steps": () if quiet else summary["next_steps"],
            "panels": self._panels(),
            "causes": sorted(data.causes.values(), key=lambda cause: -cause.count),
        }

    def _verdict(self) -> tuple[str, str]:
        """Return the tone, and one sentence that says how the run went."""
        counts, items, took, bad = self._counts, self._items, self._took(), self._data.bad
        good = counts[Status.SUCCEEDED] + counts[Status.UNCHANGED]
        of = f"of {item_count(items)}"
        so_far = f"{items - self._pending:,} {of} have a result so far."
        if self._live:
            return "good", f"The run is active: {so_far}"
        if self._data.unfinished:
            return "doubt", f"The run has not finished: {so_far}"
        if self._dry:
            ready = f"{counts[Status.SKIPPED]:,} {of} {'was' if items == 1 else 'were'} made ready"
            return ("doubt" if self._pending else "good"), f"Dry run: {ready}, and nothing was sent."
        if not items:
            return "good", "There was nothing to do: the input has no items."
        trouble = [
            f"{count:,} {one if count == 1 else many}"
            for count, one, many in (
                (counts[Status.FAILED], "failed", "failed"),
                (counts[Status.IN_DOUBT], "is in doubt", "are in doubt"),
                (counts[Status.SKIPPED], "was skipped", "were skipped"),
                (self._pending, "is still to do", "are still to do"),
            )
            if count
        ] or ["nothing is left to do"]
        if self._pending or self._summary["stopped"] is not None:
            begin = f"Stopped after {took}: {good:,} {of} succeeded"
            return ("bad" if bad else "doubt"), texts.sentence(begin, trouble)
        unchanged = counts[Status.UNCHANGED]
        already = f", {unchanged:,} {'was' if unchanged == 1 else 'were'} as wanted already" if unchanged else ""
        begin = f"{counts[Status.SUCCEEDED]:,} {of} succeeded in {took}{already}"
        return ("bad" if bad else "good"), texts.sentence(begin, trouble)

    def _took(self) -> str:
        again = f" over {self._invocations} invocations" if self._invocations > 1 else ""
        return f"{duration_text(self._took_s)}{again}"

    def _panels(self) -> Sequence[charts.Chart]:
        data = self._data
        if not data.counts or self._dry:
            return ()
        line = charts.Timeline.of(data.invocations)
        return (
            charts.progress(data, line, items=self._items, took=self._took()),
            charts.pace(data, line),
            charts.quota(data, line, self._summary["quota"]),
            charts.latency(data),
        )


if __name__ == "__main__":
    # Done once where the program is installed: those who run it may not be allowed to write beside it.
    for name in _environment().list_templates(extensions=["j2"]):
        _environment().get_template(name)
