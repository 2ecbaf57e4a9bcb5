"""The API's own test message through the webhooks of a job's rows, before they are written.

It tests the webhook of the row, and not what the API has stored: the request carries the row's values. People see the
message in their channel, so that it is sent only where the user asks for it.
"""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import anyio
import msgspec
from msgspec.structs import replace

from migrator.api.attempts import Attempts
from migrator.api.outcome import RetryPolicy
from migrator.api.session import open_session, system_clock
from migrator.errors import MigratorError, WaitTooLong
from migrator.job.profile.api_profile import ApiProfile, ChannelTest
from migrator.messages import Request
from migrator.options import RunOptions
from migrator.results import Exit, Status
from migrator.store.state_folder import StateFolder
from migrator.values import SendTests

__all__ = ["request_of", "send_test_messages"]

AT_A_TIME: Final = 8
SHOWN: Final = 20


def request_of(request: Request, test: ChannelTest, base_url: str) -> Request:
    """Return the request that sends a test message through the webhook of an item's request.

    The member that the API wants and the row does not set takes the item's key.
    """
    body: dict[str, Any] = {test.named: request.key, **msgspec.json.decode(request.wanted or request.body or b"{}")}
    # A message that was shown twice is no harm to the record, but people would see it twice.
    return replace(
        request,
        method="POST",
        url=base_url + test.path,
        body=msgspec.json.encode(body),
        wanted=None,
        headers=(),
        idempotent=False,
    )


async def send_test_messages(
    api: ApiProfile, requests: Iterable[Request], options: RunOptions, *, base_url: str
) -> list[str]:
    """Send the test messages that the options ask for, and return what is worth knowing.

    Args:
        api: the API, with its test.
        requests: those of all items.
        options: of the run; `canary` says how many are sent where one is asked for by that name.
        base_url: the server's.

    Raises:
        MigratorError: the API has no test message, or some were refused; nothing was written.
    """
    test = api.test_message
    if options.test_message is SendTests.NONE or options.dry_run:
        return []
    if test is None:
        raise MigratorError(f"--test-message: the profile {api.name} has no test message")
    wanted = requests if options.test_message is SendTests.ALL else islice(requests, max(1, options.canary))
    waiting = (request_of(request, test, base_url) for request in wanted)
    state = StateFolder.open(Path(options.state))
    masker = state.masker(api.credentials())
    ended: list[tuple[Request, Status, str]] = []
    try:
        async with (
            open_session(
                api,
                options,
                base_url=base_url,
                state=state,
                masker=masker,
                clock=system_clock(),
                reuse_connections=False,
            ) as session,
            anyio.create_task_group() as senders,
        ):
            attempts = Attempts(
                throttle=session.throttle,
                client=session.client,
                policy=RetryPolicy(max_attempts=options.max_attempts),
                rng=SystemRandom(),
                masker=masker,
            )

            async def send_some() -> None:
                for request in waiting:
                    async with attempts.until_done(request) as answered:
                        if answered is not None:
                            error = answered.outcome.error
                            ended.append((request, answered.outcome.status, error.message if error else ""))

            for _ in range(AT_A_TIME):
                senders.start_soon(send_some)
    except* WaitTooLong as wait:
        raise MigratorError(f"the test messages: {wait.exceptions[0]}", Exit.STOPPED) from None
    return _judged(ended)


def _judged(ended: list[tuple[Request, Status, str]]) -> list[str]:
    refused = sorted(((one.item, text) for one, status, text in ended if status is Status.FAILED))
    if refused:
        lines = [f"item {item}: {text}" for item, text in refused[:SHOWN]]
        more = [f"… and {len(refused) - SHOWN:,} more"] if len(refused) > SHOWN else []
        head = f"{len(refused):,} of {len(ended):,} test messages were refused; nothing was written"
        raise MigratorError("\n".join([head, *lines, *more]), Exit.STOPPED)
    unknown = sum(status is Status.IN_DOUBT for _, status, _ in ended)
    notices = [
        f"{len(ended) - unknown:,} test messages were sent; they test the webhooks of the rows, not the stored records"
    ]
    return [*notices, f"{unknown:,} test messages may have been sent: there was no answer"] if unknown else notices
