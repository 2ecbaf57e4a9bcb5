"""Death without warning: the process is killed at random moments, and every item is still accounted for.

`MIGRATOR_TEST_KILLS` sets how often; hundreds are for a quiet hour. The seed is in the test's name, so that a bad
series of moments can be looked for again, as far as the machine's own timing lets it repeat.
"""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace, wait_until
from sandboxes import SandboxProcess, StartSandbox

KILLS = int(os.environ.get("MIGRATOR_TEST_KILLS", "12"))
ITEMS_A_KILL = 25
SLOTS = 6
SLOW = ("--limit", "0", "--latency", "5ms", "--jitter", "10ms")

pytestmark = pytest.mark.timeout(60 + 5 * KILLS)


@dataclass
class Witness:
    """What was on the disk and what the server had seen just after each kill.

    Attributes:
        kills: how often the process was killed.
        sent: by the key of an item that was recorded as good, how often the server had seen it then.
        shown: keys that stood in `results.jsonl`.
    """

    kills: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)

    def look(self, run: Path, sandbox: SandboxProcess, scratch: Path) -> None:
        """Take down what is recorded, from copies, so that looking cannot mend or disturb anything."""
        if not (run / "results.jsonl").exists():
            return
        shown = {record["key"] for record in whole_lines(run / "results.jsonl") if record["status"] == "succeeded"}
        recorded = set(succeeded(run / "ledger.db", scratch))
        assert shown <= recorded
        assert self.sent.keys() <= recorded
        attempts = sandbox.stats()["attempts"]
        self.shown |= shown
        for key in recorded:
            self.sent.setdefault(key, attempts[key])


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file whose last line may have been cut off by the kill."""
    *whole, _ = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in whole]


def succeeded(ledger: Path, scratch: Path) -> list[str]:
    """Return the keys that a ledger holds as succeeded, read from a copy of it and its log."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{ledger}{suffix}", scratch / f"{ledger.name}{suffix}")
    with closing(sqlite3.connect(scratch / ledger.name)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'item'").fetchone()[0]:
            return []
        return [key for (key,) in connection.execute("SELECT key FROM item WHERE status = 'succeeded'")]


def run_to_the_end(
    workplace: Workplace, sandbox: SandboxProcess, scratch: Path, *options: str, items: int, seed: int
) -> tuple[int, Witness]:
    """Run the job, kill it at random moments, and go on with the same command until it ends by itself."""
    rng, witness = random.Random(seed), Witness()
    for moment in sorted(rng.sample(range(1, items), KILLS)):
        process = start(workplace, sandbox, *options)
        if len(sandbox.stats()["attempts"]) >= moment:
            # The run is beyond that already, so that this kill hits its start: imports, locks, the ledger's recovery.
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.0, 0.8))
        wait_until(partial(has_ended_or_sent, process, sandbox, moment))
        process.kill()
        _, errors = process.communicate()
        if process.returncode >= 0:
            return process.returncode, witness
        assert "Traceback" not in errors
        witness.kills += 1
        for run in runs(workplace):
            witness.look(run, sandbox, scratch)
    process = start(workplace, sandbox, *options)
    _, errors = process.communicate(timeout=60)
    assert "a bug" not in errors
    return process.returncode, witness


def has_ended_or_sent(process: "subprocess.Popen[str]", sandbox: SandboxProcess, moment: int) -> bool:
    """Tell whether there is nothing more to wait for."""
    return process.poll() is not None or len(sandbox.stats()["attempts"]) >= moment


def start(workplace: Workplace, sandbox: SandboxProcess, *options: str) -> "subprocess.Popen[str]":
    """Start the same command as ever."""
    common = ("--base-url", sandbox.url, "--concurrency", str(SLOTS))
    return workplace.start("run", "job.json", *common, *options)


def runs(workplace: Workplace) -> list[Path]:
    """Return the folders of runs, of which there may be none yet."""
    return sorted((workplace.folder / ".migrator").glob("runs/*"))


def keys(items: int) -> list[str]:
    """Return the keys of a job of so many items."""
    return [f"i-{number:05d}" for number in range(1, items + 1)]


