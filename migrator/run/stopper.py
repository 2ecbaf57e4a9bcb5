"""What stops a run from outside: its caller, a deadline, or records that are not there any more."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Final, Protocol

import anyio

from migrator.options import Deadline
from migrator.report.journal import Journal
from migrator.results import StopKind, StopReason

__all__ = ["Stoppable", "Stopper", "flush", "watch_deadline"]

DRAIN_S: Final = 10.0
"""Seconds that requests in flight have to finish after a stop; Kubernetes kills after 30."""

FLUSH_S: Final = 0.5
"""Seconds that a result, durable in the ledger, may wait before `results.jsonl` shows it."""

LONGEST_NAP_S: Final = 10.0
"""Seconds between two looks at the wall clock, which jumps when a laptop wakes up."""


class Stoppable(Protocol):
    """A run, as far as it can be stopped."""

    def stop(self, reason: StopReason) -> None:
        """Start nothing new; what is in flight finishes."""

    def abandon(self) -> None:
        """Give up what is in flight."""


class Stopper:
    """Stops the run that it was given to.

    The first request lets what is in flight finish, for ten seconds at most. The second gives that up at once.
    """

    def __init__(self) -> None:
        self._heeded = False
        self._reason: StopReason | None = None
        self._asked, self._again = anyio.Event(), anyio.Event()

    def stop(self, reason: StopReason) -> bool:
        """Ask the run to stop.

        Returns:
            False where there is no run to stop yet, or not any more.
        """
        if self._heeded and self._reason is None:
            self._reason = reason
            self._asked.set()
        elif self._heeded:
            self._again.set()
        return self._heeded

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Take requests; without this they are refused."""
        self._heeded = True
        try:
            yield
        finally:
            self._heeded = False

    async def watch(self, run: Stoppable) -> None:
        """Wait for a request and pass it on."""
        await self._asked.wait()
        if self._reason is not None:
            run.stop(self._reason)
        with anyio.move_on_after(DRAIN_S):
            await self._again.wait()
        run.abandon()


async def watch_deadline(run: Stoppable, deadline: Deadline) -> None:
    """Stop at the deadline: a time of day by the wall clock, a duration by the monotonic one."""
    left_s = deadline.seconds(datetime.now(UTC).astimezone())
    if deadline.at is None:
        await anyio.sleep(left_s)
    else:
        due = time() + left_s
        while (left_s := due - time()) > 0.0:  # noqa: ASYNC110  there is no event for it
            await anyio.sleep(min(LONGEST_NAP_S, left_s))
    run.stop(StopReason(StopKind.DEADLINE, "the deadline was reached"))


async def flush(journal: Journal, run: Stoppable, ledger: Path) -> None:
    """Show results soon, and stop a run whose ledger is moved or deleted while it goes on."""
    inode = os.stat(ledger).st_ino  # noqa: PTH116  two numbers of a file that is open
    while True:
        await anyio.sleep(FLUSH_S)
        journal.flush()
        try:
            there = os.stat(ledger).st_ino == inode  # noqa: PTH116
        except OSError:
            there = False
        if not there:
            run.stop(StopReason(StopKind.LEDGER, f"{ledger} is not where it was: it was moved or deleted"))
            return
