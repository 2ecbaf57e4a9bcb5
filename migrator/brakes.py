"""What stops a run: a run that goes wrong must end early, with a reason, and can be resumed."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from migrator.envelope import ErrorKind, ItemError
from migrator.options import Threshold
from migrator.outcome import Status

__all__ = ["Brakes", "Exit", "StopKind", "StopReason", "fatal"]


class Exit(IntEnum):
    """The contract's exit codes."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    STOPPED = 3
    RUNNING = 4
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


class StopKind(StrEnum):
    """Why a run stopped before its end."""

    CREDENTIALS = "credentials refused"
    UNREACHABLE = "server unreachable"
    FAILURES = "too many failures"
    CANARY = "canary failed"
    QUOTA_WAIT = "wait for quota too long"
    INPUT_CHANGED = "items file changed"
    LEDGER = "ledger cannot be written"
    SIGINT = "interrupted"
    SIGTERM = "terminated"


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a run stopped, in a sentence for the person on call.

    Attributes:
        kind: the cause.
        message: the sentence.
        item: the row's number that caused it; it is sent again when the run is resumed.
    """

    kind: StopKind
    message: str
    item: int | None = None

    @property
    def exit_code(self) -> Exit:
        """The exit code that tells it."""
        signals = {StopKind.SIGINT: Exit.INTERRUPTED, StopKind.SIGTERM: Exit.TERMINATED}
        return signals.get(self.kind, Exit.STOPPED)


class Brakes:
    """Watches outcomes, and says when to stop.

    Args:
        threshold: how many items may fail.
        canary: so many items go first and alone, and each has to succeed.
    """

    __slots__ = ("_canary", "_failed", "_finished", "_threshold")

    def __init__(self, threshold: Threshold, *, canary: int) -> None:
        self._threshold = threshold
        self._canary = canary
        self._finished = 0
        self._failed = 0

    def settled(self, status: Status, error: ItemError | None) -> StopReason | None:
        """Count an item that has come to its end, and return a reason to stop, if it is one."""
        self._finished += 1
        if status in {Status.SUCCEEDED, Status.UNCHANGED, Status.SKIPPED}:
            return None
        self._failed += 1
        said = error.message if error is not None else "no reason given"
        if self._finished <= self._canary:
            return StopReason(StopKind.CANARY, f"one of the first {self._canary} items did not succeed: {said}")
        if self._threshold.reached(failed=self._failed, finished=self._finished):
            return StopReason(
                StopKind.FAILURES, f"{self._failed} of {self._finished} items did not succeed; the last: {said}"
            )
        return None

    def __repr__(self) -> str:
        return f"<brakes: {self._failed} of {self._finished} failed>"


def fatal(error: ItemError | None, *, item: int) -> StopReason:
    """Return the reason to stop that one answer gives, which no other item would escape."""
    message = error.message if error is not None else "the server refuses"
    auth = error is not None and error.kind is ErrorKind.AUTH
    return StopReason(StopKind.CREDENTIALS if auth else StopKind.UNREACHABLE, message, item)
