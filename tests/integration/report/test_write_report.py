"""The views of a run are written again from its ledger; while it is active, the page alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import Workplace
from in_process import Bench, bench

from migrator.errors import FolderError, LedgerError
from migrator.options import IfRunning
from migrator.report.views import write_report
from migrator.store.ledger_writer import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server."""
    async with bench(workplace) as found:
        yield found


async def test_report_is_written_again(here: Bench) -> None:
    """What was deleted is there again, as it was."""
    place = await here.run(here.job(3))
    before = (place / "summary.json").read_bytes()
    for name in ("report.html", "summary.json"):
        (place / name).unlink()

    assert write_report(here.state, place) == place / "report.html"
    assert (place / "summary.json").read_bytes() == before
    assert "3 of 3 items" in (place / "report.html").read_text()


async def test_active_run_writes_the_rest_itself(here: Bench) -> None:
    """Two processes do not write the same file."""
    place = await here.run(here.job(3))
    async with Ledger.open(place / "ledger.db", create=False) as ledger:
        await ledger.put(state="running")
    for name in ("report.html", "summary.json"):
        (place / name).unlink()

    async with here.state.lock("rotate", IfRunning.FAIL):
        write_report(here.state, place)

    assert (place / "report.html").exists()
    assert not (place / "summary.json").exists()


async def test_interrupted_run_is_reported_whole(here: Bench) -> None:
    """A run whose process is gone is not active, whatever its ledger says."""
    place = await here.run(here.job(3))
    async with Ledger.open(place / "ledger.db", create=False) as ledger:
        await ledger.put(state="running")
    (place / "summary.json").unlink()

    write_report(here.state, place)

    assert (place / "summary.json").exists()


async def test_page_that_cannot_be_written_is_told(here: Bench) -> None:
    """The message names the file."""
    place = await here.run(here.job(1))
    (place / "report.html").unlink()
    (place / "report.html").mkdir()

    with pytest.raises(FolderError, match=r"report\.html"):
        write_report(here.state, place)


async def test_run_without_a_ledger_is_told(here: Bench, tmp_path: Path) -> None:
    """There is nothing to write from."""
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        write_report(here.state, tmp_path)
