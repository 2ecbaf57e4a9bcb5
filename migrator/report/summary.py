"""The report: what is written afterwards, from the ledger and the items, and can be written again at any time."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeAlias, TypedDict

import msgspec

from migrator.api.outcome import Status
from migrator.job.cells import neutralised
from migrator.report.journal import timestamp
from migrator.secret import Masker, Secret
from migrator.store.ledger_reader import LedgerReader
from migrator.store.ledger_schema import Row
from migrator.store.state_folder import write_atomically

__all__ = [
    "QuotaUse",
    "Redactor",
    "Stopped",
    "Summary",
    "redactor",
    "summarise",
    "summary_json",
    "summary_text",
    "write_result_files",
    "write_summary",
]

OWN_COLUMNS: Final = ("_status", "_http_status", "_error", "_attempts", "_request_id")
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

GOOD: Final = frozenset({Status.SUCCEEDED, Status.UNCHANGED})

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


Redactor: TypeAlias = Callable[[str, str], str]
"""Takes a column and a cell, and returns what is written of the cell."""


def redactor(masker: Masker, secrets: Container[str]) -> Redactor:
    """Return what masks the cells of secret columns, as `--redact-files` asks for."""

    def shown(column: str, cell: str) -> str:
        return masker.shown(Secret(cell)) if cell and column in secrets else cell

    return shown


def write_result_files(
    folder: Path,
    *,
    columns: Sequence[str],
    cells: Iterable[tuple[int, Sequence[str]]],
    rows: Iterable[Row],
    mask: Redactor | None = None,
) -> None:
    """Write `succeeded.csv` and `failed.csv`: the input's own columns and order, then what became of each item.

    Items without a result are in neither. Input cells keep their values, so that `failed.csv` can be run again, though
    one that a spreadsheet would take for a formula is neutralised; columns that begin with an underscore are those of
    an earlier run, and are left out. Constant memory: both streams come in the input's order and are merged.

    Args:
        folder: the run's.
        columns: the input's own columns.
        cells: the number and the cells of each item.
        rows: the results, by number.
        mask: what is written of a cell; None for all of it.

    Raises:
        FolderError: a file cannot be written; those of before are left as they were.
    """
    kept = [place for place, column in enumerate(columns) if not column.startswith("_")]
    names = [columns[place] for place in kept]
    with _csv(folder / "succeeded.csv") as good, _csv(folder / "failed.csv") as bad:
        for table in (good, bad):
            table.write((*names, *OWN_COLUMNS))
        for values, row in _merged(cells, rows):
            shown = [values[place] for place in kept]
            if mask is not None:
                shown = [mask(name, cell) for name, cell in zip(names, shown, strict=True)]
            table = good if row.status in GOOD else bad
            table.write((*map(neutralised, shown), *_own_cells(row)))


def _merged(cells: Iterable[tuple[int, Sequence[str]]], rows: Iterable[Row]) -> Iterator[tuple[Sequence[str], Row]]:
    """Yield the items that have a result, with it."""
    results = iter(rows)
    row = next(results, None)
    for number, values in cells:
        while row is not None and row.item < number:
            row = next(results, None)
        if row is None:
            return
        if row.item == number:
            yield values, row


class _Table:
    """A CSV file (RFC 4180, but for lines that end as they do on Unix)."""

    def __init__(self, text: IO[str]) -> None:
        self._plain = csv.writer(text, lineterminator="\n")
        self._quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(self, cells: Sequence[str]) -> None:
        # Python before 3.13 leaves a lone carriage return without quotes, and readers then see the end of a row.
        writer = self._quoted if any("\r" in cell for cell in cells) else self._plain
        writer.writerow(cells)


@contextmanager
def _csv(path: Path) -> Iterator[_Table]:
    with write_atomically(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        yield _Table(text)
        # The file stays open for the one who opened it, and syncs it.
        text.detach()


def _own_cells(row: Row) -> Iterator[str]:
    error = "" if row.error is None else row.error.message
    for value in (row.status.value, row.http_status, error, row.attempts, row.request_id):
        yield neutralised("" if value is None else str(value))


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
