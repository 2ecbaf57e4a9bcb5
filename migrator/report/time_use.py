"""Where a run's time goes: each moment has one reason. Pure.

The reasons are looked for in the order of what a person would do about them: a question and a pause are answered, a
server that is down is looked at, requests in flight and the disk are waited for, and then the throttle or the pauses
after errors tell why nothing goes.
"""

from collections import Counter
from typing import Final, NamedTuple

from migrator.ratelimit.throttle import PAUSED, SLOTS, ThrottleStatistics

__all__ = ["STARTS", "Activity", "Reason", "TimeUse", "reason_of"]

STARTING: Final = "starting"
SENDING: Final = "sending"
PROCESSING: Final = "processing"

SILENT_S: Final = 1.0
"""Seconds without an answer after which slots that are all taken are what the run waits for."""

LONG_S: Final = 1.0
"""Seconds after which a wait is told."""


class Activity:
    """What a run's items are doing at this moment, as far as the throttle does not know it.

    Attributes:
        recording: items that wait for the disk.
        answered_at: when the last answer came, in seconds of the monotonic clock.
    """

    __slots__ = ("_pauses", "answered_at", "recording")

    def __init__(self) -> None:
        self.recording = 0
        self.answered_at = 0.0
        self._pauses: dict[int, tuple[float, str]] = {}

    def pause(self, item: int, until: float, cause: str) -> None:
        """Note that an item waits until an instant of the monotonic clock, since its last attempt went wrong."""
        self._pauses[item] = until, cause

    def proceed(self, item: int) -> None:
        """Note that an item waits no more."""
        self._pauses.pop(item, None)

    def pauses(self, now: float) -> Counter[str]:
        """Return how many items wait, by the cause."""
        return Counter(cause for until, cause in self._pauses.values() if until > now)


class Reason(NamedTuple):
    """Why a moment passed.

    Attributes:
        name: the same for all moments of this kind.
        text: the same in full, for people.
    """

    name: str
    text: str

    @property
    def is_wait(self) -> bool:
        """Whether something is waited for."""
        return self.name not in {STARTING, SENDING, PROCESSING}


STARTS: Final = Reason(STARTING, STARTING)


def reason_of(
    throttle: ThrottleStatistics,
    activity: Activity,
    *,
    now: float,
    since: float,
    down: bool = False,
    question: str | None = None,
) -> Reason:
    """Return what a run does at this moment, or waits for.

    Args:
        throttle: how the throttle stands.
        activity: how the items stand.
        now: seconds of the monotonic clock.
        since: when this was last asked.
        down: whether the server is taken for down.
        question: what a person is being asked.
    """
    waiting_for = throttle.waiting_for
    pauses = activity.pauses(now)
    sending = throttle.in_flight > activity.recording
    if question is not None:
        return _named("an answer to the question")
    if waiting_for == PAUSED:
        return _named(PAUSED)
    if down:
        return _named("the server is down")
    if sending and waiting_for == SLOTS and now - activity.answered_at > SILENT_S:
        return Reason(SLOTS, f"{SLOTS}: {throttle.in_flight} requests in flight have no answer yet")
    if sending:
        return _named(SENDING)
    if activity.recording:
        return _named("disk")
    if waiting_for is not None:
        return _named(waiting_for)
    if pauses:
        count = pauses.total()
        causes = ", ".join(sorted(pauses))
        return Reason("back-off", f"back-off of {count} item{'s' if count != 1 else ''} ({causes})")
    return _named(SENDING if activity.answered_at > since else PROCESSING)


def _named(name: str) -> Reason:
    return Reason(name, name)


class TimeUse:
    """Divides the time since a start into reasons, so that their sum is that time.

    Args:
        started: seconds of the monotonic clock.

    Attributes:
        seconds: the seconds of each reason.
        noted: when the last moment was noted, in seconds of the monotonic clock.
    """

    def __init__(self, started: float) -> None:
        self.seconds: dict[str, float] = {}
        self.noted = self._since = started
        self._name = ""

    def note(self, found: Reason, now: float) -> bool:
        """Count the time since the last note for a reason; return True once a wait of it gets long."""
        self.seconds[found.name] = self.seconds.get(found.name, 0.0) + now - self.noted
        if found.name != self._name:
            self._name, self._since = found.name, self.noted
        was_long = self.noted - self._since > LONG_S
        self.noted = now
        return found.is_wait and not was_long and now - self._since > LONG_S
