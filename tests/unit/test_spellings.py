"""A text is taken back to what it spells: escapes undone, codes decoded, letter case folded, and each place kept."""

from base64 import b64decode, b64encode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from secret_spellings import SPELLINGS

from migrator.spellings import View, codes, folded, needles, views

TEXTS = st.text(st.characters(codec="utf-8"), min_size=8, max_size=30)
PLAIN = st.text("abcdefgh XYZ0123456789", max_size=20)


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(value=TEXTS)
def test_every_spelling_is_read(spelling: str, value: str) -> None:
    """One of the views of a text shows what it spells, wherever in the text that stands."""
    text = f"before {SPELLINGS[spelling](value)} behind"

    assert any(needle in view.text for view in views(text) for needle in needles(value))


@given(PLAIN, st.sampled_from(sorted(SPELLINGS)), PLAIN)
def test_place_of_what_was_found(before: str, spelling: str, behind: str) -> None:
    """The place in the first text holds the spelling and not what stands around it, so that the rest can be shown."""
    value = "a-made-up/Secret%1"
    spelt = SPELLINGS[spelling](value)
    text = f"{before} | {spelt} | {behind}"
    (needle, *_) = needles(value)

    places = [view.place(at, at + len(needle)) for view in views(text) if (at := view.text.find(needle)) >= 0]

    start, end = len(before) + 3, len(before) + 3 + len(spelt)
    assert places
    assert all(start <= first <= last <= end for first, last in places), places


@given(st.text(max_size=60))
def test_any_text_has_views(text: str) -> None:
    """The first view is the text itself; none raises, and no place lies outside."""
    first, *others = views(text)

    assert first.text == folded(text)
    for view in (first, *others):
        start, end = view.place(0, len(view.text))
        assert 0 <= start <= end <= len(text)


def test_codes_can_be_left_alone() -> None:
    """Where only escapes are asked for, base64 and hex stay as they are."""
    text = b64encode(b"a made-up secret").decode()

    assert [view.text for view in views(text, decoded=False)] == [text.lower()]
    assert any("a made-up secret" in view.text for view in views(text))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Hunter2", ("hunter2",)),
        ("abc", ()),
        (
            "https://hooks.example/services/T0/LongTellingPart?key=AnotherOne1",
            (
                "https://hooks.example/services/t0/longtellingpart?key=anotherone1",
                "services/t0/longtellingpart?key=anotherone1",
                "services",
                "anotherone1",
                "longtellingpart",
            ),
        ),
        ("a%2Fb", ("a/b", "a%2fb")),
        ("a%252Fb", ("a/b", "a%2fb", "a%252fb")),
    ],
)
def test_what_is_looked_for(value: str, found: tuple[str, ...]) -> None:
    """A URL's long parts are telling by themselves, the longest last; a value with escapes is looked for undone too."""
    assert needles(value) == found


@given(st.text(st.characters(codec="ascii", exclude_characters="+%\\&"), min_size=4, max_size=20))
def test_value_is_looked_for_without_regard_of_case(value: str) -> None:
    """So that an answer in capitals is masked as well."""
    assume("://" not in value)

    assert needles(value) == needles(value.upper()) == (value.lower(),)


@given(st.binary(min_size=6, max_size=30), st.integers(0, 3), st.booleans())
def test_codes_are_read_at_every_alignment(data: bytes, skipped: int, in_hex: bool) -> None:
    """A short id that is the code of a text is read, whatever stands before it."""
    code = data.hex() if in_hex else b64encode(data).decode().rstrip("=")

    assert data[:-1].lower() in codes("A" * skipped + code)


def test_places() -> None:
    """What was decoded as a whole has the place of its code; the rest has one for each character."""
    assert View("abc").place(1, 2) == (1, 2)
    assert View("abc", bounds=[0, 3, 6, 9]).place(1, 2) == (3, 6)
    assert View("abc", span=(4, 9)).place(1, 2) == (4, 9)


def test_long_codes_are_read_in_part() -> None:
    """A run of base64 of any length costs no more than a page of it."""
    text = b64encode(b"x" * 100_000 + b"a made-up secret").decode()

    longest = max(len(view.text) for view in views(text) if view.span is not None)
    assert longest < 20_000
    assert b64decode(text).endswith(b"secret")
