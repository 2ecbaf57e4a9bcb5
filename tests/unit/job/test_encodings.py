"""A wanted state becomes the bytes that the standards and the vendors ask for."""

from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shaped_api import json_patch, merge_patch

from migrator.job.encodings import Encoding, encode_document, graphql_variables, merged, patch
from migrator.messages import AnswerRules

states = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=3), states, max_size=3)


@given(objects, objects)
def test_a_json_patch_brings_about_what_a_merge_patch_does(record: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Applied to the record that it was made for, a JSON Patch has the effect of the merge patch."""
    operations = patch(Encoding.JSON_PATCH, wanted, record=record)

    assert json_patch(record, operations) == merge_patch(record, wanted)


@given(objects, objects)
def test_a_whole_record_holds_what_is_wanted(record: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The record that a PUT replaces keeps all that is not wanted otherwise."""
    assert merged(record, wanted) == merge_patch(record, wanted)


def test_operations_name_their_leaves() -> None:
    """A JSON Patch escapes its pointers, removes what is to go, and writes whole what the API replaces whole."""
    wanted = {"a/b": {"~c": 1, "gone": None}, "whole": {"x": 1}, "list": [1]}
    rules = AnswerRules(replaced_whole=frozenset({"/whole"}), read_only=frozenset({"/list"}))

    assert patch(Encoding.JSON_PATCH, wanted, removed=frozenset({"/a~1b/gone"}), rules=rules) == [
        {"op": "add", "path": "/a~1b/~0c", "value": 1},
        {"op": "remove", "path": "/a~1b/gone"},
        {"op": "add", "path": "/whole", "value": {"x": 1}},
    ]


def test_scim_paths() -> None:
    """SCIM's paths have dots, and a colon behind an extension's URN; null takes a value away."""
    urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"

    assert patch(
        Encoding.SCIM_PATCH, {"name": {"givenName": "A"}, urn: {"manager": {"value": "7"}}, "title": None}
    ) == {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [
            {"op": "replace", "path": "name.givenName", "value": "A"},
            {"op": "replace", "path": f"{urn}:manager.value", "value": "7"},
            {"op": "remove", "path": "title"},
        ],
    }


def test_forms_nest_by_brackets() -> None:
    """A form has brackets for members and numbers for entries, and an empty value for what goes."""
    document = {"metadata": {"a b": "1&2=3", "on": True, "gone": None}, "items": [{"price": "p", "n": 2}], "none": []}

    text = encode_document(Encoding.FORM, document).decode()

    assert parse_qsl(text, keep_blank_values=True) == [
        ("metadata[a b]", "1&2=3"),
        ("metadata[on]", "true"),
        ("metadata[gone]", ""),
        ("items[0][price]", "p"),
        ("items[0][n]", "2"),
        ("none", ""),
    ]


def test_read_only_members_are_not_written() -> None:
    """What the API alone writes is in no PUT of the whole, at any depth."""
    rules = AnswerRules(read_only=frozenset({"/meta/at", "/rev"}))

    assert merged({"meta": {"at": 1, "x": 1}, "rev": 1, "a": 1}, {"a": 2}, rules=rules) == {"meta": {"x": 1}, "a": 2}


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("mutation($id: ID!, $input: In = {a: 1}) { f(id: $id, input: $input) { id } }", {"id", "input"}),
        ("query Q($_a1 : [Int!]!) { x(a: $_a1) }", {"_a1"}),
        ("{ things { id } }", set()),
    ],
)
def test_variables_of_a_query(query: str, variables: set[str]) -> None:
    """The variables are those that the operation declares."""
    assert graphql_variables(query) == variables
