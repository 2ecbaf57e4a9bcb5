"""All views of a run, written from its ledger: by the run itself, after a reconcile, and at any later time."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from migrator.errors import FolderError
from migrator.report.csv_files import Cells, redactor, write_result_files
from migrator.report.journal import write_results
from migrator.report.page.render import write_page
from migrator.report.summary import Summary, summarise, write_summary
from migrator.secret import Masker
from migrator.store.ledger_reader import LedgerReader, read_ledger
from migrator.store.state_folder import StateFolder

__all__ = ["RunFacts", "Written", "write_all", "write_live_page", "write_report"]

TRUE: Final = "true"


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the views have to know of a run, beside its results; it is kept in the ledger.

    Attributes:
        redact_files: the cells of secret columns are masked in the CSV files.
        secrets: the secret columns.
        resume_command: what resumes the run; None where nothing but the same call does.
        retry_command: what sends again what failed.
        reconcile_command: what reads the items in doubt; None where nothing can.
        settings: the options that the report shows, by name.
    """

    redact_files: bool
    secrets: frozenset[str]
    resume_command: str | None
    retry_command: str
    reconcile_command: str | None
    settings: Mapping[str, str]

    def meta(self, known: Mapping[str, str]) -> Mapping[str, str]:
        """Return the members of the ledger's meta that keep it; files that were redacted once stay so."""
        redacted = self.redact_files or known.get("redact_files") == TRUE
        return {
            "redact_files": TRUE if redacted else "false",
            "secrets": msgspec.json.encode(sorted(self.secrets)).decode(),
            "resume_command": self.resume_command or "",
            "retry_command": self.retry_command,
            "reconcile_command": self.reconcile_command or "",
            "settings": msgspec.json.encode(self.settings).decode(),
        }


class Written(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        summary: the run's.
        problem: why the page could not be written; None where it was.
    """

    summary: Summary
    problem: str | None = None


def write_all(
    folder: Path,
    ledger: LedgerReader,
    *,
    masker: Masker,
    cells: Callable[[], Cells] | None,
    meta: Mapping[str, str] | None = None,
) -> Written:
    """Write results.jsonl, succeeded.csv, failed.csv, report.html and summary.json, as the ledger has the run.

    Nothing else may be writing there. `report.html` is for others than the person at the terminal: the rest is written
    where it cannot be.

    Args:
        folder: the run's.
        ledger: the run's.
        masker: masks the cells of secret columns where the run's files are redacted.
        cells: opens the input; None where it is not what it was: then the CSV files stay as they are.
        meta: the facts about the run; None for those of the ledger.

    Raises:
        LedgerError: the ledger cannot be read.
        FolderError: a file cannot be written; the one of before is left as it was.
    """
    meta = ledger.meta() if meta is None else meta
    write_results(folder / "results.jsonl", ledger)
    if cells is not None:
        columns, rows = cells()
        mask, marked = _mask(meta, masker), "encoding" in meta
        write_result_files(folder, columns=columns, cells=rows, rows=ledger.rows(), mask=mask, marked=marked)
    summary = summarise(ledger, folder, meta=meta)
    problem = None
    try:
        write_page(folder, ledger, summary)
    except FolderError as error:
        problem = str(error)
    write_summary(folder, summary)
    return Written(summary, problem)


def write_live_page(folder: Path) -> None:
    """Write `report.html` of an active run, which writes all views at its end.

    Raises:
        LedgerError: the ledger cannot be read.
        FolderError: the page cannot be written.
    """
    with read_ledger(folder / "ledger.db") as ledger:
        write_page(folder, ledger, summarise(ledger, folder), live=True)


def _mask(meta: Mapping[str, str], masker: Masker) -> Callable[[str, str], str] | None:
    if meta.get("redact_files") != TRUE:
        return None
    return redactor(masker, frozenset(msgspec.json.decode(meta.get("secrets", "[]"), type=list[str])))


def write_report(state: StateFolder, place: Path) -> Path:
    """Write `report.html` and the other views that need nothing but the ledger, and return where the page is.

    While the run goes on only the page is written: the run itself writes the rest.

    Raises:
        LedgerError: the ledger cannot be read.
        FolderError: a file cannot be written.
    """
    with read_ledger(place / "ledger.db") as reader:
        meta = reader.meta()
        if meta.get("state") == "running" and state.is_held(meta.get("job", "")):
            write_page(place, reader, summarise(reader, place), live=True)
        else:
            written = write_all(place, reader, masker=state.masker(), cells=None)
            if written.problem is not None:
                raise FolderError(written.problem)
    return place / "report.html"
