"""Where a run's time goes: every moment has one reason, and their sum is the time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from migrator.ratelimit.throttle import PAUSED, SLOTS, ThrottleStatistics
from migrator.report.time_use import STARTS, Activity, Reason, TimeUse, reason_of

IDLE = ThrottleStatistics(
    slots=4,
    in_flight=0,
    limit=None,
    remaining=None,
    reset_s=None,
    requests=0,
    refused=0,
    bursts=0,
    rate=None,
    waiting_for=None,
    waited_s={},
    limiter_share=None,
)
NOW = 100.0
QUOTA = "quota used up"


def activity(*, recording: int = 0, answered_at: float = NOW, pauses: int = 0) -> Activity:
    """Return what items do: some wait for the disk, some until two seconds from now."""
    found = Activity()
    found.recording, found.answered_at = recording, answered_at
    for item in range(pauses):
        found.pause(item, NOW + 2.0, "connection" if item % 2 else "server")
    return found


@pytest.mark.parametrize(
    ("throttle", "items", "text"),
    [
        (replace(IDLE, in_flight=2), activity(), "sending"),
        (replace(IDLE, in_flight=4, waiting_for=SLOTS), activity(), "sending"),
        (
            replace(IDLE, in_flight=4, waiting_for=SLOTS),
            activity(answered_at=NOW - 5.0),
            "slots: 4 requests in flight have no answer yet",
        ),
        (replace(IDLE, in_flight=2, waiting_for=PAUSED), activity(), "paused"),
        (replace(IDLE, waiting_for=QUOTA), activity(pauses=2), QUOTA),
        (replace(IDLE, in_flight=1, waiting_for=QUOTA), activity(), "sending"),
        (replace(IDLE, in_flight=2), activity(recording=2), "disk"),
        (replace(IDLE, in_flight=2), activity(recording=1), "sending"),
        (IDLE, activity(pauses=1), "back-off of 1 item (server)"),
        (IDLE, activity(pauses=3), "back-off of 3 items (connection, server)"),
        (IDLE, activity(), "sending"),
        (IDLE, activity(answered_at=NOW - 5.0), "processing"),
    ],
)
def test_each_moment_has_one_reason(throttle: ThrottleStatistics, items: Activity, text: str) -> None:
    """What is waited for is named, with how many items it is where that tells more."""
    assert reason_of(throttle, items, now=NOW, since=NOW - 0.2).text == text


def test_an_item_that_proceeds_pauses_no_more() -> None:
    """Neither does one whose pause is over."""
    items = activity(pauses=3)
    items.proceed(1)

    assert items.pauses(NOW).total() == 2
    assert items.pauses(NOW + 3.0).total() == 0


def test_a_server_that_is_down_and_a_question_come_first() -> None:
    """A probe may be in flight for long: the run waits for the server, whatever else it does."""
    busy = replace(IDLE, in_flight=1)

    assert reason_of(busy, activity(), now=NOW, since=0.0, down=True).text == "the server is down"
    assert reason_of(busy, activity(), now=NOW, since=0.0, question="go on?").text == "an answer to the question"


@given(st.lists(st.tuples(st.sampled_from(["sending", QUOTA, "disk"]), st.floats(0.0, 50.0)), max_size=30))
def test_the_sum_is_the_time(moments: list[tuple[str, float]]) -> None:
    """However often the reason changes, no moment is lost and none counts twice."""
    use, now = TimeUse(0.0), 0.0
    for name, seconds in moments:
        now += seconds
        use.note(Reason(name, name), now)

    assert sum(use.seconds.values()) == pytest.approx(now)


def test_a_wait_is_told_once_it_is_long() -> None:
    """Once for each wait of more than a second, and never for what is no wait."""
    use = TimeUse(0.0)
    quota, sending = Reason(QUOTA, QUOTA), Reason("sending", "sending")
    use.note(STARTS, 1.0)

    told = [use.note(reason, 1.0 + 0.2 * number) for number, reason in enumerate([quota] * 10 + [sending] * 10, 1)]
    again = [use.note(quota, 5.0 + 0.6 * number) for number in range(1, 4)]

    assert [number for number, one in enumerate(told) if one] == [5]
    assert again == [False, True, False]
