"""What watches an active run: a display, a log, metrics, notices."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from migrator.messages import Answer, Request
from migrator.ratelimit.throttle import ThrottleStatistics
from migrator.report.summary import Summary
from migrator.report.time_use import STARTS, Reason
from migrator.results import Status, StopReason

__all__ = ["Observer", "RunStatistics"]


class RunStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands at this moment.

    Attributes:
        total: items of the whole run.
        counts: finished items by status, those of earlier invocations included.
        retried: attempts beyond an item's first in this invocation.
        elapsed_s: seconds since this invocation started.
        rate: items finished per second, over the last 200.
        eta_s: seconds until the run is finished, as far as that can be told.
        limited_by: what the run is limited by, as `report.estimate` names it; None where that is not known.
        throttle: what the throttle does.
        stopping: why the run is being stopped; None while it is not.
        down: whether the server is taken for down.
        reason: what it does at this moment, or waits for.
        question: what the person at the terminal is asked.
    """

    total: int
    counts: Counter[Status]
    retried: int
    elapsed_s: float
    rate: float
    eta_s: float | None
    throttle: ThrottleStatistics
    stopping: StopReason | None
    limited_by: str | None = None
    down: bool = False
    reason: Reason = STARTS
    question: str | None = None

    @property
    def waiting_for(self) -> str | None:
        """What it waits for, in words; None while it goes on."""
        return self.reason.text if self.reason.is_wait else None

    @property
    def finished(self) -> int:
        """Items that are finished."""
        return self.counts.total()


class Observer:
    """Watches a run; a subclass overrides what it wants to see.

    Every text that an observer sees is masked. The methods are called within the run's event loop, and one that blocks
    holds the run up.

    Attributes:
        once: names an observer that is told of a run's end once, even if the process is killed meanwhile and the same
            command ends the run; empty for one that shows the run to this process.
    """

    once: str = ""

    def event(self, event: Mapping[str, Any]) -> None:
        """See an event, as `events.jsonl` has it."""

    def item(self, record: Mapping[str, Any]) -> None:
        """See an item's result, as `results.jsonl` has it; it is durable already."""

    def attempt(self, request: Request, answer: Answer) -> None:
        """See one attempt and its answer. Neither is masked."""

    def progress(self, statistics: RunStatistics) -> None:
        """See how the run stands; called five times a second."""

    async def started(self, facts: Mapping[str, str]) -> Sequence[str]:
        """See that the run starts: its `run`, `job` and `server`; return what went wrong, in sentences."""
        del facts
        return ()

    async def ended(self, summary: Summary) -> Sequence[str]:
        """See the summary, when all files are written; return what went wrong, in sentences."""
        del summary
        return ()
