"""Whole runs over a bad network: every item is accounted for once, no secret is shown, and nothing ends as a bug."""

import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from conftest import Finished, Workplace, wait_until, webhook
from fault_proxy import (
    FAULTS,
    Fault,
    FaultProxy,
    Passage,
    drop_when_reused,
    fault_proxy,
    headers,
    on_items,
    reset_when_reused,
    status,
)
from sandboxes import SECRET, SandboxProcess

ITEMS, EVERY = 40, 8
FAULTY = ITEMS // EVERY
BURST_S = 1.0

NOT_MENDED = frozenset({"oversized"})
"""Faults that another attempt meets again as far as anybody knows, so that the item fails."""

SPARED = frozenset({"close idle", "reset after", "slow", "other type", "http 1 0"})
"""Faults that may cost no item an attempt."""


def run(workplace: Workplace, proxy: FaultProxy, *options: str) -> Finished:
    """Run the job through a proxy."""
    return workplace.run("run", "job.json", "--base-url", proxy.url, "--timeout", "1", "--concurrency", "8", *options)


def assert_accounted(workplace: Workplace, done: Finished, *, code: int, failed: int = 0) -> None:
    """Hold a run that has come to its end against the promises that no network can break."""
    said = done.out + done.err
    assert done.code == code, said
    assert sorted(record["item"] for record in workplace.results()) == list(range(1, ITEMS + 1))
    ends = Counter(record["status"] for record in workplace.results())
    assert ends == +Counter({"succeeded": ITEMS - failed, "failed": failed})
    assert_discreet(workplace, done)


def assert_discreet(workplace: Workplace, *ends: Finished) -> None:
    """No secret is in any word or file but in the two files that hold the user's own columns, and none was a bug."""
    for done in ends:
        assert "Traceback" not in done.err
        assert "a bug" not in done.err
    printed = [text.encode() for done in ends for text in (done.out, done.err)]
    for output in (*printed, *written(workplace.folder / ".migrator")):
        assert b"new-secret" not in output
        assert b"BEXAMPLE" not in output
        assert SECRET.encode() not in output


def written(state: Path) -> list[bytes]:
    """Return the contents of the files of all runs but for those that hold the user's own columns."""
    own = {"succeeded.csv", "failed.csv"}
    return [path.read_bytes() for path in state.rglob("*") if path.is_file() and path.name not in own]


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_single_answers(workplace: Workplace, sandbox: SandboxProcess, name: str) -> None:
    """A fault that passes fails no idempotent item, and one that says nothing of the item costs it no attempt."""
    workplace.write_job(ITEMS)
    with fault_proxy(sandbox.url, on_items(FAULTS[name], every=EVERY)) as proxy:
        attempts = ("--max-attempts", "1") if name in SPARED else ()
        done = run(workplace, proxy, "--max-failures", "50%", "--log-level", "debug", *attempts)

    failed = FAULTY if name in NOT_MENDED else 0
    # Which requests find a connection that has been used is a matter of chance.
    met = proxy.met[FAULTS[name].__name__]
    assert 1 <= met <= FAULTY if name.endswith("reused") else met == FAULTY
    assert_accounted(workplace, done, code=1 if failed else 0, failed=failed)
    writes = sandbox.stats()["writes"]
    assert all(writes.get(f"i-{number:05d}") for number in range(1, ITEMS + 1))


@pytest.mark.parametrize(
    "name",
    ["reset before", "reset in body", "truncated", "bad chunks", "no http", "500", "502", "504", "stall before"],
)
def test_fault_that_stays(workplace: Workplace, sandbox: SandboxProcess, name: str) -> None:
    """Where a fault outlasts the attempts, those items fail and are named, and the others succeed."""
    workplace.write_job(ITEMS)
    with fault_proxy(sandbox.url, on_items(FAULTS[name], every=EVERY, times=99)) as proxy:
        done = run(workplace, proxy, "--max-failures", "50%", "--max-attempts", "2")

    assert_accounted(workplace, done, code=1, failed=FAULTY)
    failed = [record for record in workplace.results() if record["status"] == "failed"]
    assert {record["item"] % EVERY for record in failed} == {0}
    assert {record["attempts"] for record in failed} <= {2, 3, 4}
    assert all(record["error"]["message"] for record in failed)


REUSE = pytest.mark.parametrize("fault", [drop_when_reused, reset_when_reused], ids=lambda fault: str(fault.__name__))


@REUSE
def test_connections_that_go_as_they_are_reused(workplace: Workplace, sandbox: SandboxProcess, fault: Fault) -> None:
    """A server that gives up idle connections just as they are used again costs no item an attempt."""
    workplace.write_job(ITEMS)
    with fault_proxy(sandbox.url, lambda _: fault) as proxy:
        done = run(workplace, proxy, "--max-attempts", "1", "--concurrency", "1")

    assert_accounted(workplace, done, code=0)
    assert set(sandbox.stats()["attempts"].values()) == {1}


