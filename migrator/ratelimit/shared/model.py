"""What the throttle asks of a quota that several runs share, and what it tells it."""

from contextlib import AbstractContextManager
from enum import IntEnum
from typing import NamedTuple, Protocol

__all__ = ["Report", "ReportKind", "Share", "SharedKey", "SharedQuota"]


class Share(NamedTuple):
    """The answer to a run that wants to send one request.

    Attributes:
        wait_s: 0 where the request may go; else ask again after so many seconds.
        window: names the window that the request was taken from; it goes back with the report. 0 where nothing was
            taken, because the runs cannot reach each other: then there is nothing to report.
    """

    wait_s: float
    window: int


class ReportKind(IntEnum):
    """How a request that was taken ended."""

    RETURNED = 0
    """It was never sent."""
    LOST = 1
    """There is no answer, or one that says nothing of the quota."""
    ANSWERED = 2
    """The answer says what is left."""
    REFUSED = 3
    """The server refused it for the rate limit."""
    UNLIMITED = 4
    """The API has accepted it and says nothing of a quota, neither here nor before."""


class Report(NamedTuple):
    """How one request ended.

    Attributes:
        limiter_key: whose quota.
        window: as `Share` had it.
        kind: how it ended.
        remaining: what the server says is left; with `ANSWERED` only.
        wait_s: seconds until the window has ended for certain (`ANSWERED`), or for which nothing may be sent
            (`REFUSED`).
    """

    limiter_key: str
    window: int
    kind: ReportKind
    remaining: int = 0
    wait_s: float = 0.0


class SharedQuota(Protocol):
    """A quota that several runs share. The throttle asks it for each request that its own pacer allows."""

    async def take(self, limiter_key: str) -> Share:
        """Take one request, or learn when to ask again. It never waits for other runs."""

    def take_at_once(self, limiter_key: str) -> int | None:
        """Take one request from the window that is returned; None where that is not allowed or takes time."""

    def report(self, report: Report) -> None:
        """Say how a request ended. It returns at once; what cannot be delivered counts as still in flight."""

    def together(self) -> AbstractContextManager[None]:
        """Let several questions and reports within the block cost little more than one; nothing is awaited in it."""


class SharedKey:
    """One limiter key of a shared quota; of none, where the run shares with no other.

    Args:
        limiter_key: whose quota.
        quota: what the runs share.
    """

    __slots__ = ("_limiter_key", "_quota")

    def __init__(self, limiter_key: str, quota: SharedQuota | None) -> None:
        self._limiter_key = limiter_key
        self._quota = quota

    async def take(self) -> Share:
        """Take one request, or learn when to ask again."""
        return Share(0.0, 0) if self._quota is None else await self._quota.take(self._limiter_key)

    def take_at_once(self) -> int | None:
        """Take one request from the window that is returned; None where that is not allowed or takes time."""
        return 0 if self._quota is None else self._quota.take_at_once(self._limiter_key)

    def returned(self, window: int) -> None:
        """Say that a request was never sent."""
        self._report(window, ReportKind.RETURNED)

    def lost(self, window: int) -> None:
        """Say that the answer tells nothing of the quota, or that there is none."""
        self._report(window, ReportKind.LOST)

    def refused(self, window: int, pause_s: float) -> None:
        """Say that a request was refused, and for how long nothing may be sent."""
        self._report(window, ReportKind.REFUSED, 0, pause_s)

    def answered(self, window: int, remaining: int | None, ends_in_s: float) -> None:
        """Say what is left and when the window has ended for certain; None for an API that does not say."""
        if remaining is None:
            self._report(window, ReportKind.UNLIMITED)
        else:
            self._report(window, ReportKind.ANSWERED, remaining, ends_in_s)

    def _report(self, window: int, kind: ReportKind, remaining: int = 0, wait_s: float = 0.0) -> None:
        if self._quota is not None and window:
            self._quota.report(Report(self._limiter_key, window, kind, remaining, wait_s))
