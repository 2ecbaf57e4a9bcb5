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
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from migrator import __version__
from migrator.report.page.charts import Timeline
from migrator.report.page.data import COLUMNS, Seen
from migrator.report.page.panels import Panels, card
from migrator.report.page.words import (
    EXIT_WORDS,
    KIND_WORDS,
    STATUS_WORDS,
    STOP_WORDS,
    clock_text,
    day_text,
    escaped,
    escaped_or_none,
    item_count,
    sentence,
    time_html,
    words_of_kind,
)
from migrator.report.summary import Summary
from migrator.results import Exit, Status
from migrator.store.files import write_atomically
from migrator.store.ledger_reader import LedgerReader
from migrator.times import duration_text, timestamp

__all__ = ["write_page"]

NAME: Final = "report.html"


PRINTED: Final = 500
"""Rows of it that are printed, as the style sheet says too."""

CAUSES_SHOWN: Final = 12

REFRESH: Final = '<meta http-equiv="refresh" content="5">'
"""Loads the page again from where it is, with neither a script nor the network."""


def write_page(
    folder: Path,
    ledger: LedgerReader,
    summary: Summary,
    *,
    live: bool = False,
) -> None:
    """Write `report.html`, from the ledger, the summary and the folder's `events.jsonl`.

    Args:
        folder: the run's.
        ledger: the run's; counts are taken from it, since it may know more than a summary of before.
        summary: the run's, as it stands.
        live: the run is active: the page says so, and a browser loads it again after a while.

    Raises:
        FolderError: it cannot be written; the one of before is left as it was.
        LedgerError: the ledger cannot be read.
    """
    seen = Seen(summary)
    seen.read_events(folder / "events.jsonl")
    seen.read_rows(ledger)
    meta = ledger.meta()
    page = _Page(summary, seen, meta, in_flight=len(ledger.in_flight()), live=live)
    with write_atomically(folder / NAME) as file:
        # What the name of a folder holds that is no text must not keep the page from being written.
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="\n")
        text.writelines(_filled(page.parts()))
        text.detach()


@lru_cache(maxsize=1)
def _template() -> Sequence[str]:
    """Return the template's text and the names of its places, by turns."""
    text = resources.files("migrator.report.page").joinpath("template.html").read_text("utf-8")
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


