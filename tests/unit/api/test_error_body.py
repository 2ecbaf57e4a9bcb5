"""A refusal is told in the server's own words, whichever envelope they come in, and whatever else the body is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.api.error_body import read_error
from migrator.messages import Instant, Reply
from migrator.results import ErrorKind, ItemError

AT = Instant(0.0, 0.0)


def reply(body: bytes, status: int = 422, **headers: str) -> Reply:
    """Return an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers=named, body=body, sent=AT, received=AT)


def read(document: Any, *, expression: str | None = None, mask: Any = str) -> ItemError:
    """Read the error of a document."""
    return read_error(reply(json.dumps(document).encode()), mask, ErrorKind.VALIDATION, expression)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"errors": [{"detail": "too long"}]}, "the server answered 422: too long"),
        ({"errors": [{"title": "Invalid", "detail": "too long"}]}, "the server answered 422: Invalid: too long"),
        ({"errors": [{"detail": "a"}, {"detail": "b"}]}, "the server answered 422: a (and 1 more)"),
        ({"errors": [{"detail": "a"}, {"detail": "a"}]}, "the server answered 422: a"),
        ({"error": {"message": "no", "resolution": "ask"}}, "the server answered 422: no; ask"),
        ({"error": "invalid_request"}, "the server answered 422: invalid_request"),
        ({"message": "no"}, "the server answered 422: no"),
        ({"title": "Conflict", "detail": "taken"}, "the server answered 422: Conflict: taken"),
        ({"other": "no"}, 'the server answered 422: {"other": "no"}'),
        ([], "the server answered 422: []"),
    ],
)
def test_envelopes(document: Any, message: str) -> None:
    """One sentence for the reader of a report."""
    assert read(document).message == message


def test_members_have_their_places() -> None:
    """Code, title, detail and pointer are those of the first error."""
    error = read({"errors": [{"code": 40301, "title": "t", "detail": "d", "source": {"pointer": "/a"}}, {"code": "x"}]})

    assert (error.code, error.title, error.detail, error.pointer, error.status) == ("40301", "t", "d", "/a", 422)
    assert read({"errors": [{"detail": "d", "source": {"parameter": "page"}}]}).pointer == "page"


def test_members_of_another_type_are_not_taken() -> None:
    """None of a body's members is trusted to have its type."""
    error = read({"errors": [{"code": True, "title": ["t"], "detail": "", "message": "m", "source": "s"}]})

    assert (error.code, error.title, error.detail, error.pointer) == (None, None, "m", None)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("problem.why", "the server answered 422: because"),
        ("problem", "the server answered 422: because (and no more)"),
        ("length(@)", "the server answered 422: elsewhere"),
        ("nothing", "the server answered 422: elsewhere"),
    ],
)
def test_expression_of_the_profile_comes_first(expression: str, message: str) -> None:
    """Where it finds a text or an object, that is what is told; else the usual places are looked at."""
    document = {"message": "elsewhere", "problem": {"why": "because", "detail": "because (and no more)"}}

    assert read(document, expression=expression).message == message


def test_page_of_a_proxy_is_shown_in_part() -> None:
    """A body that is no JSON is cut after two hundred characters."""
    error = read_error(reply(b"<html>" + b"x" * 1000, status=502), str, ErrorKind.SERVER)

    assert error.message == "the server answered 502: <html>" + "x" * 194


def test_challenge_says_why_credentials_are_refused() -> None:
    """A 401 without a body may say it in its header."""
    challenged = reply(b"", 401, www_authenticate='Basic error="invalid_key", error_description="API key is invalid"')

    assert read_error(challenged, str, ErrorKind.AUTH).message == "the server answered 401: API key is invalid"
    assert read_error(reply(b"", 401), str, ErrorKind.AUTH).message == "the server answered 401"


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["errors", "error", "detail", "title", "code", "source", "pointer"]), inner),
    max_leaves=8,
).map(lambda document: json.dumps(document).encode()))  # fmt: skip
def test_every_text_is_masked(body: bytes) -> None:
    """Whatever a body is, an error comes of it, and each of the server's texts went through the mask."""
    error = read_error(reply(body), lambda text: f"<{len(text)}>", ErrorKind.VALIDATION)

    for text in (error.code, error.title, error.detail, error.pointer):
        assert text is None or (text.startswith("<") and text.endswith(">"))
    assert error.message.startswith("the server answered 422")
