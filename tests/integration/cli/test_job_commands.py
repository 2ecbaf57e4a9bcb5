"""What is printed and returned by the commands about a job."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CREDENTIALS, Workplace
from sandboxes import SandboxProcess, sandbox_process

from migrator.cli import api_commands, job_commands
from migrator.cli.declare import act
from migrator.errors import MigratorError
from migrator.job.problems import JobError
from migrator.options import options_of


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxProcess]:
    """Start one sandbox for all tests of this file; each uses other integrations."""
    with sandbox_process("--items", "40", "--limit", "0") as running:
        yield running


@pytest.fixture(autouse=True)
def _here(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace.folder)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def did(command: str, **typed: Any) -> Any:
    """Do what a command does, with what was typed, and return what it returns."""
    unset = dict.fromkeys([option.name for option in options_of(command)])
    module = api_commands if command == "export" else job_commands
    return act(f"{module.__name__.rpartition('.')[2]}:{command}", **(unset | typed))


JOB = {"items": None, "template": None, "as_json": False}


def test_run_prints_its_summary(
    workplace: Workplace, server: SandboxProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people, or as one document; the exit code is the run's."""
    workplace.write_job(3)

    assert did("run", job="job.json", **JOB, base_url=server.url) == 0
    assert "3 succeeded" in capsys.readouterr().out
    assert did("run", job="job.json", **(JOB | {"as_json": True}), base_url=server.url, limit="2") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["succeeded"] == 2


def test_quiet_run_prints_only_what_failed(
    workplace: Workplace, server: SandboxProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cron sends mail when something is printed."""
    workplace.write_job(3)
    assert did("run", job="job.json", **JOB, base_url=server.url, quiet=True) == 0
    assert capsys.readouterr() == ("", "")

    server.order({"match": "i-00001", "fault": "status", "status": 409})
    assert did("run", job="job.json", **JOB, base_url=server.url, quiet=True, canary="0", max_failures="100%") == 1
    assert "1 failed" in capsys.readouterr().out


def test_check_says_what_there_is(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    """Without problems one line, or a document; nothing is sent."""
    workplace.write_job(3)

    did("check", job="job.json", **JOB, no_credentials=False)
    assert "items.csv: 3 items, no problems" in capsys.readouterr().out
    did("check", job="job.json", **(JOB | {"as_json": True}), no_credentials=True)
    assert json.loads(capsys.readouterr().out) == {"items": 3, "problem_count": 0, "problems": [], "warnings": []}


def test_check_with_problems(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    """The document has each with its place, and the error goes to whoever reports errors."""
    workplace.write_job(2)
    items = workplace.folder / "items.csv"
    items.write_text(items.read_text().replace("i-00002", "i-00001"))

    with pytest.raises(JobError):
        did("check", job="job.json", **(JOB | {"as_json": True}), no_credentials=False)
    document = json.loads(capsys.readouterr().out)
    assert (document["problem_count"], document["problems"][0]["line"]) == (1, 3)


@pytest.mark.parametrize(("detailed", "code"), [(False, 0), (True, 2)])
def test_plan_tells_by_its_exit_code(
    workplace: Workplace,
    server: SandboxProcess,
    capsys: pytest.CaptureFixture[str],
    detailed: bool,
    code: int,
) -> None:
    """With --detailed-exitcode 2 means changes; the file is the plan that run takes."""
    workplace.write_job(1, name="planned")
    items = workplace.folder / "items.csv"
    items.write_text("id,webhook_url\ni-00030,https://hooks.slack.example/services/T/B/another-0030\n")

    done = did("plan", job="job.json", **JOB, out="plan.json", detailed_exitcode=detailed, base_url=server.url)

    assert done == code
    assert "1 change" in capsys.readouterr().out
    assert json.loads(Path("plan.json").read_text())["counts"]["change"] == 1


def test_plan_with_an_item_that_is_not_there(
    workplace: Workplace, server: SandboxProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is 1, whatever would change."""
    workplace.write_job(1)
    (workplace.folder / "items.csv").write_text(
        "id,webhook_url\ni-99999,https://hooks.slack.example/services/T/B/x-99999\n"
    )

    assert did("plan", job="job.json", **JOB, out=None, detailed_exitcode=True, base_url=server.url) == 1, (
        capsys.readouterr()
    )


def test_export_says_how_many(server: SandboxProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is where it was wanted."""
    did("export", api="confluent-cloud", out="all.csv", where=None, redact=True, base_url=server.url)

    assert capsys.readouterr().out == "all.csv: 40 of 40 records\n"
    assert len(Path("all.csv").read_text().splitlines()) == 41


def test_schema_is_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    """It can be written to a file."""
    act("api_commands:schema")

    assert json.loads(capsys.readouterr().out)["type"] == "object"


@pytest.mark.parametrize(
    ("typed", "made"),
    [
        ({"example": True}, "rotate-slack-webhooks.json"),
        ({"api": "confluent-cloud", "columns": "target.kind, target.webhook_url"}, None),
    ],
)
def test_init_writes_a_job(capsys: pytest.CaptureFixture[str], typed: dict[str, Any], made: str | None) -> None:
    """What was written is printed, with the next command; it can be checked at once."""
    named = {"api": None, "openapi": None, "operation": None, "columns": None, "example": False, "force": False}
    act("api_commands:init", **(named | typed))

    printed = capsys.readouterr().out
    (job,) = list(Path().glob("*.json"))
    assert made in {None, job.name}
    assert f"migrator check {job}" in printed
    with pytest.raises(MigratorError, match="there already"):
        act("api_commands:init", **(named | typed))
