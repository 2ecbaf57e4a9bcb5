"""What the sandbox holds, and the API's rules for it."""

import re
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.sandbox.store import Complaint, Refusal, Store, check_test

THEN, NOW = "2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"
SLACK = {"kind": "Slack", "webhook_url": "https://hooks.slack.example/services/TEXAMPLE/BNEW/new"}
TARGETS = [
    SLACK,
    {"kind": "MsTeams", "webhook_url": "https://teams.example/hook"},
    {"kind": "Webhook", "url": "http://hook.example/"},
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=200),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
TARGET = st.dictionaries(st.sampled_from(["kind", "url", "webhook_url", "x"]), JSON | st.sampled_from(["Slack"]))
BODY = JSON | st.fixed_dictionaries(
    {},
    optional={"display_name": JSON, "description": JSON, "target": st.sampled_from(TARGETS) | TARGET | JSON, "x": JSON},
)


def store(count: int = 3) -> Store:
    """Return a store of some integrations."""
    return Store(count, now=THEN)


def refusal_of(act: Callable[[], object]) -> Refusal | None:
    """Return the refusal that an act meets."""
    try:
        act()
    except Refusal as refusal:
        return refusal
    return None


def test_what_is_there_at_first() -> None:
    """The first integrations have ids in order and webhooks that no one takes for real."""
    found = store(3).integrations

    assert list(found) == ["i-00001", "i-00002", "i-00003"]
    assert found["i-00002"]["display_name"] == "Slack integration 2"
    assert found["i-00002"]["target"]["webhook_url"].startswith("https://hooks.slack.example/services/TEXAMPLE/")
    assert found["i-00002"]["metadata"]["created_at"] == THEN


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "display_name": st.text(max_size=64),
            "description": st.text(max_size=128),
            "target": st.sampled_from(TARGETS),
            "id": JSON,
            "metadata": JSON,
            "webhook_ulr": JSON,
        },
    )
)
def test_update_merges_what_may_be_written(body: dict[str, Any]) -> None:
    """A change replaces the members that are sent, keeps the others, and ignores what is unknown or read-only."""
    kept = store()
    before = deepcopy(kept.integrations)

    updated = kept.update("i-00002", body, now=NOW)

    wanted = {name: body[name] for name in ("display_name", "description", "target") if name in body}
    assert updated == before["i-00002"] | wanted | {"metadata": before["i-00002"]["metadata"] | {"updated_at": NOW}}
    assert {key: kept.integrations[key] for key in ("i-00001", "i-00003")} == {
        key: before[key] for key in ("i-00001", "i-00003")
    }


@given(BODY)
def test_any_body_is_taken_or_refused(body: Any) -> None:
    """Any JSON either leaves an integration that keeps the rules, or is refused and changes nothing."""
    kept = store(1)
    before = deepcopy(kept.integrations)

    refusal = refusal_of(partial(kept.update, "i-00001", body, now=NOW))

    if refusal is not None:
        assert refusal.status in {400, 422}
        assert kept.integrations == before
    else:
        updated = kept.integrations["i-00001"]
        assert len(updated["display_name"]) <= 64
        assert len(updated["description"]) <= 128
        assert updated["target"].keys() in ({"kind", "webhook_url"}, {"kind", "url"})


def test_target_is_replaced_as_a_whole() -> None:
    """Nothing of an old target is left, and unknown members of a new one are dropped."""
    updated = store().update("i-00001", {"target": {"kind": "Webhook", "url": "https://x.example", "y": 1}}, now=NOW)

    assert updated["target"] == {"kind": "Webhook", "url": "https://x.example"}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"display_name": "x" * 65}, ["/display_name"]),
        ({"description": "x" * 129}, ["/description"]),
        ({"display_name": None}, ["/display_name"]),
        ({"target": "Slack"}, ["/target"]),
        ({"target": {"webhook_url": "https://x.example"}}, ["/target/kind"]),
        ({"target": {"kind": "Slack"}}, ["/target/webhook_url"]),
        ({"target": {"kind": "Slack", "url": "https://x.example"}}, ["/target/webhook_url"]),
        ({"target": {"kind": "Webhook", "webhook_url": "https://x.example"}}, ["/target/url"]),
        ({"target": {"kind": "MsTeams", "webhook_url": "x.example"}}, ["/target/webhook_url"]),
        ({"target": {"kind": "SlackTarget", "webhook_url": "https://x.example"}}, ["/target/kind"]),
        ({"target": {"kind": "RoleEmail", "role_name": "OrganizationAdmin"}}, ["/target/kind"]),
        ({"target": {"kind": "UserEmail", "user": {"id": "u-1"}}}, ["/target/kind"]),
        ({"display_name": 1, "description": 2, "target": {}}, ["/display_name", "/description", "/target/kind"]),
    ],
    ids=str,
)
def test_rules_of_the_reference(body: dict[str, Any], pointers: list[str]) -> None:
    """A body that breaks rules is refused with 422 and a pointer to each member that does."""
    with pytest.raises(Refusal) as caught:
        store().update("i-00001", body, now=NOW)

    assert caught.value.status == 422
    assert [one.pointer for one in caught.value.complaints] == pointers


