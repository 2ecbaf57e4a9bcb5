"""Summaries of runs, with plain values."""

from typing import Any

from migrator.report.summary import Summary


def summary(**changes: Any) -> Summary:
    """Return the summary of a run of a hundred items of which all succeeded, unless `changes` say otherwise."""
    values: dict[str, Any] = {
        "schema": 1,
        "run": "rotate-20261123T120000Z-0a1b",
        "job": "rotate",
        "server": "https://api.example",
        "folder": "/state/runs/rotate-20261123T120000Z-0a1b",
        "started": "2026-11-23T12:00:00.000Z",
        "finished": "2026-11-23T12:01:30.500Z",
        "elapsed_s": 90.5,
        "time_s": {"starting": 0.1, "sending": 77.9, "quota used up": 12.5},
        "invocations": 1,
        "items": 100,
        "pending": 0,
        "counts": {"succeeded": 100, "unchanged": 0, "failed": 0, "in_doubt": 0, "skipped": 0},
        "errors": {},
        "resent": 0,
        "throughput_per_s": 1.1,
        "quota": {
            "limit": 100,
            "remaining": 42,
            "requests": 103,
            "refused": 3,
            "waited_s": {"quota": 12.5, "pace": 1.0},
        },
        "exit_code": 0,
        "stopped": None,
        "dry_run": False,
        "resumable": False,
    }
    steps = changes.pop("next_steps", ["nothing, all is done"])
    values |= {"next_step": "; ".join(steps), "next_steps": steps}
    found: Summary = {**values, **changes}  # type: ignore[typeddict-item]
    return found
