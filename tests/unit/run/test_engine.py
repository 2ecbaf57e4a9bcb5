"""The order of a run and what stops it, in virtual time."""

import math
from collections import Counter
from random import Random

import pytest
from benchmarks.bench_eta import Setting, told_by, wrong
from driven_run import Server, drive, error, later, ok, requests, unreachable

from migrator.messages import Request
from migrator.options import RunOptions, Stage, Threshold, Verify
from migrator.ratelimit.throttle import Throttle
from migrator.results import ErrorKind, Status, StopKind, StopReason
from migrator.run.engine import Engine
from migrator.sandbox.limits import Algorithm, ResetStyle, limit_headers, make_limiter

STOP = StopReason(StopKind.CONTROL, "stop")


def test_every_item_is_finished_once() -> None:
    """All items are sent once, several at a time, and none before the canary has succeeded."""
    done = drive(requests(200))

    assert sorted(done.server.items) == list(range(1, 201))
    assert done.counts == {Status.SUCCEEDED: 200}
    assert done.server.most == 4
    (_, first), (_, second) = done.server.sent[:2]
    assert second >= first + 0.1
    assert done.stopped is None


def test_failed_canary_stops_the_run() -> None:
    """An item among the first that does not succeed is the last one that is sent."""
    done = drive(requests(50), error(404, 2), options=RunOptions(canary=2, concurrency=4))

    assert done.stopped == "canary failed"
    assert sorted(done.server.items) == [1, 2]


@pytest.mark.parametrize(
    ("threshold", "most"),
    [pytest.param(Threshold(count=3), 3, id="a count"), pytest.param(Threshold(share=0.1), 20, id="a share")],
)
def test_too_many_failures_stop_the_run(threshold: Threshold, most: int) -> None:
    """What is in flight at that moment finishes, and nothing more is sent."""
    done = drive(requests(200), error(422), options=RunOptions(canary=0, concurrency=4, max_failures=threshold))

    assert done.stopped == "too many failures"
    assert most <= len(done.results) <= most + 3
    assert not done.begun


def test_stop_lets_what_is_in_flight_finish() -> None:
    """After a stop nothing new is sent, and every request that was sent has a result."""
    done = drive(requests(200), meanwhile=later(1.05, lambda engine, _: engine.stop(STOP)))

    assert done.stopped == "stopped by migrator ctl"
    assert sorted(done.results) == sorted(done.server.items)
    assert max(at for _, at in done.server.sent) <= 1.05
    assert not done.begun


def test_abandoned_items_have_no_result() -> None:
    """What is given up in flight stays begun, so that a resume knows that it may have been sent."""

    def abandon(engine: Engine, _throttle: Throttle) -> None:
        engine.stop(STOP)
        engine.abandon()

    done = drive(requests(200), meanwhile=later(1.05, abandon))

    assert done.engine.abandoned
    assert 0 < len(done.begun) <= 4
    assert set(done.begun) | set(done.results) == set(done.server.items)


def test_pause_and_resume() -> None:
    """While a run is paused nothing is sent, and then all the rest is."""

    def pause(_engine: Engine, throttle: Throttle) -> None:
        throttle.pause()

    async def meanwhile(engine: Engine, throttle: Throttle) -> None:
        await later(1.0, pause)(engine, throttle)
        await later(600.0, lambda _, paused: paused.resume())(engine, throttle)

    done = drive(requests(200), meanwhile=meanwhile)

    assert done.counts == {Status.SUCCEEDED: 200}
    assert not [at for _, at in done.server.sent if 1.1 < at < 600.0]


def test_stages_ask_before_they_go_on() -> None:
    """A stage is finished before the next one is asked for, and a no ends the run there."""
    asked: list[tuple[int, int]] = []

    async def allowed(number: int, end: int) -> str | None:
        asked.append((number, end))
        return None if number == 1 else "it was not confirmed"

    options = RunOptions(stages=(Stage(count=5), Stage(share=0.5), Stage(share=1.0)), concurrency=4)
    done = drive(requests(40), options=options, next_stage_allowed=allowed)

    assert asked == [(1, 5), (2, 20)]
    assert sorted(done.server.items) == list(range(1, 21))
    assert done.stopped == "stage not passed"


