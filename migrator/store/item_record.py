"""The record of an item: a line of JSON, encoded once. The ledger keeps it, and `results.jsonl` has it too."""

from datetime import datetime
from typing import Any, Final

import msgspec

from migrator.results import ItemError, ItemResult, Status
from migrator.times import timestamp

__all__ = ["Record", "decoded", "encoded", "record"]

MS_DECIMALS: Final = 1
S_DECIMALS: Final = 3
"""Of durations in a record: a network's clock is not more exact than a fraction of a millisecond."""


class RateLimit(msgspec.Struct, frozen=True):
    """What the answer said of the quota.

    Attributes:
        limit: requests that a window allows.
        remaining: requests that are left of it.
        reset_s: seconds until it is renewed.
    """

    limit: int | None
    remaining: int | None
    reset_s: float | None


class Record(msgspec.Struct, frozen=True):
    """A line of `results.jsonl`; the fields and their order are the contract's."""

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
    """Return the record of a result."""
    reset_s = None if row.reset_s is None else _rounded(row.reset_s, S_DECIMALS)
    silent = row.limit is None and row.remaining is None and reset_s is None
    return Record(
        timestamp(row.finished_ms),
        "item",
        "info" if row.status.is_success or row.status is Status.SKIPPED else "error",
        run,
        row.item,
        row.key,
        row.status,
        row.method,
        row.url,
        row.http_status,
        row.attempts,
        row.request_id,
        _rounded(row.duration_ms, MS_DECIMALS),
        _rounded(row.waited_ms, MS_DECIMALS),
        row.verified,
        None if silent else RateLimit(row.limit, row.remaining, reset_s),
        row.error,
    )


def _rounded(duration: float, decimals: int) -> float:
    return round(float(duration), decimals) + 0.0  # -0.0 is 0.0


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encoded(found: Record) -> bytes:
    """Return a record's line, with its line break; a lone surrogate, which JSON cannot hold, is spelt out."""
    try:
        return _encoder.encode(found) + b"\n"
    except UnicodeEncodeError:
        return _encoder.encode(_spelt(msgspec.to_builtins(found))) + b"\n"


def _spelt(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return {name: _spelt(member) for name, member in value.items()} if isinstance(value, dict) else value


def decoded(line: bytes, *, provisional: bool) -> ItemResult:
    """Return the result that a line of the ledger records.

    Args:
        line: as `encoded` made it.
        provisional: the run was stopped by it, which is no part of the record.
    """
    found = _decoder.decode(line)
    quota = found.rate_limit
    return ItemResult(
        item=found.item,
        key=found.key,
        status=found.status,
        method=found.method,
        url=found.url,
        http_status=found.http_status,
        attempts=found.attempts,
        request_id=found.request_id,
        finished_ms=finished_ms(found.timestamp),
        duration_ms=found.duration_ms,
        waited_ms=found.waited_ms,
        verified=found.verified,
        limit=None if quota is None else quota.limit,
        remaining=None if quota is None else quota.remaining,
        reset_s=None if quota is None else quota.reset_s,
        provisional=provisional,
        error=found.error,
    )


def finished_ms(at: str) -> int:
    """Return a record's timestamp in milliseconds since the epoch."""
    return round(datetime.fromisoformat(at).timestamp() * 1000)
