"""What became of a request that was accepted is found out, or it is in doubt."""

import json
from typing import Any

import anyio
import pytest

from migrator.api.polling import finished, poll_url, until_finished
from migrator.errors import PagingError
from migrator.messages import Instant, Poll, Reply, Request
from migrator.results import ErrorKind, ItemError, Outcome, Status

AT = "https://api.example/things/7"
STATES = Poll(state="status", done=("done",), failed=("broken",), every_s=3.0, at_most_s=10.0)


def reply(status: int, body: Any = None, **headers: str) -> Reply:
    """Return an answer."""
    now = Instant(0.0, 0.0)
    return Reply(status=status, headers=headers, body=json.dumps(body).encode(), sent=now, received=now)


def followed(poll: Poll, answers: list[Reply | ItemError], **headers: str) -> tuple[Outcome, list[str], float]:
    """Follow a request, in time that passes when it is waited, and return what was asked and when it ended."""
    now, asked = [0.0], []

    async def ask(url: str) -> Reply | ItemError:
        asked.append(url)
        return answers[min(len(asked), len(answers)) - 1]

    async def pause(seconds: float) -> None:
        now[0] += seconds

    async def follow() -> Outcome:
        request = Request(item=1, key="7", method="PATCH", url=AT, body=b"{}")
        return await until_finished(
            request,
            reply(202, {"task": "/tasks/1"}, **headers),
            poll,
            ask=ask,
            clock=lambda: Instant(now[0], 0.0),
            pause=pause,
            mask=str,
        )

    return anyio.run(follow), asked, now[0]


def test_a_request_is_followed_to_its_state() -> None:
    """The resource is asked in steps until its state is one of those that are declared."""
    answers: list[Reply | ItemError] = [reply(200, {"status": "under way"}), reply(200, {"status": "done"})]
    outcome, asked, took_s = followed(STATES, answers, location="/tasks/1")

    assert outcome == Outcome(status=Status.SUCCEEDED)
    assert asked == ["https://api.example/tasks/1"] * 2
    assert took_s == 6.0


def test_a_resource_that_is_made_a_moment_later() -> None:
    """A 404 meanwhile is no end: it is asked again until the time is over."""
    answers: list[Reply | ItemError] = [
        ItemError(kind=ErrorKind.NOT_FOUND, message="no such task"),
        reply(200, {"status": "done"}),
    ]
    outcome, asked, _ = followed(STATES, answers, location="/tasks/1")

    assert outcome == Outcome(status=Status.SUCCEEDED)
    assert len(asked) == 2


def test_a_state_of_failure_fails() -> None:
    """What the server says of the failure is told."""
    answers: list[Reply | ItemError] = [reply(200, {"status": "broken", "message": "no room"})]
    outcome, _, _ = followed(STATES, answers, location="/tasks/1")

    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert "no room" in outcome.error.message


@pytest.mark.parametrize(
    ("answer", "headers", "words"),
    [
        (reply(200, {"status": "under way"}), {"location": "/tasks/1"}, "within 10 s"),
        (ItemError(kind=ErrorKind.NOT_FOUND, message="gone"), {"location": "/tasks/1"}, "gone"),
        (reply(200, {"status": "done"}), {}, "nothing to ask"),
        (reply(200, {"status": "done"}), {"location": "https://else.example/tasks/1"}, "another server"),
    ],
)
def test_what_is_not_found_out_is_in_doubt(answer: Reply | ItemError, headers: dict[str, str], words: str) -> None:
    """Neither success nor failure is made up, and no credentials go to another server."""
    outcome, asked, _ = followed(STATES, [answer], **headers)

    assert outcome.status is Status.IN_DOUBT
    assert outcome.error is not None
    assert words in outcome.error.message
    assert all(url.startswith("https://api.example/") for url in asked)


def test_without_a_state_the_status_tells() -> None:
    """Where no state is declared, 202 is under way and any other success is the end."""
    assert finished(Poll(), reply(202), mask=str) is None
    assert finished(Poll(), reply(200), mask=str) == Outcome(status=Status.SUCCEEDED)


def test_a_member_names_the_resource() -> None:
    """The URL stands in the Location header or in a member."""
    assert poll_url(Poll(url="task"), reply(202, {"task": "../tasks/1"}), at=AT) == "https://api.example/tasks/1"
    assert poll_url(Poll(), reply(202, location="tasks/1"), at=AT) == "https://api.example/things/tasks/1"
    assert poll_url(Poll(url="task"), reply(202, {}), at=AT) is None
    with pytest.raises(PagingError):
        poll_url(Poll(url="task"), reply(202, {"task": "http://api.example/tasks/1"}), at=AT)
