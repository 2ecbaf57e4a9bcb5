"""What a pacer is told, remembers and tells."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from migrator.options import Pace

__all__ = ["PacerMemory", "PacerSettings", "PacerStatistics", "ThrottleStatistics", "Ticket"]


class PacerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the user and the profile say.

    Attributes:
        pace: at once, or spread over the window.
        reserve: the share of the limit that is left to others, from 0 to 1.
        rate: a ceiling of our own, in requests per second.
        write_spacing_s: seconds between two requests, where an API asks for it.
    """

    pace: Pace = Pace.FAST
    reserve: float = 0.0
    rate: float | None = None
    write_spacing_s: float = 0.0


class PacerMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What is worth keeping of an API for the next run.

    Attributes:
        late_s: how much later than reported its windows end.
        longest_reset_s: the longest reset seen, which is about the window.
        steady_rate: the requests per second that held, where there are no headers.
        ready_at: when there is quota again, in seconds of the pacer's clock; None where there is some.
        limit: the quota's size, to tell how long a run takes; the next run finds it out again.
    """

    late_s: float = 0.0
    longest_reset_s: float = 0.0
    steady_rate: float | None = None
    ready_at: float | None = None
    limit: int | None = None


class Ticket(NamedTuple):
    """A request that was let go.

    Attributes:
        sent: when.
        probe: whether it went alone, to see what there is.
        epoch: refusals so far; those in flight together are of one epoch.
        window: windows opened so far.
        answers: answers of the window so far, which the server has counted before this request.
        number: how many requests went, this one included.
        on_trust: whether it went because a kind of server allows it, and not the reported rest.
        share: the window of the shared quota that it was taken from; 0 for none.
    """

    sent: float
    probe: bool
    epoch: int
    window: int
    answers: int
    number: int
    on_trust: bool
    share: int = 0


class PacerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How a pacer stands.

    Attributes:
        rate: requests per second that it would have sent evenly; None for as fast as the budget allows.
        limit: the quota's size, as last reported.
        remaining: its rest, as far as is known.
        reset_s: seconds until the edge of the window at the latest.
        budget: requests that may go at once; None where nothing is known yet.
        in_flight: requests without an answer.
        reserve: requests that are left to others.
        refused: refusals for the rate limit, each one counted.
        bursts: the same, with those that were in flight together counted once.
        requests: requests let go.
        waiting_for: why the next request may not go now, in words for the display.
        even: whether the quota is given back evenly, and not at its reset.
    """

    rate: float | None
    limit: int | None
    remaining: int | None
    reset_s: float | None
    budget: int | None
    in_flight: int
    reserve: float
    refused: int
    bursts: int
    requests: int
    waiting_for: str | None
    even: bool = False


class ThrottleStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the throttle does; of several keys, the one that has the least quota left.

    Attributes:
        slots: requests in flight at the most.
        in_flight: requests in flight.
        limit: the quota's size.
        remaining: its rest.
        reset_s: seconds until it is renewed.
        requests: requests let go.
        refused: refusals for the rate limit.
        bursts: the same, those in flight together counted once.
        rate: requests per second sent evenly; None for as fast as the budget allows.
        waiting_for: why a request that is ready does not go now; None where none is ready.
        waited_s: seconds in which requests were ready and none could go, by reason.
        limiter_share: the share of that time that was waited at the aiolimiter; None where nothing was waited for.
        workers: the processes whose throttles are added up here; 0 for this process's own.
        ceiling: the user's own limit, in requests per second; None for none.
        reserve: requests of each window that are left to others.
        window_s: about the seconds in which a whole quota comes back; None where that is not known, or many quotas are
            used side by side.
        even: whether it comes back evenly, and not at the reset.
        wait_s: seconds until the next request may go; 0 for now, and where only an answer can tell.
        latency_s: seconds that a request takes; 0 where none was answered.
    """

    slots: int
    in_flight: int
    limit: int | None
    remaining: int | None
    reset_s: float | None
    requests: int
    refused: int
    bursts: int
    rate: float | None
    waiting_for: str | None
    waited_s: Mapping[str, float]
    limiter_share: float | None
    workers: int = 0
    ceiling: float | None = None
    reserve: float = 0.0
    window_s: float | None = None
    even: bool = False
    wait_s: float = 0.0
    latency_s: float = 0.0
