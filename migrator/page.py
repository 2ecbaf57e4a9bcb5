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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from migrator import __version__
from migrator.brakes import Exit
from migrator.folder import write_atomically
from migrator.journal import timestamp
from migrator.ledger_reader import LedgerReader
from migrator.outcome import Status
from migrator.page_charts import Chart, Span, Timeline, latency_label, legend_html
from migrator.page_data import COLUMNS, Seen
from migrator.page_words import (
    EXIT_WORDS,
    KIND_WORDS,
    STATUS_WORDS,
    STOP_WORDS,
    clock_text,
    day_text,
    duration_text,
    escaped,
    escaped_or_none,
    item_count,
    latency_text,
    nice_top,
    sentence,
    time_html,
    words_of_kind,
)
from migrator.report import Summary

__all__ = ["write_page"]

NAME: Final = "report.html"


PRINTED: Final = 500


"""Rows of it that are printed, as the style sheet says too."""


CAUSES_SHOWN: Final = 12


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
    seen = Seen(summary)
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


def _card(title: str, note: str, *content: str, wide: bool = False, long: bool = False) -> str:
    classes = "card" + " wide" * wide + " long" * long
    said = f'<p class="note">{note}</p>' if note else ""
    return f'<section class="{classes}"><h2>{title}</h2>{said}{"".join(content)}</section>'


