"""What watches a run while it goes on: signals, the deadline, and whether its records are still there."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Final

import anyio

from migrator.options import Deadline
from migrator.report.journal import Journal
from migrator.results import StopKind, StopReason
from migrator.run.engine import Run

__all__ = ["flush", "watch_deadline", "watch_signals"]

DRAIN_S: Final = 10.0
"""Seconds that requests in flight have to finish after a signal; Kubernetes kills after 30."""

FLUSH_S: Final = 0.5
"""Seconds that a result, durable in the ledger, may wait before it is to be seen in `results.jsonl`."""

LONGEST_NAP_S: Final = 10.0
"""Seconds between two looks at the clock on the wall, which jumps when a laptop wakes up."""


async def watch_signals(run: Run) -> None:
    """Stop on the first signal and let what is in flight finish; give up on the second, or after a while."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            kind = StopKind.SIGINT if number == signal.SIGINT else StopKind.SIGTERM
            run.stop(StopReason(kind, f"{signal.Signals(number).name} received"))
            break
        with anyio.move_on_after(DRAIN_S):
            async for _ in signals:
                break
        run.abandon()


async def watch_deadline(run: Run, deadline: Deadline) -> None:
    """Stop at the deadline: a time of day by the clock on the wall, a duration by the monotonic one."""
    left_s = deadline.seconds(datetime.now(UTC).astimezone())
    if deadline.at is None:
        await anyio.sleep(left_s)
    else:
        due = time() + left_s
        while (left_s := due - time()) > 0.0:  # noqa: ASYNC110  there is no event for it
            await anyio.sleep(min(LONGEST_NAP_S, left_s))
    run.stop(StopReason(StopKind.DEADLINE, "the time that the run was given is over"))


async def flush(journal: Journal, run: Run, ledger: Path) -> None:
    """Let results be seen soon, and stop a run whose records are taken away under it."""
    inode = os.stat(ledger).st_ino  # noqa: PTH116  two numbers of a file that is open
    while True:
        await anyio.sleep(FLUSH_S)
        journal.flush()
        try:
            there = os.stat(ledger).st_ino == inode  # noqa: PTH116
        except OSError:
            there = False
        if not there:
            run.stop(StopReason(StopKind.LEDGER, f"{ledger} is not where it was: somebody has moved or deleted it"))
            return
