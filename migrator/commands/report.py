"""Writes a run's report again, whatever state the run is in."""

from pathlib import Path
from typing import Any

import msgspec

from migrator.report.page.render import write_page
from migrator.report.summary import Summary, summarise
from migrator.results import Exit
from migrator.store.ledger_reader import LedgerReader, read_ledger
from migrator.times import timestamp

__all__ = ["write_report"]


def write_report(place: Path) -> Path:
    """Write `report.html` from the ledger and what else is there, and return where it is.

    Raises:
        LedgerError: the ledger cannot be read.
        FolderError: it cannot be written.
    """
    with read_ledger(place / "ledger.db") as reader:
        write_page(place, reader, _summary(place, reader))
    return place / "report.html"


def _summary(place: Path, reader: LedgerReader) -> Summary:
    """Return the run's summary; one that was never written, since the process was killed, is made up for."""
    try:
        found: Any = msgspec.json.decode((place / "summary.json").read_bytes())
        if found.keys() >= Summary.__required_keys__:
            summary: Summary = found
            return summary
    except (OSError, msgspec.MsgspecError, AttributeError):
        pass
    meta = reader.meta()
    last_ms = max((row.finished_ms for row in reader.rows()), default=int(meta.get("started_ms", "0")))
    return summarise(
        reader,
        folder=place,
        run=place.name,
        job=meta.get("job", ""),
        server=meta.get("base_url", ""),
        items=int(meta.get("items", "0")),
        started_ms=int(meta.get("started_ms", "0")),
        finished_ms=last_ms,
        invocations=int(meta.get("invocations", "1")),
        done_before=0,
        resent=0,
        quota={"limit": None, "remaining": None, "requests": 0, "refused": 0, "waited_s": {}},
        exit_code=int(Exit.STOPPED),
        stopped={"reason": "broken off", "message": f"no word of it after {timestamp(last_ms)}"},
        resume_command="give the same command again",
        failed_command="migrator retry",
    )
