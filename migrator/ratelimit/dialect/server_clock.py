"""The server's clock, as an interval that every answer narrows. Pure.

`Date` is cut to whole seconds, so the server's clock stood in [Date, Date + 1) at some instant between `sent` and
`received`. Its distance from our monotonic clock therefore lies in (Date - received, Date + 1 - sent], and in the
intersection of that over all answers. An empty intersection means that a clock was set: then the newest answer counts.
"""

import math

__all__ = ["ServerClock"]


class ServerClock:
    """How far the server's clock is ahead of our monotonic clock, in seconds, at the least and at the most."""

    __slots__ = ("least", "most")

    def __init__(self) -> None:
        self.least, self.most = -math.inf, math.inf

    @property
    def known(self) -> bool:
        """Whether any answer has told."""
        return math.isfinite(self.least)

    def saw(self, date: float, *, sent: float, received: float) -> None:
        """Take a `Date` into account.

        Args:
            date: in seconds since the epoch.
            sent: when the request was sent, on our monotonic clock.
            received: when its answer was received.
        """
        self._narrow(date - received, date + 1.0 - sent)

    def saw_wait(self, end: float, wait_s: float, *, received: float) -> None:
        """Take a refusal into account that names an instant, and the seconds until then.

        Both are whole seconds, the seconds rounded up.

        Args:
            end: in seconds since the epoch.
            wait_s: from the answer on.
            received: when the answer was received, on our monotonic clock.
        """
        self._narrow(end - wait_s - received, end - wait_s + 2.0 - received)

    def _narrow(self, least: float, most: float) -> None:
        if least > self.most or most < self.least:
            self.least, self.most = least, most
        else:
            self.least, self.most = max(self.least, least), min(self.most, most)
