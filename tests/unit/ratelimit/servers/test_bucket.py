"""A bucket is recognised by a reset that grows with use, and used as it fills; a window is not taken for one."""

import math
from random import Random

import pytest
from simulation import World, share_of_the_rest, simulate

from migrator.ratelimit.model import PacerSettings
from migrator.ratelimit.pacer import Pacer
from migrator.ratelimit.servers.bucket import Bucket
from migrator.ratelimit.servers.models import ServerModels
from migrator.ratelimit.servers.report import Report
from migrator.sandbox.limits import Algorithm, make_limiter

LIMIT, WINDOW_S = 50, 10.0


def drained(one: Bucket | ServerModels, algorithm: Algorithm) -> float:
    """Use a quota up, one request at a time; return when that was."""
    limiter, now = make_limiter(algorithm, limit=LIMIT, window_s=WINDOW_S), 0.0
    while (verdict := limiter.take(now + 0.01)).remaining:
        one.sent(now)
        now += 0.02
        report = Report(
            limit=LIMIT,
            remaining=verdict.remaining,
            reset_s=float(math.ceil(verdict.reset_s)),
            resolution_s=1.0,
            late_s=0.0,
            window_s=None,
            opening=now < 0.03,
            sent=now - 0.02,
            now=now,
            in_flight=0,
            overtaken=0,
        )
        one.answered(report)
    return now


def test_a_bucket_is_used_as_it_fills() -> None:
    """After the burst one request may go about every fifth of a second, and never before the server has it."""
    one = Bucket()
    now = drained(one, Algorithm.GCRA)

    assert one.believed
    assert now < one.next_at(0) <= now + 1.5
    assert one.next_at(5) > one.next_at(0) + 0.5


@pytest.mark.parametrize("algorithm", [Algorithm.FIRST, Algorithm.SLIDING])
def test_a_window_is_no_bucket(algorithm: Algorithm) -> None:
    """Its reset stands still."""
    one = Bucket()
    drained(one, algorithm)

    assert not one.believed


def test_the_models_name_it() -> None:
    """The models believe a bucket; a refusal makes them keep room for others, and many end it."""
    one = ServerModels()
    now = drained(one, Algorithm.GCRA)
    assert (one.believed, one.room) == ("bucket", 0)

    refusal = Report(
        limit=LIMIT,
        remaining=0,
        reset_s=10.0,
        resolution_s=1.0,
        late_s=0.0,
        window_s=None,
        opening=False,
        sent=now,
        now=now + 0.02,
        in_flight=0,
        overtaken=0,
        refused=True,
        on_trust=True,
    )
    one.answered(refusal)
    assert (one.believed, one.room) == ("bucket", 4)
    for _ in range(LIMIT // 4):
        one.answered(refusal)
    assert one.believed != "bucket"
    assert one.room == 0


def test_a_bucket_that_others_draw_on() -> None:
    """Room is kept for what others take before the next answer: few are refused, and nothing of the rest is lost."""
    for seed in range(3):
        world = World(algorithm=Algorithm.GCRA, rival=0.3, latency_s=(0.015, 0.03))
        outcome = simulate(world, Pacer(PacerSettings(), rng=Random(seed)), items=400, slots=8, seed=seed)

        assert share_of_the_rest(world, outcome, items=400, slots=8, seed=seed) >= 0.97
        assert outcome.refused <= 4
