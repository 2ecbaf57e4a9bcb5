"""What differs between a wanted state and a shown one is found, named, and can be taken back."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.api.expressions import record_in
from migrator.api.state import (
    ABSENT,
    BeforeImage,
    Change,
    Restoration,
    before_image,
    changes,
    hidden_members,
    is_normalised,
    kept_image,
    not_the_record,
    restoration,
)
from migrator.messages import JSON, NO_RULES, AnswerRules, Request
from migrator.secret import Secret, has_mask


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


def test_what_a_form_sends_is_compared_as_text() -> None:
    """A form has no types: a column's 7 and true are what the server shows as a number and a truth value."""
    form = AnswerRules(as_text=True)
    wanted: JSON = {"count": "7", "on": "true", "events": ["1", "b"], "note": "x"}
    shown: JSON = {"count": 7, "on": True, "events": [1, "b"], "note": "y"}
    before: dict[str, JSON] = {"count": 3, "on": False, "events": [1, "b"], "note": "y"}

    assert [change.pointer for change in changes(wanted, shown, form)] == ["/note"]
    assert differing(wanted, shown) == ["/count", "/on", "/events", "/note"]
    found = restoration(BeforeImage(before, ()), {"count": "7", "on": "true"}, {"count": 7, "on": True}, form)
    assert (found.wanted, found.foreign) == ({"count": 3, "on": False}, [])


def test_values_before_and_after() -> None:
    """A change names both values, and that one was not there."""
    found = list(changes({"a": {"b": 2}, "c": "new"}, {"a": {"b": 1, "other": 9}}))

    assert found == [Change("/a/b", 1, 2, masked=False), Change("/c", ABSENT, "new", masked=False)]


def test_image_has_the_leaves_that_are_written() -> None:
    """Only what is written is kept, so that a neighbour is not written back with it; what was not there is named."""
    state: dict[str, JSON] = {"target": {"kind": "Slack", "webhook_url": "old"}, "display_name": "x"}
    wanted: dict[str, JSON] = {"target": {"webhook_url": "new"}, "gone": 1}

    assert before_image(wanted, state) == BeforeImage({"target": {"webhook_url": "old"}, "gone": None}, ("/gone",))
    assert before_image(wanted, state, AnswerRules(replaced_whole=frozenset({"/target"}))).state["target"] == {
        "kind": "Slack",
        "webhook_url": "old",
    }


def undone(before: dict[str, JSON], sent: dict[str, JSON], current: Any, rules: AnswerRules = NO_RULES) -> Restoration:
    """Return how a record gets back what it held."""
    return restoration(before_image(sent, before, rules), sent, current, rules)


def test_a_neighbour_is_left_alone() -> None:
    """A rollback writes the leaves that the run wrote, and no other, however they nest."""
    found = undone(
        {"profile": {"city": "Rome", "name": "Ann"}},
        {"profile": {"city": "Oslo"}},
        {"profile": {"city": "Oslo", "name": "Eve"}},
    )

    assert (found.wanted, found.removed, found.foreign) == ({"profile": {"city": "Rome"}}, [], [])


def test_another_writers_value_is_named() -> None:
    """A leaf that holds neither what was sent nor what was there before belongs to another writer."""
    found = undone({"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": 3, "b": 2})

    assert (found.wanted, found.foreign) == ({"b": 1}, ["/a"])


def test_what_the_run_did_not_change_is_not_written() -> None:
    """A leaf that held the wanted value already is left to whoever changed it since."""
    assert undone({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 9, "b": 2}).wanted == {"b": 1}


def test_what_was_not_there_goes_again() -> None:
    """A member that the run added is removed, an object with it where it has nothing of another writer."""
    found = undone({}, {"labels": {"team": "x"}, "note": "n"}, {"labels": {"team": "x"}, "note": "n", "id": 1})
    shared = undone({}, {"labels": {"team": "x"}}, {"labels": {"team": "x", "other": "y"}})

    assert (found.wanted, found.removed) == ({"labels": None, "note": None}, ["/labels", "/note"])
    assert (shared.wanted, shared.removed) == ({"labels": {"team": None}}, ["/labels/team"])


def test_what_is_never_shown_is_not_unchanged() -> None:
    """A member that stands in no answer, neither before nor after, is named: nothing is known of it."""
    found = undone({"id": 1}, {"secret": "new"}, {"id": 1})

    assert (found.wanted, found.unseen) == ({}, ["/secret"])


def test_an_object_that_is_replaced_whole_is_merged() -> None:
    """What the write has dropped comes back, what another writer has added stays, read-only members are left out."""
    rules = AnswerRules(replaced_whole=frozenset({"/target"}), read_only=frozenset({"/target/rev"}))
    found = undone(
        {"target": {"kind": "Slack", "url": "old", "room": "a", "rev": 1}},
        {"target": {"kind": "Slack", "url": "new"}},
        {"target": {"kind": "Slack", "url": "new", "tag": "t", "rev": 2}},
        rules,
    )

    assert found.wanted == {"target": {"kind": "Slack", "url": "old", "room": "a", "tag": "t"}}


