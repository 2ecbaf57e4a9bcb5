"""What is shown while a run goes on: a live display on a terminal, else a line each ten seconds."""

from collections.abc import Callable
from typing import Final

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from migrator.report.journal import Journal
from migrator.results import Status
from migrator.run.engine import RunStatistics
from migrator.times import clock_face

__all__ = ["show_bar", "show_plain"]

REFRESH_S: Final = 0.2
"""Seconds between two pictures: quick enough to look alive, slow enough to cost nothing."""

PLAIN_S: Final = 10.0
"""Seconds between two progress events where nobody looks at a terminal."""

Statistics = Callable[[], RunStatistics]


async def show_bar(statistics: Statistics) -> None:
    """Draw the live display on standard error until cancelled, and leave the last picture on the screen."""
    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        try:
            asked = None
            while True:
                now = statistics()
                if now.question is None or now.question != asked:
                    # A new picture would hide what is being typed.
                    live.update(picture(now), refresh=True)
                asked = now.question
                await anyio.sleep(REFRESH_S)
        finally:
            live.update(picture(statistics()), refresh=True)


async def show_plain(statistics: Statistics, journal: Journal) -> None:
    """Write a progress event each ten seconds until cancelled."""
    while True:
        await anyio.sleep(PLAIN_S)
        now = statistics()
        journal.event(
            "run.progress",
            finished=now.finished,
            total=now.total,
            failed=now.counts[Status.FAILED] + now.counts[Status.IN_DOUBT],
            retried=now.retried,
            rate=round(now.rate, 1),
            eta_s=None if now.eta_s is None else round(now.eta_s),
            quota_remaining=now.throttle.remaining,
            quota_reset_s=None if now.throttle.reset_s is None else round(now.throttle.reset_s, 1),
            waiting_for=now.throttle.waiting_for,
        )


def picture(now: RunStatistics) -> Group:
    """Return the display: how far, how fast, how much quota is left, and why it waits."""
    share = now.finished / now.total if now.total else 1.0
    head = Table.grid(padding=(0, 1))
    head.add_row(
        ProgressBar(total=max(1, now.total), completed=now.finished, width=40),
        Text(f"{now.finished}/{now.total}"),
        Text(f"{share:.0%}", style="bold"),
        Text("" if now.eta_s is None else f"{clock_face(now.eta_s)} left"),
    )
    return Group(head, _tally(now), _quota(now))


def _tally(now: RunStatistics) -> Text:
    failed, doubt = now.counts[Status.FAILED], now.counts[Status.IN_DOUBT]
    good = now.counts[Status.SUCCEEDED] + now.counts[Status.UNCHANGED]
    return Text.assemble(
        (f"{good} succeeded", "green"),
        "  ",
        (f"{failed} failed", "bold red" if failed else "dim"),
        (f"  {doubt} in doubt" if doubt else "", "bold magenta"),
        (f"  {now.retried} retried", "yellow" if now.retried else "dim"),
        f"  {now.rate:.1f}/s",
        (f"  {now.throttle.in_flight} in flight", "dim"),
    )


def _quota(now: RunStatistics) -> Text:
    if now.question is not None:
        return Text(now.question, style="bold yellow")
    if now.stopping is not None:
        return Text(f"stopping: {now.stopping.kind}; waiting for what is in flight", style="bold yellow")
    throttle = now.throttle
    line = Text()
    if throttle.remaining is not None:
        of = "" if throttle.limit is None else f" of {throttle.limit}"
        line.append(f"quota {throttle.remaining}{of} left", style="cyan")
    if throttle.reset_s is not None:
        line.append(f", reset in {clock_face(throttle.reset_s)}", style="cyan")
    if throttle.waiting_for is not None:
        line.append(("  " if line else "") + f"waiting: {throttle.waiting_for}", style="yellow")
    return line or Text("the server has not told its quota yet", style="dim")
