"""What the text of a reset, or of `Retry-After`, means: seconds from now, an instant, or a date.

Anything that cannot be read is None: a header is never a reason to fail an item.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from migrator.messages import Instant
from migrator.ratelimit.dialect.server_clock import ServerClock

__all__ = [
    "LONGEST_RELATIVE_S",
    "NO_DATE_S",
    "NUMBER",
    "Reset",
    "ResetForm",
    "guess_form",
    "numbers",
    "parse_reset",
    "parse_retry_after",
    "relative_reset",
    "see_date",
    "see_wait",
]

LONGEST_RELATIVE_S: Final = 31 * 86400.0
"""Seconds: no window is longer than a month, so a larger number is something else."""

NEAR_NOW_S: Final = 400 * 86400.0
"""Seconds: an epoch value lies within a year or so of the present."""

FINE_S: Final = 0.001
"""Seconds: the resolution of a value that was written with a fraction."""

NO_DATE_S: Final = 2.0
"""Seconds: how far a local clock is trusted where the server does not send its own (1.5 to 2.5 seen at Discord)."""

NUMBER: Final = re.compile(r"[+-]?\d{1,25}(\.\d{1,12})?")
ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?P<seconds>:\d\d(?P<fraction>\.\d+)?)?\s?(Z|[+-]\d\d:?\d\d)?")
JS_DATE: Final = "%a %b %d %Y %H:%M:%S GMT%z"


class ResetForm(StrEnum):
    """What the number or text of a reset means."""

    AUTO = "auto"
    RELATIVE = "relative"
    RELATIVE_MS = "relative_ms"
    EPOCH = "epoch"
    EPOCH_MS = "epoch_ms"
    ISO = "iso"
    HTTP_DATE = "http-date"


class Reset(msgspec.Struct, frozen=True):
    """When there is more, as `quota.Quota` has it.

    Attributes:
        seconds: from the answer's reception.
        resolution_s: the true instant may be so much earlier.
        late_s: and so much later.
    """

    seconds: float
    resolution_s: float
    late_s: float


def parse_retry_after(value: str, *, at: Instant, date: str | None = None) -> float | None:
    """Return the seconds that a server asks to wait, or None for what cannot be read.

    The value counts on 429, 503 and refusals for the rate limit alone: some servers send it with every 200.
    RFC 9110, section 10.2.3: seconds, or a date, of which the server's own `Date` is taken off. In the wild there are
    fractions as well.

    Args:
        value: the header's value.
        at: when the answer was received.
        date: the answer's `Date`.
    """
    text = value.split(",", maxsplit=1)[0].strip() if NUMBER.match(value.strip()) else value.strip()
    if NUMBER.fullmatch(text):
        seconds = float(text)
        return seconds if 0.0 <= seconds < 10 * NEAR_NOW_S else None
    instant = _date(text)
    if instant is None:
        return None
    now = (_date(date) if date else None) or at.utc
    return max(0.0, instant - now)


def numbers(text: str | None) -> Iterator[float]:
    """Yield the numbers of a comma-separated value, without their parameters."""
    for item in (text or "").split(","):
        number = item.partition(";")[0].strip()
        if NUMBER.fullmatch(number):
            yield float(number)


def guess_form(name: str, value: float, now_utc: float) -> ResetForm | None:
    """Return what a number means, by the header's name and by its size against the present; None for garbage."""
    if abs(value - now_utc) <= NEAR_NOW_S:
        return ResetForm.EPOCH
    if abs(value / 1e3 - now_utc) <= NEAR_NOW_S:
        return ResetForm.EPOCH_MS
    if 0.0 <= value <= LONGEST_RELATIVE_S:
        return ResetForm.RELATIVE
    if 0.0 <= value <= LONGEST_RELATIVE_S * 1e3 and not name.endswith("-after"):
        return ResetForm.RELATIVE_MS
    return None


def relative_reset(text: str | None) -> Reset | None:
    """Return a reset that is in seconds from now by definition; the latest of a repeated header."""
    seconds = max(numbers(text), default=None)
    if seconds is None or not 0.0 <= seconds <= LONGEST_RELATIVE_S:
        return None
    return Reset(seconds, FINE_S if text is not None and "." in text else 1.0, 0.0)


