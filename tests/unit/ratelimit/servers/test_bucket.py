"""A bucket is recognised by a reset that grows with use, and used as it fills; a window is not taken for one."""

import math

import pytest

from migrator.ratelimit.servers.bucket import Bucket
from migrator.ratelimit.servers.models import ServerModels
from migrator.ratelimit.servers.report import Report
from migrator.sandbox.limits import Algorithm, make_limiter

LIMIT, WINDOW_S = 50, 10.0


def drained(one: Bucket | ServerModels, algorithm: Algorithm) -> float:
    """Use a quota up, one request at a time; return when that was."""
    limiter, now = make_limiter(algorithm, limit=LIMIT, window_s=WINDOW_S), 0.0
    while (verdict := limiter.take(now + 0.01)).remaining:
        one.sent(now)
        now += 0.02
        report = Report(
            limit=LIMIT,
            remaining=verdict.remaining,
            reset_s=float(math.ceil(verdict.reset_s)),
            resolution_s=1.0,
            late_s=0.0,
            window_s=None,
            opening=now < 0.03,
            sent=now - 0.02,
            now=now,
            in_flight=0,
            overtaken=0,
        )
        one.answered(report)
    return now


def test_a_bucket_is_used_as_it_fills() -> None:
    """After the burst one request may go about every fifth of a second, and never before the server has it."""
    one = Bucket()
    now = drained(one, Algorithm.GCRA)

    assert one.believed
    assert now < one.next_at(0) <= now + 1.5
    assert one.next_at(5) > one.next_at(0) + 0.5


@pytest.mark.parametrize("algorithm", [Algorithm.FIRST, Algorithm.SLIDING])
def test_a_window_is_no_bucket(algorithm: Algorithm) -> None:
    """Its reset stands still."""
    one = Bucket()
    drained(one, algorithm)

    assert not one.believed


def test_the_models_name_it() -> None:
    """The models believe a bucket, and a refusal ends that."""
    one = ServerModels()
    drained(one, Algorithm.GCRA)
    assert one.believed == "bucket"

    one.refused()
    assert one.believed != "bucket"
