"""What a job file may take from outside is for the user to say, on the command line or in the environment."""

import pytest
from conftest import CREDENTIALS, Workplace

from migrator.cli.job_input import allowed, load
from migrator.errors import OptionError
from migrator.job.problems import JobError


@pytest.fixture(autouse=True)
def _nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMMANDS", "ENV", "FILE"):
        monkeypatch.delenv(f"MIGRATOR_ALLOW_{name}", raising=False)


def test_nothing_is_allowed_by_itself() -> None:
    """Neither commands, nor variables, nor files."""
    found = allowed({})

    assert (found.commands, found.env, tuple(found.files)) == (False, frozenset(), ())


def test_command_line_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either place may allow it, and the command line wins."""
    monkeypatch.setenv("MIGRATOR_ALLOW_ENV", "FROM_ENV")
    monkeypatch.setenv("MIGRATOR_ALLOW_COMMANDS", "true")

    assert allowed({}).commands
    assert allowed({}).env == frozenset({"FROM_ENV"})
    assert allowed({"allow_env": "TYPED,OTHER"}).env == frozenset({"TYPED", "OTHER"})


def test_value_that_is_not_allowed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable."""
    monkeypatch.setenv("MIGRATOR_ALLOW_COMMANDS", "perhaps")

    with pytest.raises(OptionError, match="MIGRATOR_ALLOW_COMMANDS"):
        allowed({})


def test_credentials_may_be_left_out(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check in a pull request has none; a run without them is refused."""
    job = str(workplace.folder / workplace.write_job(1))
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(JobError, match="CONFLUENT_CLOUD_API_KEY"):
        load(job, None, None, {})
    assert load(job, None, None, {"no_credentials": True}).name == "rotate"


def test_variable_that_was_not_named_is_refused(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job file from elsewhere cannot send any variable it likes."""
    api = {"base_url": "https://api.example", "auth": {"type": "bearer", "token": "${SOME_TOKEN}"}}
    job = str(workplace.folder / workplace.write_job(1, api=api))
    monkeypatch.setenv("SOME_TOKEN", "made-up")

    with pytest.raises(JobError, match="SOME_TOKEN"):
        load(job, None, None, {})
    assert load(job, None, None, {"allow_env": "SOME_TOKEN"}).api.credentials()
