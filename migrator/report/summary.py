"""The report: what is written afterwards, from the ledger and the items, and can be written again at any time."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypedDict

import msgspec

from migrator.results import Status
from migrator.store.files import write_atomically
from migrator.store.ledger_reader import LedgerReader
from migrator.times import timestamp

__all__ = ["QuotaUse", "Stopped", "Summary", "summarise", "summary_json", "summary_text", "write_summary"]

FILES: Final = (
    "results.jsonl",
    "succeeded.csv",
    "failed.csv",
    "events.jsonl",
    "ledger.db",
    "report.html",
    "retired.csv",
)

SCHEMA_VERSION: Final = 1
"""Of `summary.json`."""


WORDS: Final[Mapping[Status, str]] = {
    Status.SUCCEEDED: "succeeded",
    Status.UNCHANGED: "unchanged",
    Status.FAILED: "failed",
    Status.IN_DOUBT: "in doubt",
    Status.SKIPPED: "skipped",
}


class Stopped(TypedDict):
    """Why a run stopped before its end."""

    reason: str
    message: str


class QuotaUse(TypedDict):
    """What the throttle saw and did: refused counts the answers 429 and their kin, waited_s names the reasons."""

    limit: int | None
    remaining: int | None
    requests: int
    refused: int
    waited_s: Mapping[str, float]


class Summary(TypedDict):
    """`summary.json`: counts by the contract's statuses, errors by their kinds, durations in seconds."""

    schema: int
    run: str
    job: str
    server: str
    folder: str
    started: str
    finished: str
    elapsed_s: float
    invocations: int
    items: int
    pending: int
    counts: Mapping[str, int]
    errors: Mapping[str, int]
    resent: int
    throughput_per_s: float
    quota: QuotaUse
    exit_code: int
    stopped: Stopped | None
    resumable: bool
    next_step: str


def summarise(
    ledger: LedgerReader,
    *,
    folder: Path,
    run: str,
    job: str,
    server: str,
    items: int,
    started_ms: int,
    finished_ms: int,
    invocations: int,
    done_before: int,
    resent: int,
    quota: QuotaUse,
    exit_code: int,
    stopped: Stopped | None,
    resume_command: str,
    failed_command: str,
) -> Summary:
    """Sum a run up, from what its ledger says.

    `items` counts the whole run's. The times are this invocation's, in milliseconds since the epoch; `invocations`
    counts it in, `done_before` is how many items the earlier ones finished, and `resent` how many were in flight when
    one of them was killed. `resume_command` goes on with the run, `failed_command` sends `failed.csv` again.
    """
    counts, errors = ledger.counts(), ledger.error_counts()
    elapsed_s = max(0, finished_ms - started_ms) / 1000
    finished = counts.total() - done_before
    pending = items - counts.total()
    return Summary(
        schema=SCHEMA_VERSION,
        run=run,
        job=job,
        server=server,
        folder=str(folder),
        started=timestamp(started_ms),
        finished=timestamp(finished_ms),
        elapsed_s=elapsed_s,
        invocations=invocations,
        items=items,
        pending=pending,
        counts={status.value: counts[status] for status in Status},
        errors={kind.value: count for kind, count in errors.most_common()},
        resent=resent,
        throughput_per_s=round(finished / elapsed_s, 2) if elapsed_s else 0.0,
        quota=quota,
        exit_code=exit_code,
        stopped=stopped,
        resumable=pending > 0,
        next_step=_next_step(counts, pending, resume=resume_command, failed=failed_command),
    )


def _next_step(counts: Counter[Status], pending: int, *, resume: str, failed: str) -> str:
    steps = []
    if pending:
        steps.append(f"{_items(pending)} still to do: {resume}")
    if counts[Status.IN_DOUBT]:
        steps.append(f"{_items(counts[Status.IN_DOUBT])} in doubt: look at the server before they are sent again")
    if counts[Status.FAILED]:
        steps.append(f"{_items(counts[Status.FAILED])} failed: see _error in failed.csv, mend it, then {failed}")
    return "; ".join(steps) or "nothing, all is done"


def _items(count: int) -> str:
    return f"{count} item{'s' if count != 1 else ''}"


def summary_json(summary: Summary) -> bytes:
    """Return the summary as a JSON document for people and programs, with the paths of what else was written."""
    folder = Path(summary["folder"])
    files = {name: str(folder / name) for name in FILES if (folder / name).exists()}
    return msgspec.json.format(msgspec.json.encode({**summary, "files": files}), indent=2) + b"\n"


def write_summary(folder: Path, summary: Summary) -> None:
    """Write `summary.json`, as the last of a run's files.

    Raises:
        FolderError: it cannot be written.
    """
    with write_atomically(folder / "summary.json") as file:
        file.write(summary_json(summary))


def summary_text(summary: Summary) -> str:
    """Return the summary for the person on call: what happened, where it is written, what to do next."""
    counts = ", ".join(f"{count} {WORDS[Status(status)]}" for status, count in summary["counts"].items() if count)
    pending = f", {summary['pending']} to do" if summary["pending"] else ""
    lines = [
        f"{summary['job']} on {summary['server']}: {counts or 'nothing done'}{pending}; {summary['items']} in all",
        f"  took     {summary['elapsed_s']:.1f} s ({summary['throughput_per_s']:.1f}/s)",
    ]
    if summary["errors"]:
        causes = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in summary["errors"].items())
        lines.append(f"  causes   {causes}")
    if summary["resent"]:
        lines.append(f"  resent   {_items(summary['resent'])} in flight when the run was interrupted")
    lines.append(f"  quota    {_quota_text(summary['quota'])}")
    if summary["stopped"] is not None:
        lines.append(f"  stopped  {summary['stopped']['reason']}: {summary['stopped']['message']}")
    lines += [f"  results  {summary['folder']}", f"  next     {summary['next_step']}"]
    return "\n".join(lines)


def _quota_text(quota: QuotaUse) -> str:
    left = "" if quota["remaining"] is None else f", {quota['remaining']} left"
    announced = "none announced" if quota["limit"] is None else f"{quota['limit']}{left}"
    refusals = f"{quota['refused']} refusal{'s' if quota['refused'] != 1 else ''} (429)"
    waits = ", ".join(f"{seconds:.1f} s for {reason}" for reason, seconds in quota["waited_s"].items())
    return f"{announced}; {refusals}" + (f"; waited {waits}" if waits else "")
