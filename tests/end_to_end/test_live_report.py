"""`--live-report` writes the page again while a run goes on."""

import time

import pytest
from conftest import Workplace
from sandboxes import StartSandbox

ITEMS = 12


@pytest.mark.parametrize("live", [True, False])
def test_page_while_the_run_goes_on(workplace: Workplace, start_sandbox: StartSandbox, *, live: bool) -> None:
    """With the option the page is there before the end, whole, and loads itself again; at the end it does not."""
    with start_sandbox("--items", "20", "--limit", "0") as sandbox:
        workplace.write_job(ITEMS)
        wanted = ["--live-report"] if live else []
        process = workplace.start("run", "job.json", "--base-url", sandbox.url, "--rate", "2/s", "--yes", *wanted)
        early = ""
        while process.poll() is None:
            if not early and (pages := list(workplace.folder.glob(".migrator/runs/*/report.html"))):
                early = pages[0].read_text()
            time.sleep(0.05)
        process.communicate()

    page = (workplace.last_run() / "report.html").read_text()
    assert process.returncode == 0
    assert 'http-equiv="refresh"' not in page
    assert f"{ITEMS} of {ITEMS} items succeeded" in page
    if live:
        assert "The run is active:" in early
        assert 'http-equiv="refresh"' in early
        assert early.endswith("</html>\n")
    else:
        assert "The run is active:" not in early
