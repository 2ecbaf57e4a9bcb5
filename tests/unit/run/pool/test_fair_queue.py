"""Every limiter key has its turn, and none more lanes than its share."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from migrator.messages import Request
from migrator.run.pool.fair_queue import FairQueue


def request(item: int, key: str) -> Request:
    """Return a request of a limiter key."""
    return Request(item=item, key=str(item), method="PATCH", url="", body=b"", limiter_key=key)


@given(keys=st.lists(st.sampled_from("abcd"), max_size=60), lanes=st.integers(1, 8), data=st.data())
def test_all_are_taken_once_in_their_order(keys: list[str], lanes: int, data: st.DataObject) -> None:
    """Each request is taken once, those of a key in their order, and lanes never wait while there is work."""
    queue = FairQueue(lanes)
    busy: list[Request] = []
    taken: list[Request] = []
    for item, key in enumerate(keys):
        queue.put(request(item, key))

    while len(queue) or busy:
        one = queue.take() if len(busy) < lanes else None
        if one is not None:
            busy.append(one)
            taken.append(one)
        else:
            assert busy, "somebody waits, nobody works, and nothing is given"
            queue.done(busy.pop(data.draw(st.integers(0, len(busy) - 1))))

    assert sorted(one.item for one in taken) == list(range(len(keys)))
    for key in "abcd":
        assert [one.item for one in taken if one.limiter_key == key] == sorted(
            one.item for one in taken if one.limiter_key == key
        )


def test_keys_share_the_lanes() -> None:
    """Of a file that is sorted by key, all keys are worked on at once."""
    queue = FairQueue(8)
    for item in range(400):
        queue.put(request(item, f"key {item // 100}"))

    taken = [one for _ in range(8) if (one := queue.take()) is not None]

    assert Counter(one.limiter_key for one in taken) == {f"key {number}": 2 for number in range(4)}
    assert queue.take() is None
    queue.done(taken[0])
    freed = queue.take()
    assert freed is not None
    assert freed.limiter_key == "key 0"
