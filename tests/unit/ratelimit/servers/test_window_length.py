"""A window's length is found from resets in whole seconds, and never too short."""

import math

from hypothesis import given
from hypothesis import strategies as st

from migrator.ratelimit.servers.report import Report
from migrator.ratelimit.servers.window_length import USUAL_S, WindowLength


def report(reset_s: float, *, resolution_s: float = 1.0, window_s: float | None = None) -> Report:
    """Return the first answer of a window."""
    return Report(
        limit=10,
        remaining=9,
        reset_s=reset_s,
        resolution_s=resolution_s,
        late_s=0.0,
        window_s=window_s,
        opening=True,
        sent=0.0,
        now=0.05,
        in_flight=0,
        overtaken=0,
    )


@given(st.sampled_from(USUAL_S), st.lists(st.floats(0.0, 0.9), min_size=2, max_size=9), st.floats(1.0, 2.0))
def test_never_shorter_than_the_window(window_s: int, late: list[float], resolution_s: float) -> None:
    """Seen from a little after its begin on, and rounded up, a usual length is found as it is."""
    one = WindowLength()
    for late_s in late:
        one.answered(report(float(math.ceil(window_s - late_s)), resolution_s=resolution_s))

    assert one.seconds is not None
    assert one.seconds >= window_s - (resolution_s > 1.0)
    assert resolution_s > 1.0 or one.seconds == window_s


def test_half_a_window_is_not_believed() -> None:
    """The first answer may have met a window that was half over: a second one has to begin."""
    one = WindowLength()
    one.answered(report(29.0))
    assert one.seconds is None

    one.answered(report(60.0))
    assert one.seconds == 60.0


def test_a_policy_names_it() -> None:
    """Where a policy names the length, nothing is guessed."""
    one = WindowLength()
    one.answered(report(3.0, window_s=7.0))

    assert one.seconds == 7.0


@given(st.integers(1, 100))
def test_any_whole_length(window_s: int) -> None:
    """A length that few servers use is found from two windows' first resets."""
    one = WindowLength()
    one.answered(report(float(window_s)))
    one.answered(report(float(window_s)))

    assert one.seconds == window_s


def test_too_short() -> None:
    """After a refusal the next length is taken, as long as the resets allow one."""
    one = WindowLength()
    for _ in range(2):
        one.answered(report(1.9, resolution_s=1.9))
    assert one.seconds == 1.0

    assert one.too_short()
    assert one.seconds == 2.0
    assert one.too_short()
    assert not one.too_short()
