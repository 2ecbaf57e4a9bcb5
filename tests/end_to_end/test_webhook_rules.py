"""Warnings of webhooks: told by check, plan and run, and errors only where the user says so."""

import json

import pytest
from conftest import Workplace
from sandboxes import SandboxProcess


def write_job(workplace: Workplace, host: str) -> str:
    """Write a job of three webhooks on a host."""
    job = workplace.write_job(3)
    rows = [f"i-{number:05d},https://{host}/services/T0/B0/x{number}" for number in range(1, 4)]
    (workplace.folder / "items.csv").write_text("\n".join(["id,webhook_url", *rows, ""]))
    return job


def test_warnings_alone_are_no_failure(workplace: Workplace) -> None:
    """The check ends well, one line a cause; with --strict it does not."""
    job = write_job(workplace, "acme.webhook.office.com")

    done = workplace.run("check", job)
    strict = workplace.run("check", job, "--strict")

    assert done.code == 0
    assert done.err.count("switched off in May 2026") == 1
    assert "(3 rows, first: line 2)" in done.err
    assert "webhook.office.com/services" not in done.err
    assert strict.code == 2
    assert "2 warnings (--strict); nothing was sent" in strict.err


def test_warnings_as_json(workplace: Workplace) -> None:
    """A program reads them beside the problems."""
    done = workplace.run("check", write_job(workplace, "hooks.acme.io"), "--json")

    found = json.loads(done.out)
    assert (found["problem_count"], len(found["warnings"])) == (0, 1)
    assert "is no Slack webhook" in found["warnings"][0]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_plan_and_run_warn_too(workplace: Workplace, sandbox: SandboxProcess, command: str) -> None:
    """Nothing is read or sent where warnings are errors."""
    job = write_job(workplace, "hooks.acme.io")

    done = workplace.run(command, job, "--base-url", sandbox.url, "--strict")

    assert done.code == 2
    assert "is no Slack webhook" in done.err
    assert not (workplace.folder / ".migrator" / "runs").exists()


def test_hosts_of_examples(workplace: Workplace) -> None:
    """A check of made-up webhooks has no warning, so that a rehearsal stays quiet."""
    done = workplace.run("check", workplace.write_job(300))

    assert (done.code, done.err) == (0, "")
