"""A refusal stops a key for as long as the server says, and for longer the more probes are refused in a row."""

from itertools import pairwise
from random import Random

from migrator.ratelimit.headers import Quota
from migrator.ratelimit.pace.pauses import Pauses


def test_the_servers_word_counts() -> None:
    """Retry-After comes before the reset, and a refusal with quota left is no pause."""
    one = Pauses(Random(1))
    one.refused(0.0)
    used_up, crowded = Quota(limit=10, remaining=0, reset_s=30.0), Quota(limit=10, remaining=5, reset_s=30.0)

    assert one.next_s(used_up, 7.0, late_s=0.0, first=True) == 7.0
    assert one.next_s(used_up, None, late_s=1.0, first=True) == 31.0
    assert one.next_s(crowded, None, late_s=0.0, first=True) == 0.0


def test_refusals_in_a_row() -> None:
    """Without a word the pauses double up to a minute; an accepted request ends the row."""
    one, pauses = Pauses(Random(1)), []
    for number in range(12):
        one.refused(float(number))
        pauses.append(one.next_s(None, None, late_s=0.0, first=True))

    assert pauses[0] <= 1.0
    assert all(later >= earlier / 2.0 for earlier, later in pairwise(pauses))
    assert 30.0 <= pauses[-1] <= 60.0
    assert one.refused_for_s(100.0) == 100.0
    one.accepted()
    assert one.refused_for_s(100.0) == 0.0
    assert one.next_s(None, None, late_s=0.0, first=True) <= 1.0


def test_a_server_that_refuses_its_own_word_is_asked_ever_more_rarely() -> None:
    """From the fourth refusal on, each pause is up to twice as long as the one before, to ten minutes."""
    one, pauses = Pauses(Random(1)), []
    for number in range(1, 16):
        one.refused(0.0)
        pauses.append(one.next_s(None, 10.0, late_s=0.0, first=True))
        grown = min(10.0 * 2.0 ** max(0, number - 3), 600.0)
        assert 0.5 * (10.0 + grown) <= pauses[-1] <= grown

    assert pauses[:3] == [10.0, 10.0, 10.0]
    assert pauses[-1] > 300.0
    assert one.next_s(None, 900.0, late_s=0.0, first=True) == 900.0


def test_how_long_all_have_been_refused_counts_from_the_first() -> None:
    """Any instant may be the first one."""
    one = Pauses(Random(1))
    one.refused(40.0)
    one.refused(50.0)
    assert one.refused_for_s(100.0) == 60.0
