"""Our own log lets go what no window of the server's can refuse, and gives up when the server knows of more."""

import math

from hypothesis import given
from hypothesis import strategies as st

from migrator.ratelimit.servers.log import Log
from migrator.ratelimit.servers.report import Report
from migrator.ratelimit.servers.window_length import WindowLength


def report(*, at: float, remaining: int, trip_s: float = 0.05, in_flight: int = 0, on_trust: bool = False) -> Report:
    """Return an answer of a quota of ten a second, whose policy tells the window."""
    return Report(
        limit=10,
        remaining=remaining,
        reset_s=1.0,
        resolution_s=1.0,
        late_s=0.0,
        window_s=1.0,
        opening=False,
        sent=at - trip_s,
        now=at,
        in_flight=in_flight,
        overtaken=0,
        refused=on_trust,
        on_trust=on_trust,
    )


def log() -> tuple[Log, WindowLength]:
    """Return a log whose window's length is known."""
    length = WindowLength()
    length.answered(report(at=0.0, remaining=9))
    return Log(length), length


@given(st.lists(st.floats(0.001, 0.4), min_size=10, max_size=60), st.integers(1, 10))
def test_no_more_than_the_limit_in_any_window(gaps: list[float], at_once: int) -> None:
    """However requests and answers lie, no stretch of a window's length sees more than the limit counted."""
    (one, _), now, counted = log(), 0.0, []
    for _ in range(10):
        one.answered(report(at=now, remaining=9))
    counted += [now - 0.025] * 10
    for gap in gaps:
        now = max(now + gap, one.next_at(0))
        burst = 0
        while burst < at_once and one.next_at(burst) <= now:
            burst += 1
        for left in reversed(range(burst)):
            counted.append(now + 0.025)
            one.answered(report(at=now + 0.05, remaining=9, in_flight=left))
        now += 0.05

    counted.sort()
    assert all(late - early > 1.0 - 1e-9 for early, late in zip(counted, counted[10:], strict=False))


def test_nothing_is_known_at_first() -> None:
    """Before the window's length is known, only the headers tell."""
    one = Log(WindowLength())
    one.answered(report(at=1.0, remaining=5))

    assert not one.believed
    assert one.next_at(0) == math.inf


def test_all_in_flight() -> None:
    """With as many in flight as the limit, only an answer can tell."""
    one, _ = log()
    one.answered(report(at=1.0, remaining=9))

    assert one.next_at(9) == 1.0 + 1.0 - 0.025
    assert one.next_at(10) == math.inf


def test_others_end_it() -> None:
    """A rest that is lower than our own requests explain belongs to others, and the log is given up."""
    one, _ = log()
    for at in (1.0, 2.5, 4.0):
        one.answered(report(at=at, remaining=9))
    assert one.believed

    one.answered(report(at=5.5, remaining=7))

    assert not one.believed


def test_a_refusal_on_its_word_ends_it() -> None:
    """A refused request that went because the log allowed it ends the log."""
    one, _ = log()
    one.answered(report(at=1.0, remaining=9))

    one.answered(report(at=2.5, remaining=0, on_trust=True))

    assert one.contradicted
