"""The record of an item, as it stands in `results.jsonl`."""

from typing import Final, TypedDict

from migrator.results import ItemError, ItemResult, Status
from migrator.times import timestamp

__all__ = ["Record", "record"]

MS_DECIMALS: Final = 1
S_DECIMALS: Final = 3
"""Of durations in a record: the fraction of a millisecond is what a network's clock is worth, at the most."""


class RateLimit(TypedDict):
    """What the answer said of the quota."""

    limit: int | None
    remaining: int | None
    reset_s: float | None


class Record(TypedDict):
    """A line of `results.jsonl`."""

    timestamp: str
    event: str
    level: str
    run: str
    item: int
    key: str
    status: Status
    method: str
    url: str
    http_status: int | None
    attempts: int
    request_id: str | None
    duration_ms: float
    waited_ms: float
    verified: bool | None
    rate_limit: RateLimit | None
    error: ItemError | None


def record(row: ItemResult, *, run: str) -> Record:
    """Return a result as it is written: live, and again from the ledger, to the same bytes."""
    reset_s = None if row.reset_s is None else _rounded(row.reset_s, S_DECIMALS)
    silent = row.limit is None and row.remaining is None and reset_s is None
    return {
        "timestamp": timestamp(row.finished_ms),
        "event": "item",
        "level": "info" if row.status.is_success or row.status is Status.SKIPPED else "error",
        "run": run,
        "item": row.item,
        "key": row.key,
        "status": row.status,
        "method": row.method,
        "url": row.url,
        "http_status": row.http_status,
        "attempts": row.attempts,
        "request_id": row.request_id,
        "duration_ms": _rounded(row.duration_ms, MS_DECIMALS),
        "waited_ms": _rounded(row.waited_ms, MS_DECIMALS),
        "verified": row.verified,
        "rate_limit": None if silent else {"limit": row.limit, "remaining": row.remaining, "reset_s": reset_s},
        "error": row.error,
    }


def _rounded(duration: float, decimals: int) -> float:
    """Round as the ledger would give it back: SQLite makes a whole number in a REAL column a float, and -0.0 is 0.0."""
    return round(float(duration), decimals) + 0.0
