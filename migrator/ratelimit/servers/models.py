"""The kinds of servers that an API may be of, each held against every answer; what is believed says when to send. Pure.

A kind that is first used is a guess. So one request goes on its word first; each one that is accepted lets twice as
many go together, up to a few until a whole limit has passed. A refusal lets one go first again.
"""

import math
from typing import Final

from migrator.ratelimit.servers.bucket import Bucket
from migrator.ratelimit.servers.counter import Counter
from migrator.ratelimit.servers.log import Log
from migrator.ratelimit.servers.report import Report
from migrator.ratelimit.servers.window_length import WindowLength

__all__ = ["ServerModels"]

FEW, MANY = 4, 10_000
"""Requests that go on a kind's word together, before and after a whole limit has passed on it."""

LEAST_EVIDENCE: Final = 2
"""The weight of answers that neither a window nor a log would have given, before a counter is believed."""


class ServerModels:
    """What is believed of one limiter key's server."""

    __slots__ = ("_bucket", "_counter", "_kept", "_length", "_limit", "_log", "_trust", "on_trust")

    def __init__(self) -> None:
        self._length = WindowLength()
        self._bucket = Bucket()
        self._log = Log(self._length)
        self._counter = Counter(self._length)
        self._trust = 1
        self._kept = self._limit = 0
        self.on_trust = 0

    @property
    def believed(self) -> str | None:
        """The kind that is believed, if any."""
        if self._bucket.believed:
            return "bucket"
        no_log = self._log.contradicted or (self._log.exceeded and self._counter.plain)
        if self._counter.possible and no_log and self._counter.evidence >= LEAST_EVIDENCE:
            return "counter"
        return "log" if self._log.believed else None

    @property
    def unlike_a_window(self) -> bool:
        """Whether the server gives nothing back at the reported reset."""
        return self.believed == "counter"

    @property
    def room(self) -> int:
        """Units that are kept for others, on top of the reserve."""
        return self._bucket.room

    @property
    def rounds_down(self) -> bool:
        """Whether a refused request that went by a bucket's word tells of the reset's rounding."""
        return self._bucket.proved

    def sent(self, now: float) -> None:
        """Note that a request goes."""
        self._bucket.sent(now)

    def answered(self, report: Report) -> None:
        """Hold an answer against every kind."""
        before = self._length.seconds, self.believed
        self._length.answered(report)
        self._bucket.answered(report)
        self._counter.answered(report)
        self._log.answered(report)
        self._limit = report.limit
        if (self._length.seconds, self.believed) != before:
            self._trust, self._kept = 1, 0

    def lost(self, now: float) -> None:
        """Note that a request ended that the server may have counted, until now at the latest."""
        self._log.lost(now)

    def kept(self, *, met: bool) -> None:
        """Note that a request was accepted that went on a kind's word; it counts if it met what had come back."""
        self._kept += met
        self._trust = min((1 + met) * self._trust, FEW if self._kept < self._limit else MANY)

    def refused(self) -> None:
        """Note a refusal: the next kind that is believed is tried by one request again."""
        self._trust, self._kept = 1, 0

    def next_at(self, now: float, in_flight: int, reserve: int) -> float:
        """Return when the next request may go; infinity where only an answer can tell.

        Args:
            now: seconds of the monotonic clock.
            in_flight: requests without an answer.
            reserve: requests of the quota that are left to others.
        """
        if self.on_trust >= self._trust:
            return math.inf
        match self.believed:
            case "bucket":
                return self._bucket.next_at(reserve)
            case "counter":
                return self._counter.next_at(now, in_flight + reserve)
            case "log":
                return self._log.next_at(in_flight + reserve)
            case _:
                return math.inf
