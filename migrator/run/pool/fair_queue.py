"""Which request is next where items draw on many quotas: the keys take turns, none has more than its share. Pure.

A key without quota would otherwise hold every worker, and the quotas of the others would be left unused.
"""

from collections import Counter, deque

from migrator.messages import Request

__all__ = ["FairQueue"]


class FairQueue:
    """Requests that wait for a worker, by limiter key.

    Args:
        workers: how many there are to share.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._waiting: dict[str, deque[Request]] = {}
        self._busy: Counter[str] = Counter()
        self._size = 0

    def put(self, request: Request) -> None:
        """Add a request behind the others of its key."""
        self._waiting.setdefault(request.limiter_key, deque()).append(request)
        self._size += 1

    def take(self) -> Request | None:
        """Return the next request whose key has a worker to spare, and count the worker as the key's."""
        share = max(1, self._workers // max(1, len(self._waiting.keys() | self._busy.keys())))
        for key, waiting in self._waiting.items():
            if self._busy[key] < share:
                del self._waiting[key]
                request = waiting.popleft()
                if waiting:
                    self._waiting[key] = waiting
                self._busy[key] += 1
                self._size -= 1
                return request
        return None

    def done(self, request: Request) -> None:
        """Give a worker back."""
        self._busy[request.limiter_key] -= 1
        if not self._busy[request.limiter_key]:
            del self._busy[request.limiter_key]

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
        self._size = 0

    def __len__(self) -> int:
        return self._size
