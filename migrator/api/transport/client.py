"""One attempt over aiohttp: a `Request` in, a `Reply` or a `Failure` out. It raises only on cancellation."""

import errno
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import msgspec
from msgspec.structs import replace
from multidict import CIMultiDictProxy
from yarl import URL

from migrator import __version__
from migrator.api.credentials import LiveCredentials, NoToken, Tokens, live_credentials
from migrator.api.transport.connector import Connector
from migrator.api.transport.direct import Direct, Received, read_body
from migrator.api.transport.network import Network
from migrator.job.profile.api_profile import ApiProfile
from migrator.job.profile.auth import AuthKind
from migrator.messages import Answer, Clock, Failure, FailureKind, Instant, Reply, Request, Stage, text_of
from migrator.secret import Secret

__all__ = ["Client", "session_headers"]

LONGEST_CONNECT_S: Final = 10.0
"""Seconds for name resolution, TCP and TLS; a server that takes longer is down for our purpose."""

DIRECT: Final = Network()

KEEPALIVE_S: Final = 15.0
"""Seconds that an idle connection is kept; most servers keep theirs for longer, and those that do not are met below."""

TELL_NOTHING_OF_A_TOKEN: Final = frozenset({401, 403, 407, 408, 425, 429})
"""Statuses that may come before, or instead of, a look at the token."""


