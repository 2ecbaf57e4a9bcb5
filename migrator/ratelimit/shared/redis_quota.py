"""The runs of several hosts share a quota through a Redis or Valkey server.

The transitions are those of `Budget`, in a script that the server runs as one step and by its own clock, so that no two
runs and no two clocks can disagree. The server stores the numbers of a budget under a key, and the key is a keyed
digest: nothing of the credential or the API's name is in it.

One task sends everything over one connection: while a call is under way, further questions and reports gather for the
next. Where the server cannot be reached, every question is answered with yes at once, so that each run goes by its own
pacer alone, and what was to be reported is dropped; the budget counts it as in flight until its window ends.
"""

import hashlib
import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import resources
from types import TracebackType
from typing import Any, Final, Self

import anyio
import redis.asyncio
from anyio.abc import TaskGroup
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from migrator.ratelimit.shared import budget
from migrator.ratelimit.shared.model import Report, ReportKind, Share

__all__ = ["SCRIPT", "RedisQuota"]

TAKE: Final = -1

MOST: Final = 500
"""Questions and reports in one call; one takes the server about 20 microseconds."""

TIMEOUT_S: Final = 1.0
RETRY_S: Final = 1.0
"""Seconds that an answer is waited for, and seconds until a server that was lost is tried again."""

CLOSE_S: Final = 2.0
"""Seconds that the last reports may take when a run ends."""

KEPT_S: Final = 3600.0
"""Seconds that a budget is kept after its window."""

CONSTANTS: Final = {
    "TAKE": TAKE,
    "RETURNED": int(ReportKind.RETURNED),
    "LOST": int(ReportKind.LOST),
    "ANSWERED": int(ReportKind.ANSWERED),
    "REFUSED": int(ReportKind.REFUSED),
    "UNANNOUNCED": int(ReportKind.UNLIMITED),
    "MARGIN_S": budget.MARGIN_S,
    "POLL_S": budget.POLL_S,
    "PATIENCE": budget.PATIENCE,
    "ROUNDING_S": budget.ROUNDING_S,
    "PROBE_S": budget.PROBE_S,
    "TRANSIT_S": budget.TRANSIT_S,
    "UNLIMITED_S": budget.UNLIMITED_S,
    "KEPT_S": KEPT_S,
}

SCRIPT: Final = "\n".join(
    [
        *(f"local {name} = {value}" for name, value in CONSTANTS.items()),
        (resources.files("migrator.ratelimit.shared") / "budget.lua").read_text("ascii"),
    ]
)
"""What the server runs; `budget.lua` says what it takes and returns."""


class _Question:
    """Asks for one request; answered by the next call."""

    __slots__ = ("answer", "answered", "limiter_key")

    def __init__(self, limiter_key: str) -> None:
        self.limiter_key = limiter_key
        self.answered = anyio.Event()
        self.answer = Share(0.0, 0)


class RedisQuota:
    """A quota that is kept in a Redis server; an asynchronous context manager.

    Args:
        url: ``rediss://…``, or ``redis://…`` on this machine; it may hold a password and is not shown anywhere.
        identity: names the quota: a secret of at least 16 bytes that all its runs have.
        ca_file: trust the certificates of this PEM file in place of the system's.
        client_cert: show the certificate of this PEM file, which holds its key too.
        changed: told why the server cannot be used, and None when it can be used again.
        retry_s: seconds until a server that was lost is tried again.

    Raises:
        ValueError: it is no such URL.
    """

    def __init__(
        self,
        url: str,
        *,
        identity: bytes,
        changed: Callable[[str | None], None],
        ca_file: str | None = None,
        client_cert: str | None = None,
        retry_s: float = RETRY_S,
    ) -> None:
        tls: dict[str, Any] = {}
        if url.startswith("rediss:"):
            tls = {"ssl_ca_certs": ca_file, "ssl_certfile": client_cert, "ssl_keyfile": client_cert}
        self._client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=2,
            **tls,
        )
        self._script = self._client.register_script(SCRIPT)
        self._identity, self._changed, self._retry_s = identity, changed, retry_s
        self._waiting: list[_Question | Report] = []
        self._called = anyio.Event()
        self._lost = False
        self._closing = False
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._serve)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._called.set()
        if self._tasks is not None:
            self._tasks.cancel_scope.deadline = anyio.current_time() + CLOSE_S
            await self._tasks.__aexit__(None, None, None)
        with anyio.move_on_after(CLOSE_S, shield=True):
            await self._client.aclose()

    async def take(self, limiter_key: str) -> Share:
        """Take one request, or learn when to ask again; where the server cannot be reached, it may go."""
        if self._lost:
            return Share(0.0, 0)
        question = _Question(limiter_key)
        self._waiting.append(question)
        self._called.set()
        await question.answered.wait()
        return question.answer

    def take_at_once(self, limiter_key: str) -> int | None:
        """Return None: it takes a round trip, unless the server cannot be reached."""
        del limiter_key
        return 0 if self._lost else None

    def report(self, report: Report) -> None:
        """Say how a request ended."""
        if not self._lost:
            self._waiting.append(report)
            self._called.set()

    def together(self) -> AbstractContextManager[None]:
        """Do nothing: one call takes all that has gathered anyway."""
        return nullcontext()

    async def _serve(self) -> None:
        while True:
            if self._lost and not self._closing:
                await self._find_again()
            elif self._waiting and not self._lost:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._call(batch)
            elif self._closing:
                return
            else:
                self._called = anyio.Event()
                await self._called.wait()

    async def _call(self, batch: list[_Question | Report]) -> None:
        keys, arguments = self._encoded(batch)
        try:
            answers = await self._script(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._give_up(error)
        else:
            for one, wait, window in zip(batch, answers[::2], answers[1::2], strict=True):
                if isinstance(one, _Question):
                    one.answer = Share(float(wait), int(window))
        finally:
            for one in batch:
                if isinstance(one, _Question):
                    one.answered.set()

    def _encoded(self, batch: list[_Question | Report]) -> tuple[list[str], list[int | float]]:
        """Return the keys and the arguments of the script."""
        arguments: list[int | float] = []
        for one in batch:
            if isinstance(one, _Question):
                arguments += (TAKE, 0, 0, 0)
            else:
                arguments += (int(one.kind), one.window, one.remaining, one.wait_s)
        return [self._key(one.limiter_key) for one in batch], arguments

    def _key(self, limiter_key: str) -> str:
        digest = hmac.digest(self._identity, limiter_key.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"migrator:quota:{digest.hex()}"

    def _give_up(self, error: Exception) -> None:
        """Let every run go by its own pacer."""
        self._lost = True
        for one in self._waiting:
            if isinstance(one, _Question):
                one.answered.set()
        self._waiting.clear()
        if isinstance(error, AuthenticationError):
            self._changed("the server refuses the password")
        elif "CERTIFICATE_VERIFY_FAILED" in str(error):
            self._changed("the server's certificate is not trusted (--ca-file)")
        else:
            self._changed("the server cannot be reached")

    async def _find_again(self) -> None:
        self._called = anyio.Event()
        with anyio.move_on_after(self._retry_s):
            await self._called.wait()
        try:
            await self._client.ping()
        except (RedisError, OSError, TimeoutError):
            return
        self._lost = False
        self._changed(None)
