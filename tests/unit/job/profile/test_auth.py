"""A profile's `auth` becomes credentials, or problems that name the member."""

import json
from typing import Any

import pytest

from migrator.job.job_file import load_job
from migrator.job.problems import JobError
from migrator.job.profile.auth import AuthKind, OAuth2
from migrator.job.profile.variables import Outside
from migrator.secret import Secret

ENV = {"ID": "client", "KEY": "s3cret", "CONFLUENT_CLOUD_API_SECRET": "theirs"}
OAUTH2 = {
    "type": "oauth2",
    "grant": "client_credentials",
    "token_url": "https://auth.example/token",
    "client_id": "${ID}",
    "client_secret": "${KEY}",
}


class Files:
    """A folder whose files change."""

    def __init__(self) -> None:
        self.texts = {"token": "first\n"}

    def read(self, name: str) -> str:
        """Return a file's text."""
        try:
            return self.texts[name]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None


def load(auth: dict[str, Any], files: Files | None = None, *, secrets: list[str] | None = None) -> Any:
    """Return the credentials of a job file."""
    api = {"base_url": "https://api.example", "auth": auth}
    document: dict[str, Any] = {"name": "x", "api": api, "request": {"method": "PATCH", "path": "/x/{id}"}, "key": "id"}
    document["secrets"] = secrets or []
    outside = Outside(ENV, (files or Files()).read, lambda command: f"printed by {command}")
    return load_job(json.dumps(document), source="job.json", outside=outside).api.auth


def problems(auth: dict[str, Any]) -> str:
    """Return what is wrong with credentials."""
    with pytest.raises(JobError) as error:
        load(auth)
    return str(error.value)


@pytest.mark.parametrize("auth", [{"file": "token"}, {"token": "${file:token}"}])
def test_a_token_in_a_file_is_read_again(auth: dict[str, str]) -> None:
    """Both spellings mean the same; by default the file is read again after a minute."""
    files = Files()

    found = load({"type": "bearer", **auth}, files)
    files.texts["token"] = "second\n"

    assert (found.kind, found.secret, found.reload_after_s) == (AuthKind.BEARER, Secret("first"), 60.0)
    assert found.reload() == Secret("second")


@pytest.mark.parametrize("text", ["", "a\nb", None])
def test_a_token_that_is_gone_later(text: str | None) -> None:
    """What cannot be read again is an error without a value, and not an empty token."""
    files = Files()
    found = load({"type": "bearer", "file": "token"}, files)
    files.texts = {} if text is None else {"token": text}

    with pytest.raises(OSError, match=r"the token is empty|the file token: No such file"):
        found.reload()


def test_a_command_is_run_again_only_when_it_must() -> None:
    """A command may be slow, so that no period is assumed for it."""
    found = load({"type": "bearer", "command": "op read x"})

    assert (found.secret, found.reload_after_s) == (Secret("printed by op read x"), None)
    assert found.reload() == found.secret
    assert load({"type": "bearer", "command": "x", "renew_every": "10m"}).reload_after_s == 600.0


def test_a_fixed_token_is_not_read_again() -> None:
    """A variable of the environment does not change while a process runs."""
    assert load({"type": "bearer", "token": "${KEY}"}).reload is None


def test_client_credentials() -> None:
    """The form is RFC 6749's, and the secret stays one."""
    found = load({**OAUTH2, "scope": "a b", "parameters": {"audience": "https://api.example"}})

    assert found.secrets() == [Secret("s3cret")]
    assert found.oauth2 == OAuth2(
        token_url="https://auth.example/token",
        client_id="client",
        client_secret=Secret("s3cret"),
        form={"grant_type": "client_credentials", "scope": "a b", "audience": "https://api.example"},
    )