class Client:
    """Sends requests over one keep-alive session.

    Args:
        session: made by `open`; keeps connections alive.
        fresh: the same, with a new connection for each request; None where the first does so already.
        direct: sends plain requests over the first's connections at less cost; None where none are kept, or by a proxy.
        clock: reads both clocks.
        credentials: holds a token that is renewed; None where the session's headers carry fixed credentials.
        headers: what each request carries beside the session's headers.
        proxy_headers: what only a proxy is sent.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        fresh: aiohttp.ClientSession | None = None,
        direct: Direct | None = None,
        clock: Clock,
        credentials: Tokens | None = None,
        headers: Mapping[str, str] | None = None,
        proxy_headers: Mapping[str, str] | None = None,
    ) -> None:
        self._session = session
        self._fresh = fresh
        self._direct = direct
        self._clock = clock
        self._credentials = credentials
        self._headers = headers or {}
        self._proxy_headers = proxy_headers

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        profile: ApiProfile,
        *,
        timeout_s: float,
        clock: Clock,
        network: Network = DIRECT,
        reuse_connections: bool = True,
        learn: Callable[[Secret], None] = lambda _token: None,
        tokens: Tokens | None = None,
    ) -> AsyncIterator["Client"]:
        """Open a session for an API and close it on leaving.

        Args:
            profile: the API, with its credentials.
            timeout_s: the longest that one request may take, from connect to the last byte.
            clock: reads both clocks.
            network: certificates and proxy.
            reuse_connections: False for requests that are not idempotent: a connection that the server closes just
                as it is used again would leave them in doubt, and a fresh one cannot be stale.
            learn: is told each token that is got, so that it can be masked.
            tokens: holds the token where another process gets it.

        Raises:
            MigratorError: a certificate's file or the proxy cannot be used.
        """
        token_url = None if profile.auth.oauth2 is None else profile.auth.oauth2.token_url
        proxy = network.proxy_for(profile.base_url)
        token_proxy = None if token_url is None else network.proxy_for(token_url)
        proxies = [one for one in (proxy, token_proxy) if one is not None]
        for one in proxies:
            if one.password is not None:
                learn(one.password)
        # aiohttp's own context is not used: it is as it was when aiohttp was imported, or trusts no certificate.
        urls = [profile.base_url, token_url or "", *(one.url for one in proxies)]
        encrypted = any(url.startswith("https:") for url in urls)
        trust = network.context() if encrypted or network.ca_file or network.client_cert else True
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(LONGEST_CONNECT_S, timeout_s))
        headers = session_headers(profile)
        # aiohttp sends a session's headers to the proxy too, so that each request has to carry them itself.
        carried, for_proxy = (None, None) if proxy is None else (headers, proxy.headers)

        def session(connector: Connector) -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=headers if proxy is None else None,
                timeout=timeout,
                proxy=None if proxy is None else proxy.url,
                auto_decompress=False,
            )

        closing = Connector(force_close=True, ssl=trust)
        # A token server gets none of the API's headers.
        bare = aiohttp.ClientSession(
            connector=closing,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": headers["User-Agent"]},
            timeout=timeout,
            proxy=None if token_proxy is None else token_proxy.url,
        )
        async with session(closing) as fresh, bare:
            credentials = tokens or live_credentials(profile.auth, bare, clock=clock, learn=learn)
            if not reuse_connections:
                yield cls(fresh, clock=clock, credentials=credentials, headers=carried, proxy_headers=for_proxy)
                return
            alive = Connector(keepalive_timeout=KEEPALIVE_S, ssl=trust)
            async with session(alive) as keeping:
                yield cls(
                    keeping,
                    fresh=fresh,
                    direct=Direct(alive, base_url=profile.base_url, headers=headers, timeout=timeout)
                    if proxy is None
                    else None,
                    clock=clock,
                    credentials=credentials,
                    headers=carried,
                    proxy_headers=for_proxy,
                )

    @property
    def live(self) -> LiveCredentials | None:
        """What gets a new token; None where credentials are fixed, or another process does."""
        return self._credentials if isinstance(self._credentials, LiveCredentials) else None

    async def send(self, request: Request) -> Answer:
        """Make one attempt.

        A token that the server refuses is renewed; the answer then says that the request is worth another attempt,
        since a 401 says that nothing was done.
        """
        if self._credentials is None:
            return await self._attempt(request)
        started = self._clock()
        try:
            answer, token = await self._attempt_with_token(request, self._credentials)
            if isinstance(answer, Reply) and answer.status == 401 and await self._credentials.refused(token):
                return replace(answer, renewed=True)
        except NoToken as error:
            return Failure(
                kind=FailureKind.CONNECTION,
                stage=Stage.CONNECT,
                maybe_sent=False,
                message=str(error),
                credentials=error.refused,
                sent=started,
                received=self._clock(),
            )
        return answer

    async def _attempt_with_token(self, request: Request, credentials: Tokens) -> tuple[Answer, Secret]:
        token = await credentials.current()
        answer = await self._attempt(request, {"Authorization": f"Bearer {token.reveal()}"})
        if isinstance(answer, Reply) and answer.status < 500 and answer.status not in TELL_NOTHING_OF_A_TOKEN:
            credentials.accepted(token)
        return answer, token

    async def _attempt(self, request: Request, headers: Mapping[str, str] | None = None) -> Answer:
        """Make one attempt, with further headers.

        A redirect with 307 or 308 to the same origin is followed once, as Confluent's API guide asks of its clients;
        any other is the caller's answer, since credentials and body must not travel to another host.

        A server may give up an idle connection just as it is used again. It has then read nothing of the request, which
        goes out once more on a new connection (RFC 9112, section 9.3.1).
        """
        sent, resent = self._clock(), False
        direct = self._direct if self._direct is not None and self._direct.takes(request) else None
        try:
            url = None if direct is not None else URL(request.url, encoded=True)
        except ValueError:
            return _failure(aiohttp.InvalidURL(""), sent, self._clock())
        try:
            try:
                return await self._exchange_redirected(direct or self._session, request, url, sent, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if self._fresh is None or isinstance(error, aiohttp.ClientConnectorError):
                    raise
                resent = True
                return replace(await self._exchange_redirected(self._fresh, request, url, sent, headers), resent=True)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return replace(_failure(error, sent, self._clock()), resent=resent)

    async def _exchange_redirected(
        self,
        sender: aiohttp.ClientSession | Direct,
        request: Request,
        url: URL | None,
        sent: Instant,
        headers: Mapping[str, str] | None,
    ) -> Reply:
        carried = {**dict(request.headers), **_credentials(request), **(headers or {})}
        if isinstance(sender, Direct):
            reply = self._reply(await sender.send(request, carried), sent)
        else:
            reply = await self._exchange(sender, request, url or URL(request.url, encoded=True), sent, carried)
        if reply.status in {307, 308}:
            target = _same_origin(url or URL(request.url, encoded=True), reply.headers.get("location", ""))
            if target is not None:
                session = self._session if isinstance(sender, Direct) else sender
                reply = await self._exchange(session, request, target, sent, carried)
        return reply

    async def _exchange(
        self, session: aiohttp.ClientSession, request: Request, url: URL, sent: Instant, carried: Mapping[str, str]
    ) -> Reply:
        async with session.request(
            request.method,
            url,
            data=request.body,
            headers={**self._headers, **carried},
            proxy_headers=self._proxy_headers,
            allow_redirects=False,
        ) as response:
            body, truncated = await read_body(response.status, response.headers, response.content)
            if truncated:
                response.close()
            return self._reply((response.status, response.headers, body, truncated), sent)

    def _reply(self, received: Received, sent: Instant) -> Reply:
        status, headers, body, truncated = received
        return Reply(
            status=status,
            headers=_joined(headers),
            body=body,
            truncated=truncated,
            sent=sent,
            received=self._clock(),
        )


def session_headers(profile: ApiProfile) -> dict[str, str]:
    """Return the headers that every request of an API carries, credentials in clear among them."""
    headers = {
        "User-Agent": f"migrator/{__version__}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
    }
    for name, value in profile.headers.items():
        # A header's name does not heed case (RFC 9110, section 5.1): a profile's own takes the place of ours.
        headers = {ours: text for ours, text in headers.items() if ours.lower() != name.lower()}
        headers[name] = value.reveal() if isinstance(value, Secret) else value
    auth = profile.auth
    if auth.columns:
        return headers
    secret = auth.secret.reveal() if auth.secret is not None else ""
    if auth.kind is AuthKind.BASIC:
        headers["Authorization"] = "Basic " + b64encode(f"{auth.username}:{secret}".encode()).decode()
    elif auth.kind is AuthKind.BEARER and auth.reload is None:
        headers["Authorization"] = f"Bearer {secret}"
    elif auth.kind is AuthKind.HEADER and auth.header is not None:
        headers[auth.header] = secret
    return headers


def _credentials(request: Request) -> dict[str, str]:
    """Return the header with a row's own credentials, in clear."""
    return {} if request.credentials is None else {request.credentials[0]: request.credentials[1].reveal()}


