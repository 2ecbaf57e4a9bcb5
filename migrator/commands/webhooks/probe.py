"""A look at new Slack webhooks before production alerts go to them: alive, dead or unknown; nothing is ever posted.

An empty text makes Slack's incoming webhooks answer `no_text` where they are alive and a word for the trouble where
they are not; the words are those that public clients have collected. Only `/services/` is ever asked: any request to
`/workflows/` or `/triggers/` starts what is behind it. The requests carry no credentials and have their own throttle.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from random import SystemRandom
from secrets import token_bytes
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import anyio
import msgspec

from migrator.api.attempts import Attempts
from migrator.api.outcome import RetryPolicy
from migrator.api.session import system_clock
from migrator.api.transport.client import Client
from migrator.errors import MigratorError, WaitTooLong
from migrator.job.items import Item, read_items
from migrator.job.job_file import Job, Preflight
from migrator.job.problems import Problem
from migrator.job.profile.api_profile import ApiProfile
from migrator.job.source import Source
from migrator.messages import Reply, Request
from migrator.ratelimit.model import PacerSettings
from migrator.ratelimit.throttle import Throttle
from migrator.secret import Fingerprinter, Masker, Secret

__all__ = ["Verdict", "preflight", "probe_all", "verdict_of"]

HOSTS: Final = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})
ALIVE: Final = frozenset({"no_text", "missing_text", "missing_text_or_fallback_or_attachments"})
DEAD: Final = frozenset(
    {
        "action_prohibited",
        "channel_is_archived",
        "channel_not_found",
        "invalid_token",
        "no_active_hooks",
        "no_service",
        "no_service_id",
        "no_team",
        "posting_to_general_channel_denied",
        "team_disabled",
    }
)

PER_SECOND: Final = 20.0
AT_A_TIME: Final = 8
ATTEMPTS: Final = 3
TIMEOUT_S: Final = 10.0
LONGEST_WAIT_S: Final = 30.0
LONGEST_WORD: Final = 100
SHOWN: Final = 100


class Verdict(StrEnum):
    """What is known of a webhook."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"
    NOT_PROBED = "not probed"


class Probed(msgspec.Struct, frozen=True):
    """What became of a probe: the verdict, and the server's word for it."""

    verdict: Verdict
    word: str = ""


def verdict_of(word: str) -> Verdict:
    """Return what a word of Slack's means; one that is not known means nothing."""
    return Verdict.ALIVE if word in ALIVE else Verdict.DEAD if word in DEAD else Verdict.UNKNOWN


async def preflight(job: Job, source: Source, *, limit: int, only: Container[int] | None = None) -> Counter[Verdict]:
    """Probe the webhooks of all items, each once, and return how many are what.

    Raises:
        MigratorError: some are dead; the text names their rows.
    """
    if job.preflight is None:
        return Counter()
    column = job.preflight.column
    wanted = [
        item
        for item in _items(job, source, limit)
        if (only is None or item.number in only) and isinstance(item.values.get(column), Secret | str)
    ]
    found = await probe_all({_text(item.values[column]) for item in wanted}, job.preflight)
    dead = [(item, found[_text(item.values[column])]) for item in wanted]
    dead = [(item, probed) for item, probed in dead if probed.verdict is Verdict.DEAD]
    if dead:
        lines = [
            f"{source.name}: row {item.number}: {column}: the webhook is dead: {probed.word}"
            for item, probed in dead[:SHOWN]
        ]
        if len(dead) > SHOWN:
            lines.append(f"… and {len(dead) - SHOWN} more")
        raise MigratorError("\n".join([f"{len(dead)} of the new webhooks are dead; nothing was sent", *lines]))
    return Counter(probed.verdict for probed in found.values())


def _items(job: Job, source: Source, limit: int) -> Iterator[Item]:
    for item in read_items(source.rewound(), form=source.form, job=job, name=source.name):
        if isinstance(item, Problem) or item.number > limit:
            return
        yield item


def _text(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value)


async def probe_all(webhooks: Iterable[str], settings: Preflight) -> Mapping[str, Probed]:
    """Probe webhooks, each once, and return what is known of them."""
    found: dict[str, Probed] = {}
    waiting = iter(sorted(webhooks))
    clock = system_clock()
    server = ApiProfile(name="slack", base_url=settings.server or "https://hooks.slack.com")
    async with (
        Throttle(settings=PacerSettings(rate=PER_SECOND), concurrency=AT_A_TIME, max_wait_s=LONGEST_WAIT_S) as throttle,
        Client.open(server, timeout_s=TIMEOUT_S, clock=clock) as client,
    ):
        attempts = Attempts(
            throttle=throttle,
            client=client,
            policy=RetryPolicy(max_attempts=ATTEMPTS),
            rng=SystemRandom(),
            masker=Masker(Fingerprinter(token_bytes(32)), []),  # nothing of an answer is shown but Slack's own words
        )

        async def probe_some() -> None:
            for webhook in waiting:
                target = _target(webhook, settings.server)
                found[webhook] = Probed(Verdict.NOT_PROBED) if target is None else await _probe(attempts, target)

        async with anyio.create_task_group() as probers:
            for _ in range(AT_A_TIME):
                probers.start_soon(probe_some)
    return found


def _target(webhook: str, server: str | None) -> str | None:
    """Return where a webhook is probed, or None for one that must not be."""
    try:
        parts = urlsplit(webhook)
        host = parts.hostname
    except ValueError:
        return None
    # What a server makes of dots and encoded slashes is its own affair: such a path may lead anywhere.
    segments: Sequence[str] = parts.path.split("/")
    plain = parts.path.isascii() and "%" not in parts.path and not {".", ".."} & set(segments)
    if not plain or segments[:2] != ["", "services"] or parts.query or parts.fragment:
        return None
    if server is not None:
        return server.rstrip("/") + parts.path
    if parts.scheme != "https" or host not in HOSTS or parts.port is not None or parts.username is not None:
        return None
    return urlunsplit(parts)


async def _probe(attempts: Attempts, target: str) -> Probed:
    request = Request(
        item=0,
        key="",
        method="POST",
        url=target,
        body=b'{"text":""}',
        limiter_key="slack",
        secrets=(Secret(target),),
        idempotent=True,
    )
    try:
        async with attempts.until_done(request) as answered:
            answer = None if answered is None else answered.answer
    except WaitTooLong:
        answer = None
    if not isinstance(answer, Reply):
        return Probed(Verdict.UNKNOWN)
    word = answer.body[:LONGEST_WORD].decode("utf-8", "replace").strip()
    verdict = verdict_of(word)
    return Probed(verdict, word if verdict is Verdict.DEAD else "")
