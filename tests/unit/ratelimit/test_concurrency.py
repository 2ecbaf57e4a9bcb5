"""The number of slots follows the latencies of each kind of request."""

from migrator.ratelimit.concurrency import MOST, START, Concurrency


def test_slow_writes_beside_quick_reads_are_no_congestion() -> None:
    """One latency for both kinds would take the mix for congestion."""
    concurrency = Concurrency()
    for number in range(MOST * MOST):
        kind, latency_s = ("PATCH", 0.3) if number % 3 else ("GET", 0.1)
        concurrency.answered(latency_s, number * 0.01, allowed_rate=100.0, kind=kind)

    assert concurrency.level == MOST


def test_latency_that_rises_for_one_kind_lowers_the_level() -> None:
    """Queues at the server double the latency of a kind."""
    concurrency = Concurrency()
    for number in range(100):
        concurrency.answered(0.1, number * 0.1, allowed_rate=None, kind="GET")
    for number in range(100, 400):
        concurrency.answered(0.5, number * 0.1, allowed_rate=None, kind="GET")

    assert concurrency.level < START