def _joined(headers: CIMultiDictProxy[str]) -> Mapping[str, str]:
    """Return headers by lower-case name, the values of a repeated one joined (RFC 9110, section 5.3).

    aiohttp makes surrogates of bytes that are not UTF-8. They become characters here, since no text with a surrogate
    can be written to a file.
    """
    joined: dict[str, str] = {}
    for name, value in headers.items():
        if not value.isascii():
            value = text_of(value.encode("utf-8", "surrogateescape"))  # noqa: PLW2901  the same, readable
        lower = name.lower()
        joined[lower] = f"{joined[lower]}, {value}" if lower in joined else value
    return joined


def _same_origin(url: URL, location: str) -> URL | None:
    if not location:
        return None
    try:
        target = url.join(URL(location, encoded=True))
    except ValueError:
        return None
    return target if target.origin() == url.origin() else None


class _Diagnosis(msgspec.Struct, frozen=True):
    kind: FailureKind
    stage: Stage
    maybe_sent: bool
    message: str


# The first class that fits tells; a class stands before those it is derived from.
DIAGNOSES: Final[tuple[tuple[type[Exception], _Diagnosis], ...]] = (
    (
        aiohttp.ClientConnectorCertificateError,
        _Diagnosis(FailureKind.CONNECTION, Stage.TLS, False, "the server's certificate is refused"),
    ),
    (
        aiohttp.ClientConnectorDNSError,
        _Diagnosis(FailureKind.CONNECTION, Stage.CONNECT, False, "the server's name cannot be resolved"),
    ),
    (aiohttp.ClientSSLError, _Diagnosis(FailureKind.CONNECTION, Stage.TLS, False, "no TLS connection could be made")),
    (
        aiohttp.ClientConnectorError,
        _Diagnosis(FailureKind.CONNECTION, Stage.CONNECT, False, "the server cannot be reached"),
    ),
    (
        aiohttp.ConnectionTimeoutError,
        _Diagnosis(FailureKind.TIMEOUT, Stage.CONNECT, False, "no connection within the time-out"),
    ),
    (TimeoutError, _Diagnosis(FailureKind.TIMEOUT, Stage.READ, True, "no answer within the time-out")),
    (
        aiohttp.ServerDisconnectedError,
        _Diagnosis(FailureKind.CONNECTION, Stage.READ, True, "the server closed the connection without an answer"),
    ),
    (
        aiohttp.ClientPayloadError,
        _Diagnosis(FailureKind.PROTOCOL, Stage.READ, True, "the answer's body broke off or is malformed"),
    ),
    (aiohttp.InvalidURL, _Diagnosis(FailureKind.PROTOCOL, Stage.CONNECT, False, "the request's URL is not valid")),
    (OSError, _Diagnosis(FailureKind.CONNECTION, Stage.SEND, True, "the connection broke")),
)
NO_HTTP: Final = _Diagnosis(FailureKind.PROTOCOL, Stage.READ, True, "the answer is no valid HTTP")


def _failure(error: Exception, sent: Instant, now: Instant) -> Failure:
    """Say what went wrong in words of our own: the texts of exceptions quote URLs."""
    found = next((diagnosis for kind, diagnosis in DIAGNOSES if isinstance(error, kind)), NO_HTTP)
    reason = _reason(error)
    return Failure(
        kind=found.kind,
        stage=found.stage,
        maybe_sent=found.maybe_sent,
        message=f"{found.message}: {reason}" if reason else found.message,
        certificate=isinstance(error, aiohttp.ClientConnectorCertificateError),
        sent=sent,
        received=now,
    )


def _reason(error: Exception) -> str | None:
    """Return the operating system's or the TLS library's word for it; neither quotes a URL."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else None
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        said = (getattr(error.os_error, "reason", None) or "").replace("_", " ").lower()
        # What a server answers that expects plain HTTP is no TLS record.
        plain = said in {"wrong version number", "record layer failure", "packet length too long", "http request"}
        return "the server does not speak TLS on this port; is it http?" if plain else said or None
    if isinstance(error, aiohttp.ClientConnectorError):
        if error.os_error.errno in {errno.EMFILE, errno.ENFILE}:
            return "too many open files: lower --concurrency, or raise the limit (ulimit -n)"
        return os.strerror(error.os_error.errno) if error.os_error.errno and error.os_error.errno > 0 else None
    return None
