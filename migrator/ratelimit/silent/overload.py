"""Whether a server's 503 without Retry-After is a refusal for the rate limit, as nginx's is by default. Pure.

A limiter refuses what comes too fast, and lets the same pass a moment later. So its 503s stand close together, between
requests that pass. An outage lets nothing pass, and single errors stand apart. Once it is believed, requests go at the
rate that passes; if many are refused all the same, the server has another reason, and it is not believed again.
"""

from collections import deque
from typing import Final

__all__ = ["Overload"]

MANY: Final = 6
"""So many answers have to be 503, since the first one of a crowd."""

LEAST_PASSED: Final = 3
"""So many requests have to pass meanwhile."""

SHARE: Final = 0.3
"""The share of 503 in a crowd. Of single errors, 5 % of all, so many stand together once in 3,000 answers."""

CROWD_S: Final = 10.0
"""Seconds after which a new crowd begins."""

LOOKED_AT: Final = 20
PROVED: Final = 60
"""Answers after which the belief is judged, and how many of the last ones are looked at for that."""


class Overload:
    """The evidence of one limiter key."""

    __slots__ = ("_last", "_passed", "_refused", "_seen", "_since", "believed", "refuted")

    def __init__(self) -> None:
        self._since = 0.0
        self._refused = self._passed = self._seen = 0
        self._last: deque[bool] = deque(maxlen=LOOKED_AT)
        self.believed = self.refuted = False

    def answered(self, *, unavailable: bool, sent: float) -> bool:
        """Take an answer into account; return whether it is a refusal for the rate limit.

        Args:
            unavailable: whether it is a 503 that says nothing of a wait.
            sent: when its request was sent, in seconds of any clock.
        """
        if self.believed:
            self._seen += 1
            self._last.append(unavailable)
            if self._seen >= PROVED and sum(self._last) >= MANY:
                self.believed, self.refuted = False, True
            return unavailable and self.believed
        thin = self._refused < SHARE * (self._refused + self._passed) and self._refused + self._passed >= LOOKED_AT
        if thin or sent > self._since + CROWD_S:
            self._refused = self._passed = 0
        if unavailable and not self._refused:
            self._since = sent
        self._refused += unavailable
        self._passed += bool(self._refused and not unavailable and sent >= self._since)
        crowded = self._refused >= max(MANY, SHARE * (self._refused + self._passed))
        self.believed = crowded and self._passed >= LEAST_PASSED and not self.refuted
        return unavailable and self.believed
