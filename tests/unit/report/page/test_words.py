"""Numbers, times and server texts as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.report.page.words import cut, item_count, nice_top, number_text, own_words, sentence, visible
from migrator.results import ErrorKind, ItemError


@given(st.floats(0, 1e12))
def test_top_of_an_axis(value: float) -> None:
    """An axis ends at or above its highest value, and the value still fills a good part of it."""
    top = nice_top(value)

    assert top >= value
    assert top <= max(2, 1.6 * value)


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (7.5, "7.5"), (250.4, "250"), (12_000, "12,000")])
def test_number(value: float, text: str) -> None:
    """A number has separators, and a decimal only where it is small."""
    assert number_text(value) == text


def test_counts_and_sentences() -> None:
    """One item is no items, and the last of several facts follows an and."""
    assert [item_count(count) for count in (0, 1, 1200, "many")] == ["0 items", "1 item", "1,200 items", "many items"]
    assert sentence("It stopped", ["1 failed"]) == "It stopped; 1 failed."
    assert sentence("It stopped", ["1 failed", "2 are in doubt", "3 are left"]) == (
        "It stopped; 1 failed, 2 are in doubt and 3 are left."
    )


def test_text_that_html_forbids() -> None:
    """Control characters are shown as pictures; lines stay lines, and a number stays a number."""
    assert visible("a\x00b\x1bc\x7f\n\td") == "a␀b␛c␡\n\td"
    assert visible(7) == 7


@given(st.text(max_size=50), st.integers(1, 20))
def test_cut(text: str, longest: int) -> None:
    """A text is never longer than allowed, and a short one is left as it is."""
    assert len(cut(text, longest)) <= longest
    assert cut(text, 50) == text


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (
            ItemError(
                kind=ErrorKind.VALIDATION, status=422, title="A", detail="B", message="the server answered 422: A: B"
            ),
            "",
        ),
        (
            ItemError(kind=ErrorKind.VALIDATION, status=422, title="A", message="the server answered 422: A; try C"),
            "try C",
        ),
        (ItemError(kind=ErrorKind.TIMEOUT, message="no answer within 30 s"), "no answer within 30 s"),
    ],
)
def test_what_the_server_did_not_say(error: ItemError, own: str) -> None:
    """The server's own words are not repeated in ours."""
    assert own_words(error) == own
