"""What an answer means, and what to do about it.

`classify` tells a fact about one answer, `decide` draws the conclusion. Both are pure; the rules for statuses are
those of Confluent Cloud's API guide and of RFC 9110.
"""

import re
from collections.abc import Mapping
from random import Random
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from migrator.api.error_body import Mask, read_error
from migrator.api.expressions import record_in, search
from migrator.api.state import changes, is_normalised, wanted_of
from migrator.job.json_reader import Unreadable, decode
from migrator.messages import JSON, Answer, Failure, FailureKind, Reply, Request, start_of_body
from migrator.options import Verify
from migrator.ratelimit.headers import RateLimitSignal
from migrator.results import ErrorKind, ItemError, Outcome, Status

__all__ = [
    "Decision",
    "ErrorKind",
    "ItemError",
    "Retry",
    "RetryPolicy",
    "Settle",
    "Stop",
    "classify",
    "decide",
    "held",
    "may_have_acted",
    "unless_in_progress",
]


class Settle(msgspec.Struct, frozen=True):
    """The item has come to its end."""

    outcome: Outcome


class Retry(msgspec.Struct, frozen=True):
    """Try again after `delay_s`; `counted` is False where the attempt was not the item's own fault."""

    delay_s: float
    counted: bool


class Stop(msgspec.Struct, frozen=True):
    """The item has come to its end, and the run with it."""

    outcome: Outcome


