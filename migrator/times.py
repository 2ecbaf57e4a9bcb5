"""Durations and times of day, read and written as text."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

__all__ = ["age_text", "duration_text", "latency_text", "parse_duration", "timestamp"]


SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")


def parse_duration(text: str) -> float:
    """Return the seconds of ``90``, ``90s``, ``1.5m``, ``1h`` or ``250ms``.

    Raises:
        ValueError: it is no duration above zero.
    """
    found = DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * SECONDS[found[2] or "s"] if found else 0.0
    if not 0.0 < seconds < 1e9:
        raise ValueError("a duration such as 30s, 5m or 1h")
    return seconds


@lru_cache(maxsize=16)
def _second(utc: int) -> str:
    return datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(utc_ms: int) -> str:
    """Return ISO 8601 in UTC with milliseconds."""
    return f"{_second(utc_ms // 1000)}.{utc_ms % 1000:03d}Z"


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: ``2.5 s``, ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 0.05:
        return "0 s"
    if seconds < 9.95:
        return f"{f'{seconds:.1f}'.removesuffix('.0')} s"
    whole = round(seconds)
    for unit, name, part, part_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{whole} s"


def age_text(seconds: float) -> str:
    """Return how long ago something was, in its largest unit: ``just now``, ``5 min ago``, ``3 d ago``."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} ago"
    return "just now"


def latency_text(milliseconds: float) -> str:
    """Return a latency with two or three digits that count."""
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s" if seconds < 99.95 else duration_text(seconds)