def test_server_that_comes_back_costs_no_item() -> None:
    """A server that is down for two minutes is waited for, with a few probes, and no item fails for it."""
    quota = {"x-ratelimit-limit": "1000", "x-ratelimit-remaining": "700", "x-ratelimit-reset": "60"}

    def script(server: Server, _request: Request) -> tuple[int, dict[str, str]] | None:
        return None if 1.0 < server.clock().mono < 120.0 else (200, quota)

    done = drive(requests(200), script, options=RunOptions(concurrency=8))

    assert done.counts == {Status.SUCCEEDED: 200}
    assert len([at for _, at in done.server.sent if 30.0 < at < 120.0]) <= 20
    assert "server.down" in {event["event"] for event in done.events}


def test_server_that_stays_away_is_given_up() -> None:
    """After the longest outage that is allowed the run stops, and the items that were not sent are left for later."""

    def script(server: Server, _request: Request) -> tuple[int, dict[str, str]] | None:
        return None if server.clock().mono > 1.0 else (200, {})

    done = drive(requests(200), script, options=RunOptions(concurrency=8, max_outage=60.0))

    assert done.stopped == "server down"
    assert 60.0 <= done.seconds <= 80.0
    assert len(done.results) < 200


def test_unreachable_server_stops_the_run_at_once() -> None:
    """The first item tells, after its attempts; it is sent again by a resume."""
    done = drive(requests(200), unreachable)

    assert done.stopped == "server unreachable"
    assert done.server.items == [1] * 5
    assert done.results[1].provisional


def test_refused_credentials_stop_the_run() -> None:
    """One 401 is enough, and its item is sent again by a resume."""
    done = drive(requests(200), error(401))

    assert (done.stopped, done.server.items) == ("credentials refused", [1])
    assert done.results[1].provisional


def test_long_wait_for_quota_stops_the_run() -> None:
    """A quota that comes back after the longest wait that is allowed ends the run, and costs no item."""

    def script(_server: Server, _request: Request) -> tuple[int, dict[str, str]]:
        return 429, {"retry-after": "7200"}

    done = drive(requests(10), script, options=RunOptions(max_wait=3600.0))

    assert done.stopped == "wait for quota too long"
    assert not done.results


def test_resume_sends_what_is_left() -> None:
    """Items that succeeded before count for the canary, and are not sent again."""
    before = Counter({Status.SUCCEEDED: 10})

    done = drive(requests(10, first=11), error(404, 11), done=before, options=RunOptions(canary=5, concurrency=4))

    assert done.stopped is None, "the canary was good before"
    assert sorted(done.server.items) == list(range(11, 21))
    assert done.engine.statistics().finished == 20


def test_items_in_doubt_are_not_sent_again() -> None:
    """What was in flight when the process died, and must not be sent twice, ends in doubt."""
    done = drive(requests(5, method="POST", idempotent=False), doubtful=frozenset({2, 3}), options=RunOptions(canary=0))

    assert sorted(done.server.items) == [1, 4, 5]
    assert {item for item, result in done.results.items() if result.status is Status.IN_DOUBT} == {2, 3}


def test_errors_of_the_server_are_tried_again() -> None:
    """Whatever a server answers in between, an item is tried as often as it may be, and its attempts are counted."""
    rng = Random(7)

    def script(_server: Server, _request: Request) -> tuple[int, dict[str, str]]:
        return (500 if rng.random() < 0.2 else 200), {}

    done = drive(requests(100), script, options=RunOptions(concurrency=4, max_attempts=10))

    assert done.counts == {Status.SUCCEEDED: 100}
    attempts = Counter(done.server.items)
    assert {item: result.attempts for item, result in done.results.items()} == dict(attempts)


def test_statistics_tell_how_the_run_stands() -> None:
    """Half way, the counts, the rate and the time to go are those of the run."""
    seen = []

    def look(engine: Engine, _throttle: Throttle) -> None:
        seen.append(engine.statistics())

    drive(requests(400), ok, meanwhile=later(5.0, look))

    (half,) = seen
    assert half.total == 400
    assert half.finished == half.counts[Status.SUCCEEDED] > 50
    assert half.rate == pytest.approx(half.finished / 5.0, rel=0.1)
    assert half.eta_s == pytest.approx((400 - half.finished) / half.rate, rel=0.2)


