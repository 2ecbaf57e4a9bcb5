"""What is written afterwards holds every item's own cells and what became of it, and says what to do next."""

import asyncio
import csv
import json
import stat
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import failure, result

from migrator.errors import FolderError
from migrator.job.csv_reader import restored
from migrator.report.csv_files import redactor, write_result_files
from migrator.report.summary import (
    LastInvocation,
    QuotaUse,
    Summary,
    last_invocation_meta,
    summarise,
    summary_json,
    summary_text,
    write_summary,
)
from migrator.results import ErrorKind, ItemError, ItemResult, Status, StopKind, StopReason
from migrator.secret import Fingerprinter, Masker, Secret
from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_writer import Ledger

MASKER = Masker(Fingerprinter(b"k" * 32))
OWN = ["_status", "_http_status", "_error", "_attempts", "_request_id"]
COLUMNS = ["id", "webhook_url"]
URL = "https://hooks.slack.example/services/TEXAMPLE/example-0001"

NOTHING_SEEN: QuotaUse = {"limit": None, "remaining": None, "requests": 0, "refused": 0, "waited_s": {}}


def table(path: Path) -> list[list[str]]:
    """Return a CSV file's rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


def test_files_split_by_what_became_of_items(tmp_path: Path) -> None:
    """Items as wanted are in one file, those that failed in the other; what a dry run did not send is in neither."""
    rows = [result(number, status=status) for number, status in enumerate(Status, start=1)]
    cells = [(number, [f"i-{number}", f"https://x.example/{number}"]) for number in range(1, 6)]

    write_result_files(tmp_path, columns=COLUMNS, cells=cells, rows=rows)

    succeeded, failed = table(tmp_path / "succeeded.csv"), table(tmp_path / "failed.csv")
    assert succeeded == [
        [*COLUMNS, *OWN],
        ["i-1", "https://x.example/1", "succeeded", "200", "", "1", "7a1b"],
        ["i-2", "https://x.example/2", "unchanged", "200", "", "1", "7a1b"],
    ]
    assert [row[:3] for row in failed[1:]] == [
        ["i-3", "https://x.example/3", "failed"],
        ["i-4", "https://x.example/4", "in_doubt"],
    ]
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("succeeded.csv", "failed.csv")} == {0o600}


def test_failed_row_says_why(tmp_path: Path) -> None:
    """A failed item's row has the server's words and id, and nothing where there was no answer."""
    silent = failure(
        2,
        http_status=None,
        attempts=5,
        request_id=None,
        error=ItemError(kind=ErrorKind.TIMEOUT, message="no answer within 30 s"),
    )

    write_result_files(tmp_path, columns=["id"], cells=[(1, ["a"]), (2, ["b"])], rows=[failure(1), silent])

    assert table(tmp_path / "failed.csv")[1:] == [
        ["a", "failed", "422", "the server answered 422", "1", "7a1b"],
        ["b", "failed", "", "no answer within 30 s", "5", ""],
    ]


def test_items_without_a_result_are_in_neither(tmp_path: Path) -> None:
    """An item that is still to do is in no file, wherever it stands, and results of no item are passed over."""
    rows = [result(2), result(3), result(7), result(9)]

    write_result_files(
        tmp_path, columns=["id"], cells=[(number, [str(number)]) for number in (1, 2, 4, 7, 8)], rows=rows
    )

    assert [row[0] for row in table(tmp_path / "succeeded.csv")[1:]] == ["2", "7"]
    assert table(tmp_path / "failed.csv")[1:] == []


def test_columns_of_an_earlier_run_are_left_out(tmp_path: Path) -> None:
    """When a failed.csv is run again its own columns do not pile up."""
    columns = ["_status", "id", "_error", "name"]

    write_result_files(tmp_path, columns=columns, cells=[(1, ["failed", "a", "old", "b"])], rows=[failure(1)])

    assert table(tmp_path / "failed.csv") == [
        ["id", "name", *OWN],
        ["a", "b", "failed", "422", "the server answered 422", "1", "7a1b"],
    ]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    ["=1+1", "-1", "@x", "\ttab", "a\rb", "a\r\nb", 'say "x"', " blank ", ";,|", "\ufeffbom", "'"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=5))
def test_input_cells_are_written_as_they_are(tmp_path: Path, rows: list[list[str]]) -> None:
    """Whatever stands in a cell has the same value when failed.csv is read again, and is no formula meanwhile."""
    cells = list(enumerate(rows, start=1))

    write_result_files(tmp_path, columns=COLUMNS, cells=cells, rows=[failure(number) for number, _ in cells])

    written = [row[:2] for row in table(tmp_path / "failed.csv")[1:]]
    assert [[restored(cell) for cell in row] for row in written] == rows
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\0")) for row in written for cell in row)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\0"])
def test_servers_text_is_no_formula(tmp_path: Path, start: str) -> None:
    """What a spreadsheet would calculate is made harmless, whosever it is."""
    text = f"{start}HYPERLINK(1)"
    row = failure(1, request_id=text, error=ItemError(kind=ErrorKind.SERVER, message=text))

    write_result_files(tmp_path, columns=["id"], cells=[(1, ["=1"])], rows=[row])

    (written,) = table(tmp_path / "failed.csv")[1:]
    assert (written[0], written[3], written[5]) == ("'=1", f"'{text}", f"'{text}")


def test_secret_columns_can_be_masked(tmp_path: Path) -> None:
    """With redaction a secret column shows fingerprints, an empty cell stays empty, and others stay as they are."""
    cells = [(1, ["a", URL]), (2, ["b", ""])]

    write_result_files(
        tmp_path,
        columns=COLUMNS,
        cells=cells,
        rows=[result(1), failure(2)],
        mask=redactor(MASKER, frozenset({"webhook_url"})),
    )

    assert table(tmp_path / "succeeded.csv")[1][:2] == ["a", MASKER.shown(Secret(URL))]
    assert table(tmp_path / "failed.csv")[1][:2] == ["b", ""]
    assert URL.encode() not in (tmp_path / "succeeded.csv").read_bytes()


def test_error_on_the_way_leaves_the_files_of_before(tmp_path: Path) -> None:
    """When the items cannot be read to the end, the files stay as they were and no half ones are left."""

    def cells() -> Iterator[tuple[int, Sequence[str]]]:
        yield 1, ["new"]
        raise ZeroDivisionError

    write_result_files(tmp_path, columns=["id"], cells=[(1, ["old"])], rows=[result(1)])
    with pytest.raises(ZeroDivisionError):
        write_result_files(tmp_path, columns=["id"], cells=cells(), rows=[result(1), result(2)])

    assert table(tmp_path / "succeeded.csv")[1][0] == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failed.csv", "succeeded.csv"]


def test_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A user is told which file could not be written, and why."""
    (tmp_path / "succeeded.csv").mkdir()

    with pytest.raises(FolderError, match=r"succeeded\.csv cannot be written: Is a directory"):
        write_result_files(tmp_path, columns=["id"], cells=[(1, ["a"])], rows=[result(1)])


