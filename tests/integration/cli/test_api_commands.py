"""What is printed by the commands about an API, and which of their arguments go together."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from migrator.cli.api_commands import init, schema
from migrator.errors import MigratorError
from migrator.job.profile.api_profile import job_schema


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def began(**given: Any) -> None:
    """Do what `init` does."""
    unset: dict[str, Any] = {"api": None, "openapi": None, "operation": None, "columns": None}
    init(**(unset | {"example": False, "force": False} | given))


def test_schema_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON that an editor can read, and nothing else."""
    schema()
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(job_schema()))


def test_init_says_what_it_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what to do next; existing files are kept."""
    began(api="confluent-cloud")

    printed = capsys.readouterr().out
    written = sorted(path.name for path in folder.iterdir())
    assert written
    assert all(name in printed for name in written)
    with pytest.raises(MigratorError, match="--force replaces"):
        began(api="confluent-cloud")
    began(api="confluent-cloud", force=True)


def test_init_example_writes_the_example_of_a_profile(folder: Path) -> None:
    """Of the first one, where none is named."""
    began(example=True)
    assert any(path.suffix == ".json" for path in folder.rglob("*"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"api": "github", "openapi": "spec.json"},
        {"example": True, "openapi": "spec.json"},
        {"example": True, "api": "github", "operation": "edit"},
        {"example": True, "api": "github", "columns": "a,b"},
    ],
)
def test_init_refuses_arguments_that_do_not_go_together(folder: Path, given: dict[str, Any]) -> None:
    """Nothing is written then."""
    with pytest.raises(click.UsageError):
        began(**given)
    assert list(folder.iterdir()) == []
