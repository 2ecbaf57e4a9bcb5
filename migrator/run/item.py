"""From an answer to what the ledger keeps of an item."""

from collections.abc import Mapping

from migrator.messages import Answer, Clock, Reply, Request
from migrator.ratelimit.headers import Quota
from migrator.results import ItemError, ItemResult, Outcome, Status
from migrator.secret import Masker

__all__ = ["Rows"]

NO_HEADERS: Mapping[str, str] = {}


class Rows:
    """Makes rows, with nothing secret in them.

    Args:
        masker: keeps secrets out.
        clock: dates what was not sent.
        secret_path: whether a URL's path holds a secret.
    """

    def __init__(self, *, masker: Masker, clock: Clock, secret_path: bool) -> None:
        self._masker = masker
        self._clock = clock
        self._secret_path = secret_path

    def answered(
        self,
        request: Request,
        answer: Answer,
        outcome: Outcome,
        quota: Quota | None,
        *,
        attempts: int,
        waited_s: float,
        provisional: bool,
    ) -> ItemResult:
        """Return the end of an item that was sent."""
        headers = answer.headers if isinstance(answer, Reply) else NO_HEADERS
        request_id = headers.get("x-request-id")
        return ItemResult(
            item=request.item,
            key=request.key,
            status=outcome.status,
            method=request.method,
            url=self._shown_url(request),
            http_status=answer.status if isinstance(answer, Reply) else None,
            attempts=attempts,
            request_id=None if request_id is None else self._masker.server_text(request_id, request.secrets),
            finished_ms=round(answer.received.utc * 1000),
            duration_ms=round((answer.received.mono - answer.sent.mono) * 1000, 1),
            waited_ms=round(waited_s * 1000, 1),
            verified=outcome.verified,
            limit=quota.limit if quota is not None else None,
            remaining=quota.remaining if quota is not None else None,
            reset_s=quota.reset_s if quota is not None else None,
            provisional=provisional,
            error=outcome.error,
        )

    def unsent(self, request: Request, status: Status, error: ItemError | None) -> ItemResult:
        """Return the end of an item for which this invocation sends nothing."""
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
