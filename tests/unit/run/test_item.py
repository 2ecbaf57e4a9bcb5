"""An item's way: whatever an answer is like, the item gets a result, and the run goes on."""

import pytest
from driven_run import Server, drive, error, requests

from migrator.messages import Request
from migrator.options import RunOptions, Threshold, Verify
from migrator.results import ErrorKind, Outcome, Status


class Broken:
    """A precondition with a bug that some items meet."""

    def __init__(self, *items: int) -> None:
        self.items = items

    async def check(self, request: Request) -> Outcome | Request:
        """Fail for those items."""
        if request.item in self.items:
            raise ZeroDivisionError("a secret of the item")
        return request

    def succeeded(self, request: Request) -> None:
        """Note nothing."""


def buggy(_server: Server, request: Request) -> tuple[int, dict[str, str]]:
    """Break on item 3."""
    if request.item == 3:
        raise KeyError("an odd answer")
    return 200, {}


@pytest.mark.parametrize(
    ("method", "idempotent", "status"),
    [pytest.param("PATCH", True, Status.FAILED, id="safe"), pytest.param("POST", False, Status.IN_DOUBT, id="unsafe")],
)
def test_bug_after_the_send_ends_its_item(method: str, idempotent: bool, status: Status) -> None:
    """An item that may have been sent when the bug struck is in doubt where it must not be sent twice."""
    done = drive(requests(50, method=method, idempotent=idempotent), buggy)

    assert done.stopped is None
    assert done.counts == {Status.SUCCEEDED: 49, status: 1}
    assert done.results[3].error is not None
    assert done.results[3].error.kind is ErrorKind.INTERNAL
    assert not done.begun


def test_bug_before_the_send_fails_its_item() -> None:
    """An item that was never sent has failed, and nothing of the exception's text is written anywhere."""
    done = drive(requests(50, method="POST", idempotent=False), precondition=Broken(3))

    assert done.results[3].status is Status.FAILED
    assert 3 not in done.server.items
    (bug,) = [event for event in done.events if event["event"] == "item.bug"]
    assert (bug["item"], bug["error"]) == (3, "ZeroDivisionError")
    assert any("check" in frame for frame in bug["frames"])
    assert "a secret of the item" not in str(done.events)


def test_bugs_count_as_failures() -> None:
    """A bug that every item meets stops the run, as any failure does."""
    options = RunOptions(canary=0, concurrency=2, max_failures=Threshold(count=5))

    done = drive(requests(50), precondition=Broken(*range(1, 51)), options=options)

    assert done.stopped == "too many failures"
    assert len(done.results) <= 6


def test_failed_canary_is_sent_again() -> None:
    """Its result is taken back by a resume, which begins with the same item."""
    done = drive(requests(50), error(403, 1))

    assert done.results[1].provisional
    assert done.engine.stopped_by is not None
    assert done.engine.stopped_by.item == 1


def test_canary_in_doubt_is_not_sent_again() -> None:
    """What may have been applied, and must not be applied twice, keeps its result."""
    done = drive(requests(50, method="POST", idempotent=False), error(500, 1))

    assert (done.results[1].status, done.results[1].provisional) == (Status.IN_DOUBT, False)
    assert done.stopped == "canary failed"


@pytest.mark.parametrize("held", [{"name": "new"}, {"name": "old"}])
def test_item_that_was_written_is_only_read_back(held: dict[str, str]) -> None:
    """After a kill between the write and the read-back, the item is read, and not sent again."""
    request = requests(1)[0]
    first = drive([request], options=RunOptions(canary=0))

    done = drive([request], unverified={1: first.results[1]}, options=RunOptions(verify=Verify.READ), record=held)

    assert done.server.methods == ["GET"]
    assert done.results[1].status is (Status.SUCCEEDED if held == {"name": "new"} else Status.FAILED)
