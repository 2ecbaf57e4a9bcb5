"""The live display on a terminal: how far, how fast, how much quota is left, and why the run waits."""

from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from migrator.cli.display.screens import in_flight_text
from migrator.report.observer import Observer, RunStatistics
from migrator.results import Status
from migrator.times import duration_text

__all__ = ["Display"]


class Display(Observer):
    """A live display on standard error, which leaves its last picture on the screen; a context manager."""

    def __init__(self) -> None:
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=False)
        self._asked: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def progress(self, statistics: RunStatistics) -> None:
        """Draw how the run stands; not while a question is being answered, which the picture would hide."""
        self._live.start()
        if statistics.question is None or statistics.question != self._asked:
            self._live.update(picture(statistics), refresh=True)
        self._asked = statistics.question


def picture(now: RunStatistics) -> Group:
    """Return the display: how far, how fast, how much quota is left, and why it waits."""
    share = now.finished / now.total if now.total else 1.0
    head = Table.grid(padding=(0, 1))
    head.add_row(
        ProgressBar(total=max(1, now.total), completed=now.finished, width=30),
        Text(f"{now.finished:,}/{now.total:,}"),
        Text(f"{share:.0%}", style="bold"),
        Text(f"{now.rate:.1f}/s"),
        Text(_left(now)),
    )
    return Group(head, _tally(now), _quota(now))


def _left(now: RunStatistics) -> str:
    ends = now.eta_s is None or now.stopping is not None or now.finished >= now.total
    return "" if ends else f"{duration_text(round(now.eta_s or 0))} left"


def _tally(now: RunStatistics) -> Text:
    failed, doubt, skipped = (now.counts[status] for status in (Status.FAILED, Status.IN_DOUBT, Status.SKIPPED))
    good = now.counts[Status.SUCCEEDED] + now.counts[Status.UNCHANGED]
    return Text.assemble(
        (f"{good:,} succeeded", "green"),
        "  ",
        (f"{failed:,} failed", "bold red" if failed else "dim"),
        (f"  {doubt:,} in doubt" if doubt else "", "bold magenta"),
        (f"  {skipped:,} skipped" if skipped else "", "dim"),
        (f"  {now.retried:,} retried", "yellow" if now.retried else "dim"),
        (f"  {in_flight_text(now.throttle.in_flight, now.throttle.workers)}", "dim"),
    )


def _quota(now: RunStatistics) -> Text:
    if now.question is not None:
        return Text(now.question, style="bold yellow")
    if now.stopping is not None:
        waits = "stopping: {}; waiting for the requests in flight" if now.throttle.in_flight else "stopped: {}"
        return Text(waits.format(now.stopping.kind), style="bold yellow")
    throttle = now.throttle
    line = Text()
    if throttle.remaining is not None:
        of = "" if throttle.limit is None else f" of {throttle.limit:,}"
        line.append(f"quota {throttle.remaining:,}{of} left", style="cyan")
    if throttle.reset_s is not None:
        line.append(f", reset in {duration_text(round(throttle.reset_s))}", style="cyan")
    if now.waiting_for is not None:
        line.append(("  " if line else "") + f"waiting: {now.waiting_for}", style="yellow")
    elif _left(now) and now.limited_by is not None:
        line.append(("  " if line else "") + f"limited by {now.limited_by}", style="dim")
    return line or Text("the quota is not known", style="dim")
