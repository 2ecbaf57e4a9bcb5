"""Whether a server's 503 without Retry-After is a refusal for the rate limit, as nginx's is by default. Pure.

A limiter refuses what comes too fast, and lets the same pass a moment later. So its 503s stand close together, between
requests that pass. An outage lets nothing pass, and single errors stand apart. Once it is believed, requests go at the
rate that passes; if many are refused all the same, the server has another reason, and it is not believed again.
"""

from collections import deque
from typing import Final

__all__ = ["Overload"]

LOOKED_AT: Final = 20
"""The latest answers that are looked at."""

MANY: Final = 6
"""So many of them have to be 503. Of single errors, 5 % of all, so many stand together once in 3,000 answers."""

LEAST_PASSED: Final = 3
"""So many of the requests have to pass that were sent after the first of those was refused, or together with it."""

WITHIN_S: Final = 2.0
"""Seconds between the first and the last of them."""

PROVED: Final = 60
"""Answers after which the belief is judged by the last ones."""


class Overload:
    """The evidence of one limiter key."""

    __slots__ = ("_answers", "_seen", "believed", "refuted")

    def __init__(self) -> None:
        self._answers: deque[tuple[float, bool]] = deque(maxlen=LOOKED_AT)
        self.believed = self.refuted = False
        self._seen = 0

    def answered(self, *, unavailable: bool, sent: float) -> bool:
        """Take an answer into account; return whether it is a refusal for the rate limit.

        Args:
            unavailable: whether it is a 503 that says nothing of a wait.
            sent: when its request was sent, in seconds of any clock.
        """
        self._answers.append((sent, unavailable))
        self._seen += self.believed
        refused = [at for at, gone in self._answers if gone]
        if self._seen >= PROVED and len(refused) >= MANY:
            self.believed, self.refuted = False, True
        elif unavailable and not self.believed and not self.refuted and len(refused) >= MANY:
            passed = sum(1 for at, gone in self._answers if not gone and at >= refused[0])
            self.believed = passed >= LEAST_PASSED and max(refused) - min(refused) <= WITHIN_S
        return unavailable and self.believed
