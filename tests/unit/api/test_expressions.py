"""JMESPath over what a server sent never raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.api.expressions import ShownNames, search
from migrator.messages import AnswerRules

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "ok", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("expression", "document", "found"),
    [
        ("data.id", {"data": {"id": 7}}, 7),
        ("ok == `true`", {"ok": True}, True),
        ("errors[0].message", {"errors": [{"message": "no"}]}, "no"),
        ("data.id", {"data": "text"}, None),
        ("length(data)", {"data": 7}, None),
        ("sum(data)", {"data": ["a"]}, None),
    ],
)
def test_search(expression: str, document: object, found: object) -> None:
    """What is there is found; a value of another type than a function needs is as good as none."""
    assert search(expression, document) == found


@given(
    st.sampled_from(["data.a[*].ok", "length(data)", "sort_by(data, &a)", "max(data[].a)", "join('', data)"]), VALUES
)
def test_any_answer_is_searched(expression: str, document: object) -> None:
    """No answer of a server raises out of an expression that a job file has."""
    search(expression, document)


def test_expression_that_goes_too_deep_finds_nothing() -> None:
    """An answer may be nested deeper than Python's stack."""
    deep: object = 7
    for _ in range(200_000):
        deep = [deep]

    assert search("to_string(@)", deep) is None
    while isinstance(deep, list):
        deep = deep.pop()  # Python itself would take this apart by recursion


def test_what_is_shown_under_another_name_is_told_once() -> None:
    """A name counts at its place in the record alone, and is told once whatever the number of answers."""
    rules = AnswerRules(record="data", shown_as={"/target/kind": {"SlackTarget": "Slack"}})
    names = ShownNames()

    assert names.see(rules, b'{"data": {"target": {"kind": "Slack"}, "note": "SlackTarget"}}') is None
    assert names.see(rules, b'"SlackTarget" is no JSON') is None
    told = names.see(rules, b'{"data": {"target": {"kind": "SlackTarget"}}}')
    assert told is not None
    assert "shows SlackTarget at /target/kind for Slack" in told
    assert names.see(rules, b'{"data": {"target": {"kind": "SlackTarget"}}}') is None
    assert names.told == [told]