def parse_reset(
    name: str,
    text: str,
    form: ResetForm,
    *,
    at: Instant,
    headers: Mapping[str, str],
    clock: ServerClock | None = None,
) -> Reset | None:
    """Return a reset in seconds from the answer's reception; the latest of a repeated header.

    Args:
        name: the header's name.
        text: its value.
        form: what the value means.
        at: when the answer was received.
        headers: all of the answer's headers.
        clock: what earlier answers have told of the server's clock.
    """
    value = max(numbers(text), default=None)
    if value is None:
        return (
            None
            if form not in {ResetForm.AUTO, ResetForm.ISO, ResetForm.HTTP_DATE}
            else _dated(text, at, headers, clock)
        )
    if form is ResetForm.AUTO:
        guess = guess_form(name, value, at.utc)
        if guess is None:
            return _small_unit(value, at, headers, clock)
        form = guess
    fraction = "." in text
    match form:
        case ResetForm.RELATIVE if 0.0 <= value <= LONGEST_RELATIVE_S:
            return Reset(value, FINE_S if fraction else 1.0, 0.0)
        case ResetForm.RELATIVE_MS if 0.0 <= value <= LONGEST_RELATIVE_S * 1e3:
            return Reset(value / 1e3, FINE_S, 0.0)
        case ResetForm.EPOCH if abs(value - at.utc) <= NEAR_NOW_S:
            return _absolute(value, 0.0 if fraction else 1.0, at, headers, clock)
        case ResetForm.EPOCH_MS if abs(value / 1e3 - at.utc) <= NEAR_NOW_S:
            return _absolute(value / 1e3, 0.0, at, headers, clock)
        case _:
            return None


def _small_unit(value: float, at: Instant, headers: Mapping[str, str], clock: ServerClock | None) -> Reset | None:
    """Read micro- and nanoseconds since the epoch."""
    for unit in (1e6, 1e9):
        if abs(value / unit - at.utc) <= NEAR_NOW_S:
            return _absolute(value / unit, 0.0, at, headers, clock)
    return None


def _absolute(
    instant: float, coarse_s: float, at: Instant, headers: Mapping[str, str], clock: ServerClock | None
) -> Reset:
    """Turn an instant of the server's clock into seconds from now.

    With the server's clock as an interval the reset is one as well, of which this is the latest end. Whole seconds are
    taken as rounded up until a refusal shows otherwise (the pacer learns how late a server is). A single answer's
    `Date` is cut, so the truth lies up to one second before the difference, and as much after it as the instant itself
    may have been cut. A `Date` beside an `Age` is a cache's (RFC 9111, section 5.1).
    """
    if clock is not None and clock.known:
        seconds = instant - clock.least - at.mono
        return Reset(max(0.0, seconds), coarse_s + clock.most - clock.least, 0.0)
    date = headers.get("date")
    now = _date(date) if date and "age" not in headers else None
    if now is None:
        return Reset(max(0.0, instant - at.utc), NO_DATE_S + coarse_s, NO_DATE_S)
    return Reset(max(0.0, instant - now), 1.0 + coarse_s, coarse_s)


def _dated(text: str, at: Instant, headers: Mapping[str, str], clock: ServerClock | None) -> Reset | None:
    instant = _date(text)
    if instant is None or abs(instant - at.utc) > NEAR_NOW_S:
        return None
    iso = ISO.fullmatch(text.strip())
    coarse_s = 1.0 if iso is None else 60.0 if iso["seconds"] is None else 0.0 if iso["fraction"] else 1.0
    return _absolute(instant, coarse_s, at, headers, clock)


def see_date(clock: ServerClock, headers: Mapping[str, str], *, sent: float, received: float) -> None:
    """Let an answer's `Date` narrow the server's clock; one beside an `Age` is a cache's."""
    if (date := headers.get("date")) and "age" not in headers and (instant := _date(date)) is not None:
        clock.saw(instant, sent=sent, received=received)


def see_wait(clock: ServerClock, name: str, text: str, *, wait_s: float, at: Instant) -> None:
    """Let a refusal's reset and Retry-After tell of a clock that no `Date` tells of."""
    value = max(numbers(text), default=None)
    form = None if value is None else guess_form(name, value, at.utc)
    if value is not None and form in {ResetForm.EPOCH, ResetForm.EPOCH_MS}:
        clock.saw_wait(value if form is ResetForm.EPOCH else value / 1e3, wait_s, received=at.mono)
    elif value is None and (instant := _date(text)) is not None:
        clock.saw_wait(instant, wait_s, received=at.mono)


@lru_cache(maxsize=64)
def _date(text: str) -> float | None:
    """Return the UTC seconds of a date: HTTP in any form (RFC 9110, section 5.6.7), ISO 8601, JavaScript."""
    text = text.partition("(")[0].strip()
    if ISO.fullmatch(text):
        try:
            instant = datetime.fromisoformat(text.replace(" ", "T", 1).replace(" ", ""))
        except ValueError:
            return None
    else:
        try:
            instant = parsedate_to_datetime(text) if "GMT+" not in text else datetime.strptime(text, JS_DATE)  # noqa: DTZ007  the format has the zone
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    try:
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError, OSError):
        return None
