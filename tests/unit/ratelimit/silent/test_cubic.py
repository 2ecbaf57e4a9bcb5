"""The rate follows a curve that visits the limit again and again, less and less as refusals confirm it."""

import math

import pytest

from migrator.ratelimit.silent.cubic import DEPTH, PLATEAU_S, Cubic


def drive(one: Cubic, rate: float, *, until: float) -> tuple[int, int, list[float]]:
    """Send to a bucket without a burst as the curve says; return what was accepted and refused, and when it was."""
    now, level, accepted, refusals = 0.0, 0.0, 0, []
    one.start(rate / 3.0, now)
    while now < until:
        gap_s = 1.0 / one.rate(now)
        now, level = now + gap_s, max(0.0, level - gap_s * rate)
        if level > 1.0:
            refusals.append(now)
            one.refused(now)
        else:
            level += 1.0
            accepted += 1
            one.accepted()
    return accepted, len(refusals), refusals


def test_the_curve() -> None:
    """After a refusal the rate is lower, is back after a while, stays near, and then rises beyond."""
    one = Cubic(None)
    for _ in range(100):
        one.accepted()
    one.met(0.0)
    for _ in range(100):
        one.accepted()
    one.refused(10.0)

    rates = [one.rate(10.0 + share * PLATEAU_S) for share in (0.0, 0.5, 1.0, 1.5, 2.0, 4.0)]
    assert rates[2] == 10.0
    assert rates[0] == pytest.approx((1.0 - DEPTH) * 10.0)
    assert rates == sorted(rates)
    assert rates[1] - rates[0] > rates[2] - rates[1]
    assert rates[5] > 2.0 * rates[2]


@pytest.mark.parametrize("rate", [2.0, 10.0, 50.0, 300.0])
def test_it_finds_a_limit_and_stays_near_it(rate: float) -> None:
    """From a third of the limit the curve comes near it soon, keeps near it, and asks too much ever more rarely."""
    accepted, refused, refusals = drive(Cubic(None), rate, until=600.0)

    assert accepted >= 0.9 * rate * 600.0
    assert refused <= 14
    assert sum(at > 300.0 for at in refusals) <= refused / 2


def test_the_rate_of_an_earlier_run() -> None:
    """A rate that held is where the next run begins, and without one there is no limit yet."""
    assert Cubic(20.0).rate(0.0) == 20.0
    assert Cubic(None).rate(0.0) == math.inf
