"""What differs between a wanted state and a shown one is found, named, and can be taken back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.api.state import ABSENT, Change, before_image, changes
from migrator.messages import JSON
from migrator.secret import has_mask


def differing(wanted: JSON, state: JSON) -> list[str]:
    """Return where two documents differ for certain."""
    return [change.pointer for change in changes(wanted, state) if not change.masked]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_what_was_sent_is_held(sent: JSON) -> None:
    """A document holds itself."""
    assert differing(sent, sent) == []


@given(st.dictionaries(st.text(max_size=5), st.integers(), min_size=1), st.data())
def test_a_change_is_found(sent: dict[str, int], data: st.DataObject) -> None:
    """A member that differs or is missing is named by its pointer."""
    name = data.draw(st.sampled_from(sorted(sent)))
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")

    assert differing(sent, {**sent, name: sent[name] + 1}) == [pointer]
    assert differing(sent, {other: sent[other] for other in sent if other != name}) == [pointer]


def test_masks_are_not_compared() -> None:
    """A value that the service masks is no mismatch, and true is not 1."""
    assert differing({"secret": "abc"}, {"secret": "********"}) == []
    assert differing({"on": True}, {"on": 1}) == ["/on"]
    assert differing({"gone": None}, {}) == []
    assert [change.masked for change in changes({"a": "x"}, {"a": "[REDACTED]"})] == [True]


def test_values_before_and_after() -> None:
    """A change names both values, and that one was not there."""
    found = list(changes({"a": {"b": 2}, "c": "new"}, {"a": {"b": 1, "other": 9}}))

    assert found == [Change("/a/b", 1, 2, masked=False), Change("/c", ABSENT, "new", masked=False)]


def test_image_takes_members_whole() -> None:
    """What takes a body back are its members as they were, each of them whole."""
    state: dict[str, JSON] = {"target": {"kind": "Slack", "webhook_url": "old"}, "display_name": "x"}

    assert before_image({"target": {"webhook_url": "new"}, "gone": 1}, state) == {
        "target": {"kind": "Slack", "webhook_url": "old"},
        "gone": None,
    }


@pytest.mark.parametrize(
    ("value", "masked"), [({"a": ["x", {"b": "****"}]}, True), ({"a": "https://x.example/abc"}, False), (None, False)]
)
def test_masks_are_found(value: JSON, masked: bool) -> None:
    """A mask anywhere in a value is found."""
    assert has_mask(value) is masked
