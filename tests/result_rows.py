"""Results of items: one with plain values, and a strategy for any."""

from typing import Any

from hypothesis import strategies as st

from migrator.results import ErrorKind, ItemError, ItemResult, Status

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DURATIONS = (st.floats(0, 1e9, allow_nan=False) | st.integers(0, 10**9)).map(lambda value: round(float(value), 1) + 0.0)
COUNTS = st.integers(0, 10**9)

ERRORS = st.builds(
    ItemError,
    kind=st.sampled_from(ErrorKind),
    status=st.none() | st.integers(100, 599),
    code=st.none() | TEXT,
    title=st.none() | TEXT,
    detail=st.none() | TEXT,
    pointer=st.none() | TEXT,
    message=TEXT,
)


def result(item: int, **changes: Any) -> ItemResult:
    """Return an item's result; it succeeded, unless `changes` say otherwise."""
    values: dict[str, Any] = {
        "item": item,
        "key": f"i-{item:05}",
        "status": Status.SUCCEEDED,
        "method": "PATCH",
        "url": f"https://api.example/notifications/v1/integrations/i-{item:05}",
        "http_status": 200,
        "attempts": 1,
        "request_id": "7a1b",
        "finished_ms": 1_795_435_200_123,
        "duration_ms": 84.2,
        "waited_ms": 12.0,
        "verified": True,
        "limit": 100,
        "remaining": 42,
        "reset_s": 17.3,
        "error": None,
    }
    return ItemResult(**(values | changes))


def failure(item: int, kind: ErrorKind = ErrorKind.VALIDATION, **changes: Any) -> ItemResult:
    """Return the result of an item that failed."""
    error = ItemError(kind=kind, status=422, message="the server answered 422")
    return result(item, **({"status": Status.FAILED, "http_status": 422, "verified": None, "error": error} | changes))


def results(item: st.SearchStrategy[int]) -> st.SearchStrategy[ItemResult]:
    """Return a strategy for whatever may become of an item."""
    return st.builds(
        ItemResult,
        item=item,
        key=TEXT,
        status=st.sampled_from(Status),
        method=st.sampled_from(["PATCH", "POST", "DELETE"]),
        url=TEXT,
        http_status=st.none() | st.integers(100, 599),
        attempts=st.integers(0, 1000),
        request_id=st.none() | TEXT,
        finished_ms=st.integers(0, 4_000_000_000_000),
        duration_ms=DURATIONS,
        waited_ms=DURATIONS,
        verified=st.none() | st.booleans(),
        provisional=st.booleans(),
        limit=st.none() | COUNTS,
        remaining=st.none() | COUNTS,
        reset_s=st.none() | DURATIONS,
        error=st.none() | ERRORS,
    )
