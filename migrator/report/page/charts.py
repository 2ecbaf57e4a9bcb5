"""The charts of a report as numbers, which the template draws: a viewer that runs no scripts shows them too."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from migrator.report.page.data import Bin, Invocation, RunData
from migrator.report.page.words import MOMENTS_MS, item_count, nice_top, number_text, tick_text
from migrator.report.summary import QuotaUse
from migrator.times import duration_text, latency_text, timestamp

__all__ = ["Chart", "Timeline", "latency", "pace", "progress", "quota"]

BARS: Final = 120
"""Bars of a chart over time at the most."""

BARS_MS: Final = (100, 200, 500, *MOMENTS_MS)
"""Widths of bars that a person would choose."""

STEPS: Final = ((1, (1, 1.5, 2, 3, 5, 7)), (2, (1, 2, 5)), (3, (1, 3)))
"""Labels of a decade on the axis of latencies, for so many decades at the most."""

HEIGHT: Final = 132
"""Of a plot, in pixels."""


class Chart(msgspec.Struct, kw_only=True):
    """A chart, whose plot is 1000 wide and 100 high and stretches with the page.

    Attributes:
        title: its heading.
        note: what its values are.
        label: what it shows, for those who do not see it.
        top: where the axis of values ends; 0 where there is nothing to draw.
        ticks: shares of the horizontal axis with their labels.
        legend: the tones with their words.
        areas: polygons, as a tone and points.
        line: the points of a line.
        bars: tone, left, width, top and height of each bar.
        hits: left, width and words of what is told where the pointer rests.
        seams: shares of the axis where the run was resumed.
        flags: shares of the axis where requests were refused.
        marks: shares of the axis with a name each.
        goal: a value with its words, drawn as a horizontal line.
        below: a sentence below the chart.
        figures: names and values below it.
    """

    title: str
    note: str
    label: str = ""
    top: float = 0.0
    ticks: Sequence[tuple[float, str]] = ()
    legend: Sequence[tuple[str, str]] = ()
    areas: list[tuple[str, str]] = msgspec.field(default_factory=list)
    line: str = ""
    bars: list[tuple[str, float, float, float, float]] = msgspec.field(default_factory=list)
    hits: list[tuple[float, float, str]] = msgspec.field(default_factory=list)
    seams: Sequence[float] = ()
    flags: list[float] = msgspec.field(default_factory=list)
    marks: Sequence[tuple[str, float]] = ()
    goal: tuple[float, str] | None = None
    below: str = ""
    figures: Sequence[tuple[str, str]] = ()

    def y(self, value: float) -> float:
        """Return a value's height, in percent from the top."""
        return round(100 - 100 * value / self.top, 2)

    @property
    def values(self) -> Sequence[tuple[float, str]]:
        """The labels of the vertical axis, with their distance from the plot's top in pixels."""
        return [(self.y(value) * HEIGHT / 100, number_text(value)) for value in (0.0, self.top / 2, self.top)]

    def bar(self, tone: str, left: float, width: float, low: float, high: float) -> None:
        """Draw a bar from one value to another; left and width are shares of the axis."""
        if high > low:
            top = self.y(high)
            self.bars.append((tone, round(1000 * left, 2), round(1000 * width, 2), top, round(self.y(low) - top, 2)))

    def hit(self, left: float, width: float, words: str) -> None:
        """Tell more where the pointer rests."""
        self.hits.append((round(1000 * left, 2), round(1000 * width, 2), words))


