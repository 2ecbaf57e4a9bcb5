"""A session with one API: the throttle, the client and the reader, with what was learned of the API kept on disk."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import SystemRandom
from time import monotonic, time
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from migrator import errors
from migrator.api.attempts import Attempts, Hooks
from migrator.api.credentials import LiveCredentials
from migrator.api.expressions import ShownNames, body_reader
from migrator.api.outcome import RetryPolicy
from migrator.api.reader import Reader
from migrator.api.shared_quota import Tell, open_shared_quota
from migrator.api.transport.client import Client
from migrator.api.transport.network import network_of
from migrator.errors import MigratorError
from migrator.job.profile.api_profile import ApiProfile
from migrator.messages import Clock, Instant, Sender, unsafe_url
from migrator.options import RunOptions, Verify
from migrator.ratelimit.model import PacerMemory, PacerSettings
from migrator.ratelimit.shared.model import SharedQuota
from migrator.ratelimit.throttle import Throttle
from migrator.secret import Masker, Secret
from migrator.store import files
from migrator.store.state_folder import StateFolder

__all__ = ["Session", "open_session", "safe_base_url", "system_clock"]

UNKNOWN_WINDOW_S: Final = 60.0
"""Seconds that a refusal of an earlier run is heeded at the most, where no window has been seen."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What talks to an API.

    Attributes:
        base_url: the server's.
        throttle: grants permits to send.
        client: makes the attempts.
        reader: reads records and collections.
        policy: how often a request is sent.
        masker: keeps secrets out of what is written.
        clock: reads both clocks.
        tokens: what gets a new token; None where credentials are fixed, and on a worker.
        shared: the quota that the runs of this credential share; None on a worker, which asks its run.
        names: notes what the API shows under another name.
    """

    base_url: str
    throttle: Throttle
    client: Sender
    reader: Reader
    policy: RetryPolicy
    masker: Masker
    clock: Clock
    shared: SharedQuota | None = None
    names: ShownNames = msgspec.field(default_factory=ShownNames)
    tokens: LiveCredentials | None = None

    def attempts(self, hooks: Hooks, *, verify: Verify = Verify.NONE) -> Attempts:
        """Return what sends requests of this API until each has an answer that counts.

        Args:
            hooks: act around an attempt.
            verify: whether a 2xx answer's body is compared with what was sent.
        """
        return Attempts(
            throttle=self.throttle,
            client=self.client,
            policy=self.policy,
            rng=SystemRandom(),
            masker=self.masker,
            verify=verify,
            hooks=hooks,
        )

    @property
    def host(self) -> str:
        """The server's name and port, fit for a file's name."""
        return _host(self.base_url)


def _host(base_url: str) -> str:
    return urlsplit(base_url).netloc.replace(":", "_")


def system_clock() -> Clock:
    """Return what reads the monotonic clock and the system's; that of an event loop may be a millisecond behind."""
    return lambda: Instant(monotonic(), time())


def safe_base_url(api: ApiProfile, options: RunOptions) -> str:
    """Return the server that is talked to.

    Raises:
        MigratorError: credentials would go over plain HTTP, or it is no URL.
    """
    base_url = (options.base_url or api.base_url).rstrip("/")
    if message := unsafe_url(base_url, credentials=api.has_credentials):
        raise MigratorError(f"{re.split('[?#]', base_url)[0]}: {message}")
    return base_url


@asynccontextmanager
async def open_session(
    api: ApiProfile,
    options: RunOptions,
    *,
    base_url: str,
    state: StateFolder,
    masker: Masker,
    clock: Clock,
    reuse_connections: bool = True,
    tell_sharing: Tell = lambda _: None,
) -> AsyncIterator[Session]:
    """Open a session, and close it on leaving.

    Raises:
        FolderError: the state folder cannot be used.
    """
    learned = _learned(api, base_url, state, masker)
    async with (
        open_shared_quota(
            options, base_url=base_url, identity=api.identity(), learned=learned, tell=tell_sharing
        ) as shared,
        Throttle(
            settings=PacerSettings(
                pace=options.pace,
                reserve=options.reserve,
                rate=options.rate,
                write_spacing_s=api.write_spacing_s,
            ),
            dialect=api.rate_limit,
            in_body=body_reader(api.body_limits),
            concurrency=options.concurrency,
            clock=clock,
            rng=SystemRandom(),
            max_wait_s=options.max_wait,
            memory=_recalled(learned, clock()),
            shared=shared,
        ) as throttle,
        Client.open(
            replace(api, base_url=base_url),
            timeout_s=options.timeout,
            clock=clock,
            network=network_of(options, api),
            reuse_connections=reuse_connections,
            learn=masker.learn,
        ) as client,
    ):
        policy = RetryPolicy(max_attempts=options.max_attempts)
        reader = Reader(Attempts(throttle=throttle, client=client, policy=policy, rng=SystemRandom(), masker=masker))
        yield Session(
            base_url=base_url,
            throttle=throttle,
            client=client,
            reader=reader,
            policy=policy,
            masker=masker,
            clock=clock,
            shared=shared,
            tokens=client.live,
        )
        _keep_lesson(throttle, clock, learned)


def _keep_lesson(throttle: Throttle, clock: Clock, learned: Path) -> None:
    """Keep what was learned, so that the next run makes no mistake twice; one that cannot be kept is no failure."""
    if (lesson := throttle.memory()) is not None:
        now = clock()
        if lesson.ready_at is not None:
            lesson = replace(lesson, ready_at=lesson.ready_at - now.mono + now.utc)
        with suppress(errors.FolderError), files.write_atomically(learned) as file:
            file.write(msgspec.json.encode(lesson))


def recalled(api: ApiProfile, *, base_url: str, state: StateFolder, masker: Masker) -> PacerMemory | None:
    """Return what earlier runs have learned of a server's limit for a credential; None where there was none."""
    return _recalled(_learned(api, base_url, state, masker), system_clock()())


def _learned(api: ApiProfile, base_url: str, state: StateFolder, masker: Masker) -> Path:
    return state.learned(_host(base_url), _credential(api, masker))


def _credential(api: ApiProfile, masker: Masker) -> str:
    """Return what tells one credential's quota from another's."""
    return masker.fingerprint(Secret("\n".join(api.identity())))


def _recalled(learned: Path, now: Instant) -> PacerMemory | None:
    """Return what an earlier run has learned; a quota that it used up is waited for, as far as that can be true."""
    try:
        memory = files.decoded(learned.read_bytes(), PacerMemory)
    except OSError:
        return None
    if memory is None:
        return None
    wait_s = 0.0 if memory.ready_at is None else memory.ready_at - now.utc
    believed = 0.0 < wait_s <= max(UNKNOWN_WINDOW_S, memory.longest_reset_s + memory.late_s)
    return replace(memory, ready_at=now.mono + wait_s if believed else None)
