"""A run that cannot start is told to those who wait for it; what is wrong with a target is told to the user."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import MigratorError, NotConfirmedError
from migrator.job.job_file import load_job
from migrator.job.problems import JobError, Problem
from migrator.job.profile.variables import Outside
from migrator.options import resolve
from migrator.report.refusal import refusals_told, tell_of_job_error
from migrator.secret import Secret

pytestmark = pytest.mark.anyio

JOB = {
    "name": "rotate",
    "api": {"base_url": "http://127.0.0.1:1", "auth": {"type": "none"}},
    "request": {"method": "PATCH", "path": "/v1/{id}"},
    "key": "id",
    "items": [{"id": "a"}],
}
OPTIONS = resolve(command_line={"allow_commands": True}, env={}, job_run={}, source="")


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Return a command that appends what it is told to a file."""
    program = tmp_path / "tell"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'told')!r}, 'a').write(sys.stdin.read())\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return [str(program)]


def told(tmp_path: Path) -> list[dict[str, Any]]:
    """Return what the command was told."""
    path = tmp_path / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def refuse(command: list[str], error: MigratorError) -> list[str]:
    """Raise an error where a run would start, and return what the user was told beside it."""
    document = json.dumps(JOB | {"notify": [{"command": command}]})
    job = load_job(document, source="job.json", outside=Outside(env={}, read_file=lambda path: Path(path).read_text()))
    said: list[str] = []
    with pytest.raises(type(error)):
        async with refusals_told(job, OPTIONS, tell=said.append):
            raise error
    return said


async def test_refusal(tmp_path: Path, command: list[str]) -> None:
    """The target gets the job's name, the exit code and the reason, as a failure."""
    assert await refuse(command, MigratorError("the state folder is full")) == []

    (notice,) = told(tmp_path)
    assert (notice["event"], notice["job"], notice["message"]) == ("failure", "rotate", "the state folder is full")
    assert notice["exit_code"] == MigratorError("").exit_code


async def test_answer_no_is_no_failure(tmp_path: Path, command: list[str]) -> None:
    """A person who answers no need not be told of it."""
    await refuse(command, NotConfirmedError("not confirmed"))

    assert told(tmp_path) == []


async def test_target_that_cannot_be_told(tmp_path: Path) -> None:
    """What is wrong with a target is said to the user, and the run's own error stays the one that is raised."""
    (problem,) = await refuse([str(tmp_path / "missing")], MigratorError("the state folder is full"))

    assert "notify.0 (command missing)" in problem


async def test_job_that_is_not_valid(tmp_path: Path, command: list[str]) -> None:
    """The targets that are sound hear of what is wrong with the job file, and of those that are not."""
    problem = Problem(file="job.json", line=1, column=1, field="auth", message="SLACK_HOOK is not set")
    error = JobError((problem,), name="rotate", notify=({"command": command}, {"ping": Secret("http://far.example/")}))
    said: list[str] = []

    await tell_of_job_error(error, allow_commands=True, tell=said.append)

    (notice,) = told(tmp_path)
    assert "SLACK_HOOK is not set" in notice["message"]
    assert len(said) == 1
    assert "notify.1.ping is plain HTTP" in said[0]
