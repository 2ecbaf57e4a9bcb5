"""An item's way from its request to its durable result: precondition, attempts, record, verify."""

from collections.abc import Awaitable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from traceback import extract_tb
from typing import Final, Protocol, TypeAlias, TypeVar

from msgspec.structs import replace

from migrator.api.attempts import Answered, Hooks
from migrator.api.outcome import Decision, Settle, Stop, held
from migrator.api.polling import until_finished
from migrator.api.reader import Reader
from migrator.api.session import Session
from migrator.errors import LedgerError, ReadingError, WaitTooLong, shortage
from migrator.job.template import with_run
from migrator.messages import Answer, Clock, Poll, Reply, Request
from migrator.options import Verify
from migrator.report.observer import Observer
from migrator.report.time_use import Activity
from migrator.results import ErrorKind, ItemError, ItemResult, Outcome, Status, StopReason
from migrator.run.pool.batches import Batches
from migrator.run.pool.roles import Conductor, Events
from migrator.run.preconditions import Precondition
from migrator.run.stop_rules import Tenants, is_exempt, stop_reason_of
from migrator.secret import Masker

__all__ = ["ItemResults", "Items", "Records"]

Recorded = TypeVar("Recorded")

NO_HEADERS: Final[Mapping[str, str]] = {}
NOTHING: Final[Mapping[int, ItemResult]] = {}

DEEPEST: Final = 20
"""Frames of a bug that are noted, the innermost ones."""

INTERRUPTED: Final = ItemError(
    kind=ErrorKind.CONNECTION,
    message="the program ended while this was being sent; the server may have acted on it, and it is not sent again",
)


class ItemResults:
    """Makes results, with nothing secret in them.

    Args:
        masker: keeps secrets out.
        clock: dates what was not sent.
        secret_path: whether a URL's path holds a secret.
    """

    def __init__(self, *, masker: Masker, clock: Clock, secret_path: bool) -> None:
        self._masker = masker
        self._clock = clock
        self._secret_path = secret_path

    def answered(self, request: Request, answered: Answered) -> ItemResult:
        """Return the result of an item that was sent."""
        answer, outcome, quota = answered.answer, answered.outcome, answered.quota
        headers = answer.headers if isinstance(answer, Reply) else NO_HEADERS
        request_id = headers.get("x-request-id")
        return ItemResult(
            item=request.item,
            key=request.key,
            status=outcome.status,
            method=request.method,
            url=self._shown_url(request),
            http_status=answer.status if isinstance(answer, Reply) else None,
            attempts=answered.attempts,
            request_id=None if request_id is None else self._masker.server_text(request_id, request.secrets),
            finished_ms=round(answer.received.utc * 1000),
            duration_ms=round((answer.received.mono - answer.sent.mono) * 1000, 1),
            waited_ms=round(answered.waited_s * 1000, 1),
            verified=outcome.verified,
            limit=quota.limit if quota is not None else None,
            remaining=quota.remaining if quota is not None else None,
            reset_s=quota.reset_s if quota is not None else None,
            provisional=answered.stops,
            error=outcome.error,
        )

    def unsent(self, request: Request, status: Status, error: ItemError | None) -> ItemResult:
        """Return the result of an item for which this invocation sends nothing."""
        return ItemResult(
            item=request.item,
            key=request.key,
            status=status,
            method=request.method,
            url=self._shown_url(request),
            http_status=None,
            attempts=0,
            request_id=None,
            finished_ms=round(self._clock().utc * 1000),
            duration_ms=0.0,
            waited_ms=0.0,
            verified=None,
            limit=None,
            remaining=None,
            reset_s=None,
            error=error,
        )

    def _shown_url(self, request: Request) -> str:
        return self._masker.text(request.url, request.secrets) if self._secret_path else request.url


Finished: TypeAlias = tuple[ItemResult, bytes, StopReason | None]
"""A result, its line for `results.jsonl`, and why the run stops with it."""


