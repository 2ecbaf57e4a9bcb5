"""What the parts of a run need of each other, whether items are finished in this process or on other machines."""

from typing import Any, Protocol

from migrator.api.outcome import Decision
from migrator.messages import Request
from migrator.ratelimit.throttle import ThrottleStatistics
from migrator.results import ItemResult, Outcome, StopReason

__all__ = ["Conductor", "Controls", "Director", "Events"]


class Events(Protocol):
    """Takes the events of a run; `Journal` writes them."""

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Note an event; its name is stable and dotted, its fields are JSON."""


class Controls(Protocol):
    """What holds requests back, as far as a run controls it: a `Throttle`, or those of all workers together."""

    @property
    def lanes(self) -> int:
        """How many items can be under way at once."""

    def wait_s(self, limiter_key: str) -> float:
        """Return the seconds until a request of a key can go, as far as is known; infinity while others of it wait."""

    def stop(self) -> None:
        """End every wait at once, without a permit."""

    def hold(self, hold_s: float) -> None:
        """Send nothing for so long, and then one probe of each key first."""

    def pause(self) -> None:
        """Let nothing go until `resume`."""

    def resume(self) -> None:
        """Go on after a `pause`."""

    def set_rate(self, rate: float | None) -> None:
        """Set the ceiling, in requests per second; None for none."""

    def set_concurrency(self, level: int | None) -> None:
        """Set the most requests in flight; None finds its own level."""

    def statistics(self) -> ThrottleStatistics:
        """Return how things stand."""


class Conductor(Protocol):
    """What an item asks and tells the run that it belongs to; `Engine` is the one of a single process."""

    @property
    def name(self) -> str:
        """The run's id."""

    @property
    def in_canary(self) -> bool:
        """Whether the next item to finish is one of the first, of which each has to succeed."""

    def finished(
        self, result: ItemResult, line: bytes, *, stop: StopReason | None = None, exempt: bool = False
    ) -> None:
        """Count an item whose result is durable; it may be the one that stops the run, unless it is exempt."""

    def judged(self, request: Request, outcome: Outcome, decision: Decision) -> Decision:
        """Return what to do about an answer; a server that went down is waited for, and given up in the end."""

    def retried(self, outcome: Outcome) -> None:
        """Count an attempt that is made again."""


class Director(Conductor, Protocol):
    """What workers of other processes ask and tell the engine beside that."""

    @property
    def pending(self) -> int:
        """Items of the run that are not finished."""

    def stop(self, reason: StopReason) -> None:
        """Start nothing new; what is in flight finishes. The first reason stays."""