def test_failures_have_the_servers_reason() -> None:
    """A result says which error the server gave."""
    done = drive(requests(30), error(404, 7))

    assert done.counts == {Status.SUCCEEDED: 29, Status.FAILED: 1}
    assert done.results[7].error is not None
    assert done.results[7].error.kind is ErrorKind.NOT_FOUND


PLAIN = Setting(Algorithm.FIXED, limit=50, window_s=10.0, items=300, latency_s=0.1)


@pytest.mark.parametrize(
    ("setting", "limited_by"),
    [
        pytest.param(PLAIN, "quota", id="windows"),
        pytest.param(PLAIN._replace(algorithm=Algorithm.SLIDING, reset=ResetStyle.DRAFT), "quota", id="a log"),
        pytest.param(PLAIN._replace(algorithm=Algorithm.GCRA), "quota", id="a bucket"),
        pytest.param(PLAIN._replace(options=RunOptions(rate=2.0)), "own ceiling", id="own ceiling"),
        pytest.param(PLAIN._replace(options=RunOptions(concurrency=1), latency_s=0.5), "slots", id="one slot"),
    ],
)
def test_the_time_left_is_right_whatever_limits_the_run(setting: Setting, limited_by: str) -> None:
    """From a tenth of the run on it is right within 20 %, but for a moment now and then; and its cause is named."""
    told, done = told_by(setting)

    assert done.counts == {Status.SUCCEEDED: setting.items}
    assert len(wrong(told, done, setting.items)) <= 0.03 * len(told)
    assert Counter(one.limited_by for one in told).most_common(1)[0][0] == limited_by


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_reserve_is_left_in_every_window(algorithm: Algorithm) -> None:
    """Also where our own requests of the last window, or a bucket's refill, tell when the next one may go."""
    left: list[int] = []
    limiter = make_limiter(algorithm, limit=50, window_s=10.0)

    def answer(server: Server, _request: Request) -> tuple[int, dict[str, str]]:
        now = server.clock()
        verdict = limiter.take(now.mono)
        left.append(verdict.remaining)
        headers = limit_headers(verdict, style=ResetStyle.RELATIVE, utc=now.utc, window_s=10.0)
        return 200, {name.lower(): value for name, value in headers.items()}

    done = drive(requests(250), answer, options=RunOptions(reserve=0.2))

    assert done.counts == {Status.SUCCEEDED: 250}
    assert min(left) == 10


def test_an_item_that_was_started_goes_before_the_next_one() -> None:
    """Few items are half done at any moment, so that a stop leaves few, and what was read of them is young."""
    done = drive(requests(200), ok, options=RunOptions(concurrency=4, verify=Verify.READ), record={"name": "new"})

    half_done = written = 0
    for method in done.server.methods:
        written += 1 if method == "PATCH" else -1
        half_done = max(half_done, written)
    assert done.counts == {Status.SUCCEEDED: 200}
    assert half_done <= 8


@pytest.mark.parametrize(("reads_first", "verify"), [(True, Verify.RESPONSE), (True, Verify.READ)])
def test_reads_and_writes_keep_up_with_the_quota(reads_first: bool, verify: Verify) -> None:
    """Reads of 100 ms and writes of 300 ms take at most 1.15 times as long as 500 requests per 5 s need."""
    limiter, latencies, refused = make_limiter(Algorithm.FIRST, limit=500, window_s=5.0), Random(1), []

    def answer(server: Server, _request: Request) -> tuple[int, dict[str, str]]:
        now = server.clock()
        verdict = limiter.take(now.mono)
        if not verdict.allowed:
            refused.append(now.mono)
        headers = limit_headers(verdict, style=ResetStyle.RELATIVE, utc=now.utc, window_s=5.0)
        return 200 if verdict.allowed else 429, {name.lower(): value for name, value in headers.items()}

    done = drive(
        requests(1500),
        answer,
        options=RunOptions(verify=verify),
        record={"name": "new"},
        reads_first=reads_first,
        latency_s=lambda request: (0.1 if request.method == "GET" else 0.3) * latencies.uniform(1.0, 1.15),
    )

    assert done.counts == {Status.SUCCEEDED: 1500}
    assert not refused
    needed_s = (math.ceil(len(done.server.sent) / 500) - 1) * 5.0
    assert done.seconds <= 1.15 * needed_s
