"""A run whose tokens end on the way, and one whose client is refused."""

import json
from typing import TYPE_CHECKING

from oauth2_server import CLIENT, CLIENT_SECRET, Server, oauth2_server

if TYPE_CHECKING:
    from conftest import Workplace


def write_job(workplace: "Workplace", server: Server, rows: int) -> dict[str, str]:
    """Write a job with OAuth 2.0, and return the environment that it needs."""
    auth = {
        "type": "oauth2",
        "grant": "client_credentials",
        "token_url": f"{server.url}/token",
        "client_id": "${OAUTH_ID}",
        "client_secret": "${OAUTH_SECRET}",
    }
    job = {
        "name": "oauth",
        "api": {"base_url": server.url, "auth": auth},
        "request": {"method": "PATCH", "path": "/things/{id}", "body": {"a": "{a}"}},
        "key": "id",
        "items": [{"id": str(number), "a": number} for number in range(rows)],
    }
    (workplace.folder / "job.json").write_text(json.dumps(job))
    return workplace.env | {
        "OAUTH_ID": CLIENT,
        "OAUTH_SECRET": CLIENT_SECRET,
        "MIGRATOR_ALLOW_ENV": "OAUTH_ID,OAUTH_SECRET",
    }


def test_tokens_end_during_a_run(workplace: "Workplace") -> None:
    """Each item succeeds at its first attempt, and neither secret nor token is in any file or output."""
    with oauth2_server(lifetime_s=2.0) as server:
        env = write_job(workplace, server, 40)
        done = workplace.run("run", "job.json", "--rate", "10/s", "--yes", "--log-level", "debug", env=env)

    assert done.code == 0, done.err
    assert server.statuses == {200: 40}
    assert len(server.tokens) >= 2
    files = [path.read_bytes() for path in workplace.folder.rglob("*") if path.is_file()]
    for secret in (*server.tokens, CLIENT_SECRET):
        assert not [one for one in (*files, done.out.encode(), done.err.encode()) if secret.encode() in one]


def test_the_api_refuses_every_token(workplace: "Workplace") -> None:
    """The run stops with the credentials refused after one renewal; the echoed token is in no file."""
    with oauth2_server(lifetime_s=0.0) as server:
        env = write_job(workplace, server, 40)
        done = workplace.run("run", "job.json", "--yes", env=env)

    assert done.code == 3, done.err
    assert "credentials" in json.dumps(workplace.summary()["stopped"])
    assert server.statuses == {401: 2}
    files = [path.read_bytes() for path in (workplace.folder / ".migrator").rglob("*") if path.is_file()]
    for token in server.tokens:
        assert not [one for one in (*files, done.out.encode(), done.err.encode()) if token.encode() in one]


def test_the_token_server_refuses_the_client(workplace: "Workplace") -> None:
    """Nothing is sent to the API, and the message names who refused."""
    with oauth2_server(refuse_after=0) as server:
        env = write_job(workplace, server, 5)
        done = workplace.run("run", "job.json", "--yes", env=env)

    assert done.code == 3, done.err
    assert "the token server refused the credentials with 401" in done.out + done.err
    assert not server.statuses
