"""An OAuth 2.0 token server and an API that takes its tokens, both on loopback, whose tokens end."""

import asyncio
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from aiohttp import web
from server_thread import served

CLIENT, CLIENT_SECRET = "client-1", "client:s3cret/ü"


@dataclass
class Server:
    """What the server does, and what it saw.

    Attributes:
        url: the server's.
        lifetime_s: how long a token is good.
        basic: whether a client may show itself by HTTP Basic; else it must in the form.
        refuse_after: how many tokens are given before the client is refused.
        records: the records of the API, by id.
        tokens: each token that was given, and when it ends.
        forms: what was asked for at the token endpoint.
        statuses: the API's answers.
        requests_of: the tokens that the API was shown.
    """

    url: str = ""
    lifetime_s: float = 2.0
    basic: bool = True
    refuse_after: int = 1_000_000
    records: dict[str, object] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    forms: list[dict[str, str]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def revoke(self) -> None:
        """End all tokens at once."""
        self.tokens = dict.fromkeys(self.tokens, 0.0)

    async def token(self, request: web.Request) -> web.Response:
        """Answer as RFC 6749, sections 5.1 and 5.2, have it."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        await asyncio.sleep(0.05)
        shown = self._shown(request, form)
        if shown != (CLIENT, CLIENT_SECRET) or len(self.tokens) >= self.refuse_after:
            return web.json_response({"error": "invalid_client"}, status=401)
        token = f"token-{len(self.tokens)}-secret"
        self.tokens[token] = time.monotonic() + self.lifetime_s
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_s})

    def _shown(self, request: web.Request, form: dict[str, str]) -> tuple[str, str]:
        given = request.headers.get("Authorization", "")
        if self.basic and given.startswith("Basic "):
            user, _, password = b64decode(given.removeprefix("Basic ")).decode().partition(":")
            return unquote_plus(user), unquote_plus(password)
        return form.get("client_id", ""), "" if self.basic else form.get("client_secret", "")

    async def write(self, request: web.Request) -> web.Response:
        """Take a record from a client with a good token; a refusal repeats the token, as servers do."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        good = time.monotonic() < self.tokens.get(token, 0.0)
        self.statuses[200 if good else 401] += 1
        if not good:
            return web.json_response({"errors": [{"title": f"token {token} is not valid"}]}, status=401)
        self.records[request.match_info["id"]] = body = await request.json()
        return web.json_response(body)


@contextmanager
def oauth2_server(**settings: object) -> Iterator[Server]:
    """Serve in a thread of its own."""
    server = Server(**settings)  # type: ignore[arg-type]  # a test's own words
    app = web.Application()
    app.router.add_post("/token", server.token)
    app.router.add_patch("/things/{id}", server.write)
    with served(app) as server.url:
        yield server
