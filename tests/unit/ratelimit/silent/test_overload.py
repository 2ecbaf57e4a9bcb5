"""A 503 is a refusal for the rate limit where others pass at the same time, and no sign of one in an outage."""

from random import Random

import pytest

from migrator.ratelimit.silent.overload import Overload


def test_a_limiter() -> None:
    """Where every second of many requests is refused, that is soon believed."""
    one = Overload()
    refused = [one.answered(unavailable=number % 2 == 1, sent=0.01 * number) for number in range(30)]

    assert one.believed
    assert not any(refused[:9])
    assert all(refused[13::2])


def test_much_too_fast() -> None:
    """Where only one in fifty passes, that is a limiter too."""
    one = Overload()
    refused = [one.answered(unavailable=number % 50 > 0, sent=0.0004 * number) for number in range(200)]

    assert one.believed
    assert all(refused[151:200])


def test_an_outage() -> None:
    """Where nothing passes any more, the server is down."""
    one = Overload()
    for number in range(200):
        assert not one.answered(unavailable=number >= 50, sent=0.01 * number)


@pytest.mark.parametrize("seed", range(20))
def test_single_errors(seed: int) -> None:
    """One error in fifty is no limiter."""
    one, rng = Overload(), Random(seed)

    assert not any(one.answered(unavailable=rng.random() < 0.02, sent=0.01 * number) for number in range(5000))


def test_it_is_given_up() -> None:
    """Where as many are refused whatever the pace, the server has another reason, and that is not forgotten."""
    one, rng = Overload(), Random(1)
    for number in range(5000):
        one.answered(unavailable=rng.random() < 0.4, sent=0.01 * number)

    assert one.refuted
    assert not one.believed