@pytest.mark.parametrize("seed", [1])
def test_killed_at_random(workplace: Workplace, start_sandbox: StartSandbox, tmp_path: Path, seed: int) -> None:
    """Each item ends once, none is sent after its success, and no kill has more than its slots sent again."""
    items = KILLS * ITEMS_A_KILL
    workplace.write_job(items)
    with start_sandbox("--items", str(items), *SLOW) as sandbox:
        code, witness = run_to_the_end(workplace, sandbox, tmp_path / "copy", items=items, seed=seed)
        seen = sandbox.stats()

    assert code == 0
    assert witness.kills >= KILLS // 2
    results = workplace.results()
    assert sorted(record["key"] for record in results) == keys(items)
    assert {record["status"] for record in results} == {"succeeded"}
    assert sorted(seen["writes"]) == keys(items)
    assert {key: seen["attempts"][key] for key in witness.sent} == witness.sent
    assert sum(count - 1 for count in seen["attempts"].values()) <= witness.kills * SLOTS
    # A kill in the short while before the ledger says what the run is leaves a folder of which nothing was sent.
    assert sum(bool(whole_lines(run / "results.jsonl")) for run in runs(workplace) if has_results(run)) == 1


def has_results(run: Path) -> bool:
    """Tell whether a run came so far."""
    return (run / "results.jsonl").exists()


@pytest.mark.parametrize("seed", [2])
def test_killed_with_unsafe_requests(
    workplace: Workplace, start_sandbox: StartSandbox, tmp_path: Path, seed: int
) -> None:
    """What must not be sent twice and was in flight at a kill ends as in doubt, and the server never sees it again."""
    items = KILLS * ITEMS_A_KILL
    request = {
        "method": "PATCH",
        "path": "/notifications/v1/integrations/{id}",
        "body": {"target": {"kind": "Slack", "webhook_url": "{webhook_url}"}},
        "idempotent": False,
    }
    workplace.write_job(items, request=request)
    options = ("--canary", "0", "--max-failures", "100%")
    with start_sandbox("--items", str(items), *SLOW) as sandbox:
        code, witness = run_to_the_end(workplace, sandbox, tmp_path / "copy", *options, items=items, seed=seed)
        seen = sandbox.stats()

    assert code == 1
    results = workplace.results()
    assert sorted(record["key"] for record in results) == keys(items)
    ends = {record["key"]: record["status"] for record in results}
    assert set(ends.values()) == {"succeeded", "in_doubt"}
    assert set(seen["attempts"].values()) == {1}
    assert all(seen["writes"][key] == 1 for key, end in ends.items() if end == "succeeded")
    assert list(ends.values()).count("in_doubt") <= witness.kills * SLOTS
    assert all(ends[key] == "succeeded" for key in witness.shown | witness.sent.keys())
    assert workplace.summary()["resent"] == 0


class Hearer(ThreadingHTTPServer):
    """Takes every request, and every ping; a ping of `/slow` is not answered until the server is told to.

    Attributes:
        heard: the paths of the pings.
        quick: set once slow pings are answered.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.heard: list[str] = []
        self.quick = threading.Event()


class Answering(BaseHTTPRequestHandler):
    """Answers for a `Hearer`."""

    server: Hearer

    def do_PATCH(self) -> None:
        """Take a write."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def do_GET(self) -> None:
        """Take a ping."""
        self.server.heard.append(self.path)
        if self.path == "/slow":
            self.server.quick.wait(60)
        self._answer()

    def _answer(self) -> None:
        with suppress(OSError):
            self.send_response(204)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_no_target_is_told_twice_that_a_run_has_ended(workplace: Workplace) -> None:
    """A kill while one target is being told leaves the other one told; the same command tells only the first."""
    hearer = Hearer()
    threading.Thread(target=hearer.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{hearer.server_port}"
    notify = [{"ping": f"{url}/{name}", "on": ["success"]} for name in ("slow", "told")]
    workplace.write_job(2, api={"base_url": url}, notify=notify)

    process = workplace.start("run", "job.json")
    wait_until(lambda: b"notify.1" in (workplace.last_run() / "ledger.db-wal").read_bytes() if hearer.heard else False)
    process.kill()
    process.communicate()
    hearer.quick.set()
    done = workplace.run("run", "job.json")
    hearer.shutdown()
    hearer.server_close()

    assert done.code == 0, done.err
    assert sorted(hearer.heard) == ["/slow", "/slow", "/told"]
    assert len(runs(workplace)) == 1
