"""What a batch's answer says of each of its items."""

import json
from typing import Any

import pytest

from migrator.api.attempts import Answered
from migrator.messages import Batch, Instant, Reply, Request
from migrator.options import Verify
from migrator.results import ErrorKind, ItemError, Outcome, Status
from migrator.run.pool.batches import joined, outcomes_of
from migrator.secret import Fingerprinter, Masker, Secret

BATCH = Batch(size=3, body={"inputs": "{@items}"}, result="results", match="id", error="error.message")
MASKER = Masker(Fingerprinter(b"k" * 32), [])


def request(number: int) -> Request:
    """Return an item's request."""
    body = json.dumps({"id": str(number), "title": f"new {number}"}).encode()
    return Request(
        item=number,
        key=f"k{number}",
        method="POST",
        url="https://api.example/batch",
        body=body,
        secrets=(Secret(f"s{number}cret"),),
    )


def outcomes(results: Any, batch: Batch = BATCH, verify: Verify = Verify.RESPONSE) -> list[Outcome]:
    """Return what became of three items."""
    now = Instant(0.0, 0.0)
    reply = Reply(status=200, headers={}, body=json.dumps({"results": results}).encode(), sent=now, received=now)
    answered = Answered(
        outcome=Outcome(status=Status.SUCCEEDED), answer=reply, quota=None, attempts=1, waited_s=0.0, stops=False
    )
    return outcomes_of([request(number) for number in (1, 2, 3)], answered, batch, verify=verify, masker=MASKER)


def test_a_batch_has_the_documents_of_its_items() -> None:
    """The items stand where the batch's body says, with all their secrets to be masked."""
    one = joined([request(1), request(2)], BATCH)

    assert json.loads(one.body or b"") == {"inputs": [{"id": "1", "title": "new 1"}, {"id": "2", "title": "new 2"}]}
    assert [member.item for member in one.members] == [1, 2]
    assert len(one.secrets) == 2


def test_results_are_found_by_what_names_them() -> None:
    """The order does not matter; a refusal is told without secrets, and what is not named is in doubt."""
    first, second, third = outcomes(
        [{"id": 2, "error": {"message": "refused for s2cret"}}, {"id": "1", "title": "new 1"}]
    )

    assert (first.status, first.verified) == (Status.SUCCEEDED, True)
    assert second.status is Status.FAILED
    assert second.error is not None
    assert "refused for" in second.error.message
    assert "s2cret" not in second.error.message
    assert third.status is Status.IN_DOUBT


def test_a_result_that_differs_is_a_mismatch() -> None:
    """Each item is compared with its own result; one that shows nothing of it is not."""
    first, second, third = outcomes([{"id": "1", "title": "other"}, {"id": "2"}, {"id": "3", "title": "new 3"}])

    assert first.error is not None
    assert first.error.kind is ErrorKind.MISMATCH
    assert (second.status, second.verified) == (Status.SUCCEEDED, None)
    assert third.verified is True


@pytest.mark.parametrize("results", [None, [], [{}], {"1": {}}])
def test_results_that_cannot_be_told_apart_are_in_doubt(results: Any) -> None:
    """Without names the results stand in order, and a list of another length says nothing of any item."""
    found = outcomes(results, Batch(size=3, body="{@items}", result="results"))

    assert {one.status for one in found} == {Status.IN_DOUBT}


def test_a_batch_that_fails_fails_for_each() -> None:
    """What is said of the whole request is said of each item."""
    outcome = Outcome(status=Status.FAILED, error=ItemError(kind=ErrorKind.SERVER, message="down"))
    now = Instant(0.0, 0.0)
    reply = Reply(status=500, headers={}, body=b"", sent=now, received=now)
    answered = Answered(outcome=outcome, answer=reply, quota=None, attempts=5, waited_s=0.0, stops=False)

    assert outcomes_of([request(1), request(2)], answered, BATCH, verify=Verify.NONE, masker=MASKER) == [
        outcome,
        outcome,
    ]
