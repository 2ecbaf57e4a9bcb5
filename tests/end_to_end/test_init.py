"""`migrator init` writes jobs that `check` accepts, and never replaces a file unasked."""

import csv
import json
from pathlib import Path

import pytest
from conftest import Workplace

from migrator.commands.init import init_openapi

SPEC = Path(__file__).parents[1] / "samples" / "confluent-notifications.openapi.yaml"
NAME = "update-notifications-v1-integration"


@pytest.mark.parametrize(
    "arguments",
    [
        ["confluent-cloud"],
        ["confluent-cloud", "--operation", "PATCH /notifications/v1/integrations/{id}", "--columns", "display_name"],
        ["--openapi", str(SPEC)],
        ["--openapi", str(SPEC), "--operation", "updateNotificationsV1Integration", "--columns", "target"],
        ["--example"],
    ],
)
def test_what_is_written_passes_check(workplace: Workplace, arguments: list[str]) -> None:
    """Each kind of job, with its own example row."""
    made = workplace.run("init", *arguments)
    assert made.code == 0, made.err
    job = next(workplace.folder.glob("*.json"))

    checked = workplace.run("check", job.name, "--allow-env", "CONFLUENT_CLOUD_API_KEY,CONFLUENT_CLOUD_API_SECRET")

    assert checked.code == 0, checked.err
    assert f"migrator check {job.name}" in made.out
    assert job.stat().st_mode & 0o777 == 0o600


def test_files_are_not_replaced(workplace: Workplace) -> None:
    """A file that is there stays, unless --force says otherwise."""
    workplace.run("init", "--openapi", str(SPEC))
    (workplace.folder / f"{NAME}.csv").write_text("mine\n")

    again = workplace.run("init", "--openapi", str(SPEC))

    assert again.code == 2
    assert f"{NAME}.json and {NAME}.csv are there already; --force" in again.err
    assert (workplace.folder / f"{NAME}.csv").read_text() == "mine\n"
    assert workplace.run("init", "--openapi", str(SPEC), "--force").code == 0
    assert (workplace.folder / f"{NAME}.csv").read_text() != "mine\n"


def test_the_template_has_the_chosen_columns(workplace: Workplace) -> None:
    """The key comes first, then what was chosen."""
    workplace.run("init", "--openapi", str(SPEC), "--columns", "target.kind,target.webhook_url")

    with (workplace.folder / f"{NAME}.csv").open() as file:
        assert next(csv.reader(file)) == ["id", "target.kind", "target.webhook_url"]


def test_a_server_that_a_profile_knows(workplace: Workplace) -> None:
    """The credentials are those of the built-in profile, which is named."""
    made = workplace.run("init", "--openapi", str(SPEC))

    job = json.loads((workplace.folder / f"{NAME}.json").read_text())
    assert job["api"]["auth"]["password"] == "${CONFLUENT_CLOUD_API_SECRET}"
    assert "The built-in profile confluent-cloud knows this server" in made.out


def test_a_server_that_a_variable_names_is_no_profiles(tmp_path: Path) -> None:
    """A server of the user's own gets no built-in profile's credentials, such as those of another such server."""
    operation = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}, "responses": {}}
    spec = {"openapi": "3.0.0", "servers": [{"url": "//acme.local"}], "paths": {"/things/{id}": {"patch": operation}}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))

    written = init_openapi(tmp_path / "spec.json", operation=None, columns=(), folder=tmp_path, force=False)

    assert not any("JIRA" in name or "OKTA" in name for name in written.variables)
    assert "is an example" not in written.text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a built-in profile's name, or --openapi SPEC, or --example"),
        (["confluent"], "confluent is no built-in profile: there is confluent-cloud"),
        (["--openapi", "missing.yaml"], "missing.yaml: No such file or directory"),
        (["--openapi", str(SPEC), "--operation", "updateIntegration"], "there is no operation updateIntegration"),
        (["--openapi", str(SPEC), "--columns", "target.urll"], "did you mean target.url?"),
        (["--example", "--columns", "a"], "--example goes with nothing but a profile's name"),
    ],
)
def test_wrong_use(workplace: Workplace, arguments: list[str], message: str) -> None:
    """One message, exit code 2, and nothing written."""
    done = workplace.run("init", *arguments)

    assert done.code == 2
    assert message in done.err
    assert not list(workplace.folder.iterdir())
