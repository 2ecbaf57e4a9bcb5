"""Tokens that end, over real sockets: a client that renews them, and one that is refused."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from oauth2_server import CLIENT, CLIENT_SECRET, Server, oauth2_server

from migrator.api.attempts import Attempts
from migrator.api.outcome import RetryPolicy
from migrator.api.transport.client import Client
from migrator.job.profile.api_profile import ApiProfile
from migrator.job.profile.auth import Auth, AuthKind, OAuth2
from migrator.messages import Failure, Instant, Reply, Request
from migrator.ratelimit.throttle import Throttle
from migrator.results import Status
from migrator.secret import Fingerprinter, Masker, Secret

pytestmark = pytest.mark.anyio


def clock() -> Instant:
    """Read both clocks."""
    return Instant(time.monotonic(), time.time())


@asynccontextmanager
async def client(
    server: Server, auth: Auth | None = None, learned: list[Secret] | None = None
) -> AsyncIterator[Client]:
    """Open a client with an OAuth 2.0 client's credentials."""
    oauth2 = OAuth2(
        token_url=f"{server.url}/token",
        client_id=CLIENT,
        client_secret=Secret(CLIENT_SECRET),
        form={"grant_type": "client_credentials", "scope": "write"},
    )
    given = Auth(kind=AuthKind.OAUTH2, oauth2=oauth2) if auth is None else auth
    profile = ApiProfile(name="test", base_url=server.url, auth=given, headers={"X-Api": "of-the-api-only"})
    learn = (learned if learned is not None else []).append
    async with Client.open(profile, timeout_s=20.0, clock=clock, learn=learn) as opened:
        yield opened


async def send(opened: Client, server: Server, number: int) -> Any:
    """Send one request, and once more where another token was got."""
    answer = await opened.send(write(server, number))
    return await opened.send(write(server, number)) if isinstance(answer, Reply) and answer.renewed else answer


def write(server: Server, number: int) -> Request:
    """Return one request."""
    return Request(item=number, key=str(number), method="PATCH", url=f"{server.url}/things/{number}", body=b'{"a":1}')


async def test_tokens_of_two_seconds() -> None:
    """Through three lives of a token every request succeeds, and the server refuses none of them."""
    learned: list[Secret] = []
    with oauth2_server(lifetime_s=2.0) as server:
        async with client(server, learned=learned) as opened:
            answers = []
            for number in range(48):
                answers.append(await send(opened, server, number))
                await asyncio.sleep(0.1)

    assert {answer.status for answer in answers} == {200}
    assert server.statuses == {200: 48}
    assert 3 <= len(server.tokens) <= 6
    assert [secret.reveal() for secret in learned] == list(server.tokens)
    assert server.forms[0] == {"grant_type": "client_credentials", "scope": "write"}


async def test_revoked_tokens_are_renewed_once_for_all() -> None:
    """Twenty requests that are refused at once wait for one renewal, and all of them succeed."""
    with oauth2_server(lifetime_s=600.0) as server:
        async with client(server) as opened:
            await send(opened, server, 0)
            server.revoke()
            answers = await asyncio.gather(*(send(opened, server, number) for number in range(1, 21)))

    assert {answer.status for answer in answers} == {200}
    assert len(server.tokens) == 2
    assert len(server.records) == 21


async def test_what_goes_out_again_has_a_permit_of_its_own() -> None:
    """The throttle counts every request that the server sees, those after a renewal among them."""
    with oauth2_server(lifetime_s=600.0) as server:
        async with client(server) as opened, Throttle(concurrency=8) as throttle:
            attempts = Attempts(
                throttle=throttle,
                client=opened,
                policy=RetryPolicy(max_attempts=1),
                rng=Random(1),
                masker=Masker(Fingerprinter(b"a key of the test"), []),
            )
            ended = []

            async def finish(number: int) -> None:
                async with attempts.until_done(write(server, number)) as answered:
                    ended.append(answered and (answered.outcome.status, answered.attempts))

            await finish(0)
            server.revoke()
            await asyncio.gather(*(finish(number) for number in range(1, 9)))
            permits = throttle.statistics().requests

    assert {one and one[0] for one in ended} == {Status.SUCCEEDED}
    assert 2 in {one and one[1] for one in ended}
    assert permits == sum(server.statuses.values()) > 9


async def test_a_client_that_must_show_itself_in_the_form() -> None:
    """A server that takes no HTTP Basic is asked once in vain, and not again at the next renewal."""
    with oauth2_server(lifetime_s=600.0, basic=False) as server:
        async with client(server) as opened:
            await send(opened, server, 0)
            server.revoke()
            answer = await send(opened, server, 1)

    assert answer.status == 200
    assert ["client_secret" in form for form in server.forms] == [False, True, True]


async def test_refused_credentials() -> None:
    """A token server's refusal is a failure that says so, without a secret in it."""
    with oauth2_server(lifetime_s=600.0, refuse_after=1) as server:
        async with client(server) as opened:
            assert (await send(opened, server, 0)).status == 200
            server.revoke()
            answer = await send(opened, server, 1)

    assert isinstance(answer, Failure)
    assert (answer.credentials, answer.maybe_sent) == (True, False)
    assert answer.message == "the token server refused the credentials with 401 (invalid_client)"


async def test_a_token_that_is_refused_anew() -> None:
    """A fresh token that the API refuses is not renewed for ever: its 401 is the answer."""
    with oauth2_server(lifetime_s=0.0) as server:
        async with client(server) as opened:
            answer = await send(opened, server, 0)

    assert isinstance(answer, Reply)
    assert answer.status == 401
    assert (len(server.tokens), server.statuses) == (2, {401: 2})


async def test_a_token_file_that_is_replaced(tmp_path: Path) -> None:
    """The file is read again when its token is refused."""
    place = tmp_path / "token"
    place.write_text("old")
    with oauth2_server() as server:
        server.tokens = {"new": time.monotonic() + 600}
        auth = Auth(kind=AuthKind.BEARER, secret=Secret("old"), reload=lambda: Secret(place.read_text()), source="f")
        async with client(server, auth) as opened:
            assert (await send(opened, server, 0)).status == 401
            place.write_text("new")
            assert (await send(opened, server, 1)).status == 200

    assert server.statuses == {401: 2, 200: 1}
