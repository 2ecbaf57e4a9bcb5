"""JMESPath over what a server sent never raises."""

import json
from random import Random

import anyio
import pytest
import virtual_time
from hypothesis import given
from hypothesis import strategies as st

from migrator.api.expressions import ShownNames, body_reader, quota_in_body, search
from migrator.messages import JSON, AnswerRules, BodyLimits, Clock, Instant, Reply
from migrator.ratelimit.headers import Quota
from migrator.ratelimit.throttle import Throttle

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


NOW = Instant(100.0, 1_800_000_000.0)
BUCKET = BodyLimits(limit="cost.most", remaining="cost.left", restored="cost.rate", cost="cost.of_this")
WINDOW = BodyLimits(limit="limit", remaining="remaining", reset="reset")


def reply(document: JSON, *, truncated: bool = False) -> Reply:
    """Return an answer with a body."""
    body = json.dumps(document).encode()
    return Reply(status=200, headers={}, body=body, truncated=truncated, sent=NOW, received=NOW)


@pytest.mark.parametrize(
    ("limits", "document", "quota"),
    [
        (
            BUCKET,
            {"cost": {"most": 2000, "left": 1234, "rate": 100.0, "of_this": 10}},
            Quota(limit=200, remaining=123, reset_s=7.66, resolution_s=0.0),
        ),
        (BUCKET, {"cost": {"most": 2000, "left": 1234}}, Quota(limit=2000, remaining=1234)),
        (BUCKET, {"cost": {"most": 5, "left": 5, "of_this": 10}}, None),
        (BUCKET, {"cost": {"most": "2000", "left": 1234}}, None),
        (BUCKET, {"cost": {"most": 2000, "left": -1}}, None),
        (BUCKET, {"cost": {"most": 2000, "left": True}}, None),
        (BUCKET, [], None),
        (WINDOW, {"limit": 50, "remaining": 7, "reset": 30}, Quota(limit=50, remaining=7, reset_s=30.0)),
        (
            WINDOW,
            {"limit": 50, "remaining": 7, "reset": "2027-01-15T08:00:09Z"},
            Quota(limit=50, remaining=7, reset_s=9.0, resolution_s=3.0, late_s=2.0),
        ),
        (WINDOW, {"limit": 50, "remaining": 7, "reset": None}, Quota(limit=50, remaining=7)),
        (WINDOW, {"limit": 50, "remaining": 7, "reset": {"odd": 1}}, Quota(limit=50, remaining=7)),
    ],
)
def test_a_limit_that_stands_in_the_body(limits: BodyLimits, document: JSON, quota: Quota | None) -> None:
    """Points become requests of this one's cost; what is no number says nothing."""
    assert quota_in_body(limits, reply(document)) == quota
    assert quota_in_body(limits, reply(document, truncated=True)) is None


@given(VALUES, st.sampled_from(["data", "ok", "a", "data.ok", "length(data)"]))
def test_any_body_tells_a_limit_or_nothing(document: JSON, expression: str) -> None:
    """Nothing that a server sends is an error."""
    limits = BodyLimits(limit=expression, remaining=expression, reset="a", restored="ok", cost="data")
    found = quota_in_body(limits, reply(document))
    assert found is None or (found.limit or 0) >= 1


def test_a_server_that_counts_points_is_never_asked_for_more_than_it_has() -> None:
    """A bucket of 1,000 points of which 50 come back per second, at 10 points a request: 100 at once, then 5/s."""

    async def main(clock: Clock) -> tuple[float, int]:
        points, at, refused = 1000.0, 0.0, 0
        items = iter(range(300))

        async def worker(throttle: Throttle) -> None:
            nonlocal points, at, refused
            for _ in items:
                async with throttle.permit("shop") as permit:
                    sent = clock()
                    await anyio.sleep(0.02)
                    now = clock()
                    points, at = min(1000.0, points + 50.0 * (now.mono - at)), now.mono
                    refused += points < 10.0
                    points -= 10.0 * (points >= 10.0)
                    told = {"cost": {"most": 1000, "left": int(points), "rate": 50, "of_this": 10}}
                    body = json.dumps(told).encode()
                    permit.received(Reply(status=200, headers={}, body=body, sent=sent, received=now))

        in_body = body_reader(BUCKET)
        async with (
            Throttle(in_body=in_body, concurrency=8, clock=clock, rng=Random(1)) as throttle,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(8):
                tasks.start_soon(worker, throttle)
        return clock().mono, refused

    seconds, refused = virtual_time.run(main)

    assert refused == 0
    assert seconds <= 40.0 / 0.95
