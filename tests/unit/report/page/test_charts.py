"""A chart's numbers are those of the run: every item in one bar, every refusal marked, every resume seen."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from summaries import summary

from migrator.report.page import charts
from migrator.report.page.charts import Timeline
from migrator.report.page.data import Invocation, RunData
from migrator.report.summary import QuotaUse

START_MS = 1_795_435_200_000
NO_WAIT: QuotaUse = {"limit": 100, "remaining": 42, "requests": 10, "refused": 0, "waited_s": {}}

MOMENTS = st.lists(st.tuples(st.integers(0, 50_000_000), st.booleans()), min_size=1, max_size=60)


def invocation(*moments_ms: int, start_ms: int = START_MS) -> Invocation:
    """Return an invocation in which items succeeded at these moments after its start."""
    made = Invocation(start_ms, ended=True)
    for moment_ms in moments_ms:
        made.at(start_ms + moment_ms).good += 1
    return made


def seen(**changes: Any) -> RunData:
    """Return what is known of a run before anything is read."""
    return RunData(summary(**changes), lambda _row: "")


@given(moments=MOMENTS, pause_ms=st.integers(0, 10**9))
def test_every_item_is_in_one_bar(moments: list[tuple[int, bool]], pause_ms: int) -> None:
    """However long a run was, and however often it was resumed, its bars hold each item once."""
    first, second = Invocation(START_MS), Invocation(START_MS + 50_000_000 + pause_ms)
    for moment_ms, late in moments:
        one = second if late else first
        one.at(one.start_ms + moment_ms).good += 1

    line = Timeline.of([first, second])

    assert sum(one.good for _, one in line.bars) == len(moments)
    assert len(line.bars) <= max(charts.BARS, 10)
    assert all(0 <= share <= 1 for share, _ in line.ticks())
    assert all(0 <= share <= 1 for share in line.seams)


def test_pause_between_invocations_is_left_out() -> None:
    """The axis is the time in which the run was active, with a seam where it was resumed."""
    line = Timeline.of([invocation(0, 10_000), invocation(0, 30_000, start_ms=START_MS + 86_400_000)])

    assert (line.total_ms, line.seams) == (40_000, [0.25])
    assert [words for _, words in line.ticks()] == ["0", "10 s", "20 s", "30 s", "40 s"]


@pytest.mark.parametrize(
    ("length_ms", "last"),
    [
        (900, "1 s"),
        (90_000, "1:30"),
        (1_800_000, "30 min"),
        (7_200_000, "120 min"),
        (36_000_000, "10 h"),
        (864_000_000, "10 d"),
    ],
)
def test_axis_of_time(length_ms: int, last: str) -> None:
    """The labels have the unit in which a person would say the time, and there are few of them."""
    ticks = Timeline.of([invocation(0, length_ms)]).ticks()

    assert ticks[-1][1] == last
    assert len(ticks) <= 6


def test_progress() -> None:
    """The line ends where the run stands, and the goal is named while items are left."""
    data = seen()
    data.counts.update(succeeded=3)

    chart = charts.progress(data, Timeline.of([invocation(0, 500, 900)]), items=10, took="1 s")

    assert chart.line.endswith(f"1000,{chart.y(3)}")
    assert chart.goal == (10.0, "10 total")
    assert chart.label == "Items finished over time: 3 of 10 in 1 s, 0 not succeeded."


def test_pace() -> None:
    """A bar is as high as the items that finished in its time, with those that failed on top."""
    one = Invocation(START_MS)
    one.at(START_MS).good = 6
    one.at(START_MS).bad = 2
    one.end_ms = START_MS + 1000

    chart = charts.pace(seen(), Timeline.of([one]))

    assert [(tone, high) for tone, _, _, _, high in chart.bars] == [("good", 75.0), ("bad", 25.0)]
    assert chart.hits[0][2] == "12:00:00.0: 8 finished, 2 not succeeded"


def test_quota() -> None:
    """What is left is drawn from answer to answer, and each refusal has a flag."""
    one = Invocation(START_MS)
    one.at(START_MS).quota(80)
    one.at(START_MS + 500).refused = 1
    one.at(START_MS + 999).quota(5)

    chart = charts.quota(
        seen(), Timeline.of([one]), {**NO_WAIT, "waited_s": {"quota used up": 12.0, "even pace": 0.01}}
    )

    assert chart.label == "Quota remaining over time, 5 at the least; 1 refusal (429)."
    assert len(chart.flags) == 1
    assert chart.below == "Requests were ready and waited 12 s for quota used up."


def test_quota_that_no_answer_told() -> None:
    """Without any answer about a quota there is a sentence, and no empty chart."""
    chart = charts.quota(seen(), Timeline.of([invocation(0)]), {**NO_WAIT, "limit": None, "remaining": None})

    assert (chart.top, chart.note) == (0.0, "The server announced no quota; no refusals (429).")


@given(durations=st.lists(st.floats(0.01, 1e6), min_size=1, max_size=80))
def test_latency(durations: list[float]) -> None:
    """Each duration is in one bar, and the named quantiles are in order, within the axis and the measured range."""
    data = seen()
    for duration_ms in durations:
        data.latencies.add(duration_ms)

    chart = charts.latency(data)

    counted = sum(high * chart.top / 100 for _, _, _, _, high in chart.bars)
    shares = [share for _, share in chart.marks]
    assert math.isclose(counted, len(durations), rel_tol=0.02)
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    assert min(max(value, 0.1) for value in durations) <= data.latencies.quantile(0.5) <= max(0.1, *durations)


def test_latency_of_nothing() -> None:
    """Where no attempt was timed there is no chart."""
    assert charts.latency(seen()).note == "No item's last attempt was timed."
