"""The views of a run are written from its ledger by one function, for any command and at any time."""

import asyncio
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from result_rows import failure, result

from migrator.errors import FolderError
from migrator.report.csv_files import Cells
from migrator.report.summary import LastInvocation, last_invocation_meta
from migrator.report.views import RunFacts, Written, write_all
from migrator.results import ItemResult, Status, StopKind, StopReason
from migrator.secret import Fingerprinter, Masker
from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_writer import Ledger

MASKER = Masker(Fingerprinter(b"k" * 32))
SECRET = "https://hooks.slack.com/services/T0/B0/abcdefgh"
VIEWS = ("results.jsonl", "succeeded.csv", "failed.csv", "summary.json", "report.html")

FACTS = RunFacts(
    redact_files=False,
    secrets=frozenset({"webhook_url"}),
    resume_command="migrator run rotate.json",
    retry_command="migrator retry last",
    reconcile_command="migrator reconcile last",
    settings={"Pace": "fast"},
)


def cells() -> Cells:
    """Return an input of three items."""

    def rows() -> Iterator[tuple[int, Sequence[str]]]:
        for number in range(1, 4):
            yield number, [f"i-{number}", f"{SECRET}{number}"]

    return ["id", "webhook_url"], rows()


def record(
    folder: Path, *rows: ItemResult, facts: RunFacts = FACTS, last: Mapping[str, str] | None = None, run: int = 1
) -> None:
    """Record results in a run's ledger, and what belongs to the run."""

    async def settle() -> None:
        async with Ledger.open(folder / "ledger.db") as ledger:
            known = {"job": "rotate", "base_url": "https://api.example", "items": "3", "invocations": str(run)}
            with read_ledger(folder / "ledger.db") as reader:
                await ledger.put(**(known | dict(facts.meta(reader.meta())) | dict(last or {})))
            for row in rows:
                await ledger.settle(row)

    asyncio.run(settle())


def ended(*, stopped: StopReason | None = None) -> Mapping[str, str]:
    """Return what the ledger keeps of the end of an invocation."""
    return last_invocation_meta(
        LastInvocation(
            number=1,
            started_ms=1_795_435_200_000,
            finished_ms=1_795_435_202_500,
            done_before=0,
            resent=0,
            quota={"limit": 9, "remaining": 1, "requests": 3, "refused": 0, "waited_s": {}},
            stopped=stopped,
        )
    )


def write(folder: Path) -> Written:
    """Write all views of a run."""
    with read_ledger(folder / "ledger.db") as ledger:
        return write_all(folder, ledger, masker=MASKER, cells=cells)


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_all_views_agree(tmp_path: Path) -> None:
    """Results, both CSV files, the summary and the page say the same of each item."""
    record(tmp_path, result(1), failure(2), result(3, status=Status.UNCHANGED), last=ended())

    summary = write(tmp_path).summary

    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["item"], line["status"]) for line in lines] == [(1, "succeeded"), (2, "failed"), (3, "unchanged")]
    assert [row["id"] for row in table(tmp_path / "succeeded.csv")] == ["i-1", "i-3"]
    assert [row["id"] for row in table(tmp_path / "failed.csv")] == ["i-2"]
    assert json.loads((tmp_path / "summary.json").read_text())["counts"] == summary["counts"]
    assert summary["exit_code"] == 1
    assert "1 of 3 items succeeded" in (tmp_path / "report.html").read_text()


def test_written_again_they_are_the_same(tmp_path: Path) -> None:
    """Views that were lost or damaged are made again from the ledger, byte for byte."""
    record(tmp_path, result(1), failure(2), last=ended(stopped=StopReason(StopKind.FAILURES, "1 of 2")))
    write(tmp_path)
    write(tmp_path)  # only now does the summary name all files
    before = {name: (tmp_path / name).read_bytes() for name in VIEWS}
    for name in VIEWS:
        (tmp_path / name).write_bytes(b"damaged")

    write(tmp_path)

    assert {name: (tmp_path / name).read_bytes() for name in VIEWS} == before


def test_files_that_were_redacted_stay_so(tmp_path: Path) -> None:
    """What was redacted once is never written in clear again, by any command, with any options."""
    record(tmp_path, result(1), failure(2), facts=replace(FACTS, redact_files=True), last=ended())
    write(tmp_path)
    record(tmp_path, failure(3))  # another invocation, without the option

    write(tmp_path)

    for name in ("succeeded.csv", "failed.csv"):
        assert table(tmp_path / name), name
        assert SECRET not in (tmp_path / name).read_text()
        assert all(row["webhook_url"].startswith("https://hooks.slack.com/***#") for row in table(tmp_path / name))


def test_next_step_follows_the_ledger(tmp_path: Path) -> None:
    """What became of an item in doubt changes the next step, the exit code and the page."""
    record(tmp_path, result(1), result(2), failure(3, status=Status.IN_DOUBT), last=ended())
    before = write(tmp_path).summary
    record(tmp_path, result(3))

    after = write(tmp_path).summary

    assert (before["exit_code"], before["next_step"]) == (1, "1 item in doubt: migrator reconcile last")
    assert (after["exit_code"], after["next_step"]) == (0, "nothing, all is done")
    assert "3 of 3 items succeeded" in (tmp_path / "report.html").read_text()


def test_process_that_was_killed_has_told_no_end(tmp_path: Path) -> None:
    """The end of an earlier invocation is not taken for that of one that was killed."""
    record(tmp_path, result(1), last=ended(stopped=StopReason(StopKind.SIGTERM, "SIGTERM received")))
    record(tmp_path, result(2), run=2)

    summary = write(tmp_path).summary

    assert summary["stopped"] is not None
    assert (summary["stopped"]["reason"], summary["exit_code"], summary["resumable"]) == ("killed", 3, True)
    assert summary["next_step"] == "1 item still to do: give the same command again: migrator run rotate.json"


def test_without_the_input_its_files_stay(tmp_path: Path) -> None:
    """Where the input is gone the CSV files are left as they are, and the rest is written."""
    record(tmp_path, result(1), last=ended())
    write(tmp_path)
    before = (tmp_path / "succeeded.csv").read_bytes()
    record(tmp_path, result(2))

    with read_ledger(tmp_path / "ledger.db") as ledger:
        write_all(tmp_path, ledger, masker=MASKER, cells=None)

    assert (tmp_path / "succeeded.csv").read_bytes() == before
    assert json.loads((tmp_path / "summary.json").read_text())["counts"]["succeeded"] == 2


def test_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The page is a view for others: the summary is written all the same."""
    record(tmp_path, result(1), last=ended())
    (tmp_path / "report.html").mkdir()

    written = write(tmp_path)

    assert written.problem is not None
    assert "report.html" in written.problem
    assert json.loads((tmp_path / "summary.json").read_text())["run"] == tmp_path.name


def test_summary_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Nothing is said to be written that is not."""
    record(tmp_path, result(1), last=ended())
    (tmp_path / "summary.json").mkdir()

    with pytest.raises(FolderError, match=r"summary\.json"):
        write(tmp_path)