@REUSE
def test_many_connections_that_go_as_they_are_reused(
    workplace: Workplace, sandbox: SandboxProcess, fault: Fault
) -> None:
    """With many at a time a second try may meet another such connection, and every item still succeeds."""
    workplace.write_job(ITEMS)
    with fault_proxy(sandbox.url, lambda _: fault) as proxy:
        done = run(workplace, proxy, "--max-attempts", "20")

    assert_accounted(workplace, done, code=0)
    assert set(sandbox.stats()["attempts"].values()) == {1}


def has_met(proxy: FaultProxy, items: int) -> bool:
    """Tell whether so many items have been on their way."""
    return len(proxy.attempts) >= items


def test_server_away_for_a_while(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A server that refuses connections for a moment costs patience alone."""
    workplace.write_job(ITEMS)
    with fault_proxy(sandbox.url, on_items(FAULTS["slow"], every=1)) as proxy:
        process = workplace.start(
            "run", "job.json", "--base-url", proxy.url, "--concurrency", "2", "--max-attempts", "20"
        )
        for moment in (10, 20, 30):
            wait_until(partial(has_met, proxy, moment))
            proxy.refuse()
            proxy.listen()
        out, err = process.communicate(timeout=200)

    assert_accounted(workplace, Finished(process.returncode, out, err), code=0)


def test_server_away_for_good(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A server that is gone stops the run with 3; when it is back, the same command goes on where it was."""
    workplace.write_job(ITEMS)
    with fault_proxy(sandbox.url, on_items(FAULTS["slow"], every=1)) as proxy:
        process = workplace.start(
            "run", "job.json", "--base-url", proxy.url, "--concurrency", "2", "--max-outage", "1s"
        )
        wait_until(partial(has_met, proxy, ITEMS // 2))
        proxy.refuse()
        out, err = process.communicate(timeout=200)
        stopped = Finished(process.returncode, out, err)
        before = {
            record["key"]: record["attempts"] for record in workplace.results() if record["status"] == "succeeded"
        }
        seen = sandbox.stats()["attempts"]
        proxy.listen()
        done = run(workplace, proxy)

    assert stopped.code == 3
    assert_discreet(workplace, stopped)
    assert_accounted(workplace, done, code=0)
    after = sandbox.stats()["attempts"]
    assert {key: after[key] for key in before} == {key: seen[key] for key in before}


@pytest.mark.parametrize("code", [500, 503])
def test_burst_of_server_errors(workplace: Workplace, sandbox: SandboxProcess, code: int) -> None:
    """A server that fails for everybody for a while is waited for, and no item fails for it."""
    workplace.write_job(ITEMS)
    met: list[float] = []

    def plan(_: Passage) -> Fault | None:
        if len(proxy.attempts) <= 5:
            return None
        met.append(time.monotonic())
        return status(code) if met[-1] - met[0] < BURST_S else None

    with fault_proxy(sandbox.url) as proxy:
        proxy.plan = plan
        done = run(workplace, proxy, "--max-attempts", "3")

    assert len(met) >= 10
    assert_accounted(workplace, done, code=0)
    assert set(sandbox.stats()["attempts"].values()) == {1}


def test_server_that_stays_down(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A server that goes down and stays so is given up after a while; the run can be resumed, and nothing failed."""
    workplace.write_job(ITEMS)
    with fault_proxy(sandbox.url) as proxy:
        proxy.plan = lambda _: status(502) if len(proxy.attempts) > 5 else None
        down = run(workplace, proxy, "--max-outage", "1s", "--max-attempts", "3")
        summary = workplace.summary()
        proxy.plan = lambda _: None
        done = run(workplace, proxy)

    assert (down.code, summary["stopped"]["reason"], summary["counts"]["failed"]) == (3, "server down", 0)
    assert_accounted(workplace, done, code=0)


@pytest.mark.parametrize("lines", ["", "Retry-After: 1\r\n", "Retry-After: soon\r\n", "Retry-After: -5\r\n"])
def test_storm_of_refusals(workplace: Workplace, sandbox: SandboxProcess, lines: str) -> None:
    """A storm of 429s costs no item any of its attempts, whatever it says of when to come again."""
    workplace.write_job(ITEMS)
    storm = 3

    def plan(_: Passage) -> Fault | None:
        return status(429, lines, b"") if proxy.met.total() < storm else None

    with fault_proxy(sandbox.url) as proxy:
        proxy.plan = plan
        done = run(workplace, proxy, "--max-attempts", "1")

    assert_accounted(workplace, done, code=0)


GARBAGE = {
    "negative": "X-RateLimit-Limit: -1\r\nX-RateLimit-Reset: -100\r\n",
    "not a number": "X-RateLimit-Limit: NaN\r\nX-RateLimit-Remaining: nan\r\nX-RateLimit-Reset: NaN\r\n",
    "infinite": "X-RateLimit-Limit: inf\r\nX-RateLimit-Remaining: Infinity\r\nX-RateLimit-Reset: 1e999\r\n",
    "empty": "X-RateLimit-Limit:\r\nX-RateLimit-Remaining:\r\nX-RateLimit-Reset: \r\nRetry-After:\r\n",
    "huge": "".join(f"X-RateLimit-{name}: {'9' * 400}\r\n" for name in ("Limit", "Remaining", "Reset")),
    "duplicated": "X-RateLimit-Remaining: 100\r\n" * 3 + "X-RateLimit-Reset: 1\r\nX-RateLimit-Reset: x\r\n",
    "words": "X-RateLimit-Limit: many\r\nX-RateLimit-Remaining: some\r\nX-RateLimit-Reset: later\r\n",
    "bytes": "X-RateLimit-Limit: \xff\xfe\r\nX-RateLimit-Remaining: \xb2\r\nX-RateLimit-Reset: \u0031\xbd\r\n",
    "draft": 'RateLimit: "a";r=;t=-\r\nRateLimit-Policy: "a";q=1e9;w=0\r\n',
    "json": 'X-RateLimit: {"limit":[]\r\n',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_for_a_quota(workplace: Workplace, sandbox: SandboxProcess, name: str) -> None:
    """Rate-limit headers that make no sense neither fail an item nor hold the run up."""
    workplace.write_job(ITEMS)
    with fault_proxy(sandbox.url, lambda _: headers(GARBAGE[name])) as proxy:
        done = run(workplace, proxy, "--max-wait", "20s")

    assert_accounted(workplace, done, code=0)
    assert set(sandbox.stats()["attempts"].values()) == {1}


@pytest.mark.parametrize("name", GARBAGE)
def test_refusals_with_garbage_for_a_quota(workplace: Workplace, sandbox: SandboxProcess, name: str) -> None:
    """A 429 whose headers make no sense is waited out all the same."""
    workplace.write_job(ITEMS)
    with fault_proxy(sandbox.url, on_items(status(429, GARBAGE[name], b""), every=20)) as proxy:
        done = run(workplace, proxy, "--max-wait", "20s", "--max-attempts", "1")

    assert_accounted(workplace, done, code=0)


def test_overdrawn_quota(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A rest below zero is none at all: the run goes on slowly, and comes to its end."""
    workplace.write_job(3)
    with fault_proxy(sandbox.url, lambda _: headers("X-RateLimit-Remaining: -7\r\nX-RateLimit-Reset: -1\r\n")) as proxy:
        done = run(workplace, proxy, "--max-wait", "20s")

    assert done.code == 0
    assert len(sandbox.stats()["writes"]) == 3


@pytest.mark.parametrize("name", ["reset instead", "stall instead", "truncated", "bad chunks", "502", "504"])
def test_unsafe_requests(workplace: Workplace, sandbox: SandboxProcess, name: str) -> None:
    """What may not be sent twice is in doubt after each fault that hides the server's answer, and is sent once."""
    request = {
        "method": "PATCH",
        "path": "/notifications/v1/integrations/{id}",
        "body": {"target": {"kind": "Slack", "webhook_url": "{webhook_url}"}},
        "idempotent": False,
    }
    workplace.write_job(ITEMS, request=request)
    with fault_proxy(sandbox.url, on_items(FAULTS[name], every=EVERY)) as proxy:
        done = run(workplace, proxy, "--max-failures", "50%")

    assert done.code == 1
    assert Counter(r["status"] for r in workplace.results()) == {"succeeded": ITEMS - FAULTY, "in_doubt": FAULTY}
    assert set(proxy.attempts.values()) == {1}
    assert_discreet(workplace, done)


def test_server_that_repeats_what_it_was_sent(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Secrets that come back in an error, a header or a redirect are masked in all that is written."""
    workplace.write_job(ITEMS)
    echo = f'{{"errors":[{{"detail":"{webhook(8)} is taken, {SECRET} as well","code":"{webhook(8)}"}}]}}'.encode()
    plans = [
        on_items(status(422, f"X-Request-Id: {webhook(8)}\r\n", echo), every=8),
        on_items(status(302, f"Location: {webhook(9)}\r\n"), every=9),
    ]
    with fault_proxy(sandbox.url, lambda passage: next(filter(None, (plan(passage) for plan in plans)), None)) as proxy:
        done = run(workplace, proxy, "--max-failures", "50%", "--log-level", "debug")

    assert done.code == 1
    assert len(workplace.results()) == ITEMS
    # Another row's secret cannot be known for one; so each is looked for with the row that it belongs to.
    own = [record for record in workplace.results() if record["item"] in {8, 9}]
    assert "new-secret" not in str(own)
    assert SECRET not in str(workplace.results())
