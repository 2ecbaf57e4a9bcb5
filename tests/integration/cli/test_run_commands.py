"""What is printed and returned by the commands about an earlier run."""

import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import click
import pytest
from conftest import CREDENTIALS, Workplace
from sandboxes import SandboxProcess, sandbox_process

from migrator.cli import job_commands, run_commands
from migrator.cli.declare import act
from migrator.errors import MigratorError
from migrator.options import options_of


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxProcess]:
    """Start one sandbox for all tests of this file."""
    with sandbox_process("--items", "9", "--limit", "0") as running:
        yield running


@pytest.fixture(autouse=True)
def _here(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace.folder)
    monkeypatch.delenv("MIGRATOR_STATE", raising=False)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def did(module: ModuleType, command: str, **typed: Any) -> Any:
    """Do what a command does, with what was typed, and return what it returns."""
    unset = dict.fromkeys([option.name for option in options_of(command)])
    return act(f"{module.__name__.rpartition('.')[2]}:{command}", **(unset | typed))


@pytest.fixture
def run(workplace: Workplace, server: SandboxProcess, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a job of three items of which the second fails, and return the run's id."""
    workplace.write_job(3)
    server.order({"match": "i-00002", "fault": "status", "status": 409})
    typed = {"items": None, "template": None, "as_json": False, "base_url": server.url, "max_failures": "100%"}
    assert did(job_commands, "run", job="job.json", **typed) == 1
    capsys.readouterr()
    return workplace.last_run().name


def test_status_of_all_and_of_one(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A table and a text for people, documents for programs."""
    for typed, expected in (({"run": None}, "rotate"), ({"run": "last"}, run)):
        did(run_commands, "status", as_json=False, **typed)
        assert expected in capsys.readouterr().out
        did(run_commands, "status", as_json=True, **typed)
        document = json.loads(capsys.readouterr().out)
        assert (document if typed["run"] else document[0])["run"] == run


def test_report_prints_where_it_is(run: str, workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    """The path is the whole output."""
    (workplace.last_run() / "report.html").unlink()

    did(run_commands, "report", run=run)

    assert capsys.readouterr().out.strip().endswith(f"{run}/report.html")
    assert (workplace.last_run() / "report.html").exists()


def test_retry_and_verify(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The failed item is sent again to the run's own server; what was written is consistent with it."""
    assert did(run_commands, "retry", run=run, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["succeeded"] == 1

    assert did(run_commands, "verify", run="last", read=True, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["read"], found["problems"]) == (1, [])
    assert did(run_commands, "verify", run=run, read=False, as_json=False) == 0
    assert capsys.readouterr().out == f"{run}: consistent\n"


def test_reconcile_has_nothing_to_do(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so in numbers; the run's failure still counts."""
    assert did(run_commands, "reconcile", run=run, as_json=False) == 1
    assert "0 succeeded, 0 not applied" in capsys.readouterr().out


def test_rollback_needs_what_was_kept(run: str) -> None:
    """The message names the option."""
    with pytest.raises(MigratorError, match="--keep-before"):
        did(run_commands, "rollback", run=run, as_json=False)


@pytest.mark.parametrize(("verb", "value"), [("rate", None), ("concurrency", None), ("pause", "5"), ("status", "x")])
def test_ctl_takes_a_value_where_there_is_one(verb: str, value: str | None) -> None:
    """It is wrong use, and no run is looked for."""
    with pytest.raises(click.UsageError, match="rate and concurrency take a value"):
        did(run_commands, "ctl", run="last", verb=verb, value=value, as_json=False)


def test_ctl_of_a_run_that_has_ended(run: str) -> None:
    """There is nothing to control."""
    with pytest.raises(MigratorError, match=f"{run} is not active"):
        did(run_commands, "ctl", run=run, verb="pause", value=None, as_json=False)


def test_prune_prints_what_goes(run: str, workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    """With --dry-run nothing goes."""
    for dry_run in (True, False):
        assert workplace.last_run().exists()
        did(run_commands, "prune", keep_last=0, older_than=None, dry_run=dry_run)
        assert run in capsys.readouterr().out
    assert not (workplace.folder / ".migrator" / "runs" / run).exists()


@pytest.mark.parametrize("typed", [{"keep_last": None, "older_than": None}, {"keep_last": 1, "older_than": "soon"}])
def test_prune_by_no_rule_is_refused(typed: dict[str, Any]) -> None:
    """Everything is never removed by mistake."""
    with pytest.raises(click.UsageError):
        did(run_commands, "prune", dry_run=False, **typed)


@pytest.mark.usefixtures("run")
def test_run_that_is_not_there() -> None:
    """The message says what was looked for."""
    with pytest.raises(MigratorError, match="nothing-like-it"):
        did(run_commands, "status", run="nothing-like-it", as_json=False)