def test_memory_does_not_grow_with_the_items(tmp_path: Path) -> None:
    """Ten thousand items take no more memory than one thousand."""
    few, many = (peak_bytes_of_writing(tmp_path, items) for items in (1_000, 10_000))

    assert many < 1.1 * few
    assert len(table(tmp_path / "succeeded.csv")) == 10_001


def peak_bytes_of_writing(folder: Path, items: int) -> int:
    """Return the most memory that the files of so many items take to write."""
    numbers = range(1, items + 1)
    tracemalloc.start()
    try:
        write_result_files(
            folder,
            columns=["id"],
            cells=((number, [f"i-{number}"]) for number in numbers),
            rows=(result(number) for number in numbers),
        )
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def summed_up(folder: Path, *rows: ItemResult, meta: dict[str, str] | None = None, **changes: Any) -> Summary:
    """Return the summary of a run with these results, whose last invocation was as `changes` say."""
    values: dict[str, Any] = {
        "number": 1,
        "started_ms": 1_795_435_200_000,
        "finished_ms": 1_795_435_202_500,
        "done_before": 0,
        "resent": 0,
        "quota": NOTHING_SEEN,
    }
    last = LastInvocation(**(values | changes))
    known = {
        "job": "rotate",
        "base_url": "https://api.example",
        "items": str(len(rows)),
        "invocations": str(last.number),
        "resume_command": "migrator run rotate.json",
        "retry_command": "migrator run rotate.json --items failed.csv",
        **last_invocation_meta(last),
    }

    async def settle() -> None:
        async with Ledger.open(folder / "ledger.db") as ledger:
            for row in rows:
                await ledger.settle(row)
            await ledger.put(**(known | (meta or {})))

    asyncio.run(settle())
    with read_ledger(folder / "ledger.db") as ledger:
        return summarise(ledger, folder)


