"""What an answer's headers say of the rate limit, in every dialect in use.

There is no standard that servers follow: the same `X-RateLimit-Reset` is seconds from now at Confluent, UTC seconds at
GitHub and a date at others. So the meaning is taken from the profile where it says so, else from the header's name, its
form and its size, and `QuotaReader` confirms the guess by how the value moves from answer to answer.

Anything that cannot be read is ignored: a header is never a reason to fail an item.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from migrator.messages import Instant, Reply, start_of_body
from migrator.ratelimit.dialect.header_names import HeaderSet, header_sets
from migrator.ratelimit.dialect.reset_time import (
    LONGEST_RELATIVE_S,
    NUMBER,
    Reset,
    ResetForm,
    guess_form,
    numbers,
    parse_reset,
    parse_retry_after,
    relative_reset,
    see_date,
    see_wait,
)
from migrator.ratelimit.dialect.server_clock import ServerClock

__all__ = ["Dialect", "InBody", "Quota", "QuotaReader", "RateLimitSignal", "parse_quota"]

LARGEST_LIMIT: Final = 10**9
CONTRADICTIONS: Final = 3
"""So many values in a row must contradict a dialect before it is given up: one odd value never does."""

ITEM: Final = re.compile(r'(?:[^",]|"[^"]*"?)+')
USED_OF: Final = re.compile(r"(\d{1,9})/(\d{1,9})")
PARAMETER: Final = re.compile(r'(?:[^";]|"[^"]*"?)+')
NOT_A_RATE: Final = frozenset({"content-bytes", "concurrent-requests"})
"""Quota units of the IETF draft that count something else than requests."""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How an API writes its rate limit; what is left out is found out.

    Attributes:
        reset: what the reset means.
        limit_header: the limit's name, in lower case, where the API has its own.
        remaining_header: the rest's name.
        reset_header: the reset's name.
    """

    reset: ResetForm = ResetForm.AUTO
    limit_header: str | None = None
    remaining_header: str | None = None
    reset_header: str | None = None


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer says of the rate limit.

    Attributes:
        limit: requests in a window.
        remaining: requests that are left of it.
        reset_s: seconds from the answer's reception until there is more.
        resolution_s: how coarse `reset_s` is; the true instant may be so much earlier.
        late_s: how much later than `reset_s` the true instant may be, as far as the form tells.
        window_s: the window's length, where a policy names it.
        policy: the policy's name, where several apply.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None
    resolution_s: float = 1.0
    late_s: float = 0.0
    window_s: float | None = None
    policy: str | None = None


InBody: TypeAlias = Callable[[Reply], Quota | None]
"""Returns what an answer's body says of the rate limit, or None where it says nothing."""


