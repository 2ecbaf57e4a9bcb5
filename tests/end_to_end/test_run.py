"""The command as its user knows it: a job file in, requests out, every item accounted for."""

import csv
import json
import os
import signal
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import Finished, Workplace, wait_until, webhook
from sandboxes import SECRET, SandboxProcess, StartSandbox

RECORD_MEMBERS = [
    "timestamp",
    "event",
    "level",
    "run",
    "item",
    "key",
    "status",
    "method",
    "url",
    "http_status",
    "attempts",
    "request_id",
    "duration_ms",
    "waited_ms",
    "verified",
    "rate_limit",
    "error",
]

ALLOWED = ("--allow-env", "CONFLUENT_CLOUD_API_KEY,CONFLUENT_CLOUD_API_SECRET")
"""What a job file that names the credentials itself may read."""


def run(workplace: Workplace, sandbox: SandboxProcess, *options: str, job: str = "job.json") -> Finished:
    """Run a job against a sandbox."""
    return workplace.run("run", job, "--base-url", sandbox.url, *options)


def test_every_item_succeeds(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A good job ends with 0, each item is written once on the server and stands once in the results."""
    workplace.write_job(120)

    done = run(workplace, sandbox)

    assert (done.code, sandbox.stats()["writes"]) == (0, {f"i-{n:05d}": 1 for n in range(1, 121)})
    records = workplace.results()
    assert sorted(record["item"] for record in records) == list(range(1, 121))
    assert {record["status"] for record in records} == {"succeeded"}
    assert all(record["verified"] for record in records)
    assert list(records[0]) == RECORD_MEMBERS
    assert workplace.summary()["counts"]["succeeded"] == 120


def test_files_are_private(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Folders of the state have mode 0700, files 0600."""
    workplace.write_job(3)
    run(workplace, sandbox)

    for path in (workplace.folder / ".migrator").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_failed_rows_can_be_run_again(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A failed item has the server's own words in its record, and failed.csv is a valid input."""
    workplace.write_job(30)
    sandbox.order({"match": "i-00007", "fault": "status", "status": 409, "code": "resource_conflict", "text": "=Taken"})

    done = run(workplace, sandbox)

    assert done.code == 1
    error = next(record["error"] for record in workplace.results() if record["key"] == "i-00007")
    assert (error["kind"], error["code"], error["detail"]) == ("conflict", "resource_conflict", "=Taken")
    failed = workplace.last_run() / "failed.csv"
    with failed.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["id", "webhook_url", "_status", "_http_status", "_error", "_attempts", "_request_id"]
    assert (row["id"], row["webhook_url"], row["_status"]) == ("i-00007", webhook(7), "failed")
    again = run(workplace, sandbox, "--items", str(failed))
    assert again.code == 0
    assert sandbox.stats()["writes"]["i-00007"] == 1


def test_unknown_id_is_its_own_failure(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A 403 for one id fails that item alone."""
    workplace.write_job(40)
    with (workplace.folder / "items.csv").open("a") as file:
        file.write(f"i-99999,{webhook(9999)}\n")

    done = run(workplace, sandbox)

    assert done.code == 1
    assert [r["error"]["kind"] for r in workplace.results() if r["error"]] == ["forbidden"]


def test_bad_rows_send_nothing(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A row that is not valid ends the run with 2, its line and what is allowed, before anything is sent."""
    workplace.write_job(3)
    with (workplace.folder / "items.csv").open("a") as file:
        file.write("i-00001,https://hooks.slack.example/again\n..,https://hooks.slack.example/up\ni-00005,no-url\n")

    done = run(workplace, sandbox)

    assert done.code == 2
    assert "items.csv:5: id: is already the key of line 2" in done.err
    assert "items.csv:6: id: is part of the path, and may not be . or .." in done.err
    assert "items.csv:7: webhook_url: has to be an http or https URL without blanks" in done.err
    assert sandbox.stats()["requests"] == 0
    assert "Traceback" not in done.err


def test_refused_credentials_stop_at_once(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A 401 stops the run after one request with 3; with the right key the same command goes on to the end."""
    workplace.write_job(50)
    with start_sandbox("--items", "50", "--limit", "0") as sandbox:
        wrong = workplace.env | {"CONFLUENT_CLOUD_API_SECRET": "wrong-secret-value"}

        done = workplace.run("run", "job.json", "--base-url", sandbox.url, env=wrong)

        assert (done.code, sandbox.stats()["requests"]) == (3, 1)
        assert "The API Key is invalid" in done.out or "Valid credentials" in done.out
        assert run(workplace, sandbox).code == 0
        assert sorted(record["item"] for record in workplace.results()) == list(range(1, 51))
        assert {record["status"] for record in workplace.results()} == {"succeeded"}


def test_invalid_key_in_a_403_stops_at_once(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A 403 that says the key is invalid stops the run, unlike any other 403."""
    workplace.write_job(50)
    sandbox.order({"match": "*", "fault": "status", "status": 403, "text": "invalid API key", "times": 1000})

    done = run(workplace, sandbox)

    assert (done.code, sandbox.stats()["requests"]) == (3, 1)


def test_failed_canary(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A first item that fails ends the run before the second is sent."""
    workplace.write_job(50)
    sandbox.order({"match": "i-00001", "fault": "status", "status": 422})

    done = run(workplace, sandbox)

    assert (done.code, sandbox.stats()["requests"]) == (3, 1)
    assert "canary" in done.out


def test_failure_threshold(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Too many failures stop the run long before all items are through."""
    workplace.write_job(300)
    sandbox.order(*({"match": f"i-{n:05d}", "fault": "status", "status": 422} for n in range(10, 300)))

    done = run(workplace, sandbox, "--max-failures", "5", "--concurrency", "4")

    assert done.code == 3
    assert 5 <= workplace.summary()["counts"]["failed"] <= 9


def test_unreachable_server(workplace: Workplace) -> None:
    """A server that is not there ends the run with 3 and a clear message."""
    workplace.write_job(5)

    done = workplace.run("run", "job.json", "--base-url", "http://127.0.0.1:9", "--max-attempts", "2")

    assert done.code == 3
    assert "cannot be reached" in done.out
    assert "Traceback" not in done.err


def test_mismatch(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A server that ignores a misspelt member and answers 200 is not believed."""
    job = {"request": {"method": "PATCH", "path": "/notifications/v1/integrations/{id}", "body": {"naem": "{id}"}}}
    workplace.write_job(3, **job, api={"name": "x", "base_url": sandbox.url, "auth": basic()}, secrets=[])
    (workplace.folder / "items.csv").write_text("id\ni-00001\n")

    done = workplace.run("run", "job.json", *ALLOWED)

    assert done.code == 3
    assert workplace.results()[0]["error"]["kind"] == "mismatch"


def basic() -> dict[str, str]:
    """Return credentials as a profile names them."""
    return {
        "type": "basic",
        "username": "${CONFLUENT_CLOUD_API_KEY}",
        "password": "${CONFLUENT_CLOUD_API_SECRET}",
    }


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ({"fault": "reset"}, "succeeded", None),
        ({"fault": "truncate"}, "succeeded", None),
        ({"fault": "garbage"}, "succeeded", None),
        ({"fault": "status", "status": 503}, "succeeded", None),
        ({"fault": "stall"}, "succeeded", None),
        ({"fault": "huge"}, "failed", "protocol"),
        ({"fault": "redirect", "location": "http://other.example/steal"}, "failed", "protocol"),
        ({"fault": "status", "status": 501}, "failed", "server"),
        ({"fault": "status", "status": 402}, "failed", "quota"),
    ],
    ids=lambda value: str(value.get("fault")) + str(value.get("status", "")) if isinstance(value, dict) else None,
)
def test_misbehaving_server(
    workplace: Workplace, sandbox: SandboxProcess, fault: dict[str, object], status: str, kind: str | None
) -> None:
    """What a passing fault breaks is sent again, what another attempt cannot mend is the item's failure."""
    workplace.write_job(25)
    sandbox.order({"match": "i-00009", **fault})

    run(workplace, sandbox, "--timeout", "1", "--max-failures", "50%")

    record = next(record for record in workplace.results() if record["key"] == "i-00009")
    assert (record["status"], (record["error"] or {}).get("kind")) == (status, kind)
    assert len(workplace.results()) == 25


def test_unsafe_request_is_in_doubt(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A request that is not idempotent and got no answer is in doubt, and is never sent twice."""
    request = {
        "method": "PATCH",
        "path": "/notifications/v1/integrations/{id}",
        "body": {"target": {"kind": "Slack", "webhook_url": "{webhook_url}"}},
        "idempotent": False,
    }
    workplace.write_job(25, request=request)
    sandbox.order({"match": "i-00009", "fault": "reset", "applied": True})

    done = run(workplace, sandbox)

    assert done.code == 1
    assert [r["key"] for r in workplace.results() if r["status"] == "in_doubt"] == ["i-00009"]
    assert sandbox.stats()["attempts"]["i-00009"] == 1


def test_quota_is_kept(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """Under a limit no request is refused, nor is the next run's first one where this run has used the quota up.

    How long anything waits is for tests in virtual time: a slow machine may need longer than a window for its requests.
    """
    workplace.write_job(50)
    with start_sandbox("--items", "50", "--limit", "25", "--window", "2", "--algorithm", "first") as sandbox:
        done = run(workplace, sandbox)
        again = run(workplace, sandbox, "--fresh", "--limit", "5")

        assert (done.code, again.code, sandbox.stats()["refused"]) == (0, 0, 0)
    assert workplace.summary()["quota"]["limit"] == 25


def test_the_summary_says_where_the_time_went(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """Each moment of the run counts for one reason, and a long wait is told when it is long."""
    workplace.write_job(30)
    with start_sandbox("--items", "30", "--limit", "20", "--window", "6") as sandbox:
        workplace.run("run", "job.json", "--base-url", sandbox.url)

    summary = workplace.summary()
    events = [json.loads(line) for line in (workplace.last_run() / "events.jsonl").read_text().splitlines()]
    assert sum(summary["time_s"].values()) == pytest.approx(summary["elapsed_s"], rel=0.05)
    assert {"sending", "quota used up"} <= summary["time_s"].keys()
    assert "quota used up" in {event.get("waiting_for") for event in events if event["event"] == "run.waiting"}


def test_concurrency_refusals_cost_no_item(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A 429 with quota left means fewer in flight: every item still succeeds, and none waits for the window."""
    workplace.write_job(40)
    options = ("--items", "40", "--limit", "1000", "--window", "3600", "--concurrency-limit", "2", "--latency", "5ms")
    with start_sandbox(*options) as sandbox:
        done = run(workplace, sandbox, "--max-attempts", "1")

    assert done.code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_and_resume(workplace: Workplace, start_sandbox: StartSandbox, number: signal.Signals) -> None:
    """A signal ends the run with its own code, what was in flight is recorded, and the same command goes on."""
    workplace.write_job(200)
    with start_sandbox("--items", "200", "--limit", "0", "--latency", "20ms") as sandbox:
        process = workplace.start("run", "job.json", "--base-url", sandbox.url, "--concurrency", "4")
        wait_until(lambda: sandbox.stats()["requests"] >= 20)

        process.send_signal(number)
        out, _ = process.communicate(timeout=200)

        assert process.returncode == 128 + number
        assert "the same command" in out
        interrupted = len(workplace.results())
        assert interrupted == len(sandbox.stats()["writes"]) < 200
        assert run(workplace, sandbox).code == 0
        assert set(sandbox.stats()["writes"].values()) == {1}
    assert sorted(record["item"] for record in workplace.results()) == list(range(1, 201))


def test_second_interrupt_gives_no_traceback(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """Two Ctrl-C at once give up what is in flight, and end the run with its own code and its own words."""
    workplace.write_job(200)
    with start_sandbox("--items", "200", "--limit", "0", "--latency", "200ms") as sandbox:
        process = workplace.start("run", "job.json", "--base-url", sandbox.url, "--concurrency", "4")
        wait_until(lambda: sandbox.stats()["requests"] >= 20)

        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)

        assert process.returncode == 130
        assert "the same command" in out
        assert "Traceback" not in err


def test_hang_up_stays_ignored(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """Under nohup a run goes on when the terminal is closed."""
    workplace.write_job(60)
    with start_sandbox("--items", "60", "--limit", "0", "--latency", "20ms") as sandbox:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            process = workplace.start("run", "job.json", "--base-url", sandbox.url, "--concurrency", "2")
        finally:
            signal.signal(signal.SIGHUP, before)
        wait_until(lambda: sandbox.stats()["requests"] >= 10)

        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=200)

        assert process.returncode == 0


def has_written(sandbox: SandboxProcess, items: int) -> bool:
    """Tell whether the server has taken so many items."""
    return len(sandbox.stats()["writes"]) >= items


def test_kill_and_resume(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """After kill -9 the same command sends only what has no result; what was in flight is all that is sent twice."""
    workplace.write_job(300)
    kills, lanes = 4, 8
    with start_sandbox("--items", "300", "--limit", "0", "--latency", "5ms") as sandbox:
        for kill in range(1, kills + 1):
            process = workplace.start("run", "job.json", "--base-url", sandbox.url, "--concurrency", str(lanes))
            wait_until(partial(has_written, sandbox, 55 * kill))
            process.kill()
            process.communicate()
        assert run(workplace, sandbox).code == 0

        writes = sandbox.stats()["writes"]
    assert sorted(record["item"] for record in workplace.results()) == list(range(1, 301))
    assert {record["status"] for record in workplace.results()} == {"succeeded"}
    assert len(writes) == 300
    assert sum(count - 1 for count in writes.values()) <= kills * lanes
    assert len(list((workplace.folder / ".migrator" / "runs").iterdir())) == 1


def test_changed_items_are_not_resumed(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """An unfinished run whose items file has changed is refused with a clear choice; --fresh starts again."""
    workplace.write_job(100)
    with start_sandbox("--items", "101", "--limit", "0", "--latency", "20ms") as sandbox:
        process = workplace.start("run", "job.json", "--base-url", sandbox.url, "--concurrency", "2")
        wait_until(lambda: sandbox.stats()["requests"] >= 5)
        process.kill()
        process.communicate()
        with (workplace.folder / "items.csv").open("a") as file:
            file.write(f"i-00101,{webhook(101)}\n")
        before = len(workplace.results())

        done = run(workplace, sandbox)

        assert (done.code, len(workplace.results())) == (2, before)
        assert "has changed" in done.err
        assert "--fresh" in done.err
        assert run(workplace, sandbox, "--fresh").code == 0


def test_overlap(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A second run of a job is refused with 4 while the first is under way, or passed over if that is asked for."""
    workplace.write_job(200)
    with start_sandbox("--items", "200", "--limit", "0", "--latency", "30ms") as sandbox:
        first = workplace.start("run", "job.json", "--base-url", sandbox.url, "--concurrency", "2")
        wait_until(lambda: sandbox.stats()["requests"] >= 2)

        assert run(workplace, sandbox).code == 4
        assert run(workplace, sandbox, "--if-running", "skip").code == 0
        first.send_signal(signal.SIGINT)
        first.communicate()


def test_limit_and_standard_input(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """--limit sends the first items alone, and items come from standard input as well."""
    workplace.write_job(20)

    assert run(workplace, sandbox, "--limit", "3").code == 0
    assert sorted(sandbox.stats()["writes"]) == ["i-00001", "i-00002", "i-00003"]
    piped = workplace.run(
        "run", "job.json", "--items", "-", "--base-url", sandbox.url, stdin=f"id,webhook_url\ni-00010,{webhook(10)}\n"
    )
    assert piped.code == 0
    assert "i-00010" in sandbox.stats()["writes"]


def test_dry_run_writes_nothing(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A dry run accounts for every item as skipped; its one request is a read, which tries the credentials."""
    workplace.write_job(10)

    done = run(workplace, sandbox, "--dry-run")

    assert (done.code, sandbox.stats()["requests"], sandbox.stats()["writes"]) == (0, 1, {})
    assert [record["status"] for record in workplace.results()] == ["skipped"] * 10


def test_bare_items_file(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """An items file with dotted columns needs no job file."""
    text = f"id,display_name,target.kind,target.webhook_url\ni-00001,New name,Slack,{webhook(1)}\ni-00002,Other,,\n"
    (workplace.folder / "items.csv").write_text(text)

    done = run(workplace, sandbox, job="items.csv")

    assert (done.code, len(sandbox.stats()["writes"])) == (0, 2)


def test_json_document_on_standard_output(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """With --json, standard output is one JSON document; events are JSON lines on standard error."""
    workplace.write_job(3)

    done = run(workplace, sandbox, "--json")

    assert json.loads(done.out)["counts"]["succeeded"] == 3
    assert [json.loads(line)["event"] for line in done.err.splitlines()] == ["run.started", "run.ended"]


def test_credentials_over_plain_http(workplace: Workplace) -> None:
    """Credentials are not sent over plain HTTP to another machine."""
    workplace.write_job(1)

    done = workplace.run("run", "job.json", "--base-url", "http://api.example")

    assert done.code == 2
    assert "plain HTTP" in done.err


def test_no_secret_is_written(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """No webhook and no credential is in any byte that is written or printed."""
    workplace.write_job(40)
    sandbox.order(
        {"match": "i-00003", "fault": "echo"},
        {"match": "i-00004", "fault": "status", "status": 422, "text": webhook(4)},
        {"match": "i-00005", "fault": "reset"},
        {"match": "i-00006", "fault": "garbage"},
        {"match": "i-00008", "fault": "redirect", "location": webhook(8)},
    )
    done = run(workplace, sandbox, "--log-level", "debug", "--max-failures", "50%", "--redact-files")
    with (workplace.folder / "items.csv").open("a") as file:
        file.write("i-00041,new-secret-0041 no url\n")
    bad = run(workplace, sandbox, "--log-level", "debug")

    written = [path.read_bytes() for path in (workplace.folder / ".migrator").rglob("*") if path.is_file()]
    printed = [text.encode() for text in (done.out, done.err, bad.out, bad.err)]
    for output in (*written, *printed):
        assert b"new-secret" not in output
        assert b"BEXAMPLE" not in output
        assert SECRET.encode() not in output
    assert (done.code, bad.code) == (1, 2)


def test_process_list_shows_no_secret(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """The process's command line holds no credential."""
    workplace.write_job(50)
    with start_sandbox("--items", "50", "--limit", "0", "--latency", "50ms") as sandbox:
        process = workplace.start("run", "job.json", "--base-url", sandbox.url, "--concurrency", "1")
        wait_until(lambda: sandbox.stats()["requests"])

        command_line = subprocess.run(
            ["/bin/ps", "-o", "args=", "-p", str(process.pid)], capture_output=True, text=True, check=True
        )

        assert "job.json" in command_line.stdout
        assert SECRET not in command_line.stdout
        process.send_signal(signal.SIGINT)
        process.communicate()


def test_terminal_display(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """The display names the quota and why it waits."""
    workplace.write_job(12)
    with start_sandbox("--items", "12", "--limit", "5", "--window", "2") as sandbox:
        done = subprocess.run(
            ["/usr/bin/script", "-qec", f"python -m migrator run job.json --base-url {sandbox.url} --yes", "/dev/null"],
            cwd=workplace.folder,
            env=workplace.env | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TERM": "xterm"},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    assert done.returncode == 0
    assert "waiting: quota used up" in done.stdout
    assert "12 succeeded" in done.stdout


def test_quota_wait_over_max_wait(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A wait for quota beyond --max-wait ends the run, resumable, and says how long it would have been."""
    workplace.write_job(12)
    with start_sandbox("--items", "20", "--limit", "5", "--window", "3600", "--algorithm", "first") as sandbox:
        done = run(workplace, sandbox, "--max-wait", "10m")
        assert sandbox.stats()["refused"] == 0

    assert done.code == 3
    assert "--max-wait" in done.out
    assert workplace.summary()["counts"]["succeeded"] == 5
    assert workplace.summary()["stopped"]["reason"] == "wait for quota too long"


def test_keys_with_quotas_of_their_own(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """Items of a column's values are paced each by their own quota, though the file is sorted by it."""
    workplace.write_job(
        60,
        api={
            "name": "many",
            "base_url": "http://127.0.0.1:9",
            "auth": {
                "type": "basic",
                "username": "${CONFLUENT_CLOUD_API_KEY}",
                "password": "${CONFLUENT_CLOUD_API_SECRET}",
            },
            "rate_limit": {"key": "column:org"},
        },
    )
    rows = [f"i-{n:05d},{webhook(n)},org-{(n - 1) // 20}" for n in range(1, 61)]
    (workplace.folder / "items.csv").write_text("\n".join(["id,webhook_url,org", *rows, ""]))
    with start_sandbox("--items", "60", "--limit", "0") as sandbox:
        done = run(workplace, sandbox, "--concurrency", "4", *ALLOWED)

    assert done.code == 0
    assert {record["key"] for record in workplace.results()} == {f"i-{n:05d}" for n in range(1, 61)}
    first = {(record["item"] - 1) // 20 for record in workplace.results()[:12]}
    assert first == {0, 1, 2}


def test_server_error_that_says_when_to_come_again(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A 5xx is tried again, and not before its Retry-After."""
    workplace.write_job(3)
    sandbox.order({"match": "i-00002", "fault": "status", "status": 500, "headers": {"Retry-After": "2"}})

    done = run(workplace, sandbox)

    assert done.code == 0
    record = next(record for record in workplace.results() if record["key"] == "i-00002")
    assert record["attempts"] == 2
    assert record["waited_ms"] >= 2000
