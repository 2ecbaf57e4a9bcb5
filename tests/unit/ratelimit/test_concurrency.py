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


def test_known_quota_is_reached_within_some_rounds() -> None:
    """One slot more each round would take 56 rounds to the most."""
    concurrency, rounds = Concurrency(), 0
    while concurrency.level < MOST:
        for _ in range(concurrency.level):
            concurrency.answered(0.3, float(rounds), allowed_rate=100.0)
        rounds += 1

    assert rounds == 3


def test_after_trouble_it_grows_by_one_a_round() -> None:
    """A server that has failed is not met with twice the requests again."""
    concurrency = Concurrency()
    concurrency.troubled(10.0)
    before = concurrency.level
    for _ in range(before):
        concurrency.answered(0.3, 20.0, allowed_rate=100.0)

    assert concurrency.level == before + 1
