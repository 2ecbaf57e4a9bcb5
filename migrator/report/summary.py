"""The summary of a run: counts, times, quota use, the exit code and the next step, all from the ledger."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

import msgspec

from migrator.results import Status, StopKind, StopReason, exit_code
from migrator.store.files import decoded, write_atomically
from migrator.store.ledger_reader import LedgerReader
from migrator.times import duration_text, timestamp

__all__ = [
    "LastInvocation",
    "QuotaUse",
    "Stopped",
    "Summary",
    "complete_invocation",
    "last_invocation_meta",
    "summarise",
    "summary_json",
    "summary_text",
    "time_text",
    "write_summary",
]

FILES: Final = (
    "results.jsonl",
    "succeeded.csv",
    "failed.csv",
    "events.jsonl",
    "ledger.db",
    "report.html",
    "retired.csv",
)

SHORTEST_SHOWN_S: Final = 0.05

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
    """What the throttle saw and did: `refused` counts refusals for the rate limit, `waited_s` has seconds by reason."""

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
    time_s: Mapping[str, float]
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
    dry_run: bool
    resumable: bool
    next_step: str
    next_steps: Sequence[str]


class LastInvocation(msgspec.Struct, kw_only=True, frozen=True):
    """What the last invocation of a run did; it is kept in the ledger, so that every view can be written again.

    Attributes:
        number: which invocation it was, from 1.
        started_ms: when it started, in milliseconds since the epoch.
        finished_ms: when it finished.
        done_before: how many items the earlier invocations finished.
        resent: how many items were in flight when an earlier one was interrupted, and are sent again.
        quota: what the throttle saw and did.
        stopped: why it stopped before its end.
        note: what else is worth knowing, for the next step.
        time_s: the seconds of its time by what it did or waited for; each moment counts once.
    """

    number: int
    started_ms: int
    finished_ms: int
    done_before: int
    resent: int
    quota: QuotaUse
    stopped: StopReason | None = None
    note: str | None = None
    time_s: Mapping[str, float] = {}


META_NAME: Final = "last_invocation"


def last_invocation_meta(last: LastInvocation) -> Mapping[str, str]:
    """Return the member of the ledger's meta that keeps it."""
    return {META_NAME: msgspec.json.encode(last).decode()}


def complete_invocation(meta: Mapping[str, str]) -> LastInvocation | None:
    """Return what the last invocation did if it finished all items; None where items are left."""
    last = decoded(meta.get(META_NAME, ""), LastInvocation)
    if last is None:
        return None
    return last if last.stopped is None and last.number == int(meta.get("invocations", "1")) else None


def _last_invocation(meta: Mapping[str, str], finished_ms: int | None) -> LastInvocation:
    """Return what the last invocation did; a process that was killed has not recorded its end."""
    number = int(meta.get("invocations", "1"))
    last = decoded(meta.get(META_NAME, ""), LastInvocation)
    if last is not None and last.number == number:
        return last
    started_ms = int(meta.get("started_ms", "0"))
    finished_ms = started_ms if finished_ms is None else finished_ms
    return LastInvocation(
        number=number,
        started_ms=started_ms,
        finished_ms=finished_ms,
        done_before=0,
        resent=0,
        quota={"limit": None, "remaining": None, "requests": 0, "refused": 0, "waited_s": {}},
        stopped=StopReason(
            StopKind.KILLED, f"the process did not report its end; its last result is of {timestamp(finished_ms)}"
        ),
    )


def summarise(ledger: LedgerReader, folder: Path, *, meta: Mapping[str, str] | None = None) -> Summary:
    """Return the summary of a run, from its ledger.

    Args:
        ledger: the run's.
        folder: the run's.
        meta: the facts about the run; None for those of the ledger.
    """
    meta = ledger.meta() if meta is None else meta
    counts, errors = ledger.counts(), ledger.error_counts()
    last = _last_invocation(meta, ledger.last_finished_ms())
    items = int(meta.get("items", "0"))
    elapsed_s = max(0, last.finished_ms - last.started_ms) / 1000
    finished = counts.total() - last.done_before
    pending, stopped = items - counts.total(), last.stopped
    dry_run = meta.get("dry_run") == "true"
    code = exit_code(counts, items, stopped, dry_run=dry_run)
    steps = _next_steps(counts, pending, last, meta)
    return Summary(
        schema=SCHEMA_VERSION,
        run=folder.name,
        job=meta.get("job", ""),
        server=meta.get("base_url", ""),
        folder=str(folder),
        started=timestamp(last.started_ms),
        finished=timestamp(last.finished_ms),
        elapsed_s=elapsed_s,
        time_s=last.time_s,
        invocations=last.number,
        items=items,
        pending=pending,
        counts={status.value: counts[status] for status in Status},
        errors={kind.value: count for kind, count in errors.most_common()},
        resent=last.resent,
        throughput_per_s=round(finished / elapsed_s, 2) if elapsed_s else 0.0,
        quota=last.quota,
        exit_code=int(code),
        stopped=None if stopped is None else {"reason": stopped.kind.value, "message": stopped.message},
        dry_run=dry_run,
        resumable=pending > 0 or (stopped is not None and (stopped.item is not None or stopped.kind is StopKind.FILES)),
        next_step="; ".join(steps),
        next_steps=steps,
    )


