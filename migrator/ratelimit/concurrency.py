"""How many requests in flight are worth having: found out while running, pure, from the answers' latencies."""

import math
from typing import Final

__all__ = ["Concurrency"]

START: Final = 8
"""Requests in flight at first: browsers have six a host, and no API is hurt by eight."""

MOST: Final = 64
"""Requests in flight at the most: 64 at 100 ms are 640 a second, above any published quota."""

WORSE: Final = 2.0
"""Latency has risen when it is so many times the best that was seen; queues at the server double it."""

NOISE_S: Final = 0.02
"""Seconds of latency that are no sign of anything."""

SMOOTHING: Final = 0.1
HALVED: Final = 100
"""Good answers that win one request back after a refusal for too many at once."""

BURST_SHARE: Final = 10.0
"""A window's budget should be spent in a tenth of the window; more in flight only blurs its edge."""


class Concurrency:
    """The number of slots, between 1 and a cap.

    It grows by one for each full round of good answers at the usual latency, shrinks by a fifth when latency has risen
    over the best of its own kind (a read is quicker than a write), and halves on server errors and on refusals for
    concurrency. Little's law caps it: the rate that the quota allows times the latency seen.

    Where a quota is known it doubles with each round until the first sign of trouble, as TCP's slow start does (RFC
    5681, section 3.1): a server that announces a rate is made for it. One by one, 40 slots at 300 ms would take 10 s.

    Args:
        fixed: a number that the user has set; it is only ever lowered by refusals for concurrency.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.level = fixed if fixed is not None else START
        self.most = fixed if fixed is not None else MOST
        self.latency_s = 0.0
        self._fixed = fixed is not None
        self._best_s: dict[str, float] = {}
        self._slowness = 1.0
        self._round = 0
        self._lowered_at = -math.inf
        self._cautious = self._troubled = False

    def answered(self, latency_s: float, now: float, *, allowed_rate: float | None, kind: str = "") -> None:
        """Note a good answer.

        Args:
            latency_s: how long it took.
            now: in seconds of a monotonic clock.
            kind: what it answered, such as its method; latencies of different kinds are not compared.
            allowed_rate: requests per second that the quota allows in the long run, where that is known.
        """
        self.latency_s += SMOOTHING * (latency_s - self.latency_s) if self.latency_s else latency_s
        best_s = self._best_s[kind] = min(self._best_s.get(kind, math.inf), latency_s)
        self._slowness += SMOOTHING * (latency_s / (best_s + NOISE_S / WORSE) - self._slowness)
        self._round += 1
        if self._cautious and self._round >= HALVED:
            self._round, self.level = 0, min(self.most, self.level + 1)
            self._cautious = self.level < self.most
        if self._cautious or self._fixed or self._round < self.level:
            return
        self._round = 0
        if self._slowness > WORSE:
            self._lower(0.8, now)
        elif self.level < (worth := self._worth(allowed_rate)):
            doubles = allowed_rate is not None and not self._troubled
            self.level = min(worth, 2 * self.level if doubles else self.level + 1)

    def fix(self, level: int | None) -> None:
        """Set the number of slots; None lets it find its own level."""
        self._fixed = level is not None
        self.most = level if level is not None else MOST
        self.level = self.most if level is not None else min(self.level, self.most)

    @property
    def lanes(self) -> int:
        """How many lanes can ever be of use: each slot's, those of a later level too, and as many in back-off."""
        return 2 * max(self.most, MOST)

    def troubled(self, now: float) -> None:
        """Note a server error or a broken connection."""
        if not self._fixed:
            self._lower(0.5, now)

    def crowded(self, now: float) -> None:
        """Note a refusal while quota was left: too many in flight."""
        self._lower(0.5, now)
        self._cautious, self._round = True, 0

    def _worth(self, allowed_rate: float | None) -> int:
        if allowed_rate is None:
            return self.most
        return min(self.most, max(START, math.ceil(BURST_SHARE * allowed_rate * self.latency_s)))

    def _lower(self, factor: float, now: float) -> None:
        """Lower the level, once a round trip: what is in flight already cannot tell of the change."""
        if now - self._lowered_at < max(self.latency_s, NOISE_S):
            return
        self._lowered_at, self._troubled = now, True
        self.level = max(1, math.floor(self.level * factor))
