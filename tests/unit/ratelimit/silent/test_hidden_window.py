"""A window is found from its refusals: with Retry-After at once, without by probes at the lengths that servers use."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.ratelimit.silent.hidden_window import HiddenWindow


@given(st.integers(1, 200), st.integers(1, 3600), st.floats(0.0, 0.9))
def test_retry_after_tells_the_length(limit: int, window_s: int, age_s: float) -> None:
    """The age of the first request and Retry-After, which is rounded up, are a whole number of seconds and a part."""
    one = HiddenWindow(limit, 5.0)

    assert one.refused(limit, 5.0 + age_s, 5.0 + age_s, float(math.ceil(window_s - age_s)))

    assert one.length_s in {window_s, window_s + 1}
    assert age_s > 0.0 or one.length_s == window_s


@pytest.mark.parametrize("window_s", [0.5, 1.0, 10.0, 45.0, 60.0, 3600.0, 86400.0])
def test_probes_find_the_length(window_s: float) -> None:
    """Without Retry-After few probes are refused before one passes, and the length is not much too long."""
    one, now, probes = HiddenWindow(10, 0.0), 0.01, 0
    while now < window_s:
        assert one.refused(10 if not probes else 0, now, now, None)
        now = one.probe_at(now, first=not probes)
        probes += 1
    one.passed(now, math.inf)

    assert one.most_s == now >= window_s
    assert now <= 2.0 * window_s + 0.3
    assert probes <= 3 + 2.6 * math.log2(max(2.0, 10.0 * window_s))


def test_a_short_run_is_no_window() -> None:
    """A bucket lets far fewer pass after the pause."""
    one = HiddenWindow(100, 0.0)
    one.refused(100, 0.5, 0.5, 1.0)
    one.passed(1.6, math.inf)

    assert not one.refused(3, 1.7, 1.7, 1.0)


def test_a_refusal_at_a_windows_begin_makes_it_longer() -> None:
    """A guess that was a remainder of the first window is corrected by the next one."""
    one = HiddenWindow(10, 0.0)
    one.refused(10, 0.1, 0.1, 23.0)
    assert one.length_s == 23.0
    one.passed(23.2, math.inf)

    assert one.refused(10, 46.2, 46.2, 37.0)
    assert one.length_s == 60.0


def test_a_burst_that_met_two_windows() -> None:
    """A probe goes a whole length after the last request of the burst, and the length that servers use is kept."""
    one, now = HiddenWindow(93, 0.0, 0.9), 0.95
    ends, probes = 10.4, 0
    while now < ends:
        assert one.refused(93 if not probes else 0, now, now, None)
        now = one.probe_at(now, first=not probes)
        probes += 1

    assert now == pytest.approx(10.9)
    assert probes <= 5


def test_retry_after_never_makes_the_length_shorter() -> None:
    """Requests that began late in a window tell of its rest, not of its length."""
    one = HiddenWindow(50, 0.0)
    one.refused(50, 0.5, 0.5, 10.0)
    assert one.length_s == 10.0

    one.refused(50, 15.0, 15.0, 5.0, last=14.0)
    assert one.length_s == 10.0


def test_a_limit_that_has_held_is_exceeded_by_a_little() -> None:
    """After some windows without a refusal more is tried; a refusal of that makes it rarer."""
    one = HiddenWindow(10, 0.0)
    one.refused(10, 0.1, 0.1, 60.0)
    for number in range(40):
        assert one.allowed() == 10
        one.passed(60.2, 60.0 if number >= 10 else math.inf)
    assert one.allowed() == 11

    one.refused(41, 300.0, 300.0, 60.0)
    assert (one.limit, one.allowed()) == (10, 10)
