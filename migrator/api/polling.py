"""What became of a write that was accepted and not finished: 202 (RFC 9110, section 15.3.3), and a resource to ask."""

from collections.abc import Awaitable, Callable
from typing import Final

from migrator.api.error_body import Mask, read_error
from migrator.api.expressions import search
from migrator.api.paging import same_origin_url
from migrator.errors import ReadingError, WaitTooLong
from migrator.job.json_reader import Unreadable, decode
from migrator.messages import Clock, Poll, Reply, Request
from migrator.results import ErrorKind, ItemError, Outcome, Status

__all__ = ["Ask", "finished", "poll_url", "until_finished"]

Ask = Callable[[str], Awaitable[Reply | ItemError]]
"""Makes one GET, through the same throttle as every request."""

UNKNOWN: Final = "it accepted the request (202), and what became of it is not known; migrator reconcile reads it later"


def poll_url(poll: Poll, reply: Reply, *, at: str) -> str | None:
    """Return the URL that tells what becomes of a request, or None where the answer names none.

    Raises:
        PagingError: it is on another server, to which no credentials are sent.
    """
    told: object = reply.headers.get("location")
    if poll.url is not None:
        document = decode(reply.body)
        told = None if isinstance(document, Unreadable) else search(poll.url, document)
    return same_origin_url(told, at=at) if isinstance(told, str) and told else None


def finished(poll: Poll, reply: Reply, *, mask: Mask, error: str | None = None) -> Outcome | None:
    """Return what became of a request by an answer of its resource, or None where it is still under way."""
    if poll.state is None:
        return None if reply.status == 202 else Outcome(status=Status.SUCCEEDED)
    document = decode(reply.body)
    state = None if isinstance(document, Unreadable) else search(poll.state, document)
    if state in poll.done:
        return Outcome(status=Status.SUCCEEDED)
    if state in poll.failed:
        return Outcome(status=Status.FAILED, error=read_error(reply, mask, ErrorKind.SERVER, error))
    return None


async def until_finished(
    request: Request,
    reply: Reply,
    poll: Poll,
    *,
    ask: Ask,
    clock: Clock,
    pause: Callable[[float], Awaitable[None]],
    mask: Mask,
) -> Outcome:
    """Ask until a request that was accepted is finished; in doubt where that is not found out in time.

    Args:
        request: what was accepted.
        reply: the answer that said so.
        poll: where to ask, and what the answers mean.
        ask: makes one GET.
        clock: reads both clocks.
        pause: waits between two of them.
        mask: makes a server's text fit to be recorded.
    """
    last_s = clock().mono + poll.at_most_s
    last = f"it was not finished within {poll.at_most_s:.0f} s"
    try:
        url = poll_url(poll, reply, at=request.url)
        if url is None:
            return _in_doubt("the answer names nothing to ask")
        while clock().mono < last_s:
            await pause(poll.every_s)
            answer = await ask(url)
            if isinstance(answer, ItemError):
                if answer.kind is ErrorKind.NOT_FOUND:  # some make the resource a moment later
                    last = f"{answer.message}, until {poll.at_most_s:.0f} s had passed"
                    continue
                return _in_doubt(answer.message)
            if outcome := finished(poll, answer, mask=mask, error=request.rules.error):
                return outcome
    except (ReadingError, WaitTooLong) as error:
        return _in_doubt(str(error))
    return _in_doubt(last)


def _in_doubt(why: str) -> Outcome:
    error = ItemError(kind=ErrorKind.PROTOCOL, status=202, message=f"{why}: {UNKNOWN}")
    return Outcome(status=Status.IN_DOUBT, error=error)
