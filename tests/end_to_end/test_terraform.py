"""`--terraform`: what Terraform owns is named before, and its new values are there afterwards."""

import json

from conftest import Workplace, webhook
from sandboxes import SandboxProcess


def test_hand_over(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Plan and run warn of it; the run's folder has the values, for its owner alone, and no output has them."""
    job = workplace.write_job(3)
    resource = {"address": "confluent_notifications_integration.a", "mode": "managed", "values": {"id": "i-00002"}}
    show = {"format_version": "1.0", "values": {"root_module": {"resources": [resource]}}}
    (workplace.folder / "show.json").write_text(json.dumps(show))
    arguments = (job, "--base-url", sandbox.url, "--terraform", "show.json")

    planned = workplace.run("plan", *arguments, "--json")
    done = workplace.run("run", *arguments, "--yes")

    assert (planned.code, done.code) == (0, 0), done.err
    assert any("Terraform owns 1 of the 3" in one for one in json.loads(planned.out)["warnings"])
    for one in (planned, done):
        assert "Terraform owns 1 of the 3 items (show.json): confluent_notifications_integration.a" in one.err
    file = workplace.last_run() / "terraform.tfvars.json"
    written = json.loads(file.read_text())["migrated"]["confluent_notifications_integration.a"]
    assert written == {"target": {"kind": "Slack", "webhook_url": webhook(2)}}
    assert file.stat().st_mode & 0o777 == 0o600
    assert "1 of the items are Terraform's" in done.out
    assert webhook(2) not in done.out + done.err


def test_a_retry_names_it_too(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """What a retry sends is warned of as in the run before it."""
    job = workplace.write_job(2)
    (workplace.folder / "items.csv").write_text(f"id,webhook_url\ni-00001,{webhook(1)}\ni-77777,{webhook(2)}\n")
    resources = [
        {"address": f"confluent_notifications_integration.{name}", "values": {"id": name}}
        for name in ("i-00001", "i-77777")
    ]
    show = {"format_version": "1.0", "values": {"root_module": {"resources": resources}}}
    (workplace.folder / "show.json").write_text(json.dumps(show))
    assert workplace.run("run", job, "--base-url", sandbox.url, "--yes").code == 1

    again = workplace.run("retry", "last", "--terraform", "show.json", "--yes")

    assert "Terraform owns 1 of the 1 items (show.json): confluent_notifications_integration.i-77777" in again.err