class RateLimitSignal(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer says of the rate limit, computed once and used by all who ask.

    Attributes:
        quota: what is left, where the headers tell.
        throttled: the server refused the request for its rate limit.
        retry_after_s: seconds that the server asks to wait; it counts only with a refusal or a server error, since some
            servers send it with every answer.
    """

    quota: Quota | None = None
    throttled: bool = False
    retry_after_s: float | None = None


def parse_quota(
    headers: Mapping[str, str], *, at: Instant, dialect: Dialect, clock: ServerClock | None = None
) -> Quota | None:
    """Return what an answer says of the rate limit, or None where it says nothing that can be used.

    Where several policies apply, the one with the least left is returned: it binds.

    Args:
        headers: by lower-case name, the values of repeated ones joined by a comma.
        at: when the answer was received.
        dialect: what is known of the API.
        clock: what earlier answers have told of the server's clock.
    """
    draft = headers.get("ratelimit")
    if draft is not None and (quota := _structured(draft, headers.get("ratelimit-policy", ""))) is not None:
        return quota
    found = [
        one for each in _sets(headers, dialect) if (one := _set_quota(each, at, headers, dialect, clock)) is not None
    ]
    if not found:
        return _json(headers.get("x-ratelimit"), at=at, headers=headers)
    return min(found, key=lambda one: math.inf if one.remaining is None else one.remaining)


class QuotaReader:
    """Reads the answers of one API, and learns its dialect.

    The size of a number settles most: UTC seconds are far larger than a month. Seconds and milliseconds from now are
    told apart by how fast they fall, and by a Retry-After beside them. The first reading is held to until three values
    in a row contradict it; a single odd value is ignored.
    """

    __slots__ = ("_clock", "_contradictions", "_dialect", "_form", "_in_body", "_last", "_learned")

    def __init__(self, dialect: Dialect, in_body: InBody | None = None) -> None:
        self._in_body = in_body
        self._dialect = self._learned = dialect
        self._form = dialect.reset
        self._clock = ServerClock()
        self._contradictions = 0
        self._last: tuple[float, float] | None = None

    @property
    def form(self) -> ResetForm:
        """What the reset has been found to mean."""
        return self._form

    def signal(self, reply: Reply) -> RateLimitSignal:
        """Return what an answer says of the rate limit: its quota, whether it is a refusal, and for how long."""
        text = reply.headers.get("retry-after")
        wait_s = (
            parse_retry_after(text, at=reply.received, date=reply.headers.get("date")) if text is not None else None
        )
        if wait_s and reply.status == 429 and not self._clock.known and "date" not in reply.headers:
            see_wait(self._clock, *_reset_header(reply.headers, self._dialect), wait_s=wait_s, at=reply.received)
        quota = self.read(reply.headers, at=reply.received, sent=reply.sent.mono)
        if quota is None and self._in_body is not None:
            quota = self._in_body(reply)
        throttled = _is_throttled(reply, remaining=quota.remaining if quota is not None else None)
        return RateLimitSignal(quota=quota, throttled=throttled, retry_after_s=wait_s)

    def read(self, headers: Mapping[str, str], *, at: Instant, sent: float | None = None) -> Quota | None:
        """Return what an answer says of the rate limit, or None where it says nothing that can be used.

        Args:
            headers: by lower-case name.
            at: when the answer was received.
            sent: when its request was sent, on the monotonic clock; it lets `Date` tell of the server's clock.
        """
        if sent is not None:
            see_date(self._clock, headers, sent=sent, received=at.mono)
        if self._dialect.reset is ResetForm.AUTO:
            name, text = _reset_header(headers, self._dialect)
            if text and NUMBER.fullmatch(text.strip()):
                self._learn(name, float(text), headers, at)
        quota = parse_quota(headers, at=at, dialect=self._learned, clock=self._clock)
        if quota is not None and self._contradictions:
            return replace(quota, reset_s=None)
        return quota

    def _learn(self, name: str, value: float, headers: Mapping[str, str], at: Instant) -> None:
        seen = self._seen(name, value, headers, at)
        if seen is None or seen is self._form:
            self._contradictions = 0
        elif self._form is ResetForm.AUTO:
            self._hold(seen)
        else:
            self._contradictions += 1
            if self._contradictions >= CONTRADICTIONS:
                self._contradictions, self._last = 0, None
                self._hold(seen)

    def _hold(self, form: ResetForm) -> None:
        self._form = form
        self._learned = replace(self._dialect, reset=form)

    def _seen(self, name: str, value: float, headers: Mapping[str, str], at: Instant) -> ResetForm | None:
        """Return what this value looks like, or None where it fits the form that is held."""
        guess = guess_form(name, value, at.utc)
        if guess not in {ResetForm.RELATIVE, ResetForm.RELATIVE_MS}:
            return guess
        retry_after = _least_number(headers.get("retry-after"))
        if retry_after and value:
            if 900.0 <= value / retry_after <= 1100.0:
                return ResetForm.RELATIVE_MS
            if 0.5 <= value / retry_after <= 2.0:
                return ResetForm.RELATIVE
        last, self._last = self._last, (at.mono, value)
        if last is not None and value < last[1] and at.mono - last[0] >= 0.2:
            slope = (value - last[1]) / (at.mono - last[0])
            if -1500.0 < slope < -600.0:
                return ResetForm.RELATIVE_MS
            if last[1] > LONGEST_RELATIVE_S:
                return guess
        return guess if self._form in {ResetForm.AUTO, guess} or guess is ResetForm.RELATIVE_MS else self._held()

    def _held(self) -> ResetForm | None:
        """A small number is seconds or milliseconds; it contradicts only a form of another kind."""
        return None if self._form is ResetForm.RELATIVE_MS else ResetForm.RELATIVE


def _sets(headers: Mapping[str, str], dialect: Dialect) -> list[HeaderSet]:
    """Return the sets of headers; a profile's own names are one set, and the only one."""
    own = {"limit": dialect.limit_header, "remaining": dialect.remaining_header, "reset": dialect.reset_header}
    if not any(own.values()):
        return header_sets(headers)
    usual = next(iter(header_sets(headers)), {})
    named = {role: (name, headers[name]) for role, name in own.items() if name is not None and name in headers}
    return [{role: pair for role, pair in usual.items() if own.get(role) is None} | named]


def _reset_header(headers: Mapping[str, str], dialect: Dialect) -> tuple[str, str]:
    """Return the first reset's name and value."""
    return next((one["reset"] for one in _sets(headers, dialect) if "reset" in one), ("", ""))


def _set_quota(
    one: HeaderSet, at: Instant, headers: Mapping[str, str], dialect: Dialect, clock: ServerClock | None
) -> Quota | None:
    """Read one set of headers."""
    text = {role: value for role, (_, value) in one.items()}
    if (pair := USED_OF.fullmatch(text.get("limit", "").strip())) is not None:
        # Shopify's `39/40`: used, of the limit.
        text["used"], text["limit"] = pair.groups()
    limit, window_s = _limit(text.get("limit"))
    remaining, used = _least(text.get("remaining")), _least(text.get("used"))
    if remaining is None and used is not None and limit is not None:
        remaining = max(0, limit - used)
    elif limit is None and used is not None and remaining is not None:
        limit = used + remaining
    if window_s is None:
        window_s = _window(text.get("window_s"))
    if window_s is None and (window_ms := _window(text.get("window_ms"))) is not None:
        window_s = window_ms / 1000.0
    name, reset_text = one.get("reset", ("", ""))
    reset = parse_reset(name, reset_text, dialect.reset, at=at, headers=headers, clock=clock) if reset_text else None
    if limit is None and remaining is None and reset is None:
        return None
    return _quota(limit, remaining, reset, window_s=window_s)


def _least_number(text: str | None) -> float | None:
    return min(numbers(text), default=None)


def _least(text: str | None) -> int | None:
    """Return the least of a repeated header's values; what is below zero is none left."""
    if text is not None and text.isdecimal() and text.isascii() and len(text) < 10:
        return int(text)
    least = _least_number(text)
    return None if least is None or least > LARGEST_LIMIT else max(0, int(least))


def _limit(text: str | None) -> tuple[int | None, float | None]:
    """Return a limit and its window: ``100``, or the IETF draft's ``100, 100;w=60`` up to version 03."""
    least = _least(text)
    window_s = None
    if text is not None and ";" in text:
        for item in ITEM.findall(text):
            value, parameters = _parameters(item)
            if "w" in parameters and _least(value) == least:
                window_s = _window(parameters["w"])
    return least or None, window_s


def _parameters(item: str) -> tuple[str, dict[str, str]]:
    value, *rest = [part.strip() for part in PARAMETER.findall(item)] or [""]
    pairs = (part.partition("=") for part in rest)
    return value, {name.strip().lower(): text.strip().strip('"') for name, _, text in pairs}


def _structured(text: str, policies: str) -> Quota | None:
    """Read the IETF draft's `RateLimit` field (ietf-httpapi-ratelimit-headers).

    Version 07 has ``limit=100, remaining=50, reset=30``, later ones a list of policies ``"default";r=50;t=30`` with
    their sizes in `RateLimit-Policy` as ``"default";q=100;w=60``. The reset is always seconds from now. Unknown
    parameters are passed over, as the draft demands.
    """
    pairs = {name.strip().lower(): value for name, _, value in (item.partition("=") for item in text.split(","))}
    if "remaining" in pairs or "limit" in pairs:
        limit, window_s = _limit(pairs.get("limit"))
        return _quota(limit, _least(pairs.get("remaining")), relative_reset(pairs.get("reset")), window_s=window_s)
    known = dict(_parameters(item) for item in ITEM.findall(policies))
    found = []
    for item in ITEM.findall(text):
        name, parameters = _parameters(item)
        policy = known.get(name, {})
        if (policy.get("qu") or parameters.get("qu")) in NOT_A_RATE:
            continue
        remaining = _least(parameters.get("r", parameters.get("a")))
        reset = relative_reset(parameters.get("t", parameters.get("w")))
        if remaining is not None:
            window_s = _window(policy.get("w"))
            quota = _quota(_least(policy.get("q")), remaining, reset, window_s=window_s)
            found.append(replace(quota, policy=name.strip('"')[:100]))
    return min(found, key=lambda quota: quota.remaining or 0, default=None)


def _json(text: str | None, *, at: Instant, headers: Mapping[str, str]) -> Quota | None:
    """Read Basecamp's ``X-RateLimit: {"name": "API", "limit": 50, "remaining": 0, "until": "…"}``."""
    if text is None or not text.lstrip().startswith("{"):
        return None
    try:
        members = msgspec.json.decode(text, type=dict[str, str | int | float | None])
    except (msgspec.MsgspecError, RecursionError):
        return None
    words = {name: str(value) for name, value in members.items()}
    reset = parse_reset("until", words.get("until", ""), ResetForm.AUTO, at=at, headers=headers)
    limit, remaining = _limit(words.get("limit"))[0], _least(words.get("remaining"))
    if limit is None and remaining is None:
        return None
    return _quota(limit, remaining, reset, window_s=_window(words.get("period")))


def _window(text: str | None) -> float | None:
    """Return a window's length; one that is not longer than none is not believed."""
    seconds = _least_number(text)
    return seconds if seconds is not None and seconds > 0.0 else None


def _quota(limit: int | None, remaining: int | None, reset: Reset | None, *, window_s: float | None) -> Quota:
    if reset is None:
        return Quota(limit=limit, remaining=remaining, window_s=window_s)
    return Quota(
        limit=limit,
        remaining=remaining,
        reset_s=reset.seconds,
        resolution_s=reset.resolution_s,
        late_s=reset.late_s,
        window_s=window_s,
    )


RATE_WORDS: Final = re.compile(r"rate limit|too many requests|throttl", re.IGNORECASE)


def _is_throttled(reply: Reply, *, remaining: int | None) -> bool:
    """Tell whether a server refused for its rate limit.

    429 always does (RFC 6585, section 4). GitHub says it with a 403 whose remaining is 0 or whose text speaks of a rate
    limit, others with a 503 that carries Retry-After (RFC 9110, section 10.2.3).

    Args:
        reply: the answer.
        remaining: the quota's rest that the answer reports.
    """
    if reply.status == 429:
        return True
    if reply.status == 503:
        return "retry-after" in reply.headers
    if reply.status == 403:
        return remaining == 0 or "retry-after" in reply.headers or bool(RATE_WORDS.search(start_of_body(reply)))
    return False
