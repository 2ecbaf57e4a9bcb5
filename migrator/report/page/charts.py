"""The charts of a report, as SVG: a viewer that runs no scripts shows them all the same."""

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from migrator.report.page.data import Bin, Stretch
from migrator.report.page.words import MOMENTS_MS, number_text, tick_text

__all__ = ["Chart", "Span", "Timeline", "latency_label", "legend_html"]

BARS: Final = 120

BARS_MS: Final = (100, 200, 500, *MOMENTS_MS)
"""Widths that a person would choose, for ticks and for bars."""


@dataclass(frozen=True, slots=True)
class Span:
    """A bar's time."""

    start_ms: int
    bin: Bin


@dataclass(frozen=True, slots=True)
class Timeline:
    """The time in which the run was at work, without the pauses between invocations, in bars of one width."""

    width_ms: int
    total_ms: float
    spans: Sequence[Span]
    seams: Sequence[float]
    """Where an invocation took the run up again, as shares of the whole."""

    @classmethod
    def of(cls, stretches: Sequence[Stretch]) -> "Timeline":
        """Return the time of some invocations."""
        lengths = [stretch.end_ms - stretch.start_ms for stretch in stretches]
        total_ms = max(1000, sum(lengths))
        width_ms = next((width for width in BARS_MS if total_ms / width <= BARS), math.ceil(total_ms / BARS))
        bins = [Bin() for _ in range(math.ceil(total_ms / width_ms))]
        starts, seams, before_ms = [stretches[0].start_ms] * len(bins), [], 0.0
        for stretch, length_ms in zip(stretches, lengths, strict=True):
            if before_ms:
                seams.append(before_ms / total_ms)
            for place in range(math.ceil(before_ms / width_ms), len(bins)):
                starts[place] = round(stretch.start_ms + place * width_ms - before_ms)
            for since_ms, one in stretch.bins():
                bins[min(len(bins) - 1, int((before_ms + since_ms) // width_ms))].add(one)
            before_ms += length_ms
        spans = [Span(start, one) for start, one in zip(starts, bins, strict=True)]
        return cls(width_ms, max(total_ms, len(bins) * width_ms), spans, seams)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield shares of the axis with their labels, five at the most."""
        step = self._step_ms
        for place in range(int(self.total_ms // step) + 1):
            yield place * step / self.total_ms, tick_text(place * step, step, colon=self.total_ms > 60_000)

    @property
    def _step_ms(self) -> float:
        return next((step for step in MOMENTS_MS if self.total_ms / step <= 5), math.ceil(self.total_ms / 5))

    @property
    def unit(self) -> str:
        """What the labels of the ticks are in, where they do not say so themselves."""
        return " (min:s)" if self.total_ms > 60_000 > self._step_ms else ""


@dataclass(slots=True)
class Chart:
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
        """Return a value's height, in percent from the top."""
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
        """Draw where one invocation ends and the next begins."""
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
        gutter = 12 + 7 * max(len(number_text(value)) for value, _ in values)
        labels = "".join(
            f'<text x="{gutter - 8}" y="{y + 4:.1f}" text-anchor="end">{number_text(value)}</text>'
            for value, y in values
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


def legend_html(*entries: tuple[str, str]) -> str:
    """Return a chart's legend, from classes and words."""
    swatches = "".join(
        '<span><svg viewBox="0 0 11 11" aria-hidden="true">'
        f'<rect class="f-{tone}" width="11" height="11" rx="2"/></svg>'
        f"{html.escape(words)}</span>"
        for tone, words in entries
    )
    return f'<p class="legend">{swatches}</p>'


def latency_label(milliseconds: float) -> str:
    """Return a label for the axis of latency."""
    return f"{milliseconds:g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"
