"""The live display says how far, how fast, and why the run waits."""

import io
from collections import Counter
from typing import Any

import pytest
from rich.console import Console

from migrator.cli.display.progress import picture
from migrator.ratelimit.throttle import ThrottleStatistics
from migrator.report.observer import RunStatistics
from migrator.report.time_use import Reason
from migrator.results import Status, StopKind, StopReason

QUOTA = Reason("quota used up", "quota used up")
THROTTLE: dict[str, Any] = {
    "slots": 16,
    "in_flight": 4,
    "limit": 1200,
    "remaining": 1042,
    "reset_s": 17.3,
    "requests": 120,
    "refused": 0,
    "bursts": 0,
    "rate": None,
    "waiting_for": None,
    "waited_s": {},
    "limiter_share": None,
}


def lines(*, width: int = 80, throttle: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    """Return the display on a terminal of this width."""
    values: dict[str, Any] = {
        "total": 3000,
        "counts": Counter({Status.SUCCEEDED: 1190, Status.UNCHANGED: 10}),
        "retried": 2,
        "elapsed_s": 60.0,
        "rate": 20.04,
        "eta_s": 90.4,
        "stopping": None,
    }
    now = RunStatistics(throttle=ThrottleStatistics(**(THROTTLE | (throttle or {}))), **(values | changes))
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(picture(now))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize("width", [80, 200])
def test_run_that_goes_on(width: int) -> None:
    """Three lines, none wider than the terminal: progress, counts, quota."""
    head, counts, quota = lines(width=width)

    assert head.endswith("1,200/3,000 40% 20.0/s 1 min 30 s left")
    assert counts == "1,200 succeeded  0 failed  2 retried  4 in flight"
    assert quota == "quota 1,042 of 1,200 left, reset in 17 s"


def test_many_items() -> None:
    """A million items with trouble of every kind fit 80 columns."""
    counts = Counter({Status.SUCCEEDED: 995_000, Status.FAILED: 2_500, Status.IN_DOUBT: 120})

    assert len(lines(total=1_000_000, counts=counts, retried=4_200, rate=123.4)) == 3


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        (
            {"reason": QUOTA},
            "quota 1,042 of 1,200 left, reset in 17 s  waiting: quota used up",
        ),
        ({"limited_by": "slots"}, "quota 1,042 of 1,200 left, reset in 17 s  limited by slots"),
        ({"throttle": {"limit": None, "remaining": None, "reset_s": None}}, "the quota is not known"),
        ({"question": "stage 1 has ended; go on? "}, "stage 1 has ended; go on?"),
        (
            {"stopping": StopReason(StopKind.SIGINT, "SIGINT received")},
            "stopping: interrupted; waiting for the requests in flight",
        ),
        (
            {"stopping": StopReason(StopKind.SIGINT, "SIGINT received"), "throttle": {"in_flight": 0}},
            "stopped: interrupted",
        ),
    ],
)
def test_what_the_run_waits_for(changes: dict[str, Any], last: str) -> None:
    """The last line says what is most needed now: the question, the stop, or the quota and the reason to wait."""
    assert lines(**changes)[-1] == last


def test_end() -> None:
    """A run that is finished has no time left, and a dry run's items are not lost from sight."""
    head, counts, _ = lines(total=5, counts=Counter({Status.SKIPPED: 5}), eta_s=0.0, retried=0)

    assert head.endswith("5/5 100% 20.0/s")
    assert "5 skipped" in counts


def test_stop_has_no_time_left() -> None:
    """A run that stops does not say when it would have been finished."""
    assert lines(stopping=StopReason(StopKind.SIGINT, "SIGINT received"))[0].endswith("20.0/s")
