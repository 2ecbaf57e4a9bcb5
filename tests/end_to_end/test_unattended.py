"""Started by a clock: an empty environment, no terminal, no one to answer, and the next start may come too early."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import MIGRATOR, Finished, Workplace, wait_until
from sandboxes import KEY, SECRET, SandboxProcess, StartSandbox

SLOW = ("--items", "400", "--limit", "0", "--latency", "100ms")
QUIET = ("--progress", "none")
NEW = ("/usr/bin/env",)
"""Starts a process that is new from its first instruction on."""


class Clockwork:
    """Starts a job as a clock would: nothing in the environment, no terminal, in the root folder.

    Args:
        workplace: the folder of the job.
        sandbox: the server.
        rows: items of the job.
    """

    def __init__(self, workplace: Workplace, sandbox: SandboxProcess, rows: int) -> None:
        self.folder, self.state = workplace.folder, workplace.folder / ".migrator"
        auth = {"type": "basic", "username": KEY, "password": "${file:secret}"}
        (self.folder / "secret").write_text(f"{SECRET}\n")
        workplace.write_job(rows, api={"base_url": sandbox.url, "auth": auth})

    def arguments(self, *options: str) -> list[str]:
        """Return what the command line has."""
        return ["run", str(self.folder / "job.json"), "--state", str(self.state), *options]

    def start(self, *options: str, before: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        """Start the job; `before` is what the command is started by."""
        return subprocess.Popen(
            [*before, *MIGRATOR, *self.arguments(*options)],
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str, before: tuple[str, ...] = ()) -> Finished:
        """Run the job to its end; without `before` it is forked, which is like a new process but for the locale."""
        if not before:
            return Finished(*forked.run(self.arguments(*options), folder=Path("/"), env={}))
        with self.start(*options, before=before) as process:
            return ended(process)

    @contextmanager
    def running(self, *options: str) -> Iterator["subprocess.Popen[str]"]:
        """Start the job, and go on once it has recorded an item; it is gone afterwards."""
        with self.start(*options) as process:
            try:
                wait_until(lambda: self.recorded() > 0)
                yield process
            finally:
                process.kill()

    def recorded(self) -> int:
        """Return how many results the runs have written."""
        return sum(path.read_bytes().count(b"\n") for path in self.state.glob("runs/*/results.jsonl"))

    def runs(self) -> list[Path]:
        """Return the folders of the runs."""
        return sorted((self.state / "runs").iterdir())


def ended(process: "subprocess.Popen[str]") -> Finished:
    """Wait for a process and return what it said."""
    out, err = process.communicate(timeout=200)
    return Finished(process.returncode, out, err)


def log(text: str) -> list[dict[str, Any]]:
    """Return the events of a standard error on which nothing else may stand."""
    return [json.loads(line) for line in text.splitlines()]


def test_empty_environment(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Without a single variable, a terminal or a home the run does its work, and asks no one."""
    done = Clockwork(workplace, sandbox, 30).run(before=NEW)

    assert done.code == 0
    assert len(sandbox.stats()["writes"]) == 30


