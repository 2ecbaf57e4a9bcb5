"""A run of version 0.1 that was killed half way is shown, and goes on with this version; nothing is sent twice."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Workplace
from sandboxes import SandboxProcess

OLD = Path(__file__).parent.parent / "samples" / "version-0.1"
RUN = "rotate-20261124T195139Z-a42a"
ITEMS, DONE = 20, 8

needs_strict = pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="the sample's tables are STRICT")


def left_by_the_old_version(workplace: Workplace, sandbox: SandboxProcess) -> Path:
    """Put the sample into a workplace, as if its run had been on this sandbox, and return the run's folder."""
    places = {"http://127.0.0.1:1": sandbox.url, "/rotation/": f"{workplace.folder}/"}
    run = workplace.folder / ".migrator" / "runs" / RUN
    run.mkdir(parents=True)
    for folder in (run, run.parent, run.parent.parent):
        folder.chmod(0o700)
    for source, target in (("ledger.sql", run), ("results.jsonl", run), ("job.json", None), ("items.csv", None)):
        text = (OLD / source).read_text()
        for old, new in places.items():
            text = text.replace(old, new)
        if source == "ledger.sql":
            with closing(sqlite3.connect(run / "ledger.db")) as connection:
                connection.executescript(text)
        else:
            ((target or workplace.folder) / source).write_text(text)
    for path in run.iterdir():
        path.chmod(0o600)
    return run


@needs_strict
def test_it_is_shown(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Status and report read it as it is, and change nothing in its ledger."""
    run = left_by_the_old_version(workplace, sandbox)
    results = (run / "results.jsonl").read_bytes()

    one = json.loads(workplace.run("status", "last", "--json").out)
    reported = workplace.run("report", "last")

    assert (one["counts"]["succeeded"], one["pending"]) == (DONE, ITEMS - DONE)
    assert reported.code == 0
    assert f"{DONE} of {ITEMS} items" in (run / "report.html").read_text()
    assert (run / "results.jsonl").read_bytes() == results  # a record of version 0.1 is the same bytes
    with closing(sqlite3.connect(run / "ledger.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


@needs_strict
def test_it_goes_on(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """The same command sends the rest, and nothing twice."""
    run = left_by_the_old_version(workplace, sandbox)

    done = workplace.run("run", "job.json", "--base-url", sandbox.url, "--yes")

    assert done.code == 0, done.err
    assert sandbox.stats()["writes"] == {f"i-{number:05d}": 1 for number in range(DONE + 1, ITEMS + 1)}
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    assert sorted(line["item"] for line in lines) == list(range(1, ITEMS + 1))
    assert {line["run"] for line in lines} == {RUN}
    assert [path.name for path in run.parent.iterdir()] == [RUN]


@needs_strict
def test_what_means_something_else_now_is_refused(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Where the job does not mean the same now, nothing is sent, and the version that can finish it is named."""
    run = left_by_the_old_version(workplace, sandbox)
    with closing(sqlite3.connect(run / "ledger.db")) as connection, connection:
        connection.execute("UPDATE meta SET value = 'other' WHERE name = 'job_digest'")

    done = workplace.run("run", "job.json", "--base-url", sandbox.url, "--yes")

    assert done.code == 2
    assert "migrator 0.1.0 can finish it" in done.err
    assert sandbox.stats()["writes"] == {}
