"""Values with columns are rendered for an item; what is known later is filled in later."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.job.rendering import (
    LATER,
    NOTHING,
    LackingError,
    compiled,
    compiled_text,
    filled,
    filled_text,
    place_of,
    without_marks,
)
from migrator.secret import Secret

LITERALS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}\0"), max_size=8)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | LITERALS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LITERALS, inner, max_size=3),
    max_leaves=8,
)


def rendered(template: Any, **values: Any) -> Any:
    """Render a template."""
    return compiled(template, {})(values)


@given(DOCUMENTS)
def test_document_without_columns_is_itself(document: Any) -> None:
    """Nothing is changed, and what was rendered is no part of the template."""
    first, second = rendered(document), rendered(document)

    assert first == second == document
    assert first is not document or not isinstance(document, dict)


def test_column_alone_keeps_its_type() -> None:
    """Within a longer text it is text."""
    assert rendered({"a": "{n}", "b": "n={n}", "c": "{o}"}, n=7, o={"x": [1]}) == {"a": 7, "b": "n=7", "c": {"x": [1]}}


def test_empty_cell_leaves_its_member_out() -> None:
    """So does an object all of whose members are left out; an entry of a list as well."""
    template = {"keep": 1, "gone": "{a}", "text": "x{a}", "inner": {"a": "{a}"}, "list": ["{a}", 2]}

    assert rendered(template) == {"keep": 1, "list": [2]}
    assert rendered({"inner": {"a": "{a}"}}) is NOTHING
    assert rendered({}) == {}


def test_secret_is_revealed_in_the_body_alone() -> None:
    """A body needs the value, alone and within a text."""
    assert rendered(["{s}", "Bearer {s}"], s=Secret("made-up")) == ["made-up", "Bearer made-up"]


def test_places_tell_which_column_fills_what() -> None:
    """A problem with a member is told with the column it came from; the first of several counts."""
    places: dict[tuple[str | int, ...], str] = {}

    compiled({"a": {"b": "{one}"}, "c": ["x", "{two}{three}"], "d": "{@item}"}, places)

    assert places == {("a", "b"): "one", ("c", 1): "two"}


def test_text_of_one_column_is_text() -> None:
    """A header's value is never a number."""
    assert compiled_text("{n}")({"n": 7}) == "7"
    assert compiled_text("{n}")({"n": True}) == "true"
    assert compiled_text("{n}-{m}")({"n": 7, "m": None}) is NOTHING


def test_quoted_text_stays_one_string() -> None:
    """Quotes and backslashes of a column are escaped, those of the template are its own."""
    assert compiled_text('"{n}-{@run}"', quoted=True)({"n": 'a"\\b'}) == '"a\\"\\\\b-\0@run\0"'


def test_what_is_known_later_is_filled_in() -> None:
    """Marks stand for it until then; the members of the wanted state are put among the others."""
    template = rendered({"version": "{@record.meta.version}", "etag": "{@etag}", "list": ["{@item}"]}, **{"@item": 3})

    assert without_marks(template) == {"list": [3]}
    assert place_of("@etag", template) == "/etag"
    facts = {"@etag": '"a"', "@record": {"meta": {"version": 7}}, "@wanted": {"name": "new"}}
    assert filled(template, facts) == {"version": 7, "etag": '"a"', "list": [3]}
    assert filled({"x": 1, LATER + "*": None}, facts) == {"x": 1, "name": "new"}


@pytest.mark.parametrize("facts", [{}, {"@record": {"meta": {}}}, {"@record": {"meta": 7}}])
def test_fact_that_is_not_known_is_told(facts: dict[str, Any]) -> None:
    """The message names it."""
    template = rendered({"version": "{@record.meta.version}"})

    with pytest.raises(LackingError, match=r"\{@record.meta.version\} is not known"):
        filled(template, facts)


def test_pointer_to_a_mark_is_escaped() -> None:
    """Slashes and tildes in names are written as RFC 6901 has them."""
    template = rendered({"a/b": {"c~d": "{@etag}", "e": 1}})

    assert place_of("@etag", template) == "/a~1b/c~0d"
    assert place_of("@run", template) == ""


def test_marks_in_a_text() -> None:
    """Those that are known are filled in; the others wait."""
    text = compiled_text("{@run}-{@item}-{id}")({"@item": 3, "id": "a"})

    assert filled_text(text, {"@run": "rotate-1"}) == "rotate-1-3-a"
    assert filled_text(text, {"@etag": "x"}) == text