def test_names_beyond_ascii(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """In the C locale of a clock too, folders and what a server says may be in any language."""
    place = Workplace(workplace.folder / "Überträge")
    place.folder.mkdir()
    sandbox.order({"match": "i-00003", "fault": "status", "status": 409, "text": "Schlüssel „vergeben“ ✗"})

    done = Clockwork(place, sandbox, 3).run(*QUIET, before=NEW)

    (event,) = log(done.err)
    assert (done.code, event["error"]["detail"]) == (1, "Schlüssel „vergeben“ ✗")
    assert "Überträge" in done.out
    assert "✗" in (place.last_run() / "failed.csv").read_text("utf-8")


@pytest.mark.parametrize(
    "closed",
    ["<&-", "2>&-", ">&-", "<&- >&- 2>&-"],
)
def test_closed_streams(workplace: Workplace, sandbox: SandboxProcess, closed: str) -> None:
    """A starter that closes the standard streams, rather than to give others, keeps nothing from being done."""
    job = Clockwork(workplace, sandbox, 30)

    done = job.run(before=("/bin/sh", "-c", f'exec "$@" {closed}', "sh"))

    assert done.code == 0
    assert len(sandbox.stats()["writes"]) == 30


def test_success_is_silent(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """With `--progress none` a success leaves standard error empty."""
    done = Clockwork(workplace, sandbox, 30).run(*QUIET)

    assert (done.code, done.err) == (0, "")


def test_failure_is_not_silent(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """With `--progress none` an item that failed is told of, by one event with its key and the cause."""
    sandbox.order({"match": "i-00007", "fault": "status", "status": 409, "text": "Taken"})

    done = Clockwork(workplace, sandbox, 30).run(*QUIET)

    (event,) = log(done.err)
    assert (done.code, event["event"], event["key"], event["status"]) == (1, "item", "i-00007", "failed")


@pytest.mark.parametrize("options", [(), ("--log-format", "json"), ("--log-level", "debug", "--progress", "plain")])
def test_log_is_one_object_a_line(workplace: Workplace, sandbox: SandboxProcess, options: tuple[str, ...]) -> None:
    """Each line of standard error is a JSON object that says when, how bad, what and in which run, in that manner."""
    job = Clockwork(workplace, sandbox, 30)
    sandbox.order({"match": "i-00007", "fault": "status", "status": 409, "text": "line one\nline two"})
    before = datetime.now(UTC) - timedelta(seconds=1)

    done = job.run(*options)

    assert done.code == 1
    events = log(done.err)
    assert len(events) >= 3
    (run,) = job.runs()
    for event in events:
        assert list(event)[:4] == ["timestamp", "event", "level", "run"]
        assert before <= datetime.fromisoformat(event["timestamp"]) <= datetime.now(UTC)
        assert event["timestamp"].endswith("Z")
        assert event["level"] in {"debug", "info", "warning", "error"}
        assert isinstance(event["event"], str)
        assert event["run"] == run.name
    assert {"run.started", "item", "run.ended"} <= {event["event"] for event in events}


def test_second_run_fails(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A second run of the job ends with 4, names the process that is at work and since when, and disturbs nothing."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        before = datetime.now(UTC) - timedelta(seconds=1)
        with job.running("--concurrency", "2") as first:
            second = job.run()
            assert first.poll() is None
            after = datetime.now(UTC)
            done = ended(first)

        assert (second.code, second.out) == (4, "")
        (message,) = second.err.splitlines()
        _, _, since = message.partition(f"process {first.pid} since ")
        assert before <= datetime.fromisoformat(since.rstrip(")")) <= after
        assert done.code == 0
        assert set(sandbox.stats()["writes"].values()) == {1}
        assert len(job.runs()) == 1


def test_second_run_is_skipped(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """With `--if-running skip` the second ends with 0 at once, says that it did nothing, and did nothing."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        with job.running("--concurrency", "2") as first:
            second = job.run("--if-running", "skip", *QUIET)
            assert first.poll() is None
            done = ended(first)

        assert (second.code, second.err) == (0, "")
        assert "skipped" in second.out
        assert done.code == 0
        assert set(sandbox.stats()["writes"].values()) == {1}
        assert len(job.runs()) == 1


def test_skipped_run_says_who_is_at_work(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A run that is skipped says for whom, so that one that hangs for days can be found."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        with job.running("--concurrency", "2") as first:
            second = job.run("--if-running", "skip")

        assert f"process {first.pid} since " in second.out + second.err


def test_second_run_waits(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """With `--if-running wait` the second begins when the first has ended, and both succeed."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 40)
        with job.running("--concurrency", "2") as first, job.start("--if-running", "wait", *QUIET) as second:
            done = ended(first)
            assert second.poll() is None
            waited = ended(second)

        assert (done.code, waited.code) == (0, 0)
        assert set(sandbox.stats()["writes"].values()) == {2}
        assert len(job.runs()) == 2


def test_waiting_run_says_for_whom(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A run that waits for another says so, while it does, and names it."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        with job.running("--concurrency", "2") as first, job.start("--if-running", "wait") as second:
            assert second.stderr is not None
            told = second.stderr.readline()
            second.kill()
            ended(second)
            assert first.poll() is None

        assert f"process {first.pid} since " in told


def test_waiting_run_can_be_stopped(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A run that waits for another ends with 143 on a SIGTERM, and the other goes on."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        with job.running("--concurrency", "2") as first, job.start("--if-running", "wait", *QUIET) as second:
            time.sleep(1.0)
            second.send_signal(signal.SIGTERM)
            stopped = ended(second)
            done = ended(first)

        # The signal's own default may end it, which a shell shows as 143.
        assert stopped.code in {143, -signal.SIGTERM}
        assert done.code == 0


def unshare_works() -> bool:
    """Tell whether a process can be made the first of a namespace of its own here."""
    command = ["unshare", "--fork", "--pid", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not unshare_works(), reason="no namespaces can be made here")
def test_waiting_run_can_be_stopped_in_a_container(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """As the first process of a container, which no signal's default ends, a waiting run ends with 143 as well."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        inside = ("/usr/bin/env", "unshare", "--fork", "--pid", "--kill-child")
        with job.running("--concurrency", "2"), job.start("--if-running", "wait", before=inside) as second:
            try:
                children = Path(f"/proc/{second.pid}/task/{second.pid}/children")
                wait_until(lambda: children.read_text().strip() != "")
                time.sleep(1.5)
                os.kill(int(children.read_text()), signal.SIGTERM)
                stopped = ended(second)
            finally:
                second.kill()

        assert stopped.code == 143


def test_lock_dies_with_its_process(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """After a kill the next start finds no lock, and goes on with what is unfinished."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        with job.running("--concurrency", "2") as first:
            first.kill()
            first.wait()

        done = job.run(*QUIET)

        assert (done.code, len(job.runs())) == (0, 1)
        assert len(sandbox.stats()["writes"]) == 60


def test_of_many_at_once_one_runs(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """Of five that are started at the same moment one does the work, and the others end with 4."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        processes = [job.start("--concurrency", "2", *QUIET) for _ in range(5)]
        done = [ended(process) for process in processes]

        assert sorted(one.code for one in done) == [0, 4, 4, 4, 4]
        assert set(sandbox.stats()["writes"].values()) == {1}
        assert len(job.runs()) == 1


def test_sigterm_and_the_same_command_again(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A SIGTERM ends the run with 143, what was in flight is recorded, and the same command sends the rest."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        command = ("--concurrency", "4", *QUIET)
        with job.running(*command) as process:
            process.send_signal(signal.SIGTERM)
            stopped = ended(process)

        assert stopped.code == 143
        summary = json.loads((job.runs()[0] / "summary.json").read_text())
        assert (summary["exit_code"], summary["resumable"], summary["pending"] > 0) == (143, True, True)
        assert summary["counts"]["succeeded"] == len(sandbox.stats()["writes"])

        again = job.run(*command)

        assert (again.code, len(job.runs())) == (0, 1)
        assert sandbox.stats()["writes"] == {f"i-{number:05d}": 1 for number in range(1, 61)}


@pytest.mark.parametrize(
    ("server", "name"),
    [
        (("--items", "400", "--limit", "5", "--window", "3600"), "quota"),
        (("--items", "400", "--limit", "0", "--latency", "3600s"), "answer"),
    ],
    ids=["quota", "answer"],
)
def test_sigterm_while_waiting(
    workplace: Workplace, start_sandbox: StartSandbox, server: tuple[str, ...], name: str
) -> None:
    """A run that waits for quota, or for an answer that does not come, ends with 143 long before either is there."""
    with start_sandbox(*server) as sandbox:
        job = Clockwork(workplace, sandbox, 60)
        with job.start(*QUIET, "--max-wait", "2h", "--timeout", "1h") as process:
            wait_until(lambda: sum(sandbox.stats()["attempts"].values()) >= (5 if name == "quota" else 1))
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            try:
                stopped = ended(process)
            finally:
                process.kill()

    assert stopped.code == 143


@pytest.mark.parametrize("delay_s", [0.02, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_sigterm_at_the_start(workplace: Workplace, start_sandbox: StartSandbox, delay_s: float) -> None:
    """A SIGTERM that comes before the first request is heeded too, and leaves what the same command goes on from."""
    with start_sandbox(*SLOW) as sandbox:
        job = Clockwork(workplace, sandbox, 20)
        with job.start(*QUIET) as process:
            time.sleep(delay_s)
            process.send_signal(signal.SIGTERM)
            stopped = ended(process)

        # Before Python runs any code of ours the signal's own default ends the process, which a shell shows as 143.
        assert stopped.code in {143, -signal.SIGTERM}
        assert job.run(*QUIET).code == 0
        assert set(sandbox.stats()["writes"].values()) == {1}


def test_no_controlling_terminal_is_needed(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """The process has no controlling terminal, which is what these tests are about."""
    job = Clockwork(workplace, sandbox, 3)
    script = "import os; os.open('/dev/tty', os.O_RDWR)"

    with job.start() as process, suppress(ProcessLookupError):
        session = os.getsid(process.pid)
        assert session == process.pid
        assert ended(process).code == 0
    refused = subprocess.run(
        [MIGRATOR[0], "-c", script], start_new_session=True, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert refused.returncode != 0


NOTICES = """
import http.server, json, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.tell(b"")
    def do_POST(self):
        self.tell(self.rfile.read(int(self.headers["Content-Length"])))
    def tell(self, body):
        with pathlib.Path(sys.argv[1]).open("a") as file:
            print(json.dumps([self.path, body.decode()]), file=file)
        self.send_response(200)
        self.end_headers()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def notices(heard: Path) -> Iterator[str]:
    """Start someone who hears notices and writes them down, and return its URL."""
    with subprocess.Popen(
        [MIGRATOR[0], "-c", NOTICES, str(heard)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        (
            "items.csv",
            "id,webhook_url\ni-1,https://hooks.slack.example/new-secret\ni-1,https://hooks.slack.example/new-secret\n",
            "items.csv:3: id: is already the key of line 2",
        ),
        ("gone.csv", "", "gone.csv: No such file or directory"),
    ],
)
def test_others_are_told_of_a_run_that_is_not_begun(
    workplace: Workplace, sandbox: SandboxProcess, name: str, text: str, why: str
) -> None:
    """A file that is not as it should be at night is no silent matter."""
    heard = workplace.folder / "heard"
    job = Clockwork(workplace, sandbox, 3)
    with notices(heard) as url:
        document = json.loads((workplace.folder / "job.json").read_text()) | {"items": name}
        document["notify"] = [{"ping": f"{url}/check"}, {"webhook": f"{url}/hook"}]
        (workplace.folder / "job.json").write_text(json.dumps(document))
        if text:
            (workplace.folder / name).write_text(text)

        done = job.run(*QUIET)

    assert done.code == 2
    assert sandbox.stats()["requests"] == 0
    calls = dict(json.loads(line) for line in heard.read_text().splitlines())
    assert calls.keys() == {"/check/fail", "/hook"}
    said = json.loads(calls["/hook"])
    assert (said["event"], said["job"], said["exit_code"]) == ("failure", "rotate", 2)
    assert why in said["message"]
    assert "new-secret" not in heard.read_text()


def test_others_are_told_of_a_missing_variable(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A variable that is not set, of the API or of one target, is told to the targets with which nothing is wrong."""
    heard = workplace.folder / "heard"
    job = Clockwork(workplace, sandbox, 3)
    with notices(heard) as url:
        document = json.loads((workplace.folder / "job.json").read_text())
        document["notify"] = [{"ping": "https://hc.example/${CONFLUENT_CLOUD_PING}"}, {"webhook": f"{url}/hook"}]
        (workplace.folder / "job.json").write_text(json.dumps(document))

        done = job.run(*QUIET)

    assert (done.code, sandbox.stats()["requests"]) == (2, 0)
    ((path, body),) = [json.loads(line) for line in heard.read_text().splitlines()]
    assert (path, json.loads(body)["event"], json.loads(body)["job"]) == ("/hook", "failure", "rotate")
    assert "CONFLUENT_CLOUD_PING" in json.loads(body)["message"]


def test_others_are_told(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A check is pinged at the start and at the end, a webhook and a command get the summary, and never a secret."""
    heard, told = workplace.folder / "heard", workplace.folder / "told"
    job = Clockwork(workplace, sandbox, 3)
    sandbox.order({"match": "i-00002", "fault": "status", "status": 409})
    with notices(heard) as url:
        (workplace.folder / "ping").write_text(f"{url}/check-secret")
        document = json.loads((workplace.folder / "job.json").read_text())
        document["notify"] = [
            {"ping": "${file:ping}"},
            {"webhook": f"{url}/hook-secret", "on": ["failure"]},
            {"command": ["/bin/sh", "-c", f"cat > {told}"]},
        ]
        (workplace.folder / "job.json").write_text(json.dumps(document))

        refused = job.run(*QUIET)
        told_of_refusal = {path for path, _ in map(json.loads, heard.read_text().splitlines())}
        heard.unlink()
        done = job.run("--allow-commands", "--max-failures", "50%", *QUIET)

    assert (refused.code, "--allow-commands" in refused.err) == (2, True)
    assert told_of_refusal == {"/check-secret/fail", "/hook-secret"}  # the others, whatever is wrong with the command
    assert done.code == 1
    calls = [json.loads(line) for line in heard.read_text().splitlines()]
    assert calls[0][0] == "/check-secret/start"
    assert sorted(path for path, _ in calls[1:]) == ["/check-secret/fail", "/hook-secret"]
    (summary,) = [json.loads(body) for path, body in calls if path == "/hook-secret"]
    assert (summary["event"], summary["counts"]["failed"]) == ("failure", 1)
    assert json.loads(told.read_text()) == summary
    assert "new-secret" not in heard.read_text()
    assert all(b"check-secret" not in path.read_bytes() for path in job.state.rglob("*") if path.is_file())
