"""Values are read with their units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.times import parse_duration
from migrator.values import Verify, one_of, parse_rate, parse_share, whole


@given(st.integers(1, 10**5), st.sampled_from([("s", 1), ("m", 60), ("h", 3600)]))
def test_units(number: int, unit: tuple[str, int]) -> None:
    """Durations and rates keep their units."""
    name, seconds = unit

    assert parse_duration(f"{number}{name}") == number * seconds
    assert parse_rate(f"{number}/{name}") == pytest.approx(number / seconds)


@given(st.floats(0, 100).map(lambda share: round(share, 3)))
def test_shares(share: float) -> None:
    """A percentage becomes a share from 0 to 1."""
    assert parse_share(f"{share:.3f}%") == pytest.approx(share / 100)


def test_words_and_bounds_are_told() -> None:
    """A refused value is answered with the words or the bounds that are allowed."""
    with pytest.raises(ValueError, match="none, response or read"):
        one_of(Verify).parse("all")
    with pytest.raises(ValueError, match="a number from 1 to 9"):
        whole(1, 9).parse("10")
