"""Tokens that end: when a new one is got, and what is sent as Authorization until then.

The decisions are functions and a small state machine on a clock; `TokenServer` is the only part that sends anything.
A token is renewed ahead of its end, and once when the server refuses it with 401. All requests in flight wait for one
renewal. A token that is refused right after it was got for a refusal ends the run: the credentials are not good.
"""

import math
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol
from urllib.parse import quote_plus

import aiohttp
import anyio
import anyio.to_thread
import msgspec
from msgspec.structs import replace
from yarl import URL

from migrator.job.json_reader import decode
from migrator.job.profile.auth import Auth, OAuth2
from migrator.messages import Clock
from migrator.secret import Secret

__all__ = [
    "LiveCredentials",
    "NoToken",
    "Token",
    "TokenServer",
    "Tokens",
    "live_credentials",
    "read_token_answer",
    "renew_ahead_s",
    "token_requests",
    "token_source",
]

LONGEST_AHEAD_S: Final = 60.0
"""Seconds before its end that a token is renewed at the earliest; Confluent's Terraform provider does it so too."""

AHEAD_SHARE: Final = 0.2
"""The share of a short token's life that is left when it is renewed."""

PAUSES_S: Final = (0.2, 1.0, 3.0)
"""Seconds between the attempts to reach a token server that does not answer."""

LONGEST_ANSWER: Final = 1 << 18
"""Bytes that are read of a token server's answer."""


class NoToken(Exception):
    """There is no token; the text says why, and holds no secret.

    Attributes:
        refused: whether the credentials were refused, so that no further attempt can help.
    """

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """An access token.

    Attributes:
        secret: what is sent.
        lifetime_s: seconds that it is good for; None where nothing tells.
    """

    secret: Secret
    lifetime_s: float | None = None


def renew_ahead_s(lifetime_s: float) -> float:
    """Return how many seconds before its end a token is renewed."""
    return min(LONGEST_AHEAD_S, lifetime_s * AHEAD_SHARE)


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    """A token at hand, on the monotonic clock.

    Attributes:
        token: the token.
        ends_at: when it ends.
        renew_at: when another one is to be got.
        after_refusal: whether it was got because the one before was refused.
        accepted: whether the server has taken it.
    """

    token: Token
    ends_at: float = float("inf")
    renew_at: float = float("inf")
    after_refusal: bool = False
    accepted: bool = False

    @classmethod
    def since(cls, token: Token, now: float, *, after_refusal: bool) -> "_Held":
        """Take a token that was got at a time."""
        if token.lifetime_s is None:
            return cls(token=token, after_refusal=after_refusal)
        ends_at = now + token.lifetime_s
        return cls(
            token=token,
            ends_at=ends_at,
            renew_at=ends_at - renew_ahead_s(token.lifetime_s),
            after_refusal=after_refusal,
        )


class Tokens(Protocol):
    """Holds the present token for all requests; `LiveCredentials` gets it itself."""

    async def current(self) -> Secret:
        """Return the token to send now; raises NoToken."""

    def accepted(self, token: Secret) -> None:
        """Take down that the server has taken a token."""

    async def refused(self, token: Secret) -> bool:
        """Tell whether a request whose token was refused has another one to try; raises NoToken."""


class LiveCredentials:
    """Holds the present token for all requests of an API.

    Args:
        get: gets a token; raises NoToken.
        clock: reads both clocks.
        learn: is told each token, so that it is masked from then on.
        first: a token that is there already.
    """

    def __init__(
        self,
        get: Callable[[], Awaitable[Token]],
        *,
        clock: Clock,
        learn: Callable[[Secret], None],
        first: Token | None = None,
    ) -> None:
        self._get = get
        self._clock = clock
        self._learn = learn
        self._held = None if first is None else _Held.since(first, clock().mono, after_refusal=False)
        self._renewal = anyio.Lock()

    async def current(self) -> Secret:
        """Return the token to send now, which is got first where it is missing or about to end.

        Raises:
            NoToken: there is none.
        """
        held = self._held
        if held is None or self._clock().mono >= held.renew_at:
            async with self._renewal:
                if self._held is held:
                    await self._renew_ahead(held)
        if self._held is None:
            raise NoToken("there is no token", refused=False)
        return self._held.token.secret

    def fresh_s(self) -> float | None:
        """Return the seconds until a new token is to be got; None where nothing tells."""
        held = self._held
        if held is None or math.isinf(held.renew_at):
            return None
        return max(0.0, held.renew_at - self._clock().mono)

    def accepted(self, token: Secret) -> None:
        """Take down that the server has taken a token."""
        held = self._held
        if held is not None and not held.accepted and held.token.secret == token:
            self._held = replace(held, accepted=True)

    async def refused(self, token: Secret) -> bool:
        """Tell whether a request whose token was refused has another one to try.

        Raises:
            NoToken: another one cannot be got.
        """
        async with self._renewal:
            held = self._held
            if held is None or held.token.secret != token:
                return held is not None
            if held.after_refusal and not held.accepted:
                return False
            got = await self._take(after_refusal=True)
            if got.secret == token:  # such as a file that nothing has replaced yet
                self._held = held
            return got.secret != token

    async def _renew_ahead(self, held: _Held | None) -> None:
        """Renew a token; while it is still good, a token server that does not answer is no reason to stop."""
        try:
            await self._take(after_refusal=False)
        except NoToken as error:
            now = self._clock().mono
            if held is None or error.refused or now >= held.ends_at:
                raise
            self._held = replace(held, renew_at=now + (held.ends_at - now) / 2)

    async def _take(self, *, after_refusal: bool) -> Token:
        asked = self._clock().mono
        token = await self._get()
        self._learn(token.secret)
        self._held = _Held.since(token, asked, after_refusal=after_refusal)
        return token


