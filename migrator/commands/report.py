"""`migrator report`: writes the views of a run again, whatever state the run is in."""

from pathlib import Path

from migrator.errors import FolderError
from migrator.report.page.render import write_page
from migrator.report.summary import summarise
from migrator.report.views import write_all
from migrator.store.ledger_reader import read_ledger
from migrator.store.state_folder import StateFolder

__all__ = ["write_report"]


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
