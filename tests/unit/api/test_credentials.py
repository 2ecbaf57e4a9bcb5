"""When a token is got again, and what a token server's answers mean."""

import json
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run

from migrator.api.credentials import LiveCredentials, NoToken, Token, read_token_answer, renew_ahead_s, token_requests
from migrator.job.profile.auth import OAuth2
from migrator.messages import Clock
from migrator.secret import Secret


class Source:
    """Gives tokens t1, t2, … that live so many seconds; a number in `fails` is a request that fails."""

    def __init__(
        self, lifetime_s: float | None = 10.0, *, fails: Callable[[int], NoToken | None] = lambda _: None
    ) -> None:
        self.lifetime_s = lifetime_s
        self.asked = 0
        self._fails = fails

    async def __call__(self) -> Token:
        """Give the next token, after a second."""
        self.asked += 1
        number = self.asked
        await anyio.sleep(1)
        if (error := self._fails(number)) is not None:
            raise error
        return Token(secret=Secret(f"t{number}"), lifetime_s=self.lifetime_s)


def credentials(
    source: Source, clock: Clock, seen: list[Secret] | None = None, first: str | None = None
) -> LiveCredentials:
    """Return credentials over a source."""
    token = None if first is None else Token(secret=Secret(first))
    return LiveCredentials(source, clock=clock, learn=(seen if seen is not None else []).append, first=token)


def test_one_renewal_for_all_in_flight() -> None:
    """A hundred requests that need a token cost one, and each token is told to the masker."""

    async def story(clock: Clock) -> None:
        source, seen = Source(), list[Secret]()
        live = credentials(source, clock, seen)
        got = set()

        async def one() -> None:
            got.add((await live.current()).reveal())

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(one)
        assert (got, source.asked, seen) == ({"t1"}, 1, [Secret("t1")])

    run(story)


def test_renewed_ahead_of_its_end() -> None:
    """A token of 10 s is renewed after 8 s from when it was asked for, and not before."""

    async def story(clock: Clock) -> None:
        source = Source(10.0)
        live = credentials(source, clock)
        assert await live.current() == Secret("t1")
        await anyio.sleep(6.9)
        assert await live.current() == Secret("t1")
        await anyio.sleep(0.2)
        assert await live.current() == Secret("t2")

    run(story)


def test_a_token_without_an_end_is_kept() -> None:
    """Where nothing tells how long a token is good, only a refusal renews it."""

    async def story(clock: Clock) -> None:
        source = Source(None)
        live = credentials(source, clock, first="t0")
        await anyio.sleep(80_000)
        assert await live.current() == Secret("t0")
        assert await live.refused(Secret("t0"))
        assert await live.current() == Secret("t1")

    run(story)


def test_all_refused_at_once() -> None:
    """When a token is revoked, all requests in flight are refused, and one renewal serves them all."""

    async def story(clock: Clock) -> None:
        source = Source()
        live = credentials(source, clock)
        old = await live.current()
        live.accepted(old)
        answers = []

        async def one() -> None:
            answers.append(await live.refused(old))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(one)
        assert answers == [True] * 20
        assert (source.asked, await live.current()) == (2, Secret("t2"))

    run(story)


def test_refused_again_is_the_end() -> None:
    """A token that was got for a refusal and is refused too is not renewed; one that was accepted since is."""

    async def story(clock: Clock) -> None:
        source = Source()
        live = credentials(source, clock)
        assert await live.refused(await live.current())
        assert not await live.refused(Secret("t2"))
        assert source.asked == 2
        live.accepted(Secret("t2"))
        assert await live.refused(Secret("t2"))
        assert source.asked == 3

    run(story)


def test_the_same_token_again_is_no_other() -> None:
    """A file that still holds the refused token gives nothing to try."""

    async def story(clock: Clock) -> None:
        async def same() -> Token:
            await anyio.lowlevel.checkpoint()
            return Token(secret=Secret("same"))

        live = LiveCredentials(same, clock=clock, learn=lambda _: None, first=Token(secret=Secret("same")))
        assert not await live.refused(await live.current())

    run(story)