class _Page:
    """The parts of the page, by the names of their places."""

    def __init__(
        self,
        summary: Summary,
        seen: Seen,
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
        if self._dry or self._seen.broken_off or not (summary["resumable"] or self._bad):
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
        shown.append((f"{self._items:,}", "in all", ""))
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
        yield self._progress()
        yield self._pace()
        yield self._quota()
        yield self._latency()
        yield self._outcomes()

    def _progress(self) -> str:
        line = self._timeline
        done = self._seen.counts.total()
        chart = Chart(
            f"Items finished over time: {done:,} of {self._items:,} in {self._took()}, {self._bad:,} not succeeded.",
            nice_top(max(self._items, done)),
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
        return _card("Progress", note, chart.svg(line.ticks()), legend_html(*entries))

    def _pace(self) -> str:
        line = self._timeline
        most = max(span.bin.good + span.bin.bad for span in line.spans)
        width = duration_text(line.width_ms / 1000).replace(".0 s", " s")
        chart = Chart(f"Items finished in each {width}: {most:,} at the most.", nice_top(most))
        share = line.width_ms / line.total_ms
        for place, span in enumerate(line.spans):
            good, bad = span.bin.good, span.bin.bad
            chart.bar((place + 0.08) * share, 0.84 * share, 0, good, "good")
            chart.bar((place + 0.08) * share, 0.84 * share, good, good + bad, "bad")
            words = f"{self._moment(span)}: {good + bad:,} finished" + (f", {bad:,} not succeeded" if bad else "")
            chart.hit(place * share, share, words)
        chart.seams(line.seams)
        entries = [("good", "succeeded")] + ([("bad", "failed or in doubt")] if self._bad else [])
        return _card(
            "Pace", self._axis(f"items finished in each {width}"), chart.svg(line.ticks()), legend_html(*entries)
        )

    def _axis(self, values: str) -> str:
        return f"{values}, by time at work{self._timeline.unit}"

    def _moment(self, span: Span) -> str:
        at = timestamp(span.start_ms)
        return at[11:21] if self._timeline.width_ms < 1000 else at[11:19]

    def _quota(self) -> str:
        line, quota = self._timeline, self._summary["quota"]
        refused_seen = sum(span.bin.refused for span in line.spans)
        refused = max(quota["refused"], refused_seen)
        lows = [span.bin.low for span in line.spans if span.bin.low is not None]
        said = f"{refused:,} refusal{'' if refused == 1 else 's'} (429)" if refused else "no refusals (429)"
        waited = [
            f"{duration_text(seconds)} for {escaped(why)}"
            for why, seconds in quota["waited_s"].items()
            if seconds > 0.05
        ]
        below = f'<p class="sub">Requests were ready and waited {", ".join(waited)}.</p>' if waited else ""
        if not lows and not refused_seen:
            return _card("Quota", f"The server announced no quota; {said}.", below)
        highs = [span.bin.high for span in line.spans if span.bin.high is not None]
        limit = self._seen.limit
        top = nice_top(max([1, *highs, *([limit] if limit and limit <= 4 * max([1, *highs]) else [])]))
        least = f", {min(lows):,} at the least" if lows else ""
        chart = Chart(f"Quota remaining over time{least}; {said}.", top)
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
            "Quota", note if refused_seen else f"{note}; {said}", chart.svg(line.ticks()), legend_html(*entries), below
        )

    def _latency(self) -> str:
        latencies = self._seen.latencies
        if not latencies.total:
            return _card("Latency", "No item's last attempt was timed.")
        per_decade, start, bars = latencies.bars()
        marks = {f"p{share}": latencies.quantile(share / 100) for share in (50, 95, 99)}
        said = ", ".join(f"{name} {latency_text(value)}" for name, value in marks.items())
        chart = Chart(f"How long the last attempt of each item took: {said}.", nice_top(max(bars)))
        share = 1 / len(bars)
        for place, count in enumerate(bars):
            if count:
                low, high = (10 ** ((start + place + side) / per_decade) for side in (0, 1))
                chart.bar((place + 0.06) * share, 0.88 * share, 0, count, "good")
                chart.hit(place * share, share, f"{latency_text(low)} to {latency_text(high)}: {item_count(count)}")
        for row, (name, value) in enumerate(marks.items()):
            chart.mark((math.log10(value) * per_decade - start) * share, name, row)
        ticks = []
        for place in range(math.ceil(start / per_decade) - 1, math.ceil((start + len(bars)) / per_decade) + 1):
            for step in (1, 2, 5) if len(bars) <= 2 * per_decade else (1, 3) if len(bars) <= 3 * per_decade else (1,):
                value = step * 10.0**place
                at = (math.log10(value) * per_decade - start) * share
                if 0 <= at <= 1:
                    ticks.append((at, latency_label(value)))
        entries = [*marks.items(), ("most", latencies.high_ms)]
        below = "".join(f"<span>{name} <b>{latency_text(value)}</b></span>" for name, value in entries)
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
        return _card(
            "Why items failed",
            f"{item_count(self._bad)} by cause, the most frequent first",
            f'<table class="causes small"><thead>{head}</thead><tbody>{rows}</tbody></table>{more}',
            f'<p class="sub">HTTP answers to all items: {answers}.</p>' if answers else "",
            wide=True,
        )

    def _run(self) -> str:
        summary, meta, quota = self._summary, self._meta, self._summary["quota"]
        stretches, request = self._seen.stretches, self._seen.request
        code = summary["exit_code"]
        facts: list[tuple[str, str | None]] = [
            ("Job", escaped(summary["job"])),
            ("Server", f'<span class="mono">{escaped(summary["server"])}</span>'),
            ("First request", None if request is None else f'<span class="mono server">{escaped(request, 300)}</span>'),
            ("Items from", escaped_or_none(meta.get("items_source"))),
            ("User", escaped_or_none(self._people["user"])),
            ("Host", escaped_or_none(self._people["host"])),
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
            ("Exit code", f"{code}, {self._exit_words()}"),
            ("Stopped for", None if summary["stopped"] is None else escaped(summary["stopped"]["reason"])),
            ("Mode", "dry run, nothing was sent" if self._dry else None),
            ("Run", f'<span class="mono">{escaped(summary["run"])}</span>'),
            ("Folder", f'<span class="mono">{escaped(summary["folder"])}</span>'),
            *((escaped(name, 60), escaped(value)) for name, value in self._facts.items()),
        ]
        shown = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts if value)
        return _card("The run", "", f'<dl class="facts">{shown}</dl>')

    def _log(self) -> str:
        rows = "".join(
            f'<tr><td><time datetime="{escaped(note.first, 40)}">{clock_text(note.first)}</time></td>'
            f'<td{" class=doubt" * note.bad}><span class="server">{escaped(note.words or note.event, 300)}'
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
