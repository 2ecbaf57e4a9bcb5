"""The pacer keeps to any server's quota when it is alone, comes to its end, and never stands still without a reason."""

import math
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import Outcome, World, simulate

from migrator.options import Pace
from migrator.ratelimit.headers import Quota
from migrator.ratelimit.model import PacerMemory, PacerSettings
from migrator.ratelimit.pacer import Pacer
from migrator.sandbox.limits import Algorithm, ResetStyle, Rounding


def pacer(*, memory: PacerMemory | None = None, **changes: Any) -> Pacer:
    """Return a pacer with a seeded source of jitter."""
    return Pacer(PacerSettings(**changes), rng=Random(1), memory=memory)


def quota(remaining: int, reset_s: float | None = 30.0, limit: int = 100) -> Quota:
    """Return what an answer says."""
    return Quota(limit=limit, remaining=remaining, reset_s=reset_s)


def opened(remaining: int = 10, **changes: Any) -> Pacer:
    """Return a pacer that has had its first answer at 0.1 s."""
    one = pacer(**changes)
    one.answered(one.sent(0.0), quota(remaining), 0.1)
    return one


worlds = st.builds(
    World,
    algorithm=st.sampled_from(Algorithm),
    limit=st.integers(1, 60),
    window_s=st.sampled_from([1.0, 2.0, 5.0, 10.0, 60.0]),
    rounding=st.sampled_from([Rounding.UP, Rounding.NONE]),
    style=st.sampled_from(ResetStyle),
    latency_s=st.sampled_from([(0.001, 0.005), (0.015, 0.04), (0.06, 0.2), (0.1, 0.4)]),
    phase_s=st.floats(0, 60),
)


def run(world: World, seed: int, *, items: int = 150, slots: int = 16, one: Pacer | None = None) -> Outcome:
    """Run a job with a pacer of its own."""
    return simulate(world, one or pacer(), items=items, slots=slots, seed=seed)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(world=worlds, seed=st.integers(0, 2**16), slots=st.integers(1, 64))
def test_no_refusal_when_alone(world: World, seed: int, slots: int) -> None:
    """Alone on a quota, whatever the server's algorithm and headers, hardly a request is refused, and the job ends.

    A sliding counter refuses a burst that our own count of the last window lets go: at most what is in flight at once.
    After that the count is not used again.
    """
    outcome = run(world, seed, slots=slots)

    assert not outcome.stuck
    assert len(outcome.accepted) == 150
    guessed = world.style is ResetStyle.EPOCH or world.rounding is Rounding.NONE
    burst = min(slots, world.limit) if world.algorithm is Algorithm.COUNTER else 0
    assert outcome.refused <= burst + (4 if guessed else 0)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(world=worlds, seed=st.integers(0, 2**16))
def test_server_that_rounds_down(world: World, seed: int) -> None:
    """A server that rounds its reset down refuses one request, and none once that is remembered.

    A sliding counter may refuse one more, which goes to find out what it is.
    """
    window_s = max(world.window_s, 5.0 if world.algorithm is not Algorithm.COUNTER else 60.0)
    world = replace(world, rounding=Rounding.DOWN, style=ResetStyle.RELATIVE, window_s=window_s)
    first = pacer()

    outcome = run(world, seed, one=first)
    again = run(world, seed + 1, one=pacer(memory=first.memory()))

    assert not outcome.stuck
    guesses = int(world.algorithm is Algorithm.COUNTER)
    assert outcome.refused <= 1 + guesses
    assert again.refused <= (0 if outcome.refused else 1) + guesses


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    world=st.builds(
        World,
        algorithm=st.sampled_from(Algorithm),
        limit=st.integers(1, 60),
        window_s=st.sampled_from([1.0, 10.0, 60.0]),
        rounding=st.sampled_from(Rounding),
        style=st.sampled_from([*ResetStyle, None]),
        stragglers=st.sampled_from([0.0, 0.05]),
        lost=st.sampled_from([0.0, 0.03]),
        rival=st.sampled_from([0.0, 0.3]),
        skew_s=st.sampled_from([0.0, -3600.0, 1.5]),
        retry_after=st.booleans(),
    ),
    seed=st.integers(0, 2**16),
)
def test_every_job_ends(world: World, seed: int) -> None:
    """With others on the quota, lost answers, stragglers, a wrong clock or no headers at all, the job still ends."""
    outcome = run(world, seed, items=80)

    assert not outcome.stuck
    assert len(outcome.accepted) >= 80


