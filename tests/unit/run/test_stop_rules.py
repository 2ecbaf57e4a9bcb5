"""A run that goes wrong ends early, with a reason."""

import math
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.options import Threshold
from migrator.results import ErrorKind, Exit, ItemError, ItemResult, Status, StopKind, StopReason
from migrator.run.stop_rules import Breaker, StopRules, stop_reason_of

ERROR = ItemError(kind=ErrorKind.NOT_FOUND, status=404, message="the server answered 404")


def result(status: Status, error: ItemError | None) -> ItemResult:
    """Return an item's result."""
    return ItemResult(
        item=1,
        key="i-1",
        status=status,
        method="PATCH",
        url="",
        http_status=None,
        attempts=1,
        request_id=None,
        finished_ms=0,
        duration_ms=0.0,
        waited_ms=0.0,
        verified=None,
        limit=None,
        remaining=None,
        reset_s=None,
        error=error,
    )


def test_canary() -> None:
    """A failure among the first items stops the run; one after them does not."""
    rules = StopRules(Threshold(share=0.5), canary=2)

    assert rules.check(result(Status.SUCCEEDED, None)) is None
    reason = rules.check(result(Status.FAILED, ERROR))
    assert reason is not None
    assert reason.kind is StopKind.CANARY
    assert "404" in reason.message
    assert rules.check(result(Status.FAILED, ERROR)) is None


def test_in_doubt_counts_as_failure() -> None:
    """An item in doubt is no success to a canary; a canary of one item is called that."""
    reason = StopRules(Threshold(share=0.5), canary=1).check(result(Status.IN_DOUBT, ERROR))
    assert reason is not None
    assert reason.message == "the first item did not succeed: the server answered 404"


@given(st.integers(1, 30))
def test_a_count_stops_at_that_count(count: int) -> None:
    """A number as threshold lets one failure less pass."""
    rules = StopRules(Threshold(count=count), canary=0)

    reasons = [rules.check(result(Status.FAILED, ERROR)) for _ in range(count)]

    assert [reason is not None for reason in reasons] == [False] * (count - 1) + [True]


@given(st.floats(0, 1), st.integers(0, 100), st.integers(0, 100))
def test_a_share_needs_a_sample(share: float, failed: int, good: int) -> None:
    """A share says nothing before 20 items have finished, and then stops above the share."""
    finished = failed + good

    reached = Threshold(share=share).reached(failed=failed, finished=finished)

    assert reached == (finished >= 20 and failed > share * finished)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (StopKind.CREDENTIALS, Exit.STOPPED),
        (StopKind.QUOTA_WAIT, Exit.STOPPED),
        (StopKind.SIGINT, Exit.INTERRUPTED),
        (StopKind.SIGTERM, Exit.TERMINATED),
    ],
)
def test_exit_codes(kind: StopKind, code: Exit) -> None:
    """Each reason has the contract's exit code."""
    assert StopReason(kind, "").exit_code is code


def test_fatal_answers() -> None:
    """Refused credentials and an unreachable server are told apart."""
    assert stop_reason_of(ItemError(kind=ErrorKind.AUTH, message="401"), item=3) == StopReason(
        StopKind.CREDENTIALS, "401", 3
    )
    assert stop_reason_of(ItemError(kind=ErrorKind.CONNECTION), item=3).kind is StopKind.UNREACHABLE


def bad_answers(breaker: Breaker, count: int, *, items: int = 5, now: float = 0.0, pending: int = 100) -> float:
    """Let so many answers be bad, of so many items in turn; return what the last one makes of it."""
    hold_s = 0.0
    for _, item in zip(range(count), cycle(range(items)), strict=False):
        hold_s = breaker.record_failure(item, now, pending=pending)
    return hold_s


def test_breaker_opens_for_a_server() -> None:
    """Ten bad answers in a row of five items are a server that is down; it is probed, more and more rarely."""
    breaker = Breaker(60.0)
    breaker.record_success(0.0)

    assert (bad_answers(breaker, 9), breaker.open) == (0.0, False)
    holds = [breaker.record_failure(1, 1.0, pending=100) for _ in range(6)]
    assert holds == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert breaker.open


@pytest.mark.parametrize(
    ("known", "items", "pending"),
    [
        pytest.param(False, 5, 100, id="never reached"),
        pytest.param(True, 4, 100, id="few items"),
        pytest.param(True, 5, 5, id="nothing else to do"),
    ],
)
def test_breaker_stays_closed(known: bool, items: int, pending: int) -> None:
    """It is no outage where the server was never there, or where the items may be to blame."""
    breaker = Breaker(60.0)
    if known:
        breaker.record_success(0.0)

    assert bad_answers(breaker, 50, items=items, pending=pending, now=1000.0) == 0.0
    assert not breaker.open


def test_breaker_gives_up_in_time() -> None:
    """The outage is counted from the last good answer, and a good one ends it."""
    breaker = Breaker(60.0)
    breaker.record_success(0.0)
    bad_answers(breaker, 10)

    assert breaker.record_failure(1, 59.9, pending=100) < math.inf
    assert breaker.record_failure(1, 60.0, pending=100) == math.inf
    breaker.record_success(61.0)
    assert not breaker.open
    assert bad_answers(breaker, 9, now=200.0) == 0.0
    assert breaker.record_failure(1, 200.0, pending=100) == math.inf