class Timeline(msgspec.Struct, frozen=True):
    """The time in which the run was active, without the pauses between invocations, in bars of one width.

    Attributes:
        width_ms: of a bar.
        total_ms: of all bars.
        bars: the start of each, in milliseconds since the epoch, and what happened in it.
        seams: where an invocation resumed the run, as shares of the whole.
    """

    width_ms: int
    total_ms: float
    bars: Sequence[tuple[int, Bin]]
    seams: Sequence[float]

    @classmethod
    def of(cls, invocations: Sequence[Invocation]) -> "Timeline":
        """Return the time of some invocations."""
        lengths = [one.end_ms - one.start_ms for one in invocations]
        total_ms = max(1000, sum(lengths))
        width_ms = next((width for width in BARS_MS if total_ms / width <= BARS), math.ceil(total_ms / BARS))
        bins = [Bin() for _ in range(math.ceil(total_ms / width_ms))]
        total_ms = len(bins) * width_ms
        starts, seams, before_ms = [invocations[0].start_ms] * len(bins), [], 0.0
        for invocation, length_ms in zip(invocations, lengths, strict=True):
            if before_ms:
                seams.append(before_ms / total_ms)
            for place in range(math.ceil(before_ms / width_ms), len(bins)):
                starts[place] = round(invocation.start_ms + place * width_ms - before_ms)
            for since_ms, one in invocation.bins():
                bins[min(len(bins) - 1, int((before_ms + since_ms) // width_ms))].add(one)
            before_ms += length_ms
        return cls(width_ms, total_ms, list(zip(starts, bins, strict=True)), seams)

    @property
    def _step_ms(self) -> float:
        return next((step for step in MOMENTS_MS if self.total_ms / step <= 5), math.ceil(self.total_ms / 5))

    def ticks(self) -> Sequence[tuple[float, str]]:
        """Return shares of the axis with their labels, six at the most."""
        step, long = self._step_ms, self.total_ms > 60_000
        places = range(int(self.total_ms // step) + 1)
        return [(place * step / self.total_ms, tick_text(place * step, step, colon=long)) for place in places]

    def axis(self, values: str) -> str:
        """Return what a chart's values are, and what its horizontal axis is."""
        unit = " (min:s)" if self.total_ms > 60_000 > self._step_ms else ""
        return f"{values}, by running time{unit}"

    def places(self) -> Iterator[tuple[float, float, str, Bin]]:
        """Yield the left and the width of each bar, as shares of the axis, its time of day, and what happened in it."""
        share = self.width_ms / self.total_ms
        for place, (start_ms, one) in enumerate(self.bars):
            yield place * share, share, timestamp(start_ms)[11 : 21 if self.width_ms < 1000 else 19], one


def _finished(at: str, good: int, bad: int) -> str:
    return f"{at}: {good + bad:,} finished" + (f", {bad:,} not succeeded" if bad else "")


def _tones(bad: int) -> Sequence[tuple[str, str]]:
    return [("good", "succeeded"), *([("bad", "failed or in doubt")] if bad else [])]


def progress(data: RunData, line: Timeline, *, items: int, took: str) -> Chart:
    """Return the chart of finished items over time."""
    done, bad = data.counts.total(), data.bad
    again = f"; resumed at the upright dashed line{'s' * (len(line.seams) > 1)}" if line.seams else ""
    chart = Chart(
        title="Progress",
        note=line.axis("items finished so far") + again,
        label=f"Items finished over time: {done:,} of {items:,} in {took}, {bad:,} not succeeded.",
        top=nice_top(max(items, done)),
        ticks=line.ticks(),
        legend=_tones(bad),
        seams=line.seams,
        goal=(items, f"{items:,} total" if items > done else ""),
    )
    good, failed = 0, 0
    upper, lower = [f"0,{chart.y(0)}"], [f"0,{chart.y(0)}"]
    for left, width, at, one in line.places():
        good, failed = good + one.good, failed + one.bad
        x = round(1000 * min(1, left + width), 2)
        lower.append(f"{x},{chart.y(good)}")
        upper.append(f"{x},{chart.y(good + failed)}")
        chart.hit(left, width, _finished(at, good, failed))
    chart.areas.append(("band", " ".join([*lower, "1000,100", "0,100"])))
    if failed:
        chart.areas.append(("bad", " ".join([*upper, *reversed(lower)])))
    chart.line = " ".join(lower)
    return chart


def pace(data: RunData, line: Timeline) -> Chart:
    """Return the chart of items finished in each span of time."""
    most = max(one.good + one.bad for _, one in line.bars)
    width_text = duration_text(line.width_ms / 1000)
    chart = Chart(
        title="Pace",
        note=line.axis(f"items finished in each {width_text}"),
        label=f"Items finished in each {width_text}: {most:,} at the most.",
        top=nice_top(most),
        ticks=line.ticks(),
        legend=_tones(data.bad),
        seams=line.seams,
    )
    for left, width, at, one in line.places():
        chart.bar("good", left + 0.08 * width, 0.84 * width, 0, one.good)
        chart.bar("bad", left + 0.08 * width, 0.84 * width, one.good, one.good + one.bad)
        chart.hit(left, width, _finished(at, one.good, one.bad))
    return chart


def quota(data: RunData, line: Timeline, use: QuotaUse) -> Chart:
    """Return the chart of the quota that was left over time, with the refusals."""
    seen = sum(one.refused for _, one in line.bars)
    refused = max(use["refused"], seen)
    said = f"{refused:,} refusal{'s' * (refused != 1)} (429)" if refused else "no refusals (429)"
    waited = [f"{duration_text(seconds)} for {why}" for why, seconds in use["waited_s"].items() if seconds > 0.05]
    below = f"Requests were ready and waited {', '.join(waited)}." if waited else ""
    lows = [one.low for _, one in line.bars if one.low is not None]
    if not lows and not seen:
        return Chart(title="Quota", note=f"The server announced no quota; {said}.", below=below)
    most = max([1, *(one.high for _, one in line.bars if one.high is not None)])
    limit = data.limit
    note = line.axis("requests that the server still allows" + ("" if limit is None else f", of {limit:,}"))
    chart = Chart(
        title="Quota",
        note=note if seen else f"{note}; {said}",
        label=f"Quota remaining over time{f', {min(lows):,} at the least' if lows else ''}; {said}.",
        top=nice_top(max(most, limit) if limit and limit <= 4 * most else most),
        ticks=line.ticks(),
        legend=[*([("good", "requests left")] if lows else []), *([("bad", said)] if seen else [])],
        seams=line.seams,
        below=below,
    )
    points: list[str] = []
    last: int | None = None
    for left, width, at, one in line.places():
        words = []
        if one.low is not None and one.high is not None:
            # What was left stays so until an answer says otherwise; within a span it is used up.
            points += [f"{round(1000 * left, 2)},{chart.y(value)}" for value in (last, one.high) if value is not None]
            points.append(f"{round(1000 * (left + width), 2)},{chart.y(one.low)}")
            last = one.low
            words.append(f"{one.low:,} left" if one.low == one.high else f"{one.low:,} to {one.high:,} left")
        if one.refused:
            words.append(f"{one.refused:,} refused")
            chart.flags.append(left + width / 2)
        if words:
            chart.hit(left, width, f"{at}: {', '.join(words)}")
    chart.line = " ".join(points)
    return chart


def latency(data: RunData) -> Chart:
    """Return the chart of how long each item's last attempt took, on a logarithmic scale."""
    latencies = data.latencies
    if not latencies.total:
        return Chart(title="Latency", note="No item's last attempt was timed.")
    per_decade, start, bars = latencies.bars()
    marks = {f"p{share}": latencies.quantile(share / 100) for share in (50, 95, 99)}
    figures = [(name, latency_text(value)) for name, value in (*marks.items(), ("most", latencies.high_ms))]
    share = 1 / len(bars)

    def place_of(value_ms: float) -> float:
        return (math.log10(value_ms) * per_decade - start) * share

    decades = range(math.floor(start / per_decade), math.ceil((start + len(bars)) / per_decade) + 1)
    steps = next((steps for most, steps in STEPS if len(bars) <= most * per_decade), (1,))
    values = [step * 10.0**decade for decade in decades for step in steps]
    chart = Chart(
        title="Latency",
        note="of each item's last attempt, on a logarithmic scale",
        label=f"How long each item's last attempt took: {', '.join(' '.join(figure) for figure in figures)}.",
        top=nice_top(max(bars)),
        ticks=[
            (place_of(value), f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s")
            for value in values
            if 0 <= place_of(value) <= 1
        ],
        marks=[(name, place_of(value)) for name, value in marks.items()],
        figures=figures,
    )
    for place, count in enumerate(bars):
        if count:
            low, high = (latency_text(10 ** ((start + place + side) / per_decade)) for side in (0, 1))
            chart.bar("good", (place + 0.06) * share, 0.88 * share, 0, count)
            chart.hit(place * share, share, f"{low} to {high}: {item_count(count)}")
    return chart
