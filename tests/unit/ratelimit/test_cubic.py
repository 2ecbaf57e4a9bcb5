"""Without headers a window is guessed from Retry-After; when it does not hold, the rate follows a curve."""

import math

from hypothesis import given
from hypothesis import strategies as st

from migrator.ratelimit.cubic import DECREASE, PLATEAU_S, Cubic


def accepted(one: Cubic, count: int, *, start: float, gap_s: float = 0.01) -> float:
    """Let so many be accepted, one after the other; return when the last one was."""
    for number in range(count):
        one.accepted(start + number * gap_s, before_refusal=False)
    return start + (count - 1) * gap_s


@given(st.integers(1, 200), st.integers(2, 3600))
def test_a_window_is_guessed(limit: int, window_s: int) -> None:
    """What was accepted before the refusal is the limit, and its age with Retry-After the window."""
    one = Cubic(None)
    last = accepted(one, limit, start=5.0, gap_s=1e-3)

    one.refused(float(window_s), last)

    assert one.rate(last) is None
    assert one.next_at(limit) == math.inf
    assert one.next_at(0) == 5.0 + window_s
    assert one.next_at(limit - 1) == last + window_s


def test_a_window_that_does_not_hold_is_given_up() -> None:
    """A bucket accepts far fewer after the first pause: then the rate is that of the curve."""
    one = Cubic(None)
    one.refused(1.0, accepted(one, 100, start=0.0))
    one.refused(1.0, accepted(one, 3, start=2.0))

    assert one.next_at(10**6) == -math.inf
    assert one.rate(2.1) is not None


def test_the_curve() -> None:
    """After a refusal the rate is 70 % of what was accepted, is back after a while, and then rises beyond."""
    one = Cubic(None)
    last = accepted(one, 100, start=0.0, gap_s=0.1)
    one.refused(None, last)

    held = 100 / last
    rates = [one.rate(last + share * PLATEAU_S) or 0.0 for share in (0.0, 0.5, 1.0, 1.5, 2.0)]
    assert rates[0] == DECREASE * held
    assert rates == sorted(rates)
    assert rates[2] == held
    assert rates[4] > 1.2 * held
    assert rates[1] - rates[0] > rates[2] - rates[1]


def test_the_rate_of_an_earlier_run() -> None:
    """A rate that held is where the next run begins, and what it hands on."""
    one = Cubic(20.0)

    assert one.rate(0.0) == 20.0
    assert one.steady_rate() == 20.0
    assert one.most_in_flight() == math.inf
