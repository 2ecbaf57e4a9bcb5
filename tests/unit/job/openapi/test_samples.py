"""An example of a schema is allowed by it, or there is none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.job.openapi.samples import allows, sample


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 7}, 7),
        ({"enum": ["a", "b"]}, "a"),
        ({"type": "string", "examples": ["given"]}, "given"),
        ({"type": "string", "examples": ["too long"], "maxLength": 3}, "exa"),
        ({"type": "string", "minLength": 9}, "examplexx"),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"type": ["null", "integer"], "minimum": 5}, 5),
        ({"type": "array", "items": {"type": "boolean"}}, [True]),
        ({"oneOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}]}, {"a": 1}),
        ({"type": "string", "pattern": "^x$"}, None),
    ],
)
def test_samples(schema: dict[str, Any], value: object) -> None:
    """By constant, choice, example, format and bounds; none where a pattern would have to be solved."""
    assert sample(schema, {}) == value


def test_optional_members_are_left_out_where_they_do_not_fit() -> None:
    """Two members that exclude each other are not both shown."""
    schema = {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"], "maxProperties": 1}

    assert sample(schema, {}) == {"a": "example"}


@given(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "boolean", "array", "object"])},
        optional={
            "minLength": st.integers(0, 20),
            "maxLength": st.integers(0, 20),
            "minimum": st.integers(-5, 5),
            "maximum": st.integers(-5, 5),
        },
    )
)
def test_any_schema(schema: dict[str, Any]) -> None:
    """What is shown is allowed, whatever the schema."""
    found = sample(schema, {})

    assert found is None or allows(schema, {}, found)
