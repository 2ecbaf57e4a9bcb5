"""Runs on several processes: real workers, started by the program or by an operator, really killed and frozen."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from conftest import CREDENTIALS, MIGRATOR, Finished, Workplace, wait_until
from dask_processes import DaskProcesses, dask_processes
from sandboxes import SECRET, SandboxProcess, StartSandbox

TIME_OUT_S = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    """Start a scheduler and two workers for all tests of this module."""
    with dask_processes(tmp_path_factory.mktemp("dask"), workers=2) as processes:
        yield processes


def start(
    place: Workplace, cluster: DaskProcesses, *arguments: str, env: dict[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start a run on the cluster's workers."""
    return command(place, {**cluster.env, **CREDENTIALS, **(env or {})}, "--scheduler", cluster.address, *arguments)


def command(place: Workplace, env: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    """Start a run in a process that has imported nothing before: Dask reads its settings then."""
    return subprocess.Popen(
        [*MIGRATOR, "run", "job.json", "--yes", *arguments],
        cwd=place.folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> Finished:
    """Wait for a run."""
    out, err = process.communicate(timeout=50)
    return Finished(process.returncode, out, err)


def writes(server: SandboxProcess) -> dict[str, int]:
    """Return how often each id was written."""
    found: dict[str, int] = server.stats()["attempts"]
    return found


def statuses(place: Workplace) -> dict[str, int]:
    """Return how many items ended how."""
    found: dict[str, int] = {}
    for row in place.results():
        found[row["status"]] = found.get(row["status"], 0) + 1
    return found


def under_way(server: SandboxProcess, least: int) -> None:
    """Wait until a server has seen so many requests."""
    wait_until(lambda: server.stats()["requests"] >= least)


def at_rest(server: SandboxProcess) -> int:
    """Return how many requests a server has seen once no more come: word of a pause takes a moment to the workers."""
    seen: list[int] = []

    def same_as_before() -> bool:
        time.sleep(0.3)
        seen.append(server.stats()["requests"])
        return len(seen) > 2 and seen[-1] == seen[-3]

    wait_until(same_as_before)
    return seen[-1]


def test_four_processes_of_this_machine_share_one_quota(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """No request is refused, all four take part, and no process is left behind."""
    with start_sandbox("--items", "160", "--limit", "100", "--window", "5") as server:
        name = workplace.write_job(160, run={"base_url": server.url})
        done = workplace.run("run", name, "--workers", "4", "--yes", "--json", "--log-format", "json")
        stats = server.stats()
    assert done.code == 0, done.err
    assert stats["refused"] == 0
    assert set(stats["attempts"].values()) == {1}
    summary = json.loads(done.out)
    assert summary["quota"]["requests"] == 160
    events = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events].count("worker.joined") == 4
    assert all(json.loads(line) for line in done.err.splitlines())


def test_a_killed_worker_loses_nothing(
    workplace: Workplace, cluster: DaskProcesses, start_sandbox: StartSandbox
) -> None:
    """Its items go to another one; what Dask says, even at its most talkative, holds no secret."""
    with start_sandbox("--items", "120", "--limit", "0", "--latency", "100ms") as server:
        workplace.write_job(120, run={"base_url": server.url})
        process = start(workplace, cluster, "--concurrency", "8", "--log-format", "json")
        under_way(server, 30)
        cluster.kill_worker()
        done = ended(process)
        counts = writes(server)
    cluster.start_worker()
    assert done.code == 0, done.err
    assert (len(counts), statuses(workplace)) == (120, {"succeeded": 120})
    assert sum(counts.values()) - 120 <= 8
    assert b"new-secret-" not in cluster.log()
    assert SECRET.encode() not in cluster.log()
    assert b"migrator" in cluster.log()


def test_a_killed_run_is_resumed_without_the_workers(
    workplace: Workplace, cluster: DaskProcesses, start_sandbox: StartSandbox
) -> None:
    """What was in flight is sent again, and nothing else; the workers are free for the next run."""
    with start_sandbox("--items", "120", "--limit", "0", "--latency", "100ms") as server:
        name = workplace.write_job(120, run={"base_url": server.url})
        process = start(workplace, cluster, "--concurrency", "8")
        under_way(server, 30)
        process.kill()
        process.communicate()
        done = workplace.run("run", name, "--yes")
        counts = writes(server)
    assert done.code == 0, done.err
    assert (len(counts), statuses(workplace)) == (120, {"succeeded": 120})
    assert sum(counts.values()) - 120 <= 16


def test_ctl_and_status_reach_the_workers(
    workplace: Workplace, cluster: DaskProcesses, start_sandbox: StartSandbox
) -> None:
    """A pause holds all of them, and the number of workers is shown."""
    with start_sandbox("--items", "900", "--limit", "0", "--latency", "50ms") as server:
        workplace.write_job(900, run={"base_url": server.url})
        process = start(workplace, cluster, "--concurrency", "4", "--rate", "60/s")
        under_way(server, 10)
        assert workplace.run("ctl", "last", "pause").code == 0
        wait_until(lambda: live(workplace)["in_flight"] == 0)
        paused = at_rest(server)
        now = live(workplace)
        assert (now["waiting_for"], now["workers"]) == ("paused", 2)
        assert workplace.run("ctl", "last", "concurrency", "16").code == 0
        assert server.stats()["requests"] == paused
        assert workplace.run("ctl", "last", "resume").code == 0
        under_way(server, paused + 1)
        assert workplace.run("ctl", "last", "stop").code == 0
        done = ended(process)
    assert done.code == 3, done.err
    assert set(statuses(workplace)) == {"succeeded"}


def live(place: Workplace) -> dict[str, Any]:
    """Return how the active run stands."""
    found: dict[str, Any] = json.loads(place.run("ctl", "last", "status").out)
    return found


def test_a_worker_of_another_version_is_refused(
    workplace: Workplace, cluster: DaskProcesses, start_sandbox: StartSandbox
) -> None:
    """The others do the work, and an event names both versions."""
    cluster.start_worker(preload="import migrator\nmigrator.__version__ = '0.0.1'\n")
    with start_sandbox("--items", "40", "--limit", "0") as server:
        workplace.write_job(40, run={"base_url": server.url})
        wait_until(lambda: b"Starting established connection" in (cluster.folder / "worker-2.log").read_bytes())
        done = ended(start(workplace, cluster, "--log-format", "json"))
    cluster.kill_worker()
    assert done.code == 0, done.err
    assert "it has migrator 0.0.1" in done.err


def test_a_frozen_worker_and_a_killed_scheduler(
    workplace: Workplace, tmp_path_factory: pytest.TempPathFactory, start_sandbox: StartSandbox
) -> None:
    """The frozen one is given up; without the scheduler the run ends soon, and goes on without it later."""
    with (
        dask_processes(tmp_path_factory.mktemp("own"), workers=2) as cluster,
        start_sandbox("--items", "120", "--limit", "0", "--latency", "100ms") as server,
    ):
        name = workplace.write_job(120, run={"base_url": server.url})
        process = start(workplace, cluster, "--concurrency", "8", "--timeout", str(TIME_OUT_S), "--log-format", "json")
        under_way(server, 30)
        cluster.workers[0].send_signal(signal.SIGSTOP)
        under_way(server, 60)
        assert cluster.scheduler is not None
        cluster.scheduler.kill()
        stopped = ended(process)
        cluster.workers[0].send_signal(signal.SIGCONT)
        assert stopped.code == 3, stopped.err
        assert "is gone" in stopped.out
        done = workplace.run("run", name, "--yes")
        counts = writes(server)
    assert done.code == 0, done.err
    assert (len(counts), statuses(workplace)) == (120, {"succeeded": 120})
    assert sum(counts.values()) - 120 <= 16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scheduler", "tcp://192.0.2.1:8786"), "tls:// for another machine"),
        (("--scheduler", "192.0.2.1"), "an address such as tls://HOST:8786"),
        (("--scheduler", "tls://127.0.0.1:1"), "needs certificates"),
        (("--workers", "2", "--scheduler", "tls://127.0.0.1:1"), "not both"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    workplace: Workplace, arguments: tuple[str, ...], said: str
) -> None:
    """One message, exit 2, no run."""
    name = workplace.write_job(3, run={"base_url": "http://127.0.0.1:9"})
    done = workplace.run("run", name, "--yes", *arguments)
    assert (done.code, said in done.err) == (2, True), done.err
    assert not list(workplace.folder.glob(".migrator/runs/*"))


def test_without_the_extra_the_message_says_what_to_install(workplace: Workplace) -> None:
    """The rest of the program does without it."""
    workplace.write_job(3, run={"base_url": "http://127.0.0.1:9"})
    (workplace.folder / "distributed.py").write_text("raise ImportError('not here')\n")
    env = workplace.env | {"PYTHONPATH": str(workplace.folder)}
    done = ended(command(workplace, env, "--workers", "2"))
    assert (done.code, "need the extra dask" in done.err) == (2, True), done.err


def test_the_scheduler_is_no_matter_of_the_job_file(workplace: Workplace) -> None:
    """A job file from elsewhere does not say where credentials go."""
    name = workplace.write_job(3, run={"scheduler": "tls://elsewhere.example:8786"})
    done = workplace.run("run", name, "--yes")
    assert (done.code, "may not stand in a job file" in done.err) == (2, True), done.err


def test_certificates_are_needed_on_both_sides(workplace: Workplace, cluster: DaskProcesses, tmp_path: Path) -> None:
    """A client of another authority does not get in."""
    other = trustme.CA().issue_cert("127.0.0.1")
    (tmp_path / "cert.pem").write_bytes(other.cert_chain_pems[0].bytes())
    (tmp_path / "key.pem").write_bytes(other.private_key_pem.bytes())
    workplace.write_job(3, run={"base_url": "http://127.0.0.1:9"})
    client = "DASK_DISTRIBUTED__COMM__TLS__CLIENT__"
    env = {f"{client}CERT": str(tmp_path / "cert.pem"), f"{client}KEY": str(tmp_path / "key.pem")}
    done = ended(start(workplace, cluster, env=env))
    assert (done.code, "cannot be reached" in done.err) == (3, True), done.err