@pytest.mark.parametrize("body", [{"target": SLACK}, {"display_name": "x"}], ids=["no name", "no target"])
def test_what_is_required_of_a_new_one(body: dict[str, Any]) -> None:
    """To create and to test need a display name and a target; to update needs neither."""
    with pytest.raises(Refusal, match="422"):
        store().create(body, now=NOW)
    with pytest.raises(Refusal, match="422"):
        check_test(body)

    store().update("i-00001", body, now=NOW)


def test_create() -> None:
    """A new integration gets an id that was never in use, also when the last one is gone."""
    kept = store(2)
    kept.delete("i-00002")

    created = kept.create({"display_name": "new", "target": SLACK, "id": "i-00001"}, now=NOW)

    assert (created["id"], created["description"], created["target"]) == ("i-00003", "", SLACK)
    assert list(kept.integrations) == ["i-00001", "i-00003"]


def test_taken_name_is_a_conflict() -> None:
    """To create a second integration of a name is a conflict that names the first."""
    with pytest.raises(Refusal) as caught:
        store().create({"display_name": "Slack integration 2", "target": SLACK}, now=NOW)

    assert caught.value.status == 409
    assert caught.value.location is not None
    assert caught.value.location.endswith("/integrations/i-00002")


@pytest.mark.parametrize("kind", ["RoleEmail", "UserEmail"])
def test_kinds_that_can_only_be_read(kind: str) -> None:
    """An integration that sends e-mail can be neither updated nor deleted."""
    kept = store()
    kept.integrations["i-00001"]["target"] = {"kind": kind}

    with pytest.raises(Refusal, match="422"):
        kept.update("i-00001", {"description": "x"}, now=NOW)
    with pytest.raises(Refusal, match="422"):
        kept.delete("i-00001")

    assert kept.integrations["i-00001"]["target"] == {"kind": kind}


@given(count=st.integers(0, 30), size=st.integers(1, 12), gone=st.lists(st.integers(1, 30), max_size=8))
def test_pages_leave_nothing_out(count: int, size: int, gone: list[int]) -> None:
    """The pages hold each integration once and in order, although others are removed between two pages."""
    kept, seen = store(count), list[str]()
    removals = iter(gone)

    found, token = kept.page(size=str(size))
    while True:
        seen += [one["id"] for one in found]
        assert len(found) == size or token is None
        if token is None:
            break
        kept.integrations.pop(f"i-{next(removals, 0):05d}", None)
        found, token = kept.page(token=token)

    assert seen == sorted(set(seen))
    assert set(kept.integrations) <= set(seen)


def test_first_page_without_a_size() -> None:
    """A page has 100 integrations unless another size is asked for, 250 at the most."""
    kept = store(251)

    assert [len(kept.page(size=size)[0]) for size in (None, "250")] == [100, 250]


@pytest.mark.parametrize("size", ["0", "251", "-1", "x", "", "1e1", "²", "9" * 5000])
def test_page_size_out_of_bounds(size: str) -> None:
    """A page size that the API does not allow is refused, and the parameter named."""
    with pytest.raises(Refusal) as caught:
        store().page(size=size)

    assert (caught.value.status, caught.value.complaints[0].source()) == (400, {"parameter": "page_size"})


@given(st.text(max_size=20))
def test_any_page_token_is_taken_or_refused(token: str) -> None:
    """A token that the store did not give is refused; none makes it fail."""
    refusal = refusal_of(partial(store().page, token=token))

    assert refusal is None or refusal.status == 400


def test_error_bodies() -> None:
    """An error body names id, status, code, title, detail and source, each where the API has it."""
    refusal = Refusal(422, "invalid", "Validation Failed", Complaint("no", "/x"), Complaint("nor this", parameter="y"))
    common = {"id": "r", "status": "422", "code": "invalid", "title": "Validation Failed"}

    assert refusal.envelope(request_id="r") == {
        "errors": [
            common | {"detail": "no", "source": {"pointer": "/x"}},
            common | {"detail": "nor this", "source": {"parameter": "y"}},
        ]
    }
    assert Refusal(404, None, "Not Found").envelope(request_id="r") == {
        "errors": [{"id": "r", "status": "404", "title": "Not Found"}]
    }


def test_newer_error_bodies() -> None:
    """The newer error body has one error with a code in capitals, and says the same."""
    refusal = Refusal(422, "invalid", "Validation Failed", Complaint("no.", "/x"), Complaint("nor this.", "/y"))
    document = refusal.new_envelope(request_id="r", path="/p", now=NOW)

    assert document == {
        "status": 422,
        "error": {"code": "INVALID", "message": "no. nor this.", "timestamp": NOW, "path": "/p", "details": "/x, /y"},
        "requestId": "r",
    }
    bare = Refusal(404, None, "Not Found").new_envelope(request_id="r", path="/p", now=NOW)
    assert re.match("NOT_FOUND", bare["error"]["code"])
    assert bare["error"]["message"] == "Not Found"
