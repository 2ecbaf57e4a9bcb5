"""What a server kind is told of each answer."""

import msgspec

__all__ = ["Report"]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One answer that tells of the quota.

    Attributes:
        limit: requests in a window.
        remaining: what is left of them.
        reset_s: seconds from the answer's reception until there is more, at the latest as far as the form tells.
        resolution_s: how much sooner that may be.
        late_s: how much later.
        window_s: the window's length, where a policy names it.
        opening: whether it is the first answer of a window.
        sent: when the request was sent.
        now: when its answer was received.
        in_flight: requests without an answer.
        overtaken: answered requests that the server may have counted after this one.
        refused: whether the request was refused for the rate limit.
        on_trust: whether it went because a kind of server allowed it, and not the reported rest.
        shared: whether it was taken from a quota that runs share, which keeps room for the others itself.
    """

    limit: int
    remaining: int
    reset_s: float | None
    resolution_s: float
    late_s: float
    window_s: float | None
    opening: bool
    sent: float
    now: float
    in_flight: int
    overtaken: int
    refused: bool = False
    on_trust: bool = False
    shared: bool = False
