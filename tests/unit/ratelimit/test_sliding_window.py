"""Our own count lets go what no window of the server's can refuse, and gives up when the server knows of more."""

import math

from hypothesis import given
from hypothesis import strategies as st

from migrator.ratelimit.sliding_window import Spent


def seen(
    spent: Spent, *, at: float, remaining: int, trip_s: float = 0.05, in_flight: int = 0, windows: int = 3
) -> None:
    """Take an answer of a quota of ten a second into account."""
    spent.answered(
        limit=10,
        remaining=remaining,
        longest_reset_s=1.0,
        windows=windows,
        sent=at - trip_s,
        now=at,
        in_flight=in_flight,
    )


@given(st.lists(st.floats(0.001, 0.4), min_size=10, max_size=60), st.integers(1, 10))
def test_no_more_than_the_limit_in_any_window(gaps: list[float], at_once: int) -> None:
    """However requests and answers lie, no stretch of a window's length sees more than the limit counted."""
    spent, now, counted = Spent(), 0.0, []
    for _ in range(10):
        seen(spent, at=now, remaining=9)
    counted += [now - 0.025] * 10
    for gap in gaps:
        now = max(now + gap, spent.next_at(0))
        burst = 0
        while burst < at_once and spent.next_at(burst) <= now:
            burst += 1
        for left in reversed(range(burst)):
            counted.append(now + 0.025)
            seen(spent, at=now + 0.05, remaining=9, in_flight=left)
        now += 0.05

    counted.sort()
    assert all(late - early > 1.0 - 1e-9 for early, late in zip(counted, counted[10:], strict=False))


def test_nothing_is_known_at_first() -> None:
    """Before some windows have begun, or where they are long, the headers alone tell."""
    spent = Spent()
    seen(spent, at=1.0, remaining=5, windows=2)
    assert not spent.known
    assert spent.next_at(0) == math.inf

    spent.answered(limit=10, remaining=9, longest_reset_s=60.0, windows=9, sent=2.0, now=2.1, in_flight=0)
    assert not spent.known


def test_all_in_flight() -> None:
    """With as many in flight as the limit, only an answer can tell."""
    spent = Spent()
    seen(spent, at=1.0, remaining=9)

    assert spent.next_at(9) == 1.0 + 1.0 - 0.025
    assert spent.next_at(10) == math.inf


def test_somebody_else_ends_it() -> None:
    """A rest that is lower than our own requests explain belongs to others, and the guess is given up."""
    spent = Spent()
    for at in (1.0, 2.5, 4.0):
        seen(spent, at=at, remaining=9)
    assert spent.known

    seen(spent, at=5.5, remaining=7)

    assert not spent.known