Decision: TypeAlias = Settle | Retry | Stop


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and how patiently.

    Attributes:
        max_attempts: tries an item, the first included.
        base_s: the first back-off's upper end.
        cap_s: the longest back-off.
    """

    max_attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0


NEVER_RETRIED: Final = frozenset({501, 505})

KINDS: Final[Mapping[int, ErrorKind]] = {
    400: ErrorKind.VALIDATION,
    401: ErrorKind.AUTH,
    402: ErrorKind.QUOTA,
    403: ErrorKind.FORBIDDEN,
    404: ErrorKind.NOT_FOUND,
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.CONFLICT,
    410: ErrorKind.NOT_FOUND,
    412: ErrorKind.CONFLICT,
    425: ErrorKind.SERVER,
    429: ErrorKind.RATE_LIMITED,
}

INVALID_KEY: Final = re.compile(r"invalid api[ -]key|api[ -]key is invalid", re.IGNORECASE)
"""How a 403 says that the credentials themselves are refused (the test of Confluent's own Terraform provider)."""
NORMALISED: Final = "; it holds another spelling of the same value, so that it seems to normalise what it is sent"

IN_PROGRESS: Final = (
    "; it was sent before with this Idempotency-Key, and the server may still be at work on that, or have finished it"
)

NOT_FINISHED: Final = (
    "the server accepted the request (202) and has not finished it; what became of it is not known: migrator reconcile "
    "reads it later"
)

THROTTLED_CODE: Final = re.compile(r'"code"\s*:\s*"(?:THROTTLED|RATE_?LIMITED)"', re.IGNORECASE)
"""How a GraphQL API says in a 200 that the request was refused for its cost (Shopify's and Linear's references)."""

QUOTA_WORDS: Final = re.compile(
    r"quota[ _]exceeded|exceed[a-z]* (?:the|one or more|your)? ?quota|is currently limited to", re.IGNORECASE
)


def classify(request: Request, answer: Answer, *, verify: Verify, mask: Mask, signal: RateLimitSignal) -> Outcome:
    """Tell what one answer means.

    Args:
        request: what was sent.
        answer: what came back, or how it failed.
        verify: whether a 2xx answer's body is compared with what was sent.
        mask: makes a server's text fit to be recorded.
        signal: what the answer says of the rate limit, as the permit told.
    """
    if isinstance(answer, Failure):
        return _no_answer(request, answer)
    if signal.throttled and (request.idempotent or _is_refusal(answer, signal.retry_after_s)):
        return Outcome(
            status=Status.FAILED,
            error=read_error(answer, mask, ErrorKind.RATE_LIMITED, request.rules.error),
            transient=True,
            throttled=True,
            retry_after_s=signal.retry_after_s,
        )
    if 200 <= answer.status < 300:
        return _success(request, answer, verify, mask)
    if 300 <= answer.status < 400:
        return Outcome(status=Status.FAILED, error=_redirected(answer))
    if answer.status < 200 or answer.status >= 500 or answer.status in {408, 425}:
        return _server_trouble(request, answer, mask, signal.retry_after_s)
    return _refusal(request, answer, mask)


def may_have_acted(answer: Answer, retry_after_s: float | None) -> bool:
    """Tell whether a server may have acted, or may still act, on a request that was answered so.

    Args:
        answer: what came back, or how it failed.
        retry_after_s: as the answer says.
    """
    return answer.maybe_sent if isinstance(answer, Failure) else not _is_refusal(answer, retry_after_s)


def unless_in_progress(request: Request, answer: Answer, outcome: Outcome, retry_after_s: float | None) -> Outcome:
    """Return what an answer means to a request that was sent before, where it was not known what came of that.

    With an Idempotency-Key, a 409 says that the first request is still in progress, and is to be sent again later
    (draft-ietf-httpapi-idempotency-key-header-07, section 2.7). A server that does not heed the key says 409 because
    the first request has made the record. Neither proves that nothing was applied.

    Args:
        request: what was sent.
        answer: what came back, or how it failed.
        outcome: what the answer means to a request that was not sent before.
        retry_after_s: as the answer says.
    """
    keyed = any(name.lower() == "idempotency-key" for name, _ in request.headers)
    if not keyed or outcome.error is None or not isinstance(answer, Reply) or answer.status != 409:
        return outcome
    error = replace(outcome.error, message=outcome.error.message + IN_PROGRESS)
    return replace(outcome, status=Status.IN_DOUBT, error=error, transient=True, retry_after_s=retry_after_s)


def decide(outcome: Outcome, *, attempt: int, policy: RetryPolicy, rng: Random) -> Decision:
    """Tell what to do about an outcome.

    The back-off is exponential with full jitter (each delay drawn from 0 to the doubled bound), the server's own
    Retry-After its floor. A refusal for the rate limit waits at the pacer only and costs the item no attempt,
    unless it came as a 503 with Retry-After, which a broken server sends as well. A 503 without it is a refusal only
    where the throttle has seen that it comes at a rate.

    Args:
        outcome: what the answer meant.
        attempt: which attempt it was, from 1.
        policy: how often to try.
        rng: the source of jitter.
    """
    rate_limited = outcome.error is not None and (outcome.error.status != 503 or outcome.retry_after_s is None)
    if outcome.throttled and (rate_limited or attempt < policy.max_attempts):
        return Retry(delay_s=0.0, counted=not rate_limited)
    if outcome.fatal:
        return Stop(outcome)
    if outcome.transient and attempt < policy.max_attempts:
        bound_s = min(policy.cap_s, policy.base_s * 2.0 ** min(attempt - 1, 30))
        return Retry(delay_s=max(rng.uniform(0.0, bound_s), outcome.retry_after_s or 0.0), counted=True)
    if outcome.unreachable:
        return Stop(outcome)
    return Settle(outcome)


def _no_answer(request: Request, failure: Failure) -> Outcome:
    unsafe = failure.maybe_sent and not request.idempotent
    hopeless = failure.certificate or failure.credentials
    message = failure.message
    if unsafe:
        message += "; the server may have acted on it, and it is not safe to send again"
    return Outcome(
        status=Status.IN_DOUBT if unsafe else Status.FAILED,
        error=ItemError(kind=ErrorKind.AUTH if failure.credentials else ErrorKind(failure.kind.value), message=message),
        transient=not unsafe and not hopeless,
        unreachable=not failure.maybe_sent and failure.kind is not FailureKind.PROTOCOL,
        fatal=hopeless,
    )


def _success(request: Request, reply: Reply, verify: Verify, mask: Mask) -> Outcome:
    """Judge a 2xx answer, whose body must hold what was sent: servers ignore the members that they do not know."""
    if request.rules.success is not None and reply.body and (refused := _refused_in_2xx(request, reply, mask)):
        return refused
    if reply.status == 202 and request.method != "GET":
        return _accepted(request, reply, verify)
    if verify is Verify.NONE or request.body is None or (not reply.body and not reply.truncated):
        return Outcome(status=Status.SUCCEEDED)
    got = Unreadable("is longer than what is read of it") if reply.truncated else decode(reply.body)
    if isinstance(got, Unreadable):
        error = ItemError(
            kind=ErrorKind.PROTOCOL,
            status=reply.status,
            message=f"the server answered {reply.status}, but the body {got.reason}: it may have been applied",
        )
        status = Status.FAILED if request.idempotent else Status.IN_DOUBT
        return Outcome(status=status, error=error, transient=request.idempotent and not reply.truncated)
    return held(request, record_in(got, request.rules), status=reply.status)


def _refused_in_2xx(request: Request, reply: Reply, mask: Mask) -> Outcome | None:
    """Return the refusal that a 2xx answer holds, by the API's own rule, or None where it counts as a success."""
    found = decode(reply.body)
    if not reply.truncated and not isinstance(found, Unreadable) and search(request.rules.success or "@", found):
        return None
    error = read_error(reply, mask, ErrorKind.VALIDATION, request.rules.error)
    busy = THROTTLED_CODE.search(start_of_body(reply)) is not None
    return Outcome(
        status=Status.FAILED,
        error=replace(error, kind=ErrorKind.RATE_LIMITED) if busy else error,
        transient=busy,
    )


def _accepted(request: Request, reply: Reply, verify: Verify) -> Outcome:
    """Judge a 202, which is accepted and not finished (RFC 9110, section 15.3.3), unless it shows what was wanted."""
    found = decode(reply.body)
    if verify is not Verify.NONE and wanted_of(request) and not reply.truncated and not isinstance(found, Unreadable):
        shown = held(request, record_in(found, request.rules), status=reply.status)
        if shown.verified:
            return shown
    return Outcome(
        status=Status.IN_DOUBT, error=ItemError(kind=ErrorKind.PROTOCOL, status=reply.status, message=NOT_FINISHED)
    )


def held(request: Request, record: JSON, *, status: int) -> Outcome:
    """Tell whether a server holds what was sent.

    Args:
        request: what was sent; one that names no state, such as a list of operations, is not compared.
        record: the record, as the server shows it.
        status: of the answer that shows it.
    """
    wanted = wanted_of(request)
    if wanted is None:
        return Outcome(status=Status.SUCCEEDED)
    found = list(changes(wanted, record, request.rules))
    different = [change for change in found if not change.masked]
    missing = [change.pointer for change in different]
    if not missing:
        # Where the service shows a mask, what it holds cannot be told.
        return Outcome(status=Status.SUCCEEDED, verified=None if found else True)
    words = f"does not hold what was sent at {', '.join(missing[:5])}"
    if not isinstance(record, Mapping):
        words = f"no record stands in the answer (at {request.rules.record or '@'}, api.record)"
    error = ItemError(
        kind=ErrorKind.MISMATCH,
        status=status,
        pointer=missing[0],
        message=f"the server answered {status}, but {words}"
        + (NORMALISED if all(map(is_normalised, different)) else ""),
    )
    # A server that writes a value its own way has applied the request all the same.
    return Outcome(status=Status.FAILED if request.idempotent else Status.IN_DOUBT, error=error, verified=False)


def _redirected(reply: Reply) -> ItemError:
    """Name the target's origin alone: its path and query may carry anything."""
    origin = re.match(r"https?://[^/?#@\s]+(?=[/?#]|$)", reply.headers.get("location", ""))
    target = f" to {origin[0]}" if origin else ""
    return ItemError(
        kind=ErrorKind.PROTOCOL,
        status=reply.status,
        message=f"the server answered {reply.status}, a redirect{target}, which is not followed",
    )


def _is_refusal(reply: Reply, retry_after_s: float | None) -> bool:
    """Tell whether an answer proves that the request was not applied.

    That is so after any 3xx, any 4xx but 408 (a middleman gave up waiting), and a 503 with Retry-After, which says that
    the server is not serving (RFC 9110, section 15.6.4). After any other 5xx the server may have acted.
    """
    if reply.status == 503:
        return retry_after_s is not None
    return 300 <= reply.status < 500 and reply.status != 408


def _server_trouble(request: Request, reply: Reply, mask: Mask, retry_after_s: float | None) -> Outcome:
    # A 101 is no answer to the request: this program asks for no other protocol.
    kind = ErrorKind.PROTOCOL if reply.status < 200 else KINDS.get(reply.status, ErrorKind.SERVER)
    error = read_error(reply, mask, kind, request.rules.error)
    if request.idempotent or _is_refusal(reply, retry_after_s):
        transient = reply.status not in NEVER_RETRIED
        return Outcome(status=Status.FAILED, error=error, transient=transient, retry_after_s=retry_after_s)
    return Outcome(status=Status.IN_DOUBT, error=error)


def _refusal(request: Request, reply: Reply, mask: Mask) -> Outcome:
    """Judge a 4xx. A lone 403 is the item's: Confluent answers so for an integration that does not exist."""
    kind = KINDS.get(reply.status, ErrorKind.VALIDATION)
    if reply.status == 403 and INVALID_KEY.search(start_of_body(reply)):
        kind = ErrorKind.AUTH
    elif reply.status == 400 and QUOTA_WORDS.search(start_of_body(reply)):
        kind = ErrorKind.QUOTA
    return Outcome(
        status=Status.FAILED, error=read_error(reply, mask, kind, request.rules.error), fatal=kind is ErrorKind.AUTH
    )