def live_credentials(
    auth: Auth, session: aiohttp.ClientSession, *, clock: Clock, learn: Callable[[Secret], None]
) -> LiveCredentials | None:
    """Return what holds an API's token, or None where its credentials are fixed."""
    get = token_source(auth, session)
    first = None if auth.secret is None else Token(secret=auth.secret, lifetime_s=auth.reload_after_s)
    return None if get is None else LiveCredentials(get, clock=clock, learn=learn, first=first)


def token_source(
    auth: Auth, session: aiohttp.ClientSession, *, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
) -> Callable[[], Awaitable[Token]] | None:
    """Return what gets tokens for credentials, or None where they are fixed."""
    if auth.oauth2 is not None:
        return TokenServer(auth.oauth2, session, sleep=sleep).token
    reload = auth.reload
    if reload is None:
        return None

    async def read() -> Token:
        try:
            secret = await anyio.to_thread.run_sync(reload)
        except OSError as error:
            raise NoToken(f"the token cannot be read again: {error}", refused=False) from None
        return Token(secret=secret, lifetime_s=auth.reload_after_s)

    return read


class TokenServer:
    """Asks an OAuth 2.0 token endpoint.

    The client shows itself by HTTP Basic, which every such server supports (RFC 6749, section 2.3.1), and in the form
    where that is refused, as some servers want it. Which of the two worked is remembered.

    Args:
        oauth2: what it is asked with.
        session: makes the requests; carries no credentials of the API.
        sleep: waits so many seconds.
    """

    def __init__(
        self, oauth2: OAuth2, session: aiohttp.ClientSession, *, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    ) -> None:
        self._oauth2 = oauth2
        self._session = session
        self._sleep = sleep
        self._first = 0

    async def token(self) -> Token:
        """Get a token.

        Raises:
            NoToken: the server refuses, or does not answer after four attempts.
        """
        for pause_s in PAUSES_S:
            with suppress(_Unanswered):
                return await self._ask()
            await self._sleep(pause_s)
        try:
            return await self._ask()
        except _Unanswered as error:
            raise NoToken(str(error), refused=False) from None

    async def _ask(self) -> Token:
        forms = token_requests(self._oauth2, _subject(self._oauth2))
        order = [*range(self._first, len(forms)), *range(self._first)]
        for place in order[:-1]:
            with suppress(NoToken):
                return await self._got(place, *forms[place])
        return await self._got(order[-1], *forms[order[-1]])

    async def _got(self, place: int, headers: Mapping[str, str], form: Mapping[str, str]) -> Token:
        url = URL(self._oauth2.token_url, encoded=True)
        try:
            async with self._session.post(url, data=form, headers=headers, allow_redirects=False) as response:
                body = await response.content.read(LONGEST_ANSWER)
                while not response.content.at_eof() and len(body) < LONGEST_ANSWER:
                    body += await response.content.read(LONGEST_ANSWER - len(body))
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise _Unanswered("the token server does not answer") from None
        if status >= 500 or status in {408, 429}:
            raise _Unanswered(f"the token server answered {status}")
        token = read_token_answer(status, body)
        self._first = place
        return token


class _Unanswered(Exception):
    """A token server gave no answer that means anything."""


def _subject(oauth2: OAuth2) -> Secret | None:
    try:
        return None if oauth2.subject_token is None else oauth2.subject_token()
    except OSError as error:
        raise NoToken(f"the token to be exchanged cannot be read: {error}", refused=False) from None


def token_requests(oauth2: OAuth2, subject: Secret | None) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Return the headers and the form of each way in which a token may be asked for, the first to try first.

    Args:
        oauth2: what the server is asked with.
        subject: the token to be exchanged, where one is.
    """
    form = dict(oauth2.form) | ({} if subject is None else {"subject_token": subject.reveal()})
    accept = {"Accept": "application/json"}
    if oauth2.client_id is None:
        return [(accept, form)]
    if oauth2.client_secret is None:
        return [(accept, form | {"client_id": oauth2.client_id})]
    secret = oauth2.client_secret.reveal()
    pair = b64encode(f"{quote_plus(oauth2.client_id)}:{quote_plus(secret)}".encode()).decode()
    return [
        (accept | {"Authorization": f"Basic {pair}"}, form),
        (accept, form | {"client_id": oauth2.client_id, "client_secret": secret}),
    ]


def read_token_answer(status: int, body: bytes) -> Token:
    """Return the token of a token endpoint's answer (RFC 6749, sections 5.1 and 5.2).

    Args:
        status: the HTTP status, not 408, 429 or 5xx.
        body: the answer's body.

    Raises:
        NoToken: it is none.
    """
    answer = decode(body)
    members: Mapping[str, object] = answer if isinstance(answer, dict) else {}
    if status != 200:
        code = members.get("error")
        reason = f" ({code})" if isinstance(code, str) and code.isascii() and code.isidentifier() else ""
        raise NoToken(f"the token server refused the credentials with {status}{reason}", refused=True)
    secret, kind, lifetime = members.get("access_token"), members.get("token_type", "bearer"), members.get("expires_in")
    if not isinstance(secret, str) or not secret.isascii() or not secret.isprintable() or " " in secret or not secret:
        raise NoToken("the token server's answer holds no access_token", refused=True)
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise NoToken("the token server's token is of another type than Bearer", refused=True)
    return Token(secret=Secret(secret), lifetime_s=_seconds(lifetime))


def _seconds(value: object) -> float | None:
    """Return a lifetime; some servers send it as text, and one that is not above zero tells nothing."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        return None
    return float(value)