def test_a_good_token_outlives_a_token_server_that_is_down() -> None:
    """While the old token is good the run goes on with it; after its end there is none."""

    async def story(clock: Clock) -> None:
        down = NoToken("the token server does not answer", refused=False)
        source = Source(100.0, fails=lambda number: down if number > 1 else None)
        live = credentials(source, clock)
        await live.current()
        await anyio.sleep(85)
        assert await live.current() == Secret("t1")
        assert source.asked == 2
        await anyio.sleep(30)
        with pytest.raises(NoToken):
            await live.current()

    run(story)


def test_refused_credentials_are_told_at_once() -> None:
    """What the token server refuses is no matter of time, though the old token is still good."""

    async def story(clock: Clock) -> None:
        refused = NoToken("refused", refused=True)
        live = credentials(Source(10.0, fails=lambda number: refused if number > 1 else None), clock)
        await live.current()
        await anyio.sleep(8)
        with pytest.raises(NoToken, match="refused"):
            await live.current()

    run(story)


@pytest.mark.parametrize(("lifetime_s", "ahead_s"), [(2.0, 0.4), (300.0, 60.0), (900.0, 60.0), (86400.0, 60.0)])
def test_how_long_ahead(lifetime_s: float, ahead_s: float) -> None:
    """A minute, as Confluent's own provider does it, or a fifth of a short life."""
    assert renew_ahead_s(lifetime_s) == pytest.approx(ahead_s)


@pytest.mark.parametrize(
    ("answer", "token"),
    [
        ({"access_token": "a", "token_type": "Bearer", "expires_in": 900}, Token(secret=Secret("a"), lifetime_s=900.0)),
        ({"access_token": "a", "token_type": "bearer", "expires_in": "60"}, Token(secret=Secret("a"), lifetime_s=60.0)),
        ({"access_token": "a", "token_type": "Bearer"}, Token(secret=Secret("a"))),
        ({"access_token": "a", "expires_in": 0}, Token(secret=Secret("a"))),
        ({"access_token": "a", "expires_in": True}, Token(secret=Secret("a"))),
    ],
)
def test_a_token_server_s_answer(answer: object, token: Token) -> None:
    """RFC 6749, section 5.1, and what servers make of it."""
    assert read_token_answer(200, json.dumps(answer).encode()) == token


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b'{"error": "invalid_client"}', r"refused the credentials with 401 \(invalid_client\)"),
        (400, b'{"error": "say <b>s3cret</b>"}', "refused the credentials with 400$"),
        (302, b"", "refused the credentials with 302$"),
        (200, b"<html>", "holds no access_token"),
        (200, b"[1]", "holds no access_token"),
        (200, b'{"access_token": "a\\r\\nX: y"}', "holds no access_token"),
        (200, b'{"access_token": "a", "token_type": "mac"}', "of another type than Bearer"),
    ],
)
def test_no_token(status: int, body: bytes, message: str) -> None:
    """An answer without a token that may go into a header is none; its text is not repeated."""
    with pytest.raises(NoToken, match=message) as error:
        read_token_answer(status, body)
    assert error.value.refused


@given(st.integers(200, 499), st.binary(max_size=200))
def test_any_answer(status: int, body: bytes) -> None:
    """Any answer is a token or NoToken."""
    with suppress(NoToken):
        assert read_token_answer(status, body).secret.reveal().isprintable()


def test_two_ways_to_show_a_client() -> None:
    """HTTP Basic first, whose parts are form-encoded (RFC 6749, section 2.3.1), then in the form."""
    oauth2 = OAuth2(token_url="https://x", client_id="a:b", client_secret=Secret("c d"), form={"grant_type": "x"})

    basic, form = token_requests(oauth2, None)

    assert basic == ({"Accept": "application/json", "Authorization": "Basic YSUzQWI6Yytk"}, {"grant_type": "x"})
    assert form[1] == {"grant_type": "x", "client_id": "a:b", "client_secret": "c d"}


def test_an_exchange_without_a_client() -> None:
    """The subject token stands in the form alone."""
    oauth2 = OAuth2(token_url="https://x", client_id=None, client_secret=None, form={"identity_pool_id": "pool-1"})

    ((_, form),) = token_requests(oauth2, Secret("jwt"))

    assert form == {"identity_pool_id": "pool-1", "subject_token": "jwt"}
