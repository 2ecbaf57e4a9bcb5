"""What people read on a terminal says what is, and what to do next."""

from datetime import UTC, datetime
from typing import Any

from migrator.cli.display.screens import control_text, question_text, run_table, run_text, wrapped
from migrator.run.migrate import Confirmation

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RUN = "rotate-20261124T110000Z-0a1b"
COUNTS = {"succeeded": 2995, "unchanged": 0, "failed": 3, "in_doubt": 0, "skipped": 0}


def known(**changes: Any) -> dict[str, Any]:
    """Return what is known of a run."""
    return {
        "run": RUN,
        "job": "rotate",
        "kind": "run",
        "state": "stopped",
        "server": "https://api.confluent.cloud",
        "items": 3000,
        "pending": 2,
        "counts": COUNTS,
        "errors": {"forbidden": 3},
        "started": "2026-11-24T11:00:00.000Z",
        "exit_code": 3,
        "next": "give the same command again",
        "live": None,
        "stopped": {"reason": "too many failures", "message": "3 of 2,998 items did not succeed"},
        "folder": f".migrator/runs/{RUN}",
    } | changes


LIVE = {
    "run": RUN,
    "items": 3000,
    "finished": 1200,
    "counts": {"succeeded": 1200, "failed": 0},
    "rate_per_s": 1.67,
    "eta_s": 1080,
    "limited_by": "quota",
    "in_flight": 4,
    "quota": {"limit": 100, "remaining": 42, "reset_s": 17.4, "refused": 0},
    "waiting_for": "quota used up",
}


def test_table() -> None:
    """The table names server, kind, what is left, the age, and the command to give next."""
    damaged = {"run": "other-20261123T110000Z-0a1b", "state": "damaged", "damaged": "cannot be read"}

    table = run_table([known(), damaged], NOW).splitlines()

    assert table == [
        "run",
        "  server               kind  state    left        failed  in doubt  started",
        RUN,
        "  api.confluent.cloud  run   stopped  2 of 3,000  3       0         1 h ago",
        "  next: give the same command again",
        "other-20261123T110000Z-0a1b",
        "                             damaged",
    ]
    assert run_table([], NOW) == "There are no runs. Start one with: migrator run JOB"


def test_one_run() -> None:
    """One run has its counts, causes, why it stopped, and the next command; live, its rate and what it waits for."""
    assert run_text(known(), NOW).splitlines() == [
        f"{RUN}: stopped, 2,998 of 3,000 items finished",
        "  server   https://api.confluent.cloud",
        "  started  2026-11-24 11:00:00 UTC, 1 h ago",
        "  items    2,995 succeeded, 3 failed",
        "  causes   3 forbidden",
        "  stopped  3 of 2,998 items did not succeed",
        f"  results  .migrator/runs/{RUN}",
        "  next     give the same command again",
    ]
    live = run_text(known(live=LIVE, state="running"), NOW)
    assert "  now      1.67/s, 4 in flight, about 18 min left, limited by quota, waiting:" in live


def test_control() -> None:
    """`ctl` says what it did, how far the run is, and what is left of the quota."""
    assert control_text("rate", "5/s", LIVE).splitlines() == [
        f"{RUN} has the rate 5/s from now on.",
        "1,200 of 3,000 items finished (1,200 succeeded), 1.67/s, 4 in flight, about 18",
        "  min left, limited by quota, waiting: quota used up.",
        "42 of 100 requests of the quota left, reset in 17 s.",
    ]
    assert f"Resume it with: migrator ctl {RUN} resume" in control_text("pause", None, LIVE)


def test_wrapped() -> None:
    """A long line goes on below its text, and a path is never cut."""
    path = "x" * 90
    lines = wrapped(f"  next     {'word ' * 20}{path}").splitlines()

    assert all(len(line) <= 80 for line in lines[:-1])
    assert [line[:11].strip() for line in lines[1:]] == [""] * (len(lines) - 1)
    assert lines[-1].strip() == path


def test_command_stays_in_one_line() -> None:
    """A command that is advised can be copied from the terminal as it is."""
    line = f"  next     3 items failed: see _error in failed.csv, then migrator retry {RUN}, or something else"

    assert f"           migrator retry {RUN}, or something else" in wrapped(line).splitlines()

    command = "migrator run job.json --base-url http://127.0.0.1:8080 --yes --state /srv"
    assert wrapped(f"  next     check the server, then: {command}").splitlines()[-1] == f"{' ' * 11}{command}"


def asked(
    unfinished: str | None = None, *, kind: str = "run", total: int = 3000, least_s: float | None = 1.2
) -> list[str]:
    """Return the lines of the question before a run."""
    return question_text(
        Confirmation(
            job="rotate",
            kind=kind,
            method="PATCH",
            total=total,
            server="https://api.confluent.cloud",
            undo="not possible",
            unfinished=unfinished,
            left=12,
            requests=36,
            least_s=least_s,
        )
    ).splitlines()


def test_question() -> None:
    """Before a run a person reads job, method, number, server, what is left, and what can be undone."""
    assert asked() == [
        "rotate: PATCH 3,000 items on api.confluent.cloud",
        "Requests: at most 36, which take at least 2 s",
        "Rollback: not possible",
        "Type yes to start",
    ]
    assert asked(kind="rollback", total=1)[0] == "rotate (rollback): PATCH 1 item on api.confluent.cloud"
    assert asked("rotate-1")[1] == "Resumes rotate-1: 12 of 3,000 items are left"
    assert asked(least_s=None)[1] == "Requests: at most 36"
