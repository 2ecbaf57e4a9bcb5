"""Against a server that tells of nothing but refusals, whatever it counts by: few refusals, and most of the speed."""

import math
from random import Random

import pytest
from simulation import World, least_seconds, simulate

from migrator.ratelimit.model import PacerMemory, PacerSettings
from migrator.ratelimit.pacer import Pacer
from migrator.ratelimit.silent.trial import Trial
from migrator.sandbox.limits import Algorithm

QUOTAS = [(100, 60.0, 400), (50, 10.0, 250), (10, 1.0, 200)]
BURSTY = [Algorithm.FIRST, Algorithm.SLIDING, Algorithm.GCRA]


@pytest.mark.parametrize("algorithm", BURSTY)
@pytest.mark.parametrize(("limit", "window_s", "items"), QUOTAS)
@pytest.mark.parametrize("retry_after", [True, False])
def test_limits_that_nothing_tells_of(
    algorithm: Algorithm, limit: int, window_s: float, items: int, retry_after: bool
) -> None:
    """At least 85 % of the speed of one who knows the server's state, and refusals for a few percent at the most.

    A window of a second that says nothing at all is used to 70 %.
    """
    for seed in range(3):
        world = World(
            algorithm=algorithm,
            limit=limit,
            window_s=window_s,
            style=None,
            retry_after=retry_after,
            latency_s=(0.015, 0.03),
            phase_s=0.37 * window_s * seed,
        )
        best = least_seconds(world, items=items, slots=16, seed=seed)
        outcome = simulate(world, Pacer(PacerSettings(), rng=Random(seed)), items=items, slots=16, seed=seed)

        assert best / outcome.seconds >= (0.85 if retry_after or window_s > 1.0 else 0.7)
        assert outcome.refused <= 5 + 0.03 * items


def test_a_rate_and_a_small_burst() -> None:
    """A limiter such as nginx's, 50 a second and a burst of 10, is found within some seconds."""
    world = World(
        algorithm=Algorithm.GCRA, limit=11, window_s=0.22, style=None, retry_after=False, latency_s=(0.018, 0.022)
    )
    for seed in range(5):
        best = least_seconds(world, items=600, slots=16, seed=seed)
        outcome = simulate(world, Pacer(PacerSettings(), rng=Random(seed)), items=600, slots=16, seed=seed)

        assert best / outcome.seconds >= 0.8
        assert outcome.refused <= 5 + 0.03 * 600


def test_a_run_begins_where_the_last_one_ended() -> None:
    """The rate that held is handed on, and the next run meets few refusals."""
    world = World(algorithm=Algorithm.GCRA, limit=50, window_s=10.0, style=None, latency_s=(0.018, 0.022))
    first = Pacer(PacerSettings(), rng=Random(1))
    simulate(world, first, items=250, slots=16, seed=1)
    memory = first.memory()
    assert memory.steady_rate == pytest.approx(5.0, rel=0.1)

    second = simulate(world, Pacer(PacerSettings(), rng=Random(2), memory=memory), items=250, slots=16, seed=2)

    assert second.refused <= 4


def test_few_requests_at_first() -> None:
    """Few are in flight before much has passed, since a first limit refuses all that are; later as many as can be."""
    one = Trial(None, Random(1))
    assert one.most_in_flight() == 1
    for number in range(5000):
        one.accepted(0.01 * number, before_refusal=False)
        assert one.most_in_flight() <= 2 + 0.1 * number
    assert one.most_in_flight() > 64
    assert one.rate(50.0) is None
    assert one.next_at(10) == -math.inf


def test_one_probe_after_a_refusal() -> None:
    """After a refusal one request goes alone, at the end of the pause."""
    one = Trial(None, Random(1))
    for number in range(20):
        one.accepted(0.01 * number, before_refusal=False)

    one.refused(0.2, 30.0, 0.22)

    assert one.most_in_flight() == 1
    assert one.next_at(0) == -math.inf
    assert PacerMemory(steady_rate=one.steady_rate()).steady_rate == pytest.approx(20 / 30.0)
