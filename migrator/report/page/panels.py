"""The report's panels over time and of latencies, each a card with a chart."""

import math
from dataclasses import dataclass

from migrator.report.page.charts import Chart, Span, Timeline, latency_label, legend_html
from migrator.report.page.data import Seen
from migrator.report.page.words import escaped, item_count, nice_top
from migrator.report.summary import QuotaUse
from migrator.times import duration_text, latency_text, timestamp

__all__ = ["Panels", "card"]


def card(title: str, note: str, *content: str, wide: bool = False, long: bool = False) -> str:
    """Return a part of the page with a title."""
    classes = "card" + " wide" * wide + " long" * long
    said = f'<p class="note">{note}</p>' if note else ""
    return f'<section class="{classes}"><h2>{title}</h2>{said}{"".join(content)}</section>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """The charts of a run.

    Attributes:
        seen: what the run's files say.
        timeline: its time at work.
        use: what the throttle did.
        items: there are.
        bad: of them failed or are in doubt.
        pending: of them are still to be done.
        took: how long it was at work, in words.
    """

    seen: Seen
    timeline: Timeline
    use: QuotaUse
    items: int
    bad: int
    pending: int
    took: str

    def progress(self) -> str:
        """Return items finished over time."""
        line = self.timeline
        done = self.seen.counts.total()
        chart = Chart(
            f"Items finished over time: {done:,} of {self.items:,} in {self.took}, {self.bad:,} not succeeded.",
            nice_top(max(self.items, done)),
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
        y = chart.y(self.items) * chart.height / 100 + 10
        chart.over.append(f'<line class="dash" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        if self.pending:
            chart.over.append(f'<text x="6" y="{y - 4:.1f}">{self.items:,} total</text>')
        chart.seams(line.seams)
        entries = [("good", "succeeded")] + ([("bad", "failed or in doubt")] if bad else [])
        seams = len(line.seams)
        again = f"; resumed at the upright dashed line{'' if seams == 1 else 's'}" if seams else ""
        note = self._axis("items finished so far") + again
        return card("Progress", note, chart.svg(line.ticks()), legend_html(*entries))

    def pace(self) -> str:
        """Return items finished in each span of time."""
        line = self.timeline
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
        entries = [("good", "succeeded")] + ([("bad", "failed or in doubt")] if self.bad else [])
        return card(
            "Pace", self._axis(f"items finished in each {width}"), chart.svg(line.ticks()), legend_html(*entries)
        )

    def _axis(self, values: str) -> str:
        return f"{values}, by time at work{self.timeline.unit}"

    def _moment(self, span: Span) -> str:
        at = timestamp(span.start_ms)
        return at[11:21] if self.timeline.width_ms < 1000 else at[11:19]

    def quota(self) -> str:
        """Return the quota that was left over time, with the refusals."""
        line, quota = self.timeline, self.use
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
            return card("Quota", f"The server announced no quota; {said}.", below)
        highs = [span.bin.high for span in line.spans if span.bin.high is not None]
        limit = self.seen.limit
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
        return card(
            "Quota", note if refused_seen else f"{note}; {said}", chart.svg(line.ticks()), legend_html(*entries), below
        )

    def latency(self) -> str:
        """Return how long the last attempts took."""
        latencies = self.seen.latencies
        if not latencies.total:
            return card("Latency", "No item's last attempt was timed.")
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
        return card("Latency", note, chart.svg(ticks), f'<p class="legend">{below}</p>')
