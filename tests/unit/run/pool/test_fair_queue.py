"""Each limiter key has its turn, and none more workers than its share, nor any while it has no quota."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from migrator.messages import Request
from migrator.run.pool.fair_queue import FairQueue


def request(item: int, key: str) -> Request:
    """Return a request of a limiter key."""
    return Request(item=item, key=str(item), method="PATCH", url="", body=b"", limiter_key=key)


@given(keys=st.lists(st.sampled_from("abcd"), max_size=60), workers=st.integers(1, 8), data=st.data())
def test_all_are_taken_once_in_their_order(keys: list[str], workers: int, data: st.DataObject) -> None:
    """Each request is taken once, those of a key in their order, and workers never wait while there is work."""
    queue = FairQueue(workers)
    busy: list[Request] = []
    taken: list[Request] = []
    for item, key in enumerate(keys):
        queue.put(request(item, key))

    while len(queue) or busy:
        one = queue.take(0.0) if len(busy) < workers else None
        if one is not None:
            busy.append(one)
            taken.append(one)
        else:
            assert busy, "a request waits, no worker works, and nothing is given"
            queue.done(busy.pop(data.draw(st.integers(0, len(busy) - 1))))

    assert sorted(one.item for one in taken) == list(range(len(keys)))
    for key in "abcd":
        assert [one.item for one in taken if one.limiter_key == key] == sorted(
            one.item for one in taken if one.limiter_key == key
        )


def test_keys_share_the_workers() -> None:
    """Of a file that is sorted by key, all keys are worked on at once."""
    queue = FairQueue(8)
    for item in range(400):
        queue.put(request(item, f"key {item // 100}"))

    taken = [one for _ in range(8) if (one := queue.take(0.0)) is not None]

    assert Counter(one.limiter_key for one in taken) == {f"key {number}": 2 for number in range(4)}
    assert queue.take(0.0) is None
    queue.done(taken[0])
    freed = queue.take(0.0)
    assert freed is not None
    assert freed.limiter_key == "key 0"


def test_a_key_without_quota_takes_no_worker_until_its_time() -> None:
    """The other key goes on; the first one is looked at again when its quota is there."""
    opens = {"a": 10.0, "b": 0.0}
    now = 0.0
    queue = FairQueue(4, lambda key: max(0.0, opens[key] - now))
    for item in range(6):
        queue.put(request(item, "a" if item < 3 else "b"))

    first = []
    while (one := queue.take(now)) is not None:
        first.append(one.limiter_key)
        queue.done(one)
    assert queue.wakes_in(now) == 10.0
    now = 10.0
    woken = queue.take(now)
    assert woken is not None
    assert woken.item == 0


def test_a_key_that_waits_for_its_own_request_goes_on_after_it() -> None:
    """A first request has to show the quota: no timer says when, its end does."""
    queue = FairQueue(4, lambda _key: 0.0 if shown else math.inf)
    shown = True
    for item in range(3):
        queue.put(request(item, "a"))
    probe = queue.take(0.0)
    assert probe is not None

    shown = False
    assert queue.take(0.0) is None
    assert queue.wakes_in(0.0) == math.inf
    shown = True
    queue.done(probe)

    assert queue.take(0.0) is not None


@given(keys=st.lists(st.sampled_from("abc"), max_size=40), data=st.data())
def test_no_request_is_forgotten_whatever_the_quotas_say(keys: list[str], data: st.DataObject) -> None:
    """All are taken once, whatever waits the keys name and in whatever order workers come back."""
    now = 0.0
    queue = FairQueue(3, lambda _key: data.draw(st.sampled_from([0.0, 0.0, 5.0, math.inf])))
    busy: list[Request] = []
    taken: list[int] = []
    for item, key in enumerate(keys):
        queue.put(request(item, key))

    for _ in range(1000):
        if (one := queue.take(now)) is not None:
            busy.append(one)
            taken.append(one.item)
        elif busy:
            queue.done(busy.pop())
        elif len(queue):
            assert queue.wakes_in(now) <= 5.0, "requests are left, and nothing will wake their key"
            now += 5.0
        else:
            break

    assert sorted(taken) == list(range(len(keys)))
