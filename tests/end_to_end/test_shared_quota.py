"""Several runs on one quota: real processes, a real server, and a real Redis where it is installed."""

import json
import socket
import subprocess
from pathlib import Path

import pytest
import trustme
from conftest import Finished, Workplace, webhook
from redis_server import needs_redis, redis_server
from sandboxes import SandboxProcess, StartSandbox


def write_items(workplace: Workplace, name: str, first: int, rows: int) -> str:
    """Write an items file without a job file."""
    lines = [f"i-{number:05d},Slack,{webhook(number)}" for number in range(first, first + rows)]
    (workplace.folder / name).write_text("\n".join(["id,target.kind,target.webhook_url", *lines, ""]))
    return name


def finish(processes: list["subprocess.Popen[str]"]) -> list[Finished]:
    """Wait for commands."""
    ended = []
    for process in processes:
        out, err = process.communicate(timeout=200)
        ended.append(Finished(process.returncode, out, err))
    return ended


def refused(server: SandboxProcess) -> int:
    """Return how many requests were refused for the rate limit."""
    found: int = server.stats()["refused"]
    return found


def test_two_files_on_one_host_are_two_jobs_that_share_their_quota(
    workplace: Workplace, start_sandbox: StartSandbox
) -> None:
    """Neither says that another run is active, and none of their requests is refused."""
    with start_sandbox("--items", "200", "--limit", "25", "--window", "2") as server:
        names = [write_items(workplace, f"part-{part}.csv", 1 + 50 * part, 50) for part in range(3)]
        ended = finish([workplace.start("run", name, "--base-url", server.url, "--json") for name in names])
        assert [one.code for one in ended] == [0, 0, 0], [one.err for one in ended]
        assert len({json.loads(one.out)["job"] for one in ended}) == 3
        assert refused(server) == 0


@needs_redis
def test_runs_with_separate_state_folders_share_a_quota_in_redis(
    workplace: Workplace, start_sandbox: StartSandbox, tmp_path: Path
) -> None:
    """No request is refused, and neither the credential nor a webhook is in Redis."""
    (tmp_path / "redis").mkdir()
    with (
        redis_server(tmp_path / "redis") as redis,
        start_sandbox("--items", "200", "--limit", "25", "--window", "2") as server,
    ):
        names = [write_items(workplace, f"part-{part}.csv", 1 + 50 * part, 50) for part in range(3)]
        sharing = ["--shared-quota", redis.url, "--quota-name", "confluent"]
        ended = finish(
            [
                workplace.start("run", name, "--base-url", server.url, "--state", f"state-{name}", *sharing)
                for name in names
            ]
        )
        assert [one.code for one in ended] == [0, 0, 0], [one.err for one in ended]
        assert refused(server) == 0


@needs_redis
def test_a_run_goes_on_without_its_redis_and_says_so(
    workplace: Workplace, start_sandbox: StartSandbox, tmp_path: Path
) -> None:
    """It follows the rate limit by itself."""
    with redis_server(tmp_path) as redis:
        url = redis.url
    with start_sandbox("--items", "40", "--limit", "0") as server:
        name = write_items(workplace, "items.csv", 1, 40)
        done = workplace.run("run", name, "--base-url", server.url, "--shared-quota", url, "--quota-name", "any")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in (workplace.last_run() / "events.jsonl").read_text().splitlines()]
    assert [one["event"] for one in events].count("quota.not_shared") == 1


@needs_redis
def test_redis_over_tls_with_certificates_of_both_sides(
    workplace: Workplace, start_sandbox: StartSandbox, tmp_path: Path
) -> None:
    """The password comes from the environment; an authority that is not trusted is named, and the run goes on."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    for name, pem in (("ca", authority.cert_pem), ("key", certificate.private_key_pem), ("both", None)):
        data = certificate.private_key_and_cert_chain_pem if pem is None else pem
        (tmp_path / f"{name}.pem").write_bytes(data.bytes())
    (tmp_path / "cert.pem").write_bytes(certificate.cert_chain_pems[0].bytes())
    files = ("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "ca.pem")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tls = ["--ca-file", str(tmp_path / "ca.pem"), "--client-cert", str(tmp_path / "both.pem")]
    with (
        redis_server(tmp_path, "--tls-port", str(port), *files, "--requirepass", "hidden-password"),
        start_sandbox("--items", "9", "--limit", "0") as server,
    ):
        name = write_items(workplace, "items.csv", 1, 9)
        env = workplace.env | {"MIGRATOR_SHARED_QUOTA": f"rediss://:hidden-password@127.0.0.1:{port}/0"}
        for more, reasons in ((tls, []), ([], ["certificate is not trusted"])):
            done = workplace.run(
                "run", name, "--base-url", server.url, "--quota-name", "any", "--fresh", *more, env=env
            )
            assert done.code == 0, done.err
            events = [json.loads(line) for line in (workplace.last_run() / "events.jsonl").read_text().splitlines()]
            told = [str(one) for one in events if one["event"] == "quota.not_shared"]
            assert len(told) == len(reasons), told
            assert all(reason in one for reason, one in zip(reasons, told, strict=True))
            assert "hidden-password" not in done.err + done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shared-quota", "redis://:hidden-password@127.0.0.1/0", "--quota-name", "n"], "MIGRATOR_SHARED_QUOTA"),
        (["--shared-quota", "redis://quota.example/0", "--quota-name", "n"], "rediss://"),
        (["--shared-quota", "rediss://quota.example/0?ssl_cert_reqs=none", "--quota-name", "n"], "without query"),
        (["--shared-quota", "redis://127.0.0.1/0"], "--quota-name NAME"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_sent(
    workplace: Workplace, sandbox: SandboxProcess, arguments: list[str], said: str
) -> None:
    """The message names what to do, and shows no password."""
    name = write_items(workplace, "items.csv", 1, 3)
    done = workplace.run("run", name, "--base-url", sandbox.url, *arguments)
    assert done.code == 2
    assert said in done.err
    assert "hidden-password" not in done.err
    assert _requests(sandbox) == 0


def _requests(server: SandboxProcess) -> int:
    return len(server.stats()["attempts"])
