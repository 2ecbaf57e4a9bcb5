"""Which headers tell of a rate limit, and what each of them tells. Pure.

Servers write the same three things under many names: `X-RateLimit-Remaining`, `RateLimit-Remaining`,
`X-RateLimit-UserRemaining`, `X-RateLimit-Remaining-short`, `X-HubSpot-RateLimit-Daily-Remaining`. So a name is taken
apart: the words for the rate limit, a word for the role, and what is left over, which names the set. Headers with the
same left-over words are one set; a server with several limits at once sends several sets.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

__all__ = ["HeaderSet", "header_sets"]

HeaderSet = dict[str, tuple[str, str]]
"""The headers of one limit: by role their name and value. Roles: limit, remaining, used, reset, window_s, window_ms."""

WORDS: Final = re.compile(r"rate-?limit(?:ing)?|(?:api-)?call-limit")

ROLES: Final = {
    "remaining": "remaining",
    "reset-after": "reset",
    "reset": "reset",
    "resettime": "reset",
    "reset-time": "reset",
    "next": "reset",
    "limit": "limit",
    "max": "limit",
    "total": "limit",
    "used": "used",
    "observed": "used",
    "count": "used",
    "period": "window_s",
    "interval-seconds": "window_s",
    "window": "window_s",
    "interval-milliseconds": "window_ms",
}
RESET_ORDER: Final = ("after", "reset", "time", "next")
"""Endings of a reset's name: of several in a set the first one counts. Seconds from now need no clock."""

SPANS_S: Final = {
    **dict.fromkeys(("second", "secondly"), "1"),
    **dict.fromkeys(("minute", "minutely"), "60"),
    **dict.fromkeys(("hour", "hourly"), "3600"),
    **dict.fromkeys(("day", "daily"), "86400"),
}
"""Words for a set that say how long its window is, in seconds: Kong's `X-RateLimit-Remaining-Minute`."""

OTHER_UNITS: Final = re.compile(
    r"concurren|complexity|token|bytes|cost|points|policy|reason|resource|scope|bucket|near"
)
"""Words in a name that mean something else than requests."""


@lru_cache(maxsize=1024)
def _role(name: str) -> tuple[str, str] | None:
    """Return the set and the role of a header by its lower-case name, or None for one that tells of no rate limit."""
    words = WORDS.search(name)
    if words is None or OTHER_UNITS.search(name):
        return None
    rest = name[words.end() :].strip("-")
    before = name[: words.start()].removeprefix("x-").strip("-")
    if not rest:
        return before, "limit"
    for word, role in sorted(ROLES.items(), key=lambda pair: -len(pair[0])):
        if rest.startswith(word):
            return f"{before}:{rest[len(word) :].strip('-')}", role
        if rest.endswith(word):
            return f"{before}:{rest[: -len(word)].strip('-')}", role
    # HubSpot's X-HubSpot-RateLimit-Daily is the limit of a set that only `-Daily-Remaining` makes one.
    return f"{before}:{rest}", "maybe limit"


def header_sets(headers: Mapping[str, str]) -> list[HeaderSet]:
    """Return the sets of headers in which an answer tells of its limits.

    Args:
        headers: by lower-case name.
    """
    sets: dict[str, HeaderSet] = {}
    for name, value in headers.items():
        if "limit" in name and (found := _role(name)) is not None:
            key, role = found
            one = sets.setdefault(key.removesuffix(":"), {})
            if role not in one or _order(name) < _order(one[role][0]):
                one[role] = (name, value)
    for key, one in sets.items():
        if (limit := one.pop("maybe limit", None)) is not None and "remaining" in one:
            one.setdefault("limit", limit)
        if (span := SPANS_S.get(key.rpartition(":")[2])) is not None and "window_ms" not in one:
            one.setdefault("window_s", (key, span))
    return [one for one in sets.values() if not one.keys() <= {"window_s", "window_ms"}]


def _order(name: str) -> int:
    return next((place for place, end in enumerate(RESET_ORDER) if name.endswith(end)), 1)
