"""A run's ledger, files and server are held against each other; what is a view is mended, and the rest is named."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from conftest import Workplace
from sandboxes import KEY, SECRET, SandboxProcess

ITEMS = 6
VIEWS = ("results.jsonl", "succeeded.csv", "failed.csv", "summary.json", "report.html")


@pytest.fixture
def run(workplace: Workplace, sandbox: SandboxProcess) -> Path:
    """Return the folder of a run of which one item failed."""
    workplace.write_job(ITEMS)
    sandbox.order({"match": "i-00003", "fault": "status", "status": 409})
    assert workplace.run("run", "job.json", "--base-url", sandbox.url, "--max-failures", "50%", "--yes").code == 1
    return workplace.last_run()


def test_what_a_run_wrote_is_consistent(workplace: Workplace, run: Path) -> None:
    """Nothing is to be mended after a run, and nothing is written again that is as it should be."""
    before = {name: (run / name).read_bytes() for name in VIEWS}

    done = workplace.run("verify", "last", "--json")

    assert done.code == 0, done.out
    assert json.loads(done.out) == {
        "run": run.name, "mended": [], "problems": [], "read": 0, "hidden": 0, "exit_code": 0
    }  # fmt: skip
    assert {name: (run / name).read_bytes() for name in VIEWS} == before


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.unlink(), id="gone"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-30]), id="cut off"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes().replace(b"1", b"2")), id="changed"),
    ],
)
def test_damaged_views_are_mended(workplace: Workplace, run: Path, damage: Callable[[Path], object]) -> None:
    """Whatever became of the views, they are written again as they were, and are named."""
    before = {view: (run / view).read_bytes() for view in VIEWS}
    for view in VIEWS:
        damage(run / view)

    done = workplace.run("verify", run.name)

    assert done.code == 0, done.out
    assert {line for line in done.out.splitlines() if line.startswith("mended: ")} == {
        f"mended: {view}" for view in VIEWS
    }
    assert {view: (run / view).read_bytes() for view in VIEWS} == before


def edit(run: Path, statement: str) -> None:
    """Change a ledger behind the program's back."""
    with closing(sqlite3.connect(run / "ledger.db")) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE item SET status = 'failed' WHERE item = 1", "record of item 1 says something else"),
        ("UPDATE item SET line = x'7b' WHERE item = 2", "record of item 2 cannot be read"),
        ("DELETE FROM item WHERE item = 4", "1 of 6 items have no result"),
        ("UPDATE meta SET value = '5' WHERE name = 'items'", "6 results of 5 items"),
    ],
)
def test_a_ledger_that_is_wrong_is_named(workplace: Workplace, run: Path, statement: str, words: str) -> None:
    """What is wrong with the ledger is not mended, and the exit code says so."""
    edit(run, statement)

    done = workplace.run("verify", "last")

    assert done.code == 1
    assert words in done.out


def test_a_ledger_that_is_no_database(workplace: Workplace, run: Path) -> None:
    """A ledger that is destroyed is named, and the files, which may be all that is left, stay as they are."""
    results = (run / "results.jsonl").read_bytes()
    (run / "ledger.db").write_bytes(b"\0" * 5000)

    done = workplace.run("verify", run.name)

    assert done.code == 1
    assert "problem: " in done.out
    assert (run / "results.jsonl").read_bytes() == results


def test_without_the_input_its_files_are_counted(workplace: Workplace, run: Path) -> None:
    """Where the items have changed, the CSV files cannot be made again, and are only counted."""
    with (workplace.folder / "items.csv").open("a") as file:
        file.write("i-00099,https://hooks.slack.example/late\n")

    as_written = workplace.run("verify", "last")
    (run / "succeeded.csv").write_text("id\n")
    cut = workplace.run("verify", "last")

    assert as_written.code == 0, as_written.out
    assert cut.code == 1
    assert "problem: succeeded.csv: " in cut.out
    assert "items.csv has changed" in cut.out


def test_server_is_held_against_it(workplace: Workplace, sandbox: SandboxProcess, run: Path) -> None:
    """With --read an item that the server holds otherwise is named, and nothing is written there."""
    good = workplace.run("verify", "last", "--read", "--json")
    body = json.dumps({"target": {"kind": "Slack", "webhook_url": "https://hooks.slack.example/of-someone-else"}})
    with urlopen(_patch(sandbox, "i-00002", body)) as answer:  # noqa: S310  the sandbox
        assert answer.status == 200
    writes = sandbox.stats()["writes"]

    bad = workplace.run("verify", run.name, "--read")

    assert (good.code, json.loads(good.out)["read"]) == (0, ITEMS - 1)
    assert bad.code == 1
    assert "item 2 (i-00002): the server holds something else at /target/webhook_url" in bad.out
    assert "of-someone-else" not in bad.out + bad.err
    assert sandbox.stats()["writes"] == writes


def _patch(sandbox: SandboxProcess, item: str, body: str) -> Request:
    import base64

    token = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
    return Request(  # noqa: S310  the sandbox
        f"{sandbox.url}/notifications/v1/integrations/{item}",
        data=body.encode(),
        method="PATCH",
        headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
    )


def test_wrong_use(workplace: Workplace, run: Path) -> None:
    """A run that is not there is wrong use, as is one that cannot be read."""
    assert workplace.run("verify", f"{run.name}0").code == 2
    assert workplace.run("verify").code == 2
