"""A job file and a template of its items are written, and can be checked at once."""

import json
from pathlib import Path

import pytest

import migrator
from migrator.commands.init import EXAMPLES, init_example, init_openapi, init_profile
from migrator.errors import MigratorError
from migrator.job.profile.api_profile import built_in_names

SPEC = {
    "openapi": "3.0.3",
    "servers": [{"url": "https://api.acme.com/v1"}],
    "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    "security": [{"key": []}],
    "paths": {
        "/things/{id}": {
            "patch": {
                "operationId": "updateThing",
                "parameters": [{"name": "id", "in": "path", "schema": {"type": "string"}}],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"type": "object", "properties": {"name": {"type": "string", "example": "é"}}}
                        }
                    }
                },
            }
        }
    },
}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_example_can_be_checked(tmp_path: Path, name: str) -> None:
    """It is what a new user runs first."""
    written = init_example(name, folder=tmp_path, force=False)

    env = {name: "https://acme.example" if name.endswith("URL") else "made-up-value" for name in written.variables}
    job = migrator.load_job(written.files[0], env=env)
    assert migrator.check(job).problem_count == 0
    assert written.text().splitlines()[-1] == f"  migrator check {written.files[0]}"


def test_every_profile_has_an_example() -> None:
    """None is left out of the list."""
    assert sorted(EXAMPLES) == sorted(built_in_names(templates=False))


def test_job_of_a_profile(tmp_path: Path) -> None:
    """The columns are those that were chosen, and variables and next steps are printed."""
    written = init_profile(
        "confluent-cloud", operation=None, columns=["target.kind", "target.webhook_url"], folder=tmp_path, force=False
    )

    header = written.files[1].read_text().splitlines()[0]
    assert set(header.split(",")) == {"id", "target.kind", "target.webhook_url"}
    assert "set CONFLUENT_CLOUD_API_KEY" in written.text()
    assert "--allow-env" not in written.text()


def test_job_of_a_document(tmp_path: Path) -> None:
    """Its variables are for the user to allow; the example row is the document's own."""
    (tmp_path / "api.json").write_text(json.dumps(SPEC))

    written = init_openapi(tmp_path / "api.json", operation=None, columns=[], folder=tmp_path, force=False)

    assert json.loads(written.files[0].read_text())["request"]["path"] == "/things/{id}"
    assert "é" in written.files[1].read_text("utf-8")
    assert written.text().endswith(f"--allow-env {','.join(written.variables)}")


def test_files_that_are_there_are_not_replaced(tmp_path: Path) -> None:
    """Neither is written where one is there, also where it is a link to nothing; --force replaces both."""
    job, items = init_example("confluent-cloud", folder=tmp_path, force=False).files
    job.unlink()
    items.write_text("my own")
    job.symlink_to(tmp_path / "nothing")

    with pytest.raises(MigratorError, match="are there already; --force"):
        init_example("confluent-cloud", folder=tmp_path, force=False)
    assert items.read_text() == "my own"
    init_example("confluent-cloud", folder=tmp_path, force=True)
    assert items.read_text() != "my own"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.json", None, "missing.json: No such file"),
        ("latin.yaml", "openapi: é".encode("latin-1"), "is not UTF-8"),
        ("other.json", b'{"name": 1}', "is no OpenAPI document"),
    ],
)
def test_document_that_cannot_be_read(tmp_path: Path, name: str, text: bytes | None, message: str) -> None:
    """The message names the file, and nothing is written."""
    if text is not None:
        (tmp_path / name).write_bytes(text)

    with pytest.raises(MigratorError, match=message):
        init_openapi(tmp_path / name, operation=None, columns=[], folder=tmp_path, force=False)
    assert len(list(tmp_path.iterdir())) == (text is not None)


def test_profile_that_is_not_there(tmp_path: Path) -> None:
    """The message has those that are, and the likeliest."""
    with pytest.raises(MigratorError, match=r"confluent-clod is no built-in profile: .*did you mean confluent-cloud"):
        init_profile("confluent-clod", operation=None, columns=[], folder=tmp_path, force=False)
    with pytest.raises(MigratorError, match="there is no example for acme"):
        init_example("acme", folder=tmp_path, force=False)
