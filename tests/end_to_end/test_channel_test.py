"""`--test-message`: the API's own test goes through the rows' webhooks, before anything is written."""

import json
import urllib.request
from typing import Any

import pytest
from conftest import Workplace, webhook
from sandboxes import SandboxProcess, sandbox_process


def stats(sandbox: SandboxProcess) -> Any:
    """Return what the sandbox saw."""
    with urllib.request.urlopen(f"{sandbox.url}/_sandbox/stats", timeout=20) as answer:  # noqa: S310  on loopback
        return json.load(answer)


@pytest.mark.parametrize(("which", "sent"), [("none", 0), ("canary", 1), ("all", 3)])
def test_how_many_are_sent(workplace: Workplace, sandbox: SandboxProcess, which: str, sent: int) -> None:
    """None by default, those of the canary, or one for each item; the summary says what was tested."""
    job = workplace.write_job(3)

    done = workplace.run("run", job, "--base-url", sandbox.url, "--yes", "--test-message", which)

    assert done.code == 0, done.err
    assert stats(sandbox)["by_status"].get("204", 0) == sent
    assert (f"{sent} test messages were sent; they test the webhooks of the rows" in done.err) is bool(sent)


def test_an_api_without_a_test(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Where the profile has no test message, that is said before anything is sent."""
    job = workplace.write_job(3, api={"base_url": sandbox.url, "auth": {"type": "none"}})

    done = workplace.run("run", job, "--yes", "--test-message", "all")

    assert done.code == 2
    assert "has no test message" in done.err
    assert not stats(sandbox)["requests"]


def test_a_refused_test_stops_before_the_first_write(workplace: Workplace) -> None:
    """Credentials that the API refuses are found by the test message: nothing is written, and no webhook is shown."""
    with sandbox_process("--items", "3", "--limit", "0", "--api-key", "other", "--api-secret", "other") as closed:
        job = workplace.write_job(3)

        done = workplace.run("run", job, "--base-url", closed.url, "--yes", "--test-message", "all")

        assert stats(closed)["by_status"] == {"401": 3}
    assert done.code == 3
    assert "3 of 3 test messages were refused; nothing was written" in done.err
    assert webhook(1) not in done.out + done.err
