"""The server's clock is narrowed by every answer, and never on the wrong side."""

from hypothesis import given
from hypothesis import strategies as st

from migrator.ratelimit.dialect.server_clock import ServerClock


@given(
    ahead=st.floats(-1e4, 1e4),
    answers=st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(0.0, 2.0), st.floats(0.0, 1.0)), min_size=1, max_size=20),
)
def test_the_truth_is_never_excluded(ahead: float, answers: list[tuple[float, float, float]]) -> None:
    """Whenever and however slowly answers come, the true distance lies in the interval, which only gets narrower."""
    one, width = ServerClock(), float("inf")
    for sent, trip_s, share in answers:
        one.saw(float((sent + share * trip_s + ahead) // 1), sent=sent, received=sent + trip_s)

        assert one.least - 1e-6 <= ahead <= one.most + 1e-6
        assert one.most - one.least <= width + 1e-6
        width = one.most - one.least


def test_a_clock_that_was_set() -> None:
    """Where no distance fits all answers, the newest one counts."""
    one = ServerClock()
    one.saw(100.0, sent=0.0, received=0.1)
    one.saw(500.0, sent=1.0, received=1.1)

    assert (one.least, one.most) == (498.9, 500.0)


def test_a_refusal_tells_of_the_clock() -> None:
    """An instant and the seconds until then are as good as a Date."""
    one = ServerClock()
    before = one.known

    one.saw_wait(1000.0, 10.0, received=5.0)

    assert [before, one.known] == [False, True]
    assert (one.least, one.most) == (985.0, 987.0)