def test_summary_counts_what_the_ledger_says(tmp_path: Path) -> None:
    """The summary has every count, the times, the rate of this invocation, and what to do about what is left."""
    quota: QuotaUse = {"limit": 100, "remaining": 3, "requests": 7, "refused": 2, "waited_s": {"quota used up": 1.5}}
    stopped = StopReason(StopKind.FAILURES, "2 of 5 items did not succeed")
    time_s = {"starting": 0.04, "sending": 0.96, "quota used up": 1.5}
    rows = [
        result(1),
        result(2),
        failure(3),
        failure(4, ErrorKind.TIMEOUT),
        failure(5, ErrorKind.TIMEOUT, status=Status.IN_DOUBT),
    ]

    summary = summed_up(
        tmp_path,
        *rows,
        meta={"items": "8"},
        number=2,
        done_before=1,
        resent=1,
        quota=quota,
        stopped=stopped,
        time_s=time_s,
    )

    steps = [
        "3 items still to do: give the same command again: migrator run rotate.json",
        "1 item in doubt: look at the server before you send them again",
        "2 items failed: correct the cause (_error in failed.csv), then migrator run rotate.json --items failed.csv",
    ]
    assert summary == {
        "schema": 1,
        "run": tmp_path.name,
        "job": "rotate",
        "server": "https://api.example",
        "folder": str(tmp_path),
        "started": "2026-11-23T12:00:00.000Z",
        "finished": "2026-11-23T12:00:02.500Z",
        "elapsed_s": 2.5,
        "time_s": time_s,
        "invocations": 2,
        "items": 8,
        "pending": 3,
        "counts": {"succeeded": 2, "unchanged": 0, "failed": 2, "in_doubt": 1, "skipped": 0},
        "errors": {"timeout": 2, "validation": 1},
        "resent": 1,
        "throughput_per_s": 1.6,
        "quota": quota,
        "exit_code": 3,
        "stopped": {"reason": "too many failures", "message": "2 of 5 items did not succeed"},
        "dry_run": False,
        "resumable": True,
        "next_step": "; ".join(steps),
        "next_steps": steps,
    }
    assert summary_text(summary).splitlines() == [
        "rotate on https://api.example",
        "  items    2 succeeded, 2 failed, 1 in doubt, 3 to do; 8 total",
        "  took     2.5 s (1.6/s), the last of 2 invocations",
        "  time     quota used up 1.5 s, sending 1 s",
        "  causes   2 timeout, 1 validation",
        "  resent   1 item in flight when the run was interrupted",
        "  quota    3 left of 100; 2 refusals (429)",
        "  stopped  too many failures: 2 of 5 items did not succeed",
        f"  results  {tmp_path}",
        f"  next     {steps[0]}",
        f"           {steps[1]}",
        f"           {steps[2]}",
    ]


def test_summary_of_a_good_run(tmp_path: Path) -> None:
    """When all is done the summary is short and says so."""
    summary = summed_up(tmp_path, result(1), result(2))

    assert (summary["resumable"], summary["pending"]) == (False, 0)
    assert summary_text(summary).splitlines() == [
        "rotate on https://api.example",
        "  items    2 succeeded; 2 total",
        "  took     2.5 s (0.8/s)",
        "  quota    none announced; 0 refusals (429)",
        f"  results  {tmp_path}",
        "  next     nothing, all is done",
    ]


def test_summary_of_a_dry_run(tmp_path: Path) -> None:
    """It says that nothing was sent."""
    summary = summed_up(tmp_path, result(1, status=Status.SKIPPED), meta={"dry_run": "true"})

    text = summary_text(summary).splitlines()
    assert text[1] == "  items    1 ready, not sent; 1 total"
    assert text[-1] == "  next     nothing was written: it was a dry run"


def test_summary_of_nothing_in_no_time(tmp_path: Path) -> None:
    """A run that was stopped before its first item, on a clock that was set back, can be summed up all the same."""
    summary = summed_up(tmp_path, meta={"items": "1"}, finished_ms=0)

    assert (summary["elapsed_s"], summary["throughput_per_s"], summary["pending"]) == (0, 0.0, 1)
    assert summary_text(summary).startswith(
        "rotate on https://api.example\n  items    nothing done, 1 to do; 1 total\n"
    )


def test_summary_file(tmp_path: Path) -> None:
    """The file is private, holds the whole summary, and names the run's other files."""
    summary = summed_up(tmp_path, result(1))
    write_result_files(tmp_path, columns=["id"], cells=[(1, ["a"])], rows=[result(1)])

    write_summary(tmp_path, summary)

    path = tmp_path / "summary.json"
    files = {name: str(tmp_path / name) for name in ("succeeded.csv", "failed.csv", "ledger.db")}
    assert json.loads(path.read_bytes()) == {**summary, "files": files}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == summary_json(summary)