def test_masks_are_never_written_back() -> None:
    """A mask in an image, or in an object that would be written whole, is named and not written."""
    whole = AnswerRules(replaced_whole=frozenset({"/t"}))

    assert undone({"a": "****"}, {"a": "new"}, {"a": "****"}).wanted == {}
    assert undone({"a": "********"}, {"a": "new"}, {"a": "new"}).masked == ["/a"]
    assert undone(
        {"t": {"u": "old", "s": "****"}}, {"t": {"u": "new"}}, {"t": {"u": "new", "s": "****"}}, whole
    ).masked == ["/t"]


@given(
    st.dictionaries(st.sampled_from("abcd"), json_values, max_size=4),
    st.dictionaries(st.sampled_from("abcd"), json_values, min_size=1, max_size=4),
)
def test_a_rollback_undoes_its_run(before: dict[str, JSON], sent: dict[str, JSON]) -> None:
    """With no other writer, what was wanted and then restored holds again what it held."""
    after = merged(before, sent)
    found = undone(before, sent, after)

    assert found.foreign == []
    back = merged(after, found.wanted)
    assert differing(before, back) == []


def merged(record: JSON, patch: JSON) -> JSON:
    """Return a record after a merge patch (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(record) if isinstance(record, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def request(wanted: JSON, url: str = "https://api.example/things/7", **more: Any) -> Request:
    """Return a request for a state."""
    return Request(item=1, key="7", method="PATCH", url=url, body=msgspec.json.encode(wanted), **more)


def test_a_record_is_told_from_another_answer() -> None:
    """A record has a wanted member or its own id; an envelope has neither, and is named with what to declare."""
    wanted: JSON = {"title": "x"}

    assert not_the_record(request(wanted), {"title": "y"}) is None
    assert not_the_record(request(wanted), {"id": 7}) is None
    assert "api.record" in str(not_the_record(request(wanted), {"data": {"id": 7, "title": "y"}}))


def test_a_hidden_secret_is_named() -> None:
    """A secret that an API does not show cannot be put back."""
    one = request({"name": "n", "target": {"url": "s3cret"}}, secrets=(Secret("s3cret"),))

    assert hidden_members(one, {"name": "n", "target": {}}) == ["/target/url"]
    assert hidden_members(one, {"target": {"url": "old"}}) == []


def test_records_stand_where_the_rules_say() -> None:
    """A record is found by JMESPath; an answer without it has none."""
    rules = AnswerRules(record="data")

    assert record_in({"data": {"a": 1}}, rules) == {"a": 1}
    assert record_in({"a": 1}, rules) is None
    assert record_in({"a": 1}, AnswerRules(record="length(a)")) is None


def test_images_of_earlier_versions_are_understood() -> None:
    """Version 0.1 kept members whole, with null for what was not there."""
    kept: dict[str, Any] = {
        "before": {"target": {"kind": "S", "url": "old"}, "note": None},
        "sent": {"target": {"url": "n"}, "note": "x"},
    }
    found = restoration(kept_image(kept), kept["sent"], {"target": {"kind": "T", "url": "n"}, "note": "x"})

    assert (found.wanted, found.removed) == ({"target": {"url": "old"}, "note": None}, ["/note"])


def test_read_only_members_are_not_compared() -> None:
    """What the API alone writes differs without being a difference."""
    rules = AnswerRules(read_only=frozenset({"/rev", "/meta/at"}))

    assert list(changes({"rev": 1, "meta": {"at": 1, "x": 1}}, {"rev": 2, "meta": {"at": 2, "x": 1}}, rules)) == []


@pytest.mark.parametrize(
    ("value", "masked"), [({"a": ["x", {"b": "****"}]}, True), ({"a": "https://x.example/abc"}, False), (None, False)]
)
def test_masks_are_found(value: JSON, masked: bool) -> None:
    """A mask anywhere in a value is found."""
    assert has_mask(value) is masked


@pytest.mark.parametrize(
    ("sent", "shown", "same"),
    [
        ("Name", "name", True),
        (" name ", "name", True),
        ("https://a.example/x/", "https://a.example/x", True),
        ("\uff21", "a", True),
        (1.0, "1", True),
        (True, "TRUE", True),
        (7, 8, False),
        ("name", "names", False),
        ([1], ["1"], False),
        (None, ABSENT, False),
    ],
)
def test_another_spelling_is_told_from_another_value(sent: JSON, shown: Any, same: bool) -> None:
    """A server that normalises has taken the request."""
    assert is_normalised(Change("/a", shown, sent, masked=False)) == same


def test_lists_of_a_form_are_compared_entry_by_entry() -> None:
    """A form sends every entry as text; another length is another value."""
    rules = AnswerRules(as_text=True)
    assert not list(changes({"a": [1, True]}, {"a": ["1", "true"]}, rules))
    for other in (["1"], ["1", "true", "x"], ["true", "1"]):
        assert [one.pointer for one in changes({"a": [1, True]}, {"a": other}, rules)] == ["/a"]


def test_an_image_comes_back_as_it_was_kept() -> None:
    """A null is told from a member that was not there."""
    image = before_image({"a": 1, "b": 2, "c": {"d": 3}}, {"a": None, "c": {}})

    assert image == BeforeImage({"a": None, "b": None, "c": {"d": None}}, ("/b", "/c/d"))
    assert kept_image({"before": image.state, "absent": list(image.absent)}) == image