class Records(Protocol):
    """Keeps what happens to items; `Ledger` is the one that survives the process."""

    def begin(self, item: int, key: str, attempt: int, at_ms: int) -> None:
        """Note that an item is about to be sent."""

    async def begin_durably(self, item: int, key: str, attempt: int, at_ms: int) -> None:
        """Note that an item is about to be sent, and return once that is durable."""

    def withdraw(self, item: int) -> None:
        """Note that an attempt is known to have had no effect."""

    async def written(self, row: ItemResult) -> None:
        """Record that an item was written and is to be read back, and return once that is durable."""

    async def settle(self, row: ItemResult) -> bytes:
        """Record an item's result, and return once it is durable."""


class Items(Hooks):
    """Finishes items, one at a time for each worker.

    Attributes:
        precondition: looks at an item before it is written; None where nothing is looked at.

    Args:
        engine: counts them, and stops the run.
        session: sends requests and reads records.
        results: makes results.
        ledger: keeps them.
        journal: is told of retries.
        doubtful: items that were being sent when an earlier invocation was interrupted.
        unverified: results of items that were written when it was interrupted, and not read back yet.
        observers: see each attempt.
        verify: what proves that an item was written: nothing, the answer, or a GET after it.
        first_run: the id of the run that sent the items first.
        activity: is told what items do, for the reasons of waits.
    """

    def __init__(
        self,
        *,
        engine: Conductor,
        session: Session,
        results: ItemResults,
        ledger: Records,
        journal: Events,
        doubtful: AbstractSet[int] = frozenset(),
        unverified: Mapping[int, ItemResult] = NOTHING,
        observers: Sequence[Observer] = (),
        verify: Verify = Verify.RESPONSE,
        first_run: str = "",
        activity: Activity | None = None,
    ) -> None:
        self._engine = engine
        self._first_run = first_run
        self._activity = activity if activity is not None else Activity()
        self._attempts = session.attempts(self, verify=verify)
        self._session = session
        self._clock, self._masker = session.clock, session.masker
        self._results = results
        self._ledger = ledger
        self._journal = journal
        self._doubtful = doubtful
        self._tenants = Tenants()
        self._unverified = unverified
        self._begun: set[int] = set()
        self._observers = observers
        self._verify = verify
        self._batches: Batches | None = None
        self.precondition: Precondition | None = None
        self._verifier: Reader | None = session.reader if verify is Verify.READ else None

    async def finish(self, request: Request) -> None:
        """Take one item the whole way; an error of ours that belongs to it becomes its result.

        Raises:
            LedgerError: its result cannot be recorded.
            ReadingError: nothing can be read, of no item.
            WaitTooLong: the quota needs a longer wait than the user allows.
        """
        try:
            finished = await self._finish(request)
        except (LedgerError, ReadingError, WaitTooLong):
            raise
        except Exception as error:  # no odd answer ends a run: it ends its item
            if shortage(error) is not None:
                raise
            finished = *await self._fail(request, error), None
        finally:
            self._begun.discard(request.item)
            self._activity.proceed(request.item)
        if finished is not None:
            result, line, stop = finished
            # That an earlier invocation was interrupted says nothing of other items: the next one is the canary.
            exempt = result.error is INTERRUPTED or is_exempt(request, result)
            self._engine.finished(result, line, stop=stop, exempt=exempt)

    async def _finish(self, request: Request) -> Finished | None:
        """Return the item's durable result, its line and why the run stops with it; None where it was not sent."""
        if (written := self._unverified.get(request.item)) is not None:
            return *await self._verified(request, written), None
        batches = self._batches_of(request)
        with nullcontext() if batches is None else batches.coming():
            prepared = await self._prepared(request)
        if isinstance(prepared, ItemResult):
            return prepared, await self._settle(prepared), None
        async with (batches or self._attempts).until_done(prepared) as answered:
            if answered is None:
                refused = self._refused(prepared)
                return None if refused is None else (refused, await self._settle(refused), None)
            result, line = await self._record(request, self._results.answered(prepared, answered))
        if result.status is Status.IN_DOUBT and (poll := prepared.rules.poll) and isinstance(answered.answer, Reply):
            result = await self._followed(prepared, answered.answer, poll, result)
            line = await self._settle(result)
        elif result.attempts > 1 and _is_conflict(result) and prepared.needs_record:
            result = await self._own_conflict(prepared, result)
            line = await self._settle(result)
        if answered.stops:
            return result, line, stop_reason_of(answered.outcome.error, item=request.item)
        if self._verifier is not None and result.status is Status.SUCCEEDED:
            result, line = await self._verified(prepared, result)
        if self.precondition is not None and result.status is Status.SUCCEEDED:
            self.precondition.succeeded(request)
        return result, line, None

    async def _record(self, request: Request, result: ItemResult) -> tuple[ItemResult, bytes]:
        """Record an answer durably; what is read back afterwards has no result and no line until then."""
        if result.status is Status.FAILED and self._engine.in_canary and not is_exempt(request, result):
            result = replace(result, provisional=True)
        if self._verifier is not None and result.status is Status.SUCCEEDED:
            await self._durably(self._ledger.written(result))
            return result, b""
        return result, await self._settle(result)

    async def _fail(self, request: Request, error: Exception) -> tuple[ItemResult, bytes]:
        """Record that a bug of ours ended an item, and note where; an exception's text may quote a secret."""
        frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)]
        name = type(error).__name__
        self._journal.event(
            "item.bug", level="error", item=request.item, key=request.key, error=name, frames=frames[-DEEPEST:]
        )
        maybe_applied = request.item in self._begun and not request.idempotent
        message = f"a bug in migrator ({name}); see item.bug in events.jsonl"
        result = self._results.unsent(
            request,
            Status.IN_DOUBT if maybe_applied else Status.FAILED,
            ItemError(kind=ErrorKind.INTERNAL, message=message),
        )
        return result, await self._settle(result)

    async def _settle(self, result: ItemResult) -> bytes:
        """Record a result durably, and return its line."""
        return await self._durably(self._ledger.settle(result))

    async def _durably(self, recorded: Awaitable[Recorded]) -> Recorded:
        """Wait for the disk, which is then what the run waits for."""
        self._activity.recording += 1
        try:
            return await recorded
        finally:
            self._activity.recording -= 1

    def _batches_of(self, request: Request) -> Batches | None:
        """Return what items meet in, where several share a request."""
        if request.rules.batch is not None and self._batches is None:
            self._batches = Batches(self._attempts, request.rules.batch, verify=self._verify, masker=self._masker)
        return self._batches

    async def rehearse(self, request: Request, *, read: bool = False) -> None:
        """Take an item as far as its write, and record what stands in its way; else that it is skipped.

        Args:
            request: the item's.
            read: whether its record is read in any case, which tries the credentials and the permission.

        Raises:
            LedgerError: the result cannot be recorded.
            ReadingError: nothing can be read, of no item.
            WaitTooLong: the quota needs a longer wait than the user allows.
        """
        result = await self._prepared(request)
        if isinstance(result, Request):
            error = (await self._session.reader.record(request)).error if read else None
            if request.method == "PUT" and error is not None and error.kind is ErrorKind.NOT_FOUND:
                error = None  # a PUT makes the record
            result = self._results.unsent(request, Status.FAILED if error is not None else Status.SKIPPED, error)
        self._engine.finished(result, await self._settle(result), exempt=True)

    async def _prepared(self, request: Request) -> ItemResult | Request:
        """Return the result of an item that is not to be sent, or the request to send."""
        if request.item in self._doubtful and not request.idempotent:
            return self._results.unsent(request, Status.IN_DOUBT, INTERRUPTED)
        if (refused := self._refused(request)) is not None:
            return refused
        request = with_run(request, self._first_run)
        try:
            found = request if self.precondition is None else await self.precondition.check(request)
        except ReadingError as error:
            if not self._tenants.refuse(request, error.error):
                raise
            return self._results.unsent(request, Status.FAILED, error.error)
        return found if isinstance(found, Request) else self._results.unsent(request, found.status, found.error)

    async def _own_conflict(self, request: Request, result: ItemResult) -> ItemResult:
        """Return what a conflict after an unanswered attempt is: that attempt may have changed the version itself."""
        record = await self._session.reader.record(request)
        if record.document is None or held(request, record.document, status=200).verified is not True:
            return result
        return replace(result, status=Status.SUCCEEDED, verified=True, error=None)

    async def _followed(self, request: Request, reply: Reply, poll: Poll, result: ItemResult) -> ItemResult:
        """Return what became of a request that was accepted; until then its item is recorded as in doubt."""
        if reply.status != 202:
            return result
        reading = replace(request, method="GET", body=None, wanted=None, headers=(), reading=None, idempotent=True)
        outcome = await until_finished(
            request,
            reply,
            poll,
            ask=lambda url: self._session.reader.answer(replace(reading, url=url)),
            clock=self._clock,
            pause=self._session.throttle.sleep,
            mask=lambda text: self._masker.server_text(text, request.secrets),
        )
        return replace(result, status=outcome.status, error=outcome.error)

    def _refused(self, request: Request) -> ItemResult | None:
        """Return the result of an item whose own credentials were refused, or None."""
        refusal = self._tenants.refusal(request)
        return None if refusal is None else self._results.unsent(request, Status.FAILED, refusal)

    async def _verified(self, request: Request, result: ItemResult) -> tuple[ItemResult, bytes]:
        """Return what the server holds of what was written, in place of what its answer said; durably."""
        if self._verifier is not None:
            result = await self._read_back(self._verifier, request, result)
        return result, await self._settle(result)

    async def _read_back(self, reader: Reader, request: Request, result: ItemResult) -> ItemResult:
        record = await reader.record(request)
        if record.document is None:
            said = record.error.message if record.error is not None else "no answer"
            self._journal.event("item.unread", level="warning", item=request.item, key=request.key, cause=said)
            return replace(result, verified=None)
        seen = held(request, record.document, status=200)
        return replace(result, status=seen.status, verified=seen.verified, error=seen.error)

    def still_wanted(self, request: Request) -> bool:
        """Tell whether an item's own credentials are still good."""
        return self._tenants.refusal(request) is None

    def was_sent(self, request: Request) -> bool:
        """Tell whether an earlier invocation was interrupted while it sent the item."""
        return any(one.item in self._doubtful for one in request.members or (request,))

    async def before_send(self, request: Request, attempt: int) -> None:
        """Note that the item is about to be sent, and wait for the disk where that decides whether it may be again."""
        self._masker.remember(request.secrets)
        self._activity.proceed(request.item)
        now_ms = round(self._clock().utc * 1000)
        *before, last = request.members or (request,)
        self._begun.update(one.item for one in (*before, last))
        for one in before:
            self._ledger.begin(one.item, one.key, attempt, now_ms)
        if request.idempotent and self.precondition is None:
            self._ledger.begin(last.item, last.key, attempt, now_ms)
        else:
            # After a kill, a precondition has to tell the run's own write from a change that others made. What was
            # written before this note is durable with it.
            await self._durably(self._ledger.begin_durably(last.item, last.key, attempt, now_ms))

    def on_answer(self, request: Request, answer: Answer, outcome: Outcome, decision: Decision) -> Decision:
        """Let the engine judge: a server that is down is not the item's fault."""
        self._activity.answered_at = answer.received.mono
        for observer in self._observers:
            observer.attempt(request, answer)
        if isinstance(answer, Reply) and (told := self._session.names.see(request.rules, answer.body)) is not None:
            self._journal.event("api.shown_as", message=told)
        if isinstance(decision, Stop) and self._tenants.refuse(request, outcome.error):
            decision = Settle(outcome)
        return self._engine.judged(request, outcome, decision)

    def on_retry(self, request: Request, outcome: Outcome, delay_s: float) -> None:
        """Note why an item is sent again; one that must not be sent twice is not in flight until then."""
        for one in request.members or (request,):
            if not request.idempotent:
                self._begun.discard(one.item)
                self._ledger.withdraw(one.item)
        self._journal.event(
            "item.retry",
            level="debug" if outcome.throttled else "info",
            throttled=outcome.throttled,
            item=request.item,
            key=request.key,
            cause=outcome.error.message if outcome.error is not None else None,
            delay_s=round(delay_s, 3),
        )
        if not outcome.throttled:
            cause = "no answer" if outcome.error is None else outcome.error.kind.value.replace("_", " ")
            self._activity.pause(request.item, self._clock().mono + delay_s, cause)
        self._engine.retried(outcome)


def _is_conflict(result: ItemResult) -> bool:
    return result.error is not None and result.error.kind is ErrorKind.CONFLICT
