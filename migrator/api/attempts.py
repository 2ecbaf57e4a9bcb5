"""The one loop of attempts: permit, send, classify, decide, wait."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import msgspec

from migrator.api.outcome import (
    Decision,
    Retry,
    RetryPolicy,
    Stop,
    classify,
    decide,
    may_have_acted,
    unless_in_progress,
)
from migrator.messages import Answer, Reply, Request, Sender
from migrator.options import Verify
from migrator.ratelimit.headers import Quota
from migrator.ratelimit.throttle import Throttle
from migrator.results import Outcome
from migrator.secret import Masker, Secret

__all__ = ["Answered", "Attempts", "Hooks"]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The last attempt of a request: the one whose answer counts.

    Attributes:
        outcome: what the answer means.
        answer: what came back, or how it failed.
        quota: what the answer says of the rate limit.
        attempts: how often the request went out.
        waited_s: seconds that it waited, for the throttle and between attempts.
        stops: whether no other request can succeed either.
    """

    outcome: Outcome
    answer: Answer
    quota: Quota | None
    attempts: int
    waited_s: float
    stops: bool


class Hooks:
    """What happens around an attempt; by itself nothing does."""

    def was_sent(self, request: Request) -> bool:
        """Tell whether a request was sent before, and it is not known what came of that."""
        del request
        return False

    async def before_send(self, request: Request, attempt: int) -> None:
        """Act before an attempt leaves, which is counted from 1."""

    def still_wanted(self, request: Request) -> bool:
        """Tell whether a request that has waited for its permit is still to be sent."""
        del request
        return True

    def on_answer(self, request: Request, answer: Answer, outcome: Outcome, decision: Decision) -> Decision:
        """Return what is done about an answer: the decision, or another one."""
        del request, answer, outcome
        return decision

    def on_retry(self, request: Request, outcome: Outcome, delay_s: float) -> None:
        """Act before the wait for the next attempt."""


NO_HOOKS: Final = Hooks()


class Attempts:
    """Sends requests until each has an answer that counts.

    Args:
        throttle: grants permits.
        client: makes one attempt.
        policy: how often, and after which pauses.
        rng: the source of jitter.
        masker: keeps secrets out of what is recorded.
        verify: whether a 2xx answer's body is compared with what was sent.
        hooks: act around an attempt.
    """

    def __init__(
        self,
        *,
        throttle: Throttle,
        client: Sender,
        policy: RetryPolicy,
        rng: Random,
        masker: Masker,
        verify: Verify = Verify.NONE,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        self._throttle = throttle
        self._client = client
        self._policy = policy
        self._rng = rng
        self._masker = masker
        self._verify = verify
        self._hooks = hooks

    @asynccontextmanager
    async def until_done(self, request: Request) -> AsyncIterator[Answered | None]:
        """Send a request until an answer counts, and yield it; its in-flight slot is held until the block is left.

        Yields:
            The answer that counts, or None where the throttle was stopped, or the request is not wanted any more.

        Raises:
            WaitTooLong: the quota needs a longer wait than the user allows.
        """
        # An attempt for which the connection or the whole server is to blame does not count as the request's own.
        counted, spared, waited_s, renewed = 1, 0, 0.0, False
        sent = self._hooks.was_sent(request)
        while True:
            # An item that was started goes before the next one: what was read of it stays young, and few are half done.
            writes = request.method != "GET"
            async with self._throttle.permit(request.limiter_key, order=request.item, writes=writes) as permit:
                waited_s += permit.waited_s
                if not permit.granted or not self._hooks.still_wanted(request):
                    yield None
                    return
                await self._hooks.before_send(request, counted + spared)
                answer = await self._client.send(request)
                spared += answer.resent
                # The number of segments tells the list of an API from one of its records.
                signal = permit.received(answer, kind=f"{request.method} {request.url.count('/')}")
                outcome = classify(
                    request,
                    answer,
                    verify=self._verify,
                    mask=self._mask(request),
                    signal=signal,
                )
                if sent or answer.resent:
                    outcome = unless_in_progress(request, answer, outcome, signal.retry_after_s)
                sent = sent or may_have_acted(answer, signal.retry_after_s)
                decision = decide(outcome, attempt=counted, policy=self._policy, rng=self._rng)
                if isinstance(answer, Reply) and answer.renewed and not renewed:
                    renewed, decision = True, Retry(delay_s=0.0, counted=False)
                decision = self._hooks.on_answer(request, answer, outcome, decision)
                if not isinstance(decision, Retry):
                    yield Answered(
                        outcome=decision.outcome,
                        answer=answer,
                        quota=signal.quota,
                        attempts=counted + spared,
                        waited_s=waited_s,
                        stops=isinstance(decision, Stop),
                    )
                    return
            counted += decision.counted
            spared += not decision.counted and not outcome.throttled
            self._hooks.on_retry(request, outcome, decision.delay_s)
            await self._throttle.sleep(decision.delay_s)
            waited_s += decision.delay_s

    def remember(self, secrets: Iterable[Secret]) -> None:
        """Mask these in the texts of all answers from now on (see `Masker.remember`)."""
        self._masker.remember(secrets)

    def _mask(self, request: Request) -> Callable[[str], str]:
        return lambda text: self._masker.server_text(text, request.secrets)