def test_token_exchange() -> None:
    """The form is RFC 8693's; the subject token is read each time, and no client need be named."""
    files = Files()
    found = load(
        {
            "type": "oauth2",
            "grant": "token_exchange",
            "token_url": "https://auth.example/token",
            "subject_token": "${file:token}",
            "parameters": {"identity_pool_id": "pool-1"},
        },
        files,
    ).oauth2
    files.texts["token"] = "second"

    assert (found.client_id, found.client_secret) == (None, None)
    assert found.form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "identity_pool_id": "pool-1",
    }
    assert found.subject_token() == Secret("second")


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        ({**OAUTH2, "token_url": "http://auth.example/token"}, "api.auth.token_url: is plain HTTP"),
        ({**OAUTH2, "client_secret": "${MISSING}"}, "api.auth.client_secret: the variable MISSING is not set"),
        (
            {**OAUTH2, "client_secret": "${CONFLUENT_CLOUD_API_SECRET}"},
            "would send CONFLUENT_CLOUD_API_SECRET to auth.example",
        ),
        ({"type": "bearer"}, "api.auth: needs token, file or command"),
        ({"type": "bearer", "file": "nowhere"}, "api.auth.file: the file nowhere: No such file"),
        ({"type": "bearer", "file": "token", "renew_every": "soon"}, "api.auth.renew_every: has to be a duration"),
        ({"type": "oauth2", "grant": "client_credentials", "token_url": "https://x"}, "api.auth.client_id: is missing"),
        ({"type": "oauth2", "grant": "password", "token_url": "https://x"}, "api.auth.grant: has to be"),
    ],
)
def test_problems(auth: dict[str, Any], problem: str) -> None:
    """What is wrong is said with the member that it is about."""
    assert problem in problems(auth)


def test_a_token_url_on_this_machine() -> None:
    """A rehearsal's token server may be asked over plain HTTP."""
    assert load({**OAUTH2, "token_url": "http://127.0.0.1:1/token"}).oauth2 is not None


@pytest.mark.parametrize(
    ("auth", "values", "header"),
    [
        (
            {"type": "basic", "username": "{user}", "password": "{word}"},
            {"user": "u", "word": Secret("p")},
            ("Authorization", Secret("Basic dTpw")),
        ),
        (
            {"type": "basic", "username": "{user}", "password": "${KEY}"},
            {"user": "u"},
            ("Authorization", Secret("Basic dTpzM2NyZXQ=")),
        ),
        (
            {"type": "basic", "username": "${ID}", "password": "{word}"},
            {"word": "p"},
            ("Authorization", Secret("Basic Y2xpZW50OnA=")),
        ),
        ({"type": "bearer", "token": "{word}"}, {"word": Secret("p")}, ("Authorization", Secret("Bearer p"))),
        ({"type": "header", "name": "X-Key", "value": "{ word }"}, {"word": 17}, ("X-Key", Secret("17"))),
    ],
)
def test_credentials_of_a_row(auth: dict[str, Any], values: dict[str, Any], header: tuple[str, Secret]) -> None:
    """Each row has its own header: RFC 7617's, RFC 6750's, or the API's."""
    found = load(auth, secrets=["user", "word"])

    assert found.columns.keys() <= {"username", "password", "token", "value"}
    assert found.header_of(values) == header


@pytest.mark.parametrize("value", [None, "", "a\nb", "\u00e9"])
def test_a_row_whose_credential_cannot_be_sent(value: str | None) -> None:
    """The message names the column, and not the value."""
    found = load({"type": "bearer", "token": "{word}"}, secrets=["word"])
    with pytest.raises(ValueError, match=r"^word is a credential, and has to be printable ASCII and not empty$"):
        found.header_of({"word": value})


def test_a_row_whose_user_has_a_colon() -> None:
    """RFC 7617, section 2: the first colon ends the user's name."""
    found = load({"type": "basic", "username": "{user}", "password": "{word}"}, secrets=["user", "word"])
    with pytest.raises(ValueError, match="user may not hold a colon"):
        found.header_of({"user": "a:b", "word": "p"})


def test_credentials_are_told_from_others() -> None:
    """A quota belongs to them; a token that is read again is known by where it comes from."""
    assert load({"type": "basic", "username": "${ID}", "password": "${KEY}"}).identity() == ["client", "s3cret"]
    assert load({"type": "bearer", "token": "${KEY}"}).identity() == ["", "s3cret"]
    assert load({"type": "bearer", "file": "token"}).identity() == ["", "${file:token}"]
    assert load(OAUTH2).identity() == ["", "client", "client_credentials", "s3cret"]
    assert load({"type": "none"}).identity() == [""]
