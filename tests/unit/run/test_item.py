"""An item's way: whatever an answer is like, the item gets a result, and the run goes on."""

import errno

import pytest
from driven_run import Script, Server, drive, error, ok, requests
from msgspec.structs import replace

from migrator.errors import shortage
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


class Completing:
    """A precondition that makes the rest of a request, as one that needs the record does."""

    def __init__(self) -> None:
        self.seen: list[Request] = []

    async def check(self, request: Request) -> Outcome | Request:
        """Note what was looked at, and complete it."""
        self.seen.append(request)
        return replace(request, body=b'{"version":7}')

    def succeeded(self, request: Request) -> None:
        """Note what has succeeded."""
        self.seen.append(request)


def test_what_succeeded_is_what_was_looked_at() -> None:
    """Else what was sent last is not recognised when the same item comes again."""
    completing = Completing()

    drive(requests(1), precondition=completing)

    checked, succeeded = completing.seen
    assert succeeded == checked


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


def test_lack_of_files_ends_the_run_and_not_its_item() -> None:
    """It is no property of the item, which the same command sends once there are files again."""

    def out_of_files(_server: Server, request: Request) -> tuple[int, dict[str, str]]:
        if request.item == 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return 200, {}

    with pytest.raises(ExceptionGroup) as ended:
        drive(requests(50), out_of_files)

    assert shortage(ended.value)


def test_bugs_count_as_failures() -> None:
    """A bug that every item meets stops the run, as any failure does."""
    options = RunOptions(canary=0, concurrency=2, max_failures=Threshold(count=5))

    done = drive(requests(50), precondition=Broken(*range(1, 51)), options=options)

    assert done.stopped == "too many failures"
    assert len(done.results) <= 6


def answers(*statuses: int) -> Script:
    """Return what answers so one after the other, and in the last way from then on."""
    left = list(statuses)
    return lambda _server, _request: (left.pop(0) if len(left) > 1 else left[0], {})


@pytest.mark.parametrize(
    ("statuses", "sent_before", "status", "attempts"),
    [
        pytest.param([409], False, Status.FAILED, 1, id="a conflict"),
        pytest.param([429, 409], False, Status.FAILED, 1, id="after a refusal"),
        pytest.param([500, 409, 409, 200], False, Status.SUCCEEDED, 4, id="in progress, then done"),
        pytest.param([500, 409], False, Status.IN_DOUBT, 5, id="in progress for ever"),
        pytest.param([409, 200], True, Status.SUCCEEDED, 2, id="sent by an interrupted invocation"),
        pytest.param([409], True, Status.IN_DOUBT, 5, id="sent by an interrupted invocation, for ever"),
        pytest.param([500, 422], False, Status.FAILED, 2, id="refused"),
    ],
)
def test_conflict_with_a_key_that_was_sent_before(
    statuses: list[int], sent_before: bool, status: Status, attempts: int
) -> None:
    """An Idempotency-Key's 409 may say that the first request is in progress: it proves nothing, and is waited for."""
    (request,) = requests(1, method="POST")
    keyed = replace(request, headers=(("idempotency-key", '"run-1"'),))

    done = drive([keyed], answers(*statuses), doubtful=frozenset({1} if sent_before else ()))

    assert done.results[1].status is status
    assert done.results[1].attempts == attempts


def test_conflict_without_a_key_is_a_refusal() -> None:
    """Nothing says that it is about the request that was sent before."""
    done = drive(requests(1), answers(500, 409))

    assert done.results[1].status is Status.FAILED


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


def test_interrupted_canary_is_followed_by_another() -> None:
    """The item that was being sent when the program was killed is in doubt; the next one says whether to go on."""
    unsafe = requests(5, method="POST", idempotent=False)

    gone_on, failed = (drive(unsafe, script, doubtful=frozenset({1})) for script in (ok, error(422, 2)))

    assert gone_on.counts == {Status.IN_DOUBT: 1, Status.SUCCEEDED: 4}
    assert failed.stopped == "canary failed"
    assert failed.server.items == [2]


@pytest.mark.parametrize("held", [{"name": "new"}, {"name": "old"}])
def test_item_that_was_written_is_only_read_back(held: dict[str, str]) -> None:
    """After a kill between the write and the read-back, the item is read, and not sent again."""
    request = requests(1)[0]
    first = drive([request], options=RunOptions(canary=0))

    done = drive([request], unverified={1: first.results[1]}, options=RunOptions(verify=Verify.READ), record=held)

    assert done.server.methods == ["GET"]
    assert done.results[1].status is (Status.SUCCEEDED if held == {"name": "new"} else Status.FAILED)
