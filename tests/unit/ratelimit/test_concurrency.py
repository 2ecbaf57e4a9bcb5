"""The number of slots grows while answers are quick, and falls when they are slow or refused."""

from migrator.ratelimit.concurrency import MOST, Concurrency


def answers(one: Concurrency, count: int, latency_s: float, *, start: float = 0.0) -> None:
    """Take so many good answers."""
    for number in range(count):
        one.answered(latency_s, start + 0.01 * number, allowed_rate=None)


def test_it_grows_to_the_most() -> None:
    """Quick answers open all slots, and no more."""
    one = Concurrency()
    answers(one, 5000, 0.05)

    assert one.level == MOST


def test_slow_answers_lower_it() -> None:
    """A latency that has doubled is a queue at the server."""
    one = Concurrency()
    answers(one, 1000, 0.05)
    before = one.level
    answers(one, 1000, 0.5, start=100.0)

    assert one.level < before / 2


def test_refusals_for_too_many_halve_it() -> None:
    """A refusal while quota is left halves the slots, once a round trip, down to one."""
    one = Concurrency(16)
    one.crowded(1.0)
    one.crowded(1.0)
    assert one.level == 8
    for number in range(10):
        one.crowded(2.0 + number)
    assert one.level == 1


def test_a_number_that_the_user_has_set() -> None:
    """It stays as it is, whatever the latency."""
    one = Concurrency(4)
    answers(one, 500, 0.01)
    one.troubled(10.0)

    assert one.level == 4
    one.fix(None)
    answers(one, 500, 0.01, start=20.0)
    assert one.level > 4