@pytest.mark.parametrize("algorithm", [Algorithm.FIXED, Algorithm.FIRST, Algorithm.SLIDING])
@pytest.mark.parametrize("lost", [0.0, 0.02])
def test_requests_without_a_report_are_counted(algorithm: Algorithm, lost: float) -> None:
    """Server errors and lost answers, which tell nothing of the quota, may have used it: none is refused for them."""
    for seed in range(6):
        world = World(
            algorithm=algorithm,
            limit=150,
            window_s=10.0,
            latency_s=(0.06, 0.09),
            phase_s=1.6 * seed,
            errors=0.02,
            lost=lost,
        )
        outcome = run(world, seed, items=400)

        assert outcome.refused == 0
        assert not outcome.stuck


@pytest.mark.parametrize("algorithm", [Algorithm.FIXED, Algorithm.FIRST, Algorithm.SLIDING])
@pytest.mark.parametrize("skew_s", [-7200.0, -90.0, -20.0, 90.0])
def test_a_clock_that_nothing_tells_of(algorithm: Algorithm, skew_s: float) -> None:
    """A server whose clock is wrong, and that sends no Date, is found out by one refusal within the first window."""
    world = World(
        algorithm=algorithm, limit=50, window_s=10.0, style=ResetStyle.EPOCH, skew_s=skew_s, date=False, phase_s=3.0
    )
    outcome = run(world, 1)

    assert outcome.seconds <= 28.0
    assert outcome.refused <= 2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(world=worlds, seed=st.integers(0, 2**16))
def test_smooth_pace_keeps_the_quota(world: World, seed: int) -> None:
    """The even pace, which the aiolimiter makes, is never more than the budget over the time that is left."""
    one = pacer(pace=Pace.SMOOTH)
    outcome = run(world, seed, one=one, items=60)

    assert not outcome.stuck
    assert one.rate(outcome.seconds) is None or (one.rate(outcome.seconds) or 0.0) > 0.0


def test_first_request_goes_alone() -> None:
    """Nothing is known before the first answer, so one request goes and the others wait for it."""
    one = pacer()

    assert one.delay(0.0) == 0.0
    ticket = one.sent(0.0)
    assert one.delay(0.0) == math.inf
    one.answered(ticket, quota(10), 0.1)
    assert one.delay(0.1) == 0.0


def test_requests_in_flight_are_subtracted() -> None:
    """As many go as the server says are left, and not one more, before any of them is answered."""
    one = opened(10)
    sent = 0
    while one.delay(0.2) == 0.0:
        one.sent(0.2)
        sent += 1

    assert sent == 10
    assert 29.0 < one.delay(0.2) < 31.0


@given(st.permutations(list(range(9))))
def test_order_of_answers_does_not_matter(order: list[int]) -> None:
    """Answers that overtake each other leave the same budget: the lowest rest of the window counts."""
    one = opened(10)
    tickets = [one.sent(0.2) for _ in range(9)]

    for place in order:
        one.answered(tickets[place], quota(9 - place), 0.5)

    assert one.statistics(0.5).budget == 1


def test_reserve_is_left_to_others() -> None:
    """A share of the limit is not touched."""
    one = opened(10, reserve=0.05)

    assert one.statistics(0.1).budget == 5


def test_refusal_pauses_the_whole_key() -> None:
    """A refusal stops everything until Retry-After, and then one probe goes alone; a burst counts once."""
    one = opened(10)
    tickets = [one.sent(0.2) for _ in range(3)]

    for ticket in tickets:
        one.refused(ticket, None, 7.0, 0.3)

    assert (one.statistics(0.3).refused, one.statistics(0.3).bursts) == (3, 1)
    assert 7.0 <= one.delay(0.3) <= 7.2
    assert one.delay(7.0) > 0.0
    assert one.delay(8.0) == 0.0
    one.sent(8.0)
    assert one.delay(8.0) == math.inf


def test_refusal_with_quota_left_is_no_pause() -> None:
    """A refusal for concurrency is not slept over."""
    one = opened(10)

    one.refused(one.sent(0.2), quota(9), None, 0.3)

    assert one.delay(0.3) < 0.1


