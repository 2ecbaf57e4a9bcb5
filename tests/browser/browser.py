"""Looks at the report of real runs in Chromium: `make browser`.

The runs have successes, failures, items in doubt, kills, resumes and a plan; one more page has every status and long
texts, and one is written again by a run with `--live-report` while the browser shows it. axe-core and puppeteer-core
come from npm, into build/browser; the screenshots are left there. It ends within five minutes.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from result_rows import failure, result
from sandboxes import KEY, SECRET, SandboxProcess, sandbox_process
from summaries import summary

from migrator.report.page.render import write_page
from migrator.results import ErrorKind, ItemError, Status
from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_writer import Ledger

BUILD: Final = ROOT / "build" / "browser"
ENV: Final = os.environ | {
    "CONFLUENT_CLOUD_API_KEY": KEY,
    "CONFLUENT_CLOUD_API_SECRET": SECRET,
    "MIGRATOR_KEY": "made-up-passphrase",
}
INSTALL_S: Final = 120
LOOK_S: Final = 150


def write_job(folder: Path, rows: int) -> None:
    """Write a job of so many rows, whose requests are not safe to send twice."""
    job: dict[str, Any] = json.loads((ROOT / "jobs" / "rotate-slack-webhooks.json").read_text())
    job["request"]["idempotent"] = False
    (folder / "job.json").write_text(json.dumps(job | {"items": "items.csv", "run": {"max_failures": "50%"}}))
    lines = [
        f"i-{number:05},https://hooks.slack.example/services/T/B{number:04}/x-{number:04}"
        for number in range(1, rows + 1)
    ]
    (folder / "items.csv").write_text("\n".join(["id,webhook_url", *lines, ""]))


def start(folder: Path, sandbox: SandboxProcess, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a command on the job."""
    command = [sys.executable, "-m", "migrator", *arguments, "--base-url", sandbox.url]
    return subprocess.Popen(command, cwd=folder, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def page_of(folder: Path) -> Path:
    """Return the page of the folder's only run."""
    (found,) = folder.glob(".migrator/runs/*/report.html")
    return found


def eventful_run(folder: Path) -> Path:
    """Return the page of a planned run that was killed, interrupted and resumed, and in which items failed."""
    write_job(folder, 190)
    with sandbox_process("--items", "180", "--limit", "60", "--window", "2", "--latency", "60ms") as sandbox:
        start(folder, sandbox, "plan", "job.json", "--out", "plan.json").wait(60)
        run = ("run", "job.json", "--yes", "--plan", "plan.json", "--keep-before")
        for ending in (signal.SIGKILL, signal.SIGINT):
            process = start(folder, sandbox, *run)
            time.sleep(4)
            process.send_signal(ending)
            process.wait(60)
        faults = [
            ("i-00150", 422, "The webhook is refused."),
            ("i-00151", 422, "The webhook is refused."),
            ("i-00152", 403, "No."),
        ]
        sandbox.order(
            *(
                {"match": key, "fault": "status", "method": "PATCH", "status": status, "text": text}
                for key, status, text in faults
            )
        )
        start(folder, sandbox, *run).wait(90)
    return page_of(folder)


def long_words(folder: Path) -> Path:
    """Return a page with every status, many failures, and words that are longer than a screen is wide."""
    error = ItemError(
        kind=ErrorKind.SERVER,
        status=500,
        title="W" * 300,
        code="C" * 100,
        pointer="/p" * 90,
        detail="d " * 300,
        message="M" * 300,
    )
    rows = [
        *(result(number, duration_ms=40.0 + number) for number in range(1, 400)),
        *(result(number, status=Status.UNCHANGED) for number in range(400, 480)),
        *(failure(number, list(ErrorKind)[number % len(ErrorKind)], attempts=2) for number in range(480, 620)),
        *(failure(number, error=error, key="K" * 150, request_id="R" * 100) for number in range(620, 625)),
        *(failure(number, status=Status.IN_DOUBT) for number in range(625, 640)),
        *(result(number, status=Status.SKIPPED) for number in range(640, 650)),
    ]

    async def record() -> None:
        async with Ledger.open(folder / "ledger.db") as ledger:
            await asyncio.gather(*(ledger.settle(row) for row in rows))

    asyncio.run(record())
    steps = ["51 items still to do: give the same command again", "15 items in doubt: migrator reconcile last"]
    told = summary(items=700, exit_code=1, job="j" * 100, folder="/" + "f" * 200, next_steps=steps)
    with read_ledger(folder / "ledger.db") as ledger:
        write_page(folder, ledger, told)
    return folder / "report.html"


def look(*pages: str) -> int:
    """Look at pages, and return 0 where nothing is wrong."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("make browser needs Chromium: apt-get install chromium")
    command = ["node", str(BUILD / "look.cjs"), chromium, str(BUILD), *pages]
    return subprocess.run(command, timeout=LOOK_S, check=False).returncode


def main() -> int:
    """Install, make the pages, look at them."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "look.cjs"):
        shutil.copy(Path(__file__).with_name(name), BUILD)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=BUILD, timeout=INSTALL_S, check=True)  # noqa: S607
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in ("eventful", "words", "live")]
        for folder in folders:
            folder.mkdir()
        eventful, words, live = folders
        pages = [f"eventful={eventful_run(eventful)}", f"words={long_words(words)}"]
        write_job(live, 200)
        with sandbox_process("--items", "200", "--limit", "0") as sandbox:
            sandbox.order({"match": "i-00003", "fault": "status", "status": 422})
            process = start(live, sandbox, "run", "job.json", "--yes", "--rate", "5/s", "--live-report")
            while process.poll() is None and not any(
                'id="failures"' in page.read_text() for page in live.glob(".migrator/runs/*/report.html")
            ):
                time.sleep(0.2)
            wrong = look(f"live={page_of(live)}")
            process.kill()
            process.wait()
        return look(*pages) or wrong


if __name__ == "__main__":
    sys.exit(main())
