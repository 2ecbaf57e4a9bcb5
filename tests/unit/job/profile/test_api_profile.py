"""Where a profile comes from: built in, the user's own folder, a file beside the job, or the job file itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from migrator.job import source
from migrator.job.problems import JobError
from migrator.job.profile.api_profile import ApiProfile
from migrator.messages import AnswerRules, BodyLimits, Poll
from migrator.ratelimit.dialect.reset_time import ResetForm
from migrator.ratelimit.headers import Dialect
from migrator.secret import Secret

FULL: dict[str, Any] = {
    "name": "acme",
    "base_url": "https://api.example/v1/",
    "headers": {"X-Version": "2", "X-Team": "${TEAM}"},
    "proxy": True,
    "read": True,
    "record": "data",
    "success": "!errors",
    "error": "errors[0].message",
    "replaced_whole": ["/target"],
    "read_only": ["/etag"],
    "rate_limit": {
        "dialect": "relative",
        "limit_header": "X-My-Limit",
        "remaining_header": "X-My-Rest",
        "reset_header": "X-My-Reset",
        "write_spacing": "1s",
        "key": "column:org",
        "body": {"limit": "l", "remaining": "r", "reset": "t", "restored": "p", "cost": "c"},
    },
    "limits": {"PATCH /x/{id}": {"type": "object"}},
    "poll": {"url": "href", "state": "status", "done": ["ok"], "failed": ["bad"], "every": "5s", "at_most": "1m"},
}

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


def test_every_member_of_a_profile_arrives(tmp_path: Path) -> None:
    """Names of headers in lower case, durations in seconds, variables filled in."""
    api = load(tmp_path, FULL, TEAM="blue").api

    assert (api.name, api.base_url, api.proxy, api.readable) == ("acme", "https://api.example/v1", True, True)
    assert api.headers == {"X-Version": "2", "X-Team": Secret("blue")}
    assert api.rate_limit == Dialect(
        reset=ResetForm.RELATIVE, limit_header="x-my-limit", remaining_header="x-my-rest", reset_header="x-my-reset"
    )
    assert (api.write_spacing_s, api.limiter_column, api.many_keys) == (1.0, "org", True)
    assert api.body_limits == BodyLimits(limit="l", remaining="r", reset="t", restored="p", cost="c")
    assert api.limits == FULL["limits"]
    assert api.rules == AnswerRules(
        record="data",
        success="!errors",
        error="errors[0].message",
        replaced_whole=frozenset({"/target"}),
        read_only=frozenset({"/etag"}),
        poll=Poll(url="href", state="status", done=("ok",), failed=("bad",), every_s=5.0, at_most_s=60.0),
    )


def test_what_a_profile_leaves_out(tmp_path: Path) -> None:
    """It is named after its host, and nothing is assumed of it."""
    api = load(tmp_path, {"base_url": "https://api.example"}).api

    assert api == ApiProfile(name="api.example", base_url="https://api.example")
    assert not api.many_keys
    assert not api.has_credentials


def test_a_token_server_gets_no_credentials_of_another_profile(tmp_path: Path) -> None:
    """The token's URL is a server too, and may be another one than the API's."""
    auth = {"type": "oauth2", "grant": "client_credentials", "token_url": "https://evil.example/token"}
    auth |= {"client_id": "x", "client_secret": "${CONFLUENT_CLOUD_API_SECRET}"}

    with pytest.raises(JobError, match=r"would send CONFLUENT_CLOUD_API_SECRET to evil\.example"):
        load(tmp_path, {"base_url": "https://api.confluent.cloud", "auth": auth}, CONFLUENT_CLOUD_API_SECRET="s")
