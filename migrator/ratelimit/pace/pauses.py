"""For how long a refusal stops a limiter key. Pure.

The server's word counts, and no less. Where it says nothing the pauses double, with jitter. A server may begin its
window again with each refusal. So while one probe after the other is refused, the pauses grow beyond its word.
"""

from random import Random
from typing import Final

from migrator.ratelimit.headers import Quota

__all__ = ["FIRST_PAUSE_S", "Pauses"]

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
"""Seconds of pause after a refusal that does not say how long: doubled from the one to the other, with full jitter."""

PATIENCE: Final = 3
LONGEST_GROWN_S: Final = 600.0
"""So many probes may be refused in a row before the pauses grow, each up to twice as long, to so many seconds."""


class Pauses:
    """The refusals in a row of one limiter key.

    Args:
        rng: the source of jitter.
    """

    __slots__ = ("_in_a_row", "_pause_s", "_rng", "_since")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._pause_s, self._in_a_row = FIRST_PAUSE_S, 0
        self._since: float | None = None

    def accepted(self) -> None:
        """Note that a request was accepted."""
        self._pause_s, self._in_a_row, self._since = FIRST_PAUSE_S, 0, None

    def refused(self, now: float) -> None:
        """Note a refusal; of those in flight together only the first one counts."""
        self._since = now if self._since is None else self._since
        self._in_a_row += 1

    def refused_for_s(self, now: float) -> float:
        """Return for how long every request has been refused."""
        return 0.0 if self._since is None else now - self._since

    def next_s(self, quota: Quota | None, retry_after_s: float | None, *, late_s: float, first: bool) -> float:
        """Return the seconds of a pause.

        Args:
            quota: what the refusal says of the quota.
            retry_after_s: what it asks for.
            late_s: how much later than reported the server's windows end.
            first: whether it is the first of those in flight together.
        """
        if retry_after_s is not None:
            return self._grown(max(retry_after_s, min(late_s, 1.0)))
        if quota is not None and quota.remaining:
            # Refused with quota left: too many at once. Fewer in flight is the cure, not a longer sleep.
            return 0.0
        if quota is not None and quota.reset_s is not None:
            return self._grown(quota.reset_s + max(quota.late_s, late_s))
        pause_s = self._rng.uniform(0.5 * self._pause_s, self._pause_s)
        if first:
            self._pause_s = min(2.0 * self._pause_s, LONGEST_PAUSE_S)
        return pause_s

    def _grown(self, pause_s: float) -> float:
        if self._in_a_row <= PATIENCE or pause_s >= LONGEST_GROWN_S:
            return pause_s
        grown_s = min(pause_s * 2.0 ** min(self._in_a_row - PATIENCE, 10), LONGEST_GROWN_S)
        return self._rng.uniform(0.5 * (pause_s + grown_s), grown_s)
