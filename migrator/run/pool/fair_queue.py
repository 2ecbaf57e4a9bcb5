"""Which request is next where items draw on many quotas: the keys take turns, none has more than its share. Pure.

A key without quota would otherwise hold every worker, and the quotas of the others would be left unused.
"""

import math
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush

from migrator.messages import Request

__all__ = ["FairQueue"]


def no_wait(_limiter_key: str) -> float:
    """Say that a request of any key can go now."""
    return 0.0


class FairQueue:
    """Requests that wait for a worker, by limiter key.

    A key is either ready, which means that it takes part in the turns, or it rests: it has its share of the workers, or
    no quota. A key that rests is looked at again when a worker gives back one of its requests, or when its time has
    come. So each turn costs the same, however many keys there are.

    Args:
        workers: how many there are to share.
        wait_s: seconds until a request of a key can go; infinity while that depends on a request in flight.
    """

    def __init__(self, workers: int, wait_s: Callable[[str], float] = no_wait) -> None:
        self._workers = workers
        self._wait_s = wait_s
        self._ready: dict[str, deque[Request]] = {}
        self._resting: dict[str, deque[Request]] = {}
        self._wakes: list[tuple[float, str]] = []
        self._busy: Counter[str] = Counter()
        self._size = 0

    def put(self, request: Request) -> None:
        """Add a request behind the others of its key."""
        key = request.limiter_key
        if (resting := self._resting.get(key)) is not None:
            resting.append(request)
        else:
            self._ready.setdefault(key, deque()).append(request)
        self._size += 1

    def take(self, now: float) -> Request | None:
        """Return the next request whose key has a worker to spare and quota left, and count the worker as the key's.

        Args:
            now: in seconds of a monotonic clock.
        """
        while self._wakes and self._wakes[0][0] <= now:
            self._wake(heappop(self._wakes)[1])
        keys = max(1, len(self._ready) + len(self._resting), len(self._busy))
        share = max(1, self._workers // keys)
        while self._ready:
            key = next(iter(self._ready))
            waiting = self._ready.pop(key)
            busy = self._busy[key]
            wait_s = math.inf if busy >= share else self._wait_s(key)
            if wait_s > 0.0 and (busy or wait_s < math.inf):
                self._resting[key] = waiting
                if wait_s < math.inf:
                    heappush(self._wakes, (now + wait_s, key))
                continue
            request = waiting.popleft()
            if waiting:
                self._ready[key] = waiting
            self._busy[key] = busy + 1
            self._size -= 1
            return request
        return None

    def done(self, request: Request) -> None:
        """Give a worker back."""
        key = request.limiter_key
        self._busy[key] -= 1
        if not self._busy[key]:
            del self._busy[key]
        self._wake(key)

    def wakes_in(self, now: float) -> float:
        """Return the seconds until a key that rests is to be looked at again; infinity where none is."""
        return max(0.0, self._wakes[0][0] - now) if self._wakes else math.inf

    def clear(self) -> None:
        """Forget all that waits."""
        self._ready.clear()
        self._resting.clear()
        self._wakes.clear()
        self._size = 0

    def _wake(self, key: str) -> None:
        if (waiting := self._resting.pop(key, None)) is not None:
            self._ready[key] = waiting

    def __len__(self) -> int:
        return self._size
