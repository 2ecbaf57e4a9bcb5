"""What is left of a window goes evenly until its end."""

import pytest

from migrator.ratelimit.model import Ticket
from migrator.ratelimit.pace.even_pace import EvenPace


def ticket(sent: float, number: int) -> Ticket:
    """Return a probe."""
    return Ticket(sent, True, 0, 0, 0, number, False)


def test_the_budget_over_the_time_that_is_left() -> None:
    """The rate is the budget over the rest of the window, and a request that is behind is made up."""
    one = EvenPace()
    one.opened(ticket(0.0, 1), 0.0, window_s=10.0)

    assert one.rate(1.0, budget=45, ends=10.0, window_s=10.0, requests=7) == pytest.approx(45.5 / 9.0, rel=0.01)
    behind = one.rate(1.0, budget=45, ends=10.0, window_s=10.0, requests=3)
    assert behind is not None
    assert behind > 45.5 / 9.0 + 4.0


def test_the_last_tenth_keeps_the_rate() -> None:
    """In the last tenth what little is left does not change the rate, and before any window there is none."""
    one = EvenPace()
    assert one.rate(9.5, budget=5, ends=10.0, window_s=10.0, requests=0) is None

    one.opened(ticket(0.0, 1), 0.0, window_s=10.0)
    before = one.rate(8.9, budget=5, ends=10.0, window_s=10.0, requests=46)
    assert one.rate(9.7, budget=0, ends=10.0, window_s=10.0, requests=51) == before
