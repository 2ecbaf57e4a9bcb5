"""Placeholders in texts: columns, literal braces, and what is no text."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.job.placeholders import Column, columns_in, parse, placeholders_in

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), min_size=1, max_size=8).map(
    str.strip
)
PARTS = st.lists(
    st.one_of(NAMES.filter(bool).map(Column), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)), max_size=6
)


@given(PARTS)
def test_text_comes_back_as_it_was_written(parts: list[str | Column]) -> None:
    """Whatever stands between the placeholders, braces doubled, is what the parts say."""
    text = "".join(
        f"{{{part.name}}}" if isinstance(part, Column) else part.replace("{", "{{").replace("}", "}}") for part in parts
    )

    again = "".join(f"<{part.name}>" if isinstance(part, Column) else part for part in parse(text))

    assert again == "".join(f"<{part.name}>" if isinstance(part, Column) else part for part in parts)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a ValueError comes of a text, and neighbouring texts are one part."""
    with suppress(ValueError):
        parts = parse(text)
        assert all(isinstance(one, Column) or isinstance(other, Column) for one, other in pairwise(parts))


@pytest.mark.parametrize(
    ("text", "place", "written"),
    [("{", 1, "{{"), ("ab}", 3, "}}"), ("{}", 1, "{{"), ("{a}}", 4, "}}"), ("{{{", 3, "{{")],
)
def test_single_brace_is_told_with_its_place(text: str, place: int, written: str) -> None:
    """The message says where, and how a literal one is written."""
    with pytest.raises(ValueError, match=f"at character {place}; a literal one is written {written}$"):
        parse(text)


def test_blanks_around_a_name_do_not_count() -> None:
    """`{ id }` is the column `id`."""
    assert parse("/{ id }") == ("/", Column("id"))


def test_placeholders_of_a_document() -> None:
    """Members and entries at every depth are looked through; a text that cannot be read names none."""
    document = {"a": ["{one}", {"b": "x{two}y{@item}"}], "c": "{", "d": 7, "{key}": None}

    assert list(placeholders_in(document)) == ["one", "two", "@item"]
    assert list(columns_in(document)) == ["one", "two"]
