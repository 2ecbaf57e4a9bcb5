"""How long requests take that are still to be sent."""

import pytest

from migrator.cluster.controls import IDLE
from migrator.options import Verify
from migrator.ratelimit.model import ThrottleStatistics
from migrator.report.estimate import Cycle, Cycles, least_s, requests_of, time_left


def stands(**changes: object) -> ThrottleStatistics:
    """Return how a throttle stands."""
    facts = {name: getattr(IDLE, name) for name in ThrottleStatistics.__struct_fields__}
    return ThrottleStatistics(**(facts | changes))


@pytest.mark.parametrize(
    ("facts", "rate", "cycle", "told"),
    [
        pytest.param({}, None, None, None, id="nothing is known"),
        pytest.param({"ceiling": 2.0}, None, None, (50.0, "own ceiling"), id="a ceiling"),
        pytest.param({"ceiling": 2.0}, 1.9, None, (52.6, "own ceiling"), id="at the ceiling"),
        pytest.param({"slots": 4, "latency_s": 0.2}, 20.0, None, (5.0, "slots"), id="at what the slots can do"),
        pytest.param({"slots": 4, "latency_s": 0.2}, 5.0, None, (20.0, "observed rate"), id="less than that"),
        pytest.param({"refused": 3}, 5.0, None, (20.0, "server"), id="refusals without headers"),
        pytest.param({}, 100.0, Cycle(10, 60.0), (540.0, "quota"), id="ten windows, the first one at once"),
        pytest.param(
            {"remaining": 40, "reset_s": 7.0}, 100.0, Cycle(50, 60.0), (67.0, "quota"), id="a rest, and two windows"
        ),
        pytest.param({"remaining": 100, "reset_s": 7.0}, 50.0, Cycle(50, 60.0), (2.0, "observed rate"), id="enough"),
        pytest.param({"even": True}, 100.0, Cycle(10, 60.0), (600.0, "quota"), id="a quota that refills evenly"),
    ],
)
def test_the_slowest_counts(
    facts: dict[str, object], rate: float | None, cycle: Cycle | None, told: tuple[float, str] | None
) -> None:
    """A hundred requests take as long as what holds them back the most."""
    found = time_left(100, stands(**facts), rate=rate, cycle=cycle)

    assert (found and (round(found.seconds, 1), found.limited_by)) == told


def test_a_cycle_is_measured() -> None:
    """Between two ends of a long wait: short waits, such as for the first answer of a window, are none."""
    cycles, requests = Cycles(0.0), 0
    for tenth in range(600):
        now, phase = tenth / 10, tenth % 100
        requests += phase == 1 or 4 <= phase < 24
        waiting = "quota used up" if phase >= 24 or phase == 0 else "quota used up" if phase in {2, 3} else None
        cycles.note(stands(requests=requests, waiting_for=waiting), now)

    found = cycles.cycle(stands())
    assert found is not None
    assert (found.requests, found.seconds) == pytest.approx((21.0, 10.0), abs=0.1)
    assert cycles.waited
    assert cycles.active_s == pytest.approx(12.0, abs=2.0)


def test_headers_count_until_a_cycle_has_ended() -> None:
    """A quota that lets nothing wait for some windows does not limit the run."""
    cycles, told = Cycles(0.0), stands(limit=100, window_s=10.0, reserve=20)
    cycles.note(told, 1.0)
    assert cycles.cycle(told) == Cycle(80, 10.0)

    cycles.note(told, 30.0)
    assert cycles.cycle(told) is None


def test_least() -> None:
    """A run that starts with a whole quota waits for each further one."""
    assert least_s(1000, ceiling=None, cycle=Cycle(100, 60.0)) == 540.0
    assert least_s(1000, ceiling=1.0, cycle=Cycle(100, 60.0)) == 1000.0
    assert least_s(100, ceiling=None, cycle=Cycle(100, 60.0), slots_rate=50.0) == 2.0
    assert least_s(100, ceiling=None, cycle=None) is None


def test_requests_of_a_run() -> None:
    """Batches write, and each read is a request."""
    assert requests_of(100, reads=0, batch_size=1, verify=Verify.RESPONSE) == 100
    assert requests_of(100, reads=100, batch_size=1, verify=Verify.READ) == 300
    assert requests_of(101, reads=0, batch_size=50, verify=Verify.RESPONSE) == 3


def test_a_cycle_gives_back_a_limit_at_the_most() -> None:
    """Two windows between which the wait was short are taken for two."""
    cycles, requests = Cycles(0.0), 0
    for tenth in range(400):
        now, phase = tenth / 10, tenth % 100
        requests += 2 if phase == 1 or 4 <= phase < 52 else 0
        cycles.note(stands(requests=requests, waiting_for="quota used up" if phase >= 52 or phase == 0 else None), now)

    found = cycles.cycle(stands(limit=49))
    assert found == pytest.approx((49.0, 5.0), rel=0.02)
