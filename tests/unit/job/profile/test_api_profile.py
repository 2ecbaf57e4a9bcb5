"""Where a profile comes from: built in, the user's own folder, a file beside the job, or the job file itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from migrator.job import source
from migrator.job.problems import JobError
from migrator.secret import Secret

PROFILE = {"base_url": "https://api.example", "auth": {"type": "bearer", "token": "${file:token}"}}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return the user's own folder of profiles."""
    folder = tmp_path / "config" / "migrator" / "apis"
    folder.mkdir(parents=True)
    (folder / "token").write_text("own-token")
    return folder


def load(folder: Path, api: Any, **env: str) -> Any:
    """Load a job file with an API."""
    document = {"name": "x", "api": api, "request": {"method": "PATCH", "path": "/x/{id}"}, "key": "id"}
    (folder / "job.json").write_text(json.dumps(document))
    env = {"XDG_CONFIG_HOME": str(folder / "config"), **env}
    return source.find_job(str(folder / "job.json"), items=None, template=None, env=env)


def test_a_file_beside_the_job(tmp_path: Path) -> None:
    """A path that ends in .json is read relative to the job file, and so are the files that it names."""
    (tmp_path / "acme.json").write_text(json.dumps(PROFILE))
    (tmp_path / "token").write_text("beside")

    api = load(tmp_path, "./acme.json").api

    assert (api.name, api.base_url, api.auth.secret) == ("acme", "https://api.example", Secret("beside"))


def test_the_user_s_own_folder(tmp_path: Path, own: Path) -> None:
    """A name is looked for among the built-in profiles, then in the user's folder, whose files are its own."""
    (own / "acme.json").write_text(json.dumps(PROFILE))
    (own / "confluent-cloud.json").write_text(json.dumps(PROFILE))

    assert load(tmp_path, "acme").api.auth.secret == Secret("own-token")
    credentials = {"CONFLUENT_CLOUD_API_KEY": "k", "CONFLUENT_CLOUD_API_SECRET": "s"}
    assert load(tmp_path, "confluent-cloud", **credentials).api.base_url == "https://api.confluent.cloud"


def test_the_folder_without_a_variable(tmp_path: Path) -> None:
    """Without XDG_CONFIG_HOME it is ~/.config, as the XDG Base Directory Specification has it."""
    folder = tmp_path / ".config" / "migrator" / "apis"
    folder.mkdir(parents=True)
    (folder / "acme.json").write_text(json.dumps({"base_url": "https://api.example"}))

    assert load(tmp_path, "acme", XDG_CONFIG_HOME="", HOME=str(tmp_path)).api.name == "acme"
    assert load(tmp_path, "acme", XDG_CONFIG_HOME="relative", HOME=str(tmp_path)) is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "job.json:1:22: api: the file acme.json: No such file or directory"),
        ("{", "acme.json:1:2: is no valid JSON"),
        ('{\n "base_url": "https://x", "auht": {}}', "acme.json:2:35: auht: is not known; did you mean auth?"),
        ('{"base_url":\n "http://api.example", "headers": {"X": "${NO}"}}', "acme.json:2:41: headers.X: the variable"),
    ],
)
def test_problems_of_a_file(tmp_path: Path, text: str | None, problem: str) -> None:
    """What is wrong with a profile's file is told with that file's own places."""
    if text is not None:
        (tmp_path / "acme.json").write_text(text)

    with pytest.raises(JobError) as error:
        load(tmp_path, "acme.json")

    assert problem in str(error.value)


def test_a_name_that_is_none(tmp_path: Path, own: Path) -> None:
    """Profiles of one's own are among those that are named."""
    (own / "acme.json").write_text(json.dumps(PROFILE))

    with pytest.raises(JobError, match=r"there is acme, confluent-cloud.*; did you mean acme\?"):
        load(tmp_path, "acmi")


def test_credentials_of_a_built_in_profile(tmp_path: Path, own: Path) -> None:
    """A file beside the job cannot send them elsewhere; a profile that the user has made may."""
    profile = {
        "base_url": "https://proxy.example",
        "auth": {"type": "bearer", "token": "${CONFLUENT_CLOUD_API_SECRET}"},
    }
    (tmp_path / "acme.json").write_text(json.dumps(profile))
    (own / "acme.json").write_text(json.dumps(profile))

    with pytest.raises(JobError, match=r"would send CONFLUENT_CLOUD_API_SECRET to proxy\.example"):
        load(tmp_path, "./acme.json", CONFLUENT_CLOUD_API_SECRET="s")
    assert load(tmp_path, "acme", CONFLUENT_CLOUD_API_SECRET="s").api.auth.secret == Secret("s")


def test_a_changed_profile_is_another_job(tmp_path: Path) -> None:
    """A run is not resumed with requests that a changed profile makes."""
    (tmp_path / "acme.json").write_text(json.dumps({"base_url": "https://api.example"}))
    before = load(tmp_path, "./acme.json").digest
    (tmp_path / "acme.json").write_text(json.dumps({"base_url": "https://api.example", "headers": {"A": "b"}}))

    assert load(tmp_path, "./acme.json").digest != before
