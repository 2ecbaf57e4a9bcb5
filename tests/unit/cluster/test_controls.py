"""What all workers may do together is what the run may do, however many there are."""

import anyio
import virtual_time
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from migrator.cluster import wire
from migrator.cluster.controls import IDLE, CrewControls, divided
from migrator.messages import Clock
from migrator.report.estimate import time_left, told_cycle


@given(st.integers(0, 2000), st.integers(1, 100))
def test_parts_are_as_equal_as_can_be_and_make_the_whole(total: int, parts: int) -> None:
    """No two differ by more than one."""
    found = divided(total, parts)
    assert (sum(found), len(found)) == (total, parts)
    assert max(found) - min(found) <= 1


def crew(
    *, workers: int, rate: float | None = None, concurrency: int | None = None
) -> tuple[CrewControls, list[list[wire.Message]]]:
    """Return controls with some workers, and what each was told."""
    controls = CrewControls(rate=rate, concurrency=concurrency, lanes=8)
    told: list[list[wire.Message]] = [[] for _ in range(workers)]
    for number in range(workers):
        controls.join(f"w{number}", told[number].append)
    return controls, told


def settings(told: list[wire.Message]) -> wire.Settings:
    """Return the last settings that a worker was told."""
    return next(one for one in reversed(told) if isinstance(one, wire.Settings))


def test_rate_and_concurrency_are_divided_among_those_that_are_there() -> None:
    """A worker that leaves leaves its part to the others."""
    controls, told = crew(workers=4, rate=20.0, concurrency=10)
    assert [settings(one).rate for one in told] == [5.0] * 4
    assert [settings(one).concurrency for one in told] == [3, 3, 2, 2]
    controls.leave("w0")
    assert [settings(one).concurrency for one in told[1:]] == [4, 3, 3]
    assert settings(told[1]).rate == 20.0 / 3


def test_workers_without_a_part_of_the_concurrency_get_no_items() -> None:
    """`--concurrency 2` is two requests in flight, with four workers too."""
    controls, _ = crew(workers=4, concurrency=2)
    assert controls.idle == {"w2", "w3"}


def test_a_pause_reaches_those_that_come_later() -> None:
    """And a worker that comes after `resume` is not paused."""
    controls, told = crew(workers=1)
    controls.pause()
    late: list[wire.Message] = []
    controls.join("late", late.append)
    assert (settings(told[0]).paused, settings(late).paused) == (True, True)
    assert controls.statistics().waiting_for == "paused"
    controls.resume()
    assert not settings(late).paused


def test_statistics_are_added_up_and_keep_what_lost_workers_did() -> None:
    """Of the quota they tell what the worker knows that has seen the least of it."""
    controls, _ = crew(workers=2)
    controls.standing["w0"] = replace(IDLE, slots=8, in_flight=3, requests=10, refused=1, remaining=50, limit=100)
    controls.standing["w1"] = replace(IDLE, slots=4, in_flight=1, requests=5, remaining=7, limit=100, reset_s=3.0)
    found = controls.statistics()
    assert (found.slots, found.in_flight, found.requests, found.refused, found.workers) == (12, 4, 15, 1, 2)
    assert (found.remaining, found.reset_s) == (7, 3.0)
    controls.leave("w0")
    found = controls.statistics()
    assert (found.slots, found.requests, found.refused, found.workers) == (4, 15, 1, 1)
    controls.leave("w1")
    assert controls.statistics().waiting_for == "no worker"


def test_a_key_whose_quota_is_used_up_keeps_no_room_from_the_others() -> None:
    """Its items wait with the run, and not on the workers."""

    async def main(_clock: Clock) -> list[float]:
        controls, _ = crew(workers=1)
        controls.used_up("one", 5.0)
        at_once = controls.wait_s("one"), controls.wait_s("other")
        await anyio.sleep(6.0)
        return [*at_once, controls.wait_s("one")]

    assert virtual_time.run(main) == [5.0, 0.0, 0.0]


def test_a_window_is_the_longest_reset_seen() -> None:
    """207 more with 7 left now and 100 a window of 10 s take this window, and one more after it."""
    controls, _ = crew(workers=1)
    controls.standing["w0"] = replace(IDLE, limit=100, remaining=100, reset_s=10.0)
    controls.statistics()
    controls.standing["w0"] = replace(IDLE, limit=100, remaining=7, reset_s=3.0)
    stands = controls.statistics()
    assert stands.window_s == 10.0
    assert time_left(207, stands, rate=50.0, cycle=told_cycle(stands)) == (13.0, "quota")
    assert time_left(5, stands, rate=5.0, cycle=told_cycle(stands)) == (1.0, "observed rate")