REMEDIES: Final[Mapping[StopKind, str]] = {
    StopKind.CREDENTIALS: "correct the credentials",
    StopKind.CANARY: "remove the cause of the failure",
    StopKind.UNREACHABLE: "check that the server is up",
    StopKind.FILES: "make room for the files",
    StopKind.LEDGER: "put the ledger in order",
    StopKind.INPUT_CHANGED: "put the items back as they were",
}


def _next_steps(counts: Counter[Status], pending: int, last: LastInvocation, meta: Mapping[str, str]) -> Sequence[str]:
    """Return what to do next; each command in it can be given as it stands."""
    resume = "give the same command again"
    if command := meta.get("resume_command"):
        resume += f": {command}"
    if meta.get("dry_run") == "true":
        return [*([last.note] if last.note else []), "nothing was written: it was a dry run"]
    remedy = None if last.stopped is None else REMEDIES.get(last.stopped.kind)
    if remedy is not None:
        return [f"{remedy}, then {resume}"]
    steps = [last.note] if last.note is not None else []
    if pending:
        steps.append(f"{_items(pending)} still to do: {resume}")
    if counts[Status.IN_DOUBT]:
        how = meta.get("reconcile_command") or "look at the server before you send them again"
        steps.append(f"{_items(counts[Status.IN_DOUBT])} in doubt: {how}")
    if counts[Status.FAILED]:
        how = meta.get("retry_command") or "run it again with --items failed.csv"
        steps.append(f"{_items(counts[Status.FAILED])} failed: correct the cause (_error in failed.csv), then {how}")
    if counts[Status.SKIPPED]:
        steps.append(f"{_items(counts[Status.SKIPPED])} skipped: see _error in failed.csv")
    return steps or ["nothing, all is done"]


def _items(count: int) -> str:
    return f"{count:,} item{'s' if count != 1 else ''}"


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
    words = {**WORDS, Status.SKIPPED: "ready, not sent"} if summary["dry_run"] else WORDS
    counts = ", ".join(f"{count:,} {words[Status(status)]}" for status, count in summary["counts"].items() if count)
    pending = f", {summary['pending']:,} to do" if summary["pending"] else ""
    again = f", the last of {summary['invocations']} invocations" if summary["invocations"] > 1 else ""
    took = f"{duration_text(summary['elapsed_s'])} ({summary['throughput_per_s']:.1f}/s){again}"
    lines = [
        f"{summary['job']} on {summary['server']}",
        f"  items    {counts or 'nothing done'}{pending}; {summary['items']:,} total",
        f"  took     {took}",
    ]
    if time := time_text(summary["time_s"]):
        lines.append(f"  time     {time}")
    if summary["errors"]:
        causes = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in summary["errors"].items())
        lines.append(f"  causes   {causes}")
    if summary["resent"]:
        lines.append(f"  resent   {_items(summary['resent'])} in flight when the run was interrupted")
    lines.append(f"  quota    {_quota_text(summary['quota'])}")
    if summary["stopped"] is not None:
        lines.append(f"  stopped  {summary['stopped']['reason']}: {summary['stopped']['message']}")
    lines.append(f"  results  {summary['folder']}")
    heads = ["  next     ", *[" " * 11] * (len(summary["next_steps"]) - 1)]
    lines += [f"{head}{step}" for head, step in zip(heads, summary["next_steps"], strict=True)]
    return "\n".join(lines)


def _quota_text(quota: QuotaUse) -> str:
    left = "" if quota["remaining"] is None else f"{quota['remaining']:,} left of "
    announced = "none announced" if quota["limit"] is None else f"{left}{quota['limit']:,}"
    return f"{announced}; {quota['refused']:,} refusal{'s' * (quota['refused'] != 1)} (429)"


def time_text(time_s: Mapping[str, float]) -> str:
    """Return where the time went, the longest part first, without what is shorter than it is shown."""
    parts = sorted(time_s.items(), key=lambda one: -one[1])
    return ", ".join(f"{reason} {duration_text(seconds)}" for reason, seconds in parts if seconds >= SHORTEST_SHOWN_S)
