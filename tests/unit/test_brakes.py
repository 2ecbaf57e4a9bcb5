"""A run that goes wrong ends early, with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.brakes import Brakes, Exit, StopKind, StopReason, fatal
from migrator.envelope import ErrorKind, ItemError
from migrator.options import Threshold
from migrator.outcome import Status

ERROR = ItemError(kind=ErrorKind.NOT_FOUND, status=404, message="the server answered 404")


def test_canary() -> None:
    """A failure among the first items stops the run; one after them does not."""
    brakes = Brakes(Threshold(share=0.5), canary=2)

    assert brakes.settled(Status.SUCCEEDED, None) is None
    reason = brakes.settled(Status.FAILED, ERROR)
    assert reason is not None
    assert reason.kind is StopKind.CANARY
    assert "404" in reason.message
    assert brakes.settled(Status.FAILED, ERROR) is None


def test_in_doubt_counts_as_failure() -> None:
    """An item in doubt is no success to a canary."""
    assert Brakes(Threshold(share=0.5), canary=1).settled(Status.IN_DOUBT, ERROR) is not None


@given(st.integers(1, 30))
def test_a_count_stops_at_that_count(count: int) -> None:
    """A number as threshold lets one failure less pass."""
    brakes = Brakes(Threshold(count=count), canary=0)

    reasons = [brakes.settled(Status.FAILED, ERROR) for _ in range(count)]

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
    assert fatal(ItemError(kind=ErrorKind.AUTH, message="401"), item=3) == StopReason(StopKind.CREDENTIALS, "401", 3)
    assert fatal(ItemError(kind=ErrorKind.CONNECTION), item=3).kind is StopKind.UNREACHABLE