def test_pause_without_a_word_doubles() -> None:
    """A refusal that does not say how long pauses for longer each time, up to a minute."""
    one = pacer()
    now, pauses = 0.0, []
    for _ in range(12):
        one.refused(one.sent(now), None, None, now)
        pauses.append(one.delay(now))
        now += pauses[-1] + 1e-6

    assert pauses[0] <= 1.1
    assert 30.0 <= pauses[-1] <= 60.1


def test_probes_that_are_refused_in_a_row() -> None:
    """A server that starts its window again with each refusal is asked less and less, and as before once it accepts."""
    one = pacer()
    now, pauses = 0.0, []
    for _ in range(15):
        one.refused(one.sent(now), quota(0, 10.0), 10.0, now)
        pauses.append(one.delay(now))
        now += pauses[-1] + 1e-6

    assert all(10.0 <= pause <= 10.2 for pause in pauses[:3])
    assert all(later >= 0.5 * earlier for earlier, later in pairwise(pauses))
    assert 300.0 <= pauses[-1] <= 600.2
    one.answered(one.sent(now), quota(0, 10.0), now + 0.1)
    one.refused(one.sent(now + 12.0), quota(0, 10.0), 10.0, now + 12.0)
    assert one.delay(now + 12.0) <= 10.2


def test_new_window_is_opened_by_one_probe() -> None:
    """After the edge one request goes, and only its answer says what there is."""
    one = opened(1)
    late = one.sent(0.2)
    edge = 0.2 + one.delay(0.2)

    assert one.delay(edge) == 0.0
    probe = one.sent(edge)
    assert one.delay(edge) == math.inf
    one.answered(late, quota(0, 0.0), edge + 0.01)
    assert one.delay(edge + 0.01) == math.inf
    one.answered(probe, quota(99), edge + 0.1)
    assert one.delay(edge + 0.1) == 0.0


def test_lost_probe_is_followed_by_another() -> None:
    """A probe without an answer does not stop the key for ever."""
    one = pacer()

    one.lost(one.sent(0.0), 0.0)

    assert one.delay(0.0) == 0.0
    assert one.statistics(0.0).in_flight == 0


def test_cancelled_request_leaves_no_trace() -> None:
    """A request that was let go and never sent gives its unit back."""
    one = opened(10)

    one.cancelled(one.sent(0.2))

    assert (one.statistics(0.2).budget, one.statistics(0.2).requests) == (10, 1)


@given(st.floats(0.1, 1000.0), st.sampled_from(Pace))
def test_own_ceiling(rate: float, pace: Pace) -> None:
    """The rate never exceeds the user's ceiling."""
    one = opened(10, rate=rate, pace=pace)

    assert (one.rate(0.1) or math.inf) <= rate


def test_without_headers() -> None:
    """Without headers a probe that passes soon after the first refusal sets a rate, which then grows slowly."""
    one = pacer()
    now = 0.0
    for _ in range(30):
        one.answered(one.sent(now), None, now)
        now += 0.1
    assert one.rate(now) is None

    one.refused(one.sent(now), None, None, now)
    assert 0.0 < one.delay(now) < 0.5
    now += one.delay(now)
    probe = one.sent(now)
    assert one.delay(now) == math.inf
    one.answered(probe, None, now)

    after = one.rate(now)
    assert after == pytest.approx(10.0, rel=0.1)
    assert (one.rate(now + 9.0) or 0.0) > 10.0


@pytest.mark.parametrize("gone_for", [1, 5])
def test_headers_that_vanish(gone_for: int) -> None:
    """Answers without headers are counted as spent, and what is known is kept."""
    one = opened(10)
    for _ in range(gone_for):
        one.answered(one.sent(0.2), None, 0.3)

    assert one.statistics(0.3).budget == 10 - gone_for


def test_memory() -> None:
    """What was learned of a server's rounding is handed to the next run."""
    one = opened(1)
    edge = 0.1 + one.delay(0.1) if one.delay(0.1) else 31.5

    one.refused(one.sent(edge + 1.0), quota(0, 0.0), 1.0, edge + 1.1)

    assert one.memory().late_s == 1.0
    assert pacer(memory=one.memory()).memory().late_s == 1.0


def test_a_server_that_is_down_has_asked_for_nothing() -> None:
    """While a server is down that is the reason, and not a wish of its own; after it the quota is the reason again."""
    one = opened(50)

    one.hold(30.0)

    assert one.statistics(1.0).waiting_for == "the server is down"
    assert one.delay(1.0) == pytest.approx(29.0)
    assert one.statistics(31.0).waiting_for != "the server is down"