class _Page:
    """The parts of the page, by the names of their places."""

    def __init__(
        self,
        summary: Summary,
        seen: Seen,
        meta: Mapping[str, str],
        *,
        in_flight: int,
        live: bool,
    ) -> None:
        self._live = live
        self._summary, self._seen, self._meta, self._in_flight = summary, seen, meta, in_flight
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
        self._timeline = Timeline.of(stretches)

    def parts(self) -> Mapping[str, Iterable[str]]:
        """Return the parts; each is read once."""
        summary = self._summary
        tone, verdict = self._verdict()
        server = urlsplit(summary["server"]).netloc or summary["server"]
        return {
            "version": [escaped(self._meta.get("version", __version__))],
            "title": [f"{escaped(summary['job'])}: {escaped(verdict)}"],
            "tone": [tone],
            "refresh": [REFRESH] if self._live else [],
            "kicker": [f"<b>{escaped(summary['job'])}</b> on {escaped(server)} · {self._when()}"],
            # A number and its unit stay in one line.
            "verdict": [re.sub(r"(?<=\d) (?=(?:s|min|h|d)\b)", "&nbsp;", escaped(verdict))],
            "why": self._why(),
            "next": self._next(),
            "tiles": [self._tiles()],
            "charts": self._charts(),
            "facts": [self._run()],
            "log": [self._log()],
            "failures": self._failures(),
            "footer": [f"Run {escaped(summary['run'])}. Times are UTC. Secrets are masked. This page loads nothing."],
        }

    def _verdict(self) -> tuple[str, str]:
        """Return the tone, and one sentence that says all to somebody who reads no other."""
        counts, items, took = self._counts, self._items, self._took()
        good = counts[Status.SUCCEEDED] + counts[Status.UNCHANGED]
        of = f"of {item_count(items)}"
        if self._live:
            return "good", f"The run is active: {items - self._pending:,} {of} have a result so far."
        if self._seen.broken_off:
            return "doubt", f"The run has not finished: {items - self._pending:,} {of} have a result so far."
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
            return ("bad" if self._bad else "doubt"), sentence(begin, trouble or ["nothing is left to do"])
        unchanged = counts[Status.UNCHANGED]
        already = f", {unchanged:,} {'was' if unchanged == 1 else 'were'} as wanted already" if unchanged else ""
        begin = f"{counts[Status.SUCCEEDED]:,} {of} succeeded in {took}{already}"
        if not trouble:
            return "good", sentence(begin, ["nothing is left to do"])
        return ("bad" if self._bad else "good"), sentence(begin, trouble)

    def _took(self) -> str:
        again = f" over {self._invocations} invocations" if self._invocations > 1 else ""
        return f"{duration_text(self._took_s)}{again}"

    def _when(self) -> str:
        first, last = timestamp(self._seen.stretches[0].start_ms), self._summary["finished"]
        if day_text(first) == day_text(last):
            return f"{day_text(first)}, {clock_text(first)} to {clock_text(last)} UTC"
        return f"{day_text(first)}, {clock_text(first)} to {day_text(last)}, {clock_text(last)} UTC"

    def _why(self) -> Iterator[str]:
        code, stopped = self._summary["exit_code"], self._summary["stopped"]
        if self._live:
            yield '<p class="why soft">This page is written again while the run is active, and loads itself again.</p>'
            return
        if self._seen.broken_off:
            yield (
                '<p class="why">It was taken up again after its last summary and has not said that it ended: '
                "either it is still at work, or it was killed.</p>"
            )
            return
        if stopped is not None:
            known = STOP_WORDS.get(stopped["reason"], f"It was stopped: {stopped['reason']}.")
            said = escaped(stopped["message"])
            yield f'<p class="why">{escaped(known)} <span class="soft server">“{said}”</span></p>'
        elif self._counts[Status.IN_DOUBT]:
            yield (
                '<p class="why">An item is in doubt where it was sent, and no answer says whether it took effect.</p>'
            )
        yield f'<p class="why soft">Exit code {code}: {self._exit_words()}.</p>'
        if self._in_flight:
            yield (
                f'<p class="why soft">{item_count(self._in_flight)} in flight had no answer when it ended: going on '
                "with the run sends again what can do no harm, and says that the rest is in doubt.</p>"
            )

    def _exit_words(self) -> str:
        code = self._summary["exit_code"]
        return "every request could be made" if self._dry and code == Exit.OK else EXIT_WORDS.get(code, "unknown")

    def _next(self) -> Iterator[str]:
        summary = self._summary
        if self._live or self._dry or self._seen.broken_off or not (summary["resumable"] or self._bad):
            return
        step = escaped(summary["next_step"], 2000)
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
        shown.append((f"{self._items:,}", "total", ""))
        shown.append((duration_text(self._took_s), "at work", ""))
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
        panels = Panels(
            seen=self._seen,
            timeline=self._timeline,
            use=self._summary["quota"],
            items=self._items,
            bad=self._bad,
            pending=self._pending,
            took=self._took(),
        )
        yield panels.progress()
        yield panels.pace()
        yield panels.quota()
        yield panels.latency()
        yield self._outcomes()

    def _outcomes(self) -> str:
        """Return what became of the items, and why those failed that did, the server's most frequent words first."""
        if not self._bad:
            answers = ", ".join(f"{count:,} with {status}" for status, count in self._seen.http.most_common(8))
            return card(
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
            f'<td><span class="server" dir="auto">{escaped(cause.words, 240)}</span></td></tr>'
            for cause in causes[:CAUSES_SHOWN]
        )
        rest = len(causes) - CAUSES_SHOWN
        more = f'<p class="sub">{rest:,} more causes, each less frequent.</p>' if rest > 0 else ""
        answers = ", ".join(f"{count:,} with {status}" for status, count in self._seen.http.most_common(8))
        head = (
            '<tr><th scope="col" class="num">Items</th><th scope="col"><span class="minor">Share</span></th>'
            '<th scope="col" class="num minor">HTTP</th><th scope="col">Kind</th><th scope="col">In words</th></tr>'
        )
        return card(
            "Why items failed",
            f"{item_count(self._bad)} by cause, the most frequent first",
            f'<table class="causes small"><thead>{head}</thead><tbody>{rows}</tbody></table>{more}',
            f'<p class="sub">HTTP answers to all items: {answers}.</p>' if answers else "",
            wide=True,
        )

    def _run(self) -> str:
        summary, meta, quota = self._summary, self._meta, self._summary["quota"]
        stretches, request = self._seen.stretches, self._seen.request
        settings = msgspec.json.decode(meta.get("settings", "{}"), type=dict[str, str])
        code = summary["exit_code"]
        facts: list[tuple[str, str | None]] = [
            ("Job", escaped(summary["job"])),
            ("Server", f'<span class="mono">{escaped(summary["server"])}</span>'),
            ("First request", None if request is None else f'<span class="mono server">{escaped(request, 300)}</span>'),
            ("Items from", escaped_or_none(meta.get("items_source"))),
            ("User", escaped_or_none(meta.get("user"))),
            ("Host", escaped_or_none(meta.get("host"))),
            ("Started", time_html(timestamp(stretches[0].start_ms))),
            ("Last summary" if self._seen.broken_off else "Finished", time_html(summary["finished"])),
            (
                "At work",
                f"{duration_text(self._took_s)}" + (f" in {self._invocations} invocations" * (self._invocations > 1)),
            ),
            ("Requests sent", f"{quota['requests']:,}" + (" by the last invocation" * (self._invocations > 1))),
            (
                "Sent again",
                f"{item_count(summary['resent'])} in flight at an interruption" if summary["resent"] else None,
            ),
            ("Exit code", None if self._live else f"{code}, {self._exit_words()}"),
            (
                "Stopped for",
                None if summary["stopped"] is None or self._live else escaped(summary["stopped"]["reason"]),
            ),
            ("Mode", "dry run, nothing was sent" if self._dry else None),
            ("Run", f'<span class="mono">{escaped(summary["run"])}</span>'),
            ("Folder", f'<span class="mono">{escaped(summary["folder"])}</span>'),
            *((escaped(name, 60), escaped(value)) for name, value in settings.items()),
        ]
        shown = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts if value)
        return card("The run", "", f'<dl class="facts">{shown}</dl>')

    def _log(self) -> str:
        rows = "".join(
            f'<tr><td><time datetime="{escaped(note.first, 40)}">{clock_text(note.first)}</time></td>'
            f'<td{" class=doubt" * note.bad}><span class="server">{escaped(note.words or note.event, 300)}'
            f"{f' ({note.count:,} times in a row)' if note.count > 1 else ''}</span></td></tr>"
            for note in self._seen.notes
        )
        if not rows:
            return card("What happened", "", '<p class="empty">No events were recorded.</p>')
        more = f'<p class="sub">{self._seen.left_out:,} more are in events.jsonl.</p>' if self._seen.left_out else ""
        head = '<tr><th scope="col">Time</th><th scope="col">Event</th></tr>'
        return card(
            "What happened", "", f'<table class="log small"><thead>{head}</thead><tbody>{rows}</tbody></table>{more}'
        )

    def _failures(self) -> Iterator[str]:
        failures = self._seen.failures
        if not failures.total:
            return
        listed = len(failures.rows)
        note = f"{item_count(failures.total)} that failed or are in doubt, with the server's own words"
        if listed < failures.total:
            note = (
                f"the first {listed:,} to fail of {failures.total:,}; "
                f"the {failures.total - listed:,} others are in failed.csv"
            )
        yield f'<section class="card wide long"><h2 id="failures-title">Failures</h2><p class="note">{note}</p>'
        if listed > PRINTED:
            yield f'<p class="note only-print">The first {PRINTED:,} rows are printed.</p>'
        kinds = "".join(
            f'<option value="{kind}">{html.escape(words_of_kind(kind))} ({count:,})</option>'
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
