"""What happened to an item, and why a run stopped: the words that every part of the program shares."""

from collections import Counter
from enum import IntEnum, StrEnum

import msgspec

__all__ = ["ErrorKind", "Exit", "ItemError", "ItemResult", "Outcome", "Status", "StopKind", "StopReason", "exit_code"]


class ErrorKind(StrEnum):
    """Why an item did not succeed; the contract's own words."""

    VALIDATION = "validation"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    QUOTA = "quota"
    RATE_LIMITED = "rate_limited"
    SERVER = "server"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    PROTOCOL = "protocol"
    MISMATCH = "mismatch"
    INTERNAL = "internal"


class ItemError(msgspec.Struct, frozen=True, kw_only=True):
    """What a record says of a failure.

    Attributes:
        kind: the cause, in the contract's words.
        status: the HTTP status, where there was an answer.
        code: the server's own error code.
        title: the server's own short text.
        detail: the server's own explanation.
        pointer: the JSON Pointer or the parameter that the server blames.
        message: one sentence for the reader of a report.
    """

    kind: ErrorKind
    status: int | None = None
    code: str | None = None
    title: str | None = None
    detail: str | None = None
    pointer: str | None = None
    message: str = ""


class Status(StrEnum):
    """What became of an item; the contract's own words."""

    SUCCEEDED = "succeeded"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    SKIPPED = "skipped"

    @property
    def is_success(self) -> bool:
        """Whether the server holds what was wanted."""
        return self in {Status.SUCCEEDED, Status.UNCHANGED}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about one answer.

    Attributes:
        status: what becomes of the item if no further attempt is made.
        error: why it did not succeed.
        verified: whether the answer's body holds what was sent; None where that was not looked at.
        transient: another attempt may succeed, and cannot do harm.
        throttled: the server refused for its rate limit; that is the limiter key's affair, not the item's.
        fatal: no other item can succeed either.
        unreachable: the server was not reached at all.
        retry_after_s: the server's own wish, in seconds; a floor.
    """

    status: Status
    error: ItemError | None = None
    verified: bool | None = None
    transient: bool = False
    throttled: bool = False
    fatal: bool = False
    unreachable: bool = False
    retry_after_s: float | None = None


class Exit(IntEnum):
    """The contract's exit codes."""

    OK = 0
    """Every item succeeded or needed no change."""
    SOME_FAILED = 1
    """The run ended; some items failed or are in doubt."""
    USAGE = 2
    """Wrong use, or the job file or a row is not valid. Nothing was sent."""
    STOPPED = 3
    """Stopped early. The same command resumes the run."""
    RUNNING = 4
    """Another run of this job is active."""
    BUG = 70
    """A bug that belongs to no item. What was recorded is kept."""
    HUNG_UP = 129
    """SIGHUP. Requests in flight were finished and recorded. The same command resumes the run."""
    INTERRUPTED = 130
    """SIGINT (Ctrl-C). Requests in flight were finished and recorded. The same command resumes the run."""
    TERMINATED = 143
    """SIGTERM. Requests in flight were finished and recorded. The same command resumes the run."""


class StopKind(StrEnum):
    """Why a run stopped before its end."""

    CREDENTIALS = "credentials refused"
    UNREACHABLE = "server unreachable"
    OUTAGE = "server down"
    FAILURES = "too many failures"
    CANARY = "canary failed"
    QUOTA_WAIT = "wait for quota too long"
    INPUT_CHANGED = "items file changed"
    WORKERS = "no worker left"
    LEDGER = "ledger cannot be written"
    FILES = "files cannot be written"
    UNREADABLE = "server cannot be read"
    DEADLINE = "deadline reached"
    STAGE = "stage not passed"
    CONTROL = "stopped by migrator ctl"
    SIGINT = "interrupted"
    SIGTERM = "terminated"
    SIGHUP = "hung up"
    KILLED = "killed"


class StopReason(msgspec.Struct, frozen=True):
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
        signals = {
            StopKind.SIGINT: Exit.INTERRUPTED,
            StopKind.SIGTERM: Exit.TERMINATED,
            StopKind.SIGHUP: Exit.HUNG_UP,
        }
        return signals.get(self.kind, Exit.STOPPED)


def exit_code(counts: Counter[Status], total: int, stopped: StopReason | None, *, dry_run: bool = False) -> Exit:
    """Return a run's exit code.

    Args:
        counts: finished items by status.
        total: items of the run.
        stopped: why it stopped before its end; None where it did not.
        dry_run: nothing was to be sent, so that a skipped item is as it should be.
    """
    if stopped is not None:
        return stopped.exit_code
    bad = counts[Status.FAILED] + counts[Status.IN_DOUBT] + (0 if dry_run else counts[Status.SKIPPED])
    return Exit.SOME_FAILED if bad or counts.total() < total else Exit.OK


class ItemResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an item: all that a record says, and nothing secret.

    Attributes:
        item: the row's number in the input, from 1.
        key: what names the item.
        status: what became of it.
        method: the request's.
        url: the request's, masked.
        http_status: the last answer's.
        attempts: how often it was tried.
        request_id: the server's own id of the last answer.
        finished_ms: milliseconds since the epoch, UTC.
        duration_ms: of the last attempt.
        waited_ms: for the throttle and between attempts.
        verified: whether the answer holds what was sent; None where that was not looked at.
        limit: the quota that the last answer reported.
        remaining: its rest.
        reset_s: seconds until it is renewed.
        provisional: the run was stopped by it, and it is sent again when the run is resumed.
        error: why it did not succeed.
    """

    item: int
    key: str
    status: Status
    method: str
    url: str
    http_status: int | None
    attempts: int
    request_id: str | None
    finished_ms: int
    duration_ms: float
    waited_ms: float
    verified: bool | None
    limit: int | None
    remaining: int | None
    reset_s: float | None
    provisional: bool = False
    error: ItemError | None
