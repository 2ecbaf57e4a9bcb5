"""Workers of a run: many quotas are used side by side, one after the other in the file or not."""

from collections import Counter
from dataclasses import replace

import anyio
import pytest
from driven_run import Script, Server, drive, requests

from migrator.messages import Request
from migrator.options import RunOptions
from migrator.ratelimit.throttle import Throttle
from migrator.results import Status, StopKind, StopReason
from migrator.run.engine import Engine

LIMIT, WINDOW_S = 25, 60.0


def windows() -> Script:
    """Return what answers as a fixed window for each tenant does, from the tenant's first request on."""
    opened: dict[str, tuple[float, int]] = {}

    def answer(server: Server, request: Request) -> tuple[int, dict[str, str]]:
        now = server.clock().mono
        ends, count = opened.get(request.limiter_key, (0.0, 0))
        if now >= ends:
            ends, count = now + WINDOW_S, 0
        opened[request.limiter_key] = ends, count + 1
        left = max(0, LIMIT - count - 1)
        shown = {
            "ratelimit-limit": str(LIMIT),
            "ratelimit-remaining": str(left),
            "ratelimit-reset": f"{ends - now:.3f}",
        }
        return (200 if count < LIMIT else 429), {f"ratelimit-{name}": value for name, value in shown.items()}

    return answer


@pytest.mark.parametrize("in_turns", [False, True])
def test_a_hundred_tenants_use_the_sum_of_their_quotas(*, in_turns: bool) -> None:
    """Each tenant has a quota of its own; in two windows 97 % of their sum is used, and none is refused."""
    tenants, rows = 100, 2 * LIMIT
    items = [
        replace(one, limiter_key=f"tenant {number % tenants if in_turns else number // rows}")
        for number, one in enumerate(requests(tenants * rows))
    ]

    driven = drive(items, windows(), options=RunOptions(), many_keys=True)

    assert driven.counts == {Status.SUCCEEDED: tenants * rows}
    done_in_time = sum(second <= 2 * WINDOW_S for _, second in driven.server.sent)
    assert done_in_time >= 0.97 * tenants * rows
    assert len(driven.server.sent) == tenants * rows, "no request was refused"
    by_tenant = Counter(items[item - 1].limiter_key for item, second in driven.server.sent if second <= WINDOW_S)
    assert min(by_tenant.values()) >= 0.97 * LIMIT, "no tenant starves"


def test_a_stop_ends_workers_that_are_idle() -> None:
    """A run that is stopped while all keys wait for their quota ends at once."""
    items = [replace(one, limiter_key=f"tenant {one.item % 3}") for one in requests(3 * LIMIT + 3)]

    async def stop(engine: Engine, throttle: Throttle) -> None:
        del throttle
        await anyio.sleep(30.0)
        engine.stop(StopReason(StopKind.SIGINT, "stop"))

    driven = drive(items, windows(), options=RunOptions(), many_keys=True, meanwhile=stop)

    assert driven.seconds == pytest.approx(30.0, abs=0.1)
    assert driven.counts == {Status.SUCCEEDED: 3 * LIMIT}
