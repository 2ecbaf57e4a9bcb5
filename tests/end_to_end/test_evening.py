"""The operator's evening through the real command line: list, plan, apply, verify, take back, retry, settle."""

import csv
import json
import stat
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from conftest import Finished, Workplace, wait_until, webhook
from sandboxes import KEY, SECRET, SandboxProcess, StartSandbox
from slack_stand_in import slack

KEY_TEXT = "a key that no one else has"
ITEMS = 12
PAGES = 2
"""Of the sandbox's 400 integrations."""
ROOT = "/notifications/v1/integrations"


def command(verb: str, sandbox: SandboxProcess, *options: str) -> tuple[str, ...]:
    """Return a command about the job on a sandbox."""
    return (verb, "job.json", "--base-url", sandbox.url, *options)


def told(done: Finished) -> Any:
    """Return the one JSON document of a standard output."""
    return json.loads(done.out)


def held(sandbox: SandboxProcess, key: str) -> dict[str, Any]:
    """Return what the sandbox holds of an integration."""
    return ask(sandbox, "GET", f"{ROOT}/{key}")


def change(sandbox: SandboxProcess, key: str, body: dict[str, Any]) -> None:
    """Change an integration, as someone else would."""
    ask(sandbox, "PATCH", f"{ROOT}/{key}", body)


def ask(sandbox: SandboxProcess, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Make a request of our own."""
    manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
    manager.add_password(None, sandbox.url, KEY, SECRET, is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with opener.open(urllib.request.Request(sandbox.url + path, data, headers, method=method)) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def old(number: int) -> str:
    """Return the webhook that the sandbox begins with."""
    return f"https://hooks.slack.example/services/TEXAMPLE/BOLD{number:04d}/old-{number:04d}"


def rotated(workplace: Workplace, sandbox: SandboxProcess, *options: str) -> str:
    """Rotate all items with their images kept, and return the run's id."""
    workplace.write_job(ITEMS)
    (workplace.folder / "key").write_text(KEY_TEXT)
    done = workplace.run(*command("run", sandbox, "--keep-before", "--key-file", "key", *options))
    assert done.code == 0, done.err
    return workplace.last_run().name


def leaks(workplace: Workplace, *texts: str) -> list[str]:
    """Return the files of the state folder that hold a secret, but for the two with the input's own columns."""
    own = {"succeeded.csv", "failed.csv"}
    return [
        f"{path.name}: {text}"
        for path in (workplace.folder / ".migrator").rglob("*")
        if path.is_file() and path.name not in own
        for text in texts
        if text.encode() in path.read_bytes()
    ]


def test_plan_shows_what_would_change(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A plan says of each item and member what is and what would be, secrets as fingerprints, and writes nothing."""
    workplace.write_job(ITEMS)
    change(sandbox, "i-00002", {"target": {"kind": "Slack", "webhook_url": webhook(2)}})

    shown = workplace.run(*command("plan", sandbox))
    plan = told(workplace.run(*command("plan", sandbox, "--json")))

    assert shown.code == 0
    assert plan["counts"] == {"change": 11, "unchanged": 1, "missing": 0, "forbidden": 0, "unreadable": 0}
    first = plan["items"][0]
    assert (first["item"], first["key"], first["action"]) == (1, "i-00001", "change")
    (difference,) = first["changes"]
    assert difference["pointer"] == "/target/webhook_url"
    assert difference["before"].startswith("https://hooks.slack.example/***#")
    assert difference["before"] != difference["after"]
    for line in ("/target/webhook_url", f"- {difference['before']}", f"+ {difference['after']}", "11 change"):
        assert line in shown.out
    assert "new-secret" not in shown.out + shown.err + json.dumps(plan)
    assert "old-0001" not in shown.out + shown.err + json.dumps(plan)
    assert sandbox.stats()["writes"] == {"i-00002": 1}


def test_plan_of_many_reads_the_list(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """Four hundred items cost two requests, since the profile has a list."""
    with start_sandbox("--items", "400", "--limit", "100", "--window", "3600", "--algorithm", "first") as sandbox:
        workplace.write_job(400)

        plan = told(workplace.run(*command("plan", sandbox, "--json")))

        assert (plan["counts"]["change"], plan["requests"]) == (400, 2)
        # 98 are left of this window, and 302 take four more.
        assert 3 * 3600 <= plan["eta_s"] < 4 * 3600 + 60


def test_plan_tells_missing_from_forbidden(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """What is not there and what may not be read are counted, and the exit code says so."""
    with start_sandbox("--items", "2", "--limit", "0", "--unknown", "404") as sandbox:
        workplace.write_job(4)
        sandbox.order({"match": "i-00001", "fault": "status", "status": 403, "method": "GET"})

        done = workplace.run(*command("plan", sandbox, "--json"))

    assert (done.code, told(done)["counts"]["missing"], told(done)["counts"]["forbidden"]) == (1, 2, 1)


def test_plan_is_applied_and_drift_is_refused(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A plan is applied as it was shown; an item that someone changed since is refused and left as it is."""
    workplace.write_job(ITEMS)
    assert workplace.run(*command("plan", sandbox, "--out", "plan.json")).code == 0
    assert stat.S_IMODE((workplace.folder / "plan.json").stat().st_mode) == 0o600
    change(sandbox, "i-00005", {"target": {"kind": "Slack", "webhook_url": "https://else.example/x"}})

    done = workplace.run(*command("run", sandbox, "--plan", "plan.json"))

    assert done.code == 1
    (failed,) = [one for one in workplace.results() if one["status"] == "failed"]
    assert (failed["key"], failed["error"]["kind"]) == ("i-00005", "conflict")
    assert held(sandbox, "i-00005")["target"]["webhook_url"] == "https://else.example/x"
    assert held(sandbox, "i-00006")["target"]["webhook_url"] == webhook(6)


def test_plan_of_other_items_is_refused(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A plan fits the items that it was made of, and nothing is sent with another's."""
    workplace.write_job(ITEMS)
    workplace.run(*command("plan", sandbox, "--out", "plan.json"))
    workplace.write_job(ITEMS + 1)

    done = workplace.run(*command("run", sandbox, "--plan", "plan.json"))

    assert (done.code, "other items" in done.err) == (2, True)
    assert sandbox.stats()["writes"] == {}


@pytest.mark.parametrize("items", [3, 40])
def test_only_changed(workplace: Workplace, sandbox: SandboxProcess, items: int) -> None:
    """What is as wanted already is not written again; many items are looked up in the list."""
    workplace.write_job(items)
    assert workplace.run(*command("run", sandbox)).code == 0
    change(sandbox, "i-00002", {"target": {"kind": "Slack", "webhook_url": old(2)}})
    requests = sandbox.stats()["requests"]

    done = workplace.run(*command("run", sandbox, "--only-changed"))

    assert done.code == 0
    assert workplace.summary()["counts"] == {
        "succeeded": 1, "unchanged": items - 1, "failed": 0, "in_doubt": 0, "skipped": 0
    }  # fmt: skip
    assert sandbox.stats()["writes"]["i-00001"] == 1
    assert sandbox.stats()["requests"] - requests == (items if items < 10 else PAGES) + 1


def test_since_last(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """An item whose request is as the last that succeeded is skipped without any request, over many runs."""
    workplace.write_job(ITEMS)
    first = workplace.run(*command("run", sandbox, "--since-last"))
    requests = sandbox.stats()["requests"]
    second = workplace.run(*command("run", sandbox, "--since-last"))
    rows = (workplace.folder / "items.csv").read_text().replace("new-secret-0003", "newer-secret-0003")
    (workplace.folder / "items.csv").write_text(rows)
    third = workplace.run(*command("run", sandbox, "--since-last"))

    assert (first.code, second.code, third.code) == (0, 0, 0)
    assert sandbox.stats()["requests"] == requests + 1
    assert sandbox.stats()["writes"]["i-00003"] == 2
    assert workplace.summary()["counts"]["unchanged"] == ITEMS - 1
    assert leaks(workplace, "new-secret", "newer-secret") == []


def test_verify_by_reading(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """With `--verify read` an item counts once a GET shows what was sent, and a server that lies is found out."""
    workplace.write_job(3)
    sandbox.order({
        "match": "i-00002", "fault": "status", "status": 200, "method": "GET",
        "body": '{"target": {"kind": "Slack", "webhook_url": "https://else.example/x"}}',
    })  # fmt: skip

    done = workplace.run(*command("run", sandbox, "--verify", "read", "--max-failures", "50%"))

    ends = {one["key"]: (one["status"], one["verified"]) for one in workplace.results()}
    assert ends == {"i-00001": ("succeeded", True), "i-00002": ("failed", False), "i-00003": ("succeeded", True)}
    assert done.code == 1


def test_odd_list_after_the_last_item(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Which old webhooks are still used cannot be read then; every item has its end all the same."""
    sandbox.order({"match": ROOT, "fault": "status", "status": 200, "method": "GET", "body": "{}"})

    rotated(workplace, sandbox)

    assert workplace.summary()["exit_code"] == 0
    assert "which old webhooks are not used any more could not be read" in workplace.summary()["next_step"]


def test_rollback_puts_back_what_was_there(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A rollback restores each item that the run changed, is a run of its own, and changes nothing the second time."""
    run = rotated(workplace, sandbox)
    retired = table(workplace.last_run() / "retired.csv")

    back = workplace.run("rollback", run, "--key-file", "key", "--json")
    again = workplace.run("rollback", run, "--key-file", "key", "--json")

    assert (back.code, told(back)["counts"]["succeeded"]) == (0, ITEMS)
    assert (again.code, told(again)["counts"]["unchanged"]) == (0, ITEMS)
    assert [held(sandbox, f"i-{number:05d}")["target"]["webhook_url"] for number in range(1, ITEMS + 1)] == [
        old(number) for number in range(1, ITEMS + 1)
    ]
    assert [one["key"] for one in retired] == [f"i-{number:05d}" for number in range(1, ITEMS + 1)]
    assert leaks(workplace, "old-0001", "new-secret", KEY_TEXT) == []


def test_rollback_leaves_what_others_changed(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """An item that someone has changed since the run is left as it is, and the ending says so."""
    run = rotated(workplace, sandbox)
    change(sandbox, "i-00004", {"target": {"kind": "Slack", "webhook_url": "https://else.example/x"}})

    back = workplace.run("rollback", run, "--key-file", "key")

    assert back.code == 1
    (skipped,) = [one for one in workplace.results() if one["status"] == "skipped"]
    assert (skipped["key"], skipped["error"]["kind"]) == ("i-00004", "conflict")
    assert held(sandbox, "i-00004")["target"]["webhook_url"] == "https://else.example/x"


@pytest.mark.parametrize(("key", "words"), [("another key that is long", "another key"), ("short", "12 characters")])
def test_rollback_with_another_key(workplace: Workplace, sandbox: SandboxProcess, key: str, words: str) -> None:
    """Without the key that the images were kept with nothing is sent."""
    run = rotated(workplace, sandbox)
    requests = sandbox.stats()["requests"]
    (workplace.folder / "key").write_text(key)

    back = workplace.run("rollback", run, "--key-file", "key")

    assert back.code in {2, 3}
    assert words in back.err
    assert sandbox.stats()["requests"] == requests


def test_masks_are_told_of_and_never_written_back(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """Where the API masks its secrets, plan and run say that they cannot be rolled back, and a rollback writes none."""
    with start_sandbox("--items", "20", "--limit", "0", "--masked") as sandbox:
        workplace.write_job(ITEMS)
        (workplace.folder / "key").write_text(KEY_TEXT)

        plan = workplace.run(*command("plan", sandbox))
        run = workplace.run(*command("run", sandbox, "--keep-before", "--key-file", "key"))
        writes = sandbox.stats()["writes"]
        back = workplace.run("rollback", workplace.last_run().name, "--key-file", "key")

        assert (plan.code, run.code) == (0, 0)
        assert "cannot be rolled back" in plan.out
        assert "cannot be rolled back" in run.err
        assert {one["status"] for one in workplace.results()} <= {"skipped", "unchanged"}
        assert back.code in {0, 1}
        assert sandbox.stats()["writes"] == writes


def test_masked_cells_are_refused(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A mask in an items file, the API's or one of ours, is a problem of its row, and nothing is sent."""
    with start_sandbox("--items", "3", "--limit", "0", "--masked") as sandbox:
        base = ("--base-url", sandbox.url)
        exported = workplace.run("export", "confluent-cloud", "--out", "items.csv", *base)
        done = workplace.run("run", "items.csv", *base)

        assert "3 secrets" in exported.err
        assert done.code == 2
        assert "items.csv:2" in done.err
        assert "mask" in done.err
        assert sandbox.stats()["writes"] == {}


def test_export_is_what_run_takes(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """The exported file has the columns that run takes, only what was asked for, and is for its owner alone."""
    base = ("--base-url", sandbox.url)
    change(sandbox, "i-00007", {"display_name": "=HYPERLINK(1)"})
    where = "--where", "id < 'i-00020' && target.kind == 'Slack'"
    done = workplace.run("export", "confluent-cloud", "--out", "items.csv", *where, *base)

    assert done.code in {0, 2}, done.err
    path = workplace.folder / "items.csv"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rows = table(path)
    assert rows[0]["id"] == "i-00001"
    assert rows[0]["target.webhook_url"] == old(1)
    assert rows[6]["display_name"] == "'=HYPERLINK(1)"
    assert workplace.run("run", "items.csv", *base).code == 0
    assert held(sandbox, "i-00007")["display_name"] == "=HYPERLINK(1)"


def test_export_can_be_redacted(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """With `--redact` fingerprints stand for secrets."""
    workplace.run("export", "confluent-cloud", "--out", "items.csv", "--redact", "--base-url", sandbox.url)

    rows = table(workplace.folder / "items.csv")
    assert len(rows) == 400
    assert all(row["target.webhook_url"].startswith("https://hooks.slack.example/***#") for row in rows)


def test_export_goes_on_where_it_was_broken_off(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """After a failure the same command reads only what is missing, and the file is whole."""
    with start_sandbox("--items", "600", "--limit", "0") as sandbox:
        command = ("export", "confluent-cloud", "--out", "items.csv", "--base-url", sandbox.url, "--max-attempts", "1")
        assert workplace.run(*command).code == 0
        whole = (workplace.folder / "items.csv").read_bytes()
        (workplace.folder / "items.csv").unlink()
        requests = sandbox.stats()["requests"]
        sandbox.order(
            {"match": ROOT, "fault": "headers", "times": 2}, {"match": ROOT, "fault": "status", "status": 502}
        )

        broken = workplace.run(*command)
        assert broken.code == 3, broken.out + broken.err
        assert not (workplace.folder / "items.csv").exists()
        done = workplace.run(*command)

        assert (done.code, (workplace.folder / "items.csv").read_bytes()) == (0, whole)
        assert sandbox.stats()["requests"] - requests == 4
        assert [path.name for path in workplace.folder.iterdir() if path.name.startswith("items")] == ["items.csv"]


def test_retry_sends_what_did_not_succeed(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A retry is a run of its own that sends exactly what failed, by its number in the input."""
    workplace.write_job(ITEMS)
    sandbox.order(*[{"match": f"i-0000{number}", "fault": "status", "status": 409} for number in (3, 7)])
    assert workplace.run(*command("run", sandbox, "--max-failures", "50%")).code == 1
    failed = workplace.last_run()

    done = workplace.run("retry", failed.name)
    again = workplace.run("retry", failed.name + "")

    assert (done.code, workplace.summary()["counts"]["succeeded"]) == (0, 2)
    assert sorted(one["item"] for one in workplace.results()) == [3, 7]
    assert set(sandbox.stats()["writes"].values()) == {1} or again.code == 0
    assert workplace.last_run() != failed


def test_retry_of_a_run_that_was_stopped(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """What a run did not come to has not succeeded, and is sent as well."""
    workplace.write_job(ITEMS)
    sandbox.order({"match": "i-00003", "fault": "status", "status": 409})
    assert workplace.run(*command("run", sandbox, "--max-failures", "1", "--concurrency", "1")).code == 3

    done = workplace.run("retry", "last")

    assert done.code == 0
    assert sandbox.stats()["writes"] == {f"i-{number:05d}": 1 for number in range(1, ITEMS + 1)}


def test_reconcile_settles_what_is_in_doubt(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Items whose answer never came are settled by reading: succeeded, not applied, or changed by someone else."""
    request = {
        "method": "PATCH",
        "path": ROOT + "/{id}",
        "body": {"target": {"kind": "Slack", "webhook_url": "{webhook_url}"}},
        "idempotent": False,
    }
    workplace.write_job(ITEMS, request=request)
    (workplace.folder / "key").write_text(KEY_TEXT)
    sandbox.order(
        {"match": "i-00003", "fault": "reset", "applied": True, "method": "PATCH"},
        {"match": "i-00004", "fault": "reset", "method": "PATCH"},
        {"match": "i-00005", "fault": "reset", "method": "PATCH"},
    )
    kept = ("--keep-before", "--key-file", "key")
    assert workplace.run(*command("run", sandbox, "--max-failures", "50%", *kept)).code == 1
    assert workplace.summary()["counts"]["in_doubt"] == 3
    change(sandbox, "i-00005", {"target": {"kind": "Slack", "webhook_url": "https://else.example/x"}})
    writes = sandbox.stats()["writes"]

    done = workplace.run("reconcile", "last", "--key-file", "key", "--json")

    assert (done.code, sandbox.stats()["writes"]) == (1, writes)
    assert {name: count for name, count in told(done).items() if name != "exit_code"} == {
        "succeeded": 1, "not_applied": 1, "changed_since": 1, "still_in_doubt": 0
    }  # fmt: skip
    ends = {one["item"]: one for one in workplace.results()}
    assert len(ends) == ITEMS
    assert (ends[3]["status"], ends[4]["status"], ends[5]["status"]) == ("succeeded", "failed", "failed")
    assert (ends[4]["error"]["kind"], ends[5]["error"]["kind"]) == ("mismatch", "conflict")
    assert ends[4]["error"]["message"] == "the server holds what it held before: what was sent was not applied"
    assert workplace.summary()["counts"]["in_doubt"] == 0


def test_reconcile_writes_every_view_anew(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """After a reconcile no secret is in clear, and summary, status and report say how the run stands now."""
    request = {
        "method": "PATCH",
        "path": ROOT + "/{id}",
        "body": {"target": {"kind": "Slack", "webhook_url": "{webhook_url}"}},
        "idempotent": False,
    }
    workplace.write_job(ITEMS, request=request)
    sandbox.order({"match": "i-00003", "fault": "reset", "applied": True, "method": "PATCH"})
    assert workplace.run(*command("run", sandbox, "--max-failures", "50%", "--redact-files")).code == 1
    (folder,) = (workplace.folder / ".migrator" / "runs").iterdir()
    assert "migrator reconcile" in workplace.summary()["next_step"]

    done = workplace.run("reconcile", "last", "--json")

    assert (done.code, told(done)["succeeded"]) == (0, 1)
    assert workplace.summary()["next_step"] == "nothing, all is done"
    assert workplace.summary()["exit_code"] == 0
    assert told(workplace.run("status", "last", "--json"))["exit_code"] == 0
    assert f"{ITEMS} of {ITEMS} items succeeded" in (folder / "report.html").read_text()
    written = (folder / "succeeded.csv").read_text()
    assert len(written.splitlines()) == ITEMS + 1
    for line in (workplace.folder / "items.csv").read_text().splitlines()[1:]:
        assert line.partition(",")[2] not in written


def test_dry_run_fails_nothing(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Items that a dry run did not send are in neither CSV file: nothing of them is to be sent again."""
    workplace.write_job(ITEMS)

    done = workplace.run(*command("run", sandbox, "--dry-run"))

    assert done.code == 0
    (folder,) = (workplace.folder / ".migrator" / "runs").iterdir()
    assert len((folder / "failed.csv").read_text().splitlines()) == 1
    assert len((folder / "succeeded.csv").read_text().splitlines()) == 1


def test_dry_run_finds_what_stands_in_the_way(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Refused credentials stop it, and an item that is as wanted already is not among those that would be written."""
    rotated(workplace, sandbox)
    workplace.write_job(ITEMS + 1)

    tried = workplace.run(*command("run", sandbox, "--dry-run", "--only-changed", "--json"))
    refused = workplace.run(
        *command("run", sandbox, "--dry-run"), env=workplace.env | {"CONFLUENT_CLOUD_API_SECRET": "wrong"}
    )

    assert tried.code == 0, tried.err
    assert {name: count for name, count in told(tried)["counts"].items() if count} == {"unchanged": ITEMS, "skipped": 1}
    assert refused.code == 3
    assert "credentials" in refused.out


def slack_job(workplace: Workplace, server: str, rows: dict[str, str]) -> None:
    """Write a job that probes its webhooks at a stand-in."""
    workplace.write_job(1, preflight={"kind": "slack", "column": "webhook_url", "server": server})
    lines = ["id,webhook_url", *[f"{key},{url}" for key, url in rows.items()], ""]
    (workplace.folder / "items.csv").write_text("\n".join(lines))


def test_dead_webhooks_are_found_before_anything_is_sent(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A dead webhook ends it with its row; nothing was written, nothing posted, and no credentials went along."""
    base = "https://hooks.slack.com/services/TEXAMPLE/BEXAMPLE"
    with slack({"/dead": (403, "invalid_token"), "/gone": (404, "no_service")}) as seen:
        slack_job(
            workplace, seen.url, {"i-00001": f"{base}/alive", "i-00002": f"{base}/dead", "i-00003": f"{base}/gone"}
        )

        done = workplace.run(*command("run", sandbox))

    assert done.code == 2
    assert "row 2" in done.err
    assert "invalid_token" in done.err
    assert "row 3" in done.err
    assert "/dead" not in done.err
    assert sandbox.stats()["requests"] == 0
    assert sorted(seen.paths) == [f"/services/TEXAMPLE/BEXAMPLE/{name}" for name in ("alive", "dead", "gone")]
    assert seen.bodies == [{"text": ""}] * 3
    assert not any("authorization" in headers for headers in seen.headers)


def test_unknown_is_not_dead(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """What cannot be told, or must not be asked, is told of and keeps no one from going on."""
    base = "https://hooks.slack.com"
    rows = {
        "i-00001": f"{base}/services/TEXAMPLE/BEXAMPLE/odd",
        "i-00002": f"{base}/workflows/TEXAMPLE/starts-something",
        "i-00003": f"{base}/services/../triggers/TEXAMPLE/starts-something",
        "i-00004": f"{base}/services/%2e%2e/triggers/TEXAMPLE/starts-something",
        "i-00005": f"{base}/triggers/TEXAMPLE/starts-something",
    }
    with slack({"/odd": (500, "rollup_error")}) as seen:
        slack_job(workplace, seen.url, rows)

        done = workplace.run(*command("run", sandbox))

    assert done.code == 0, done.err
    assert "1 of the new webhooks could not be tested" in done.err
    assert "4 of the new webhooks are not tested" in done.err
    assert set(seen.paths) == {"/services/TEXAMPLE/BEXAMPLE/odd"}


def test_stand_in_has_to_be_on_this_machine(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A job file from elsewhere cannot have the webhooks sent to someone else's server."""
    slack_job(workplace, "https://collector.example", {"i-00001": webhook(1)})

    done = workplace.run(*command("run", sandbox))

    assert (done.code, "has to be on this machine" in done.err) == (2, True)


def test_gate_decides_after_each_stage(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Unattended, a run goes on after a stage only if the gate says so; the same command asks again."""
    gate = workplace.folder / "gate"
    gate.write_text("#!/bin/sh\ncat >> told; test -e open\n")
    gate.chmod(0o700)
    workplace.write_job(20, gate=[str(gate)])
    staged = command("run", sandbox, "--stages", "1,50%,100%", "--allow-commands")

    refused = workplace.run(*command("run", sandbox, "--stages", "1,50%"))
    first = workplace.run(*staged)
    counts = workplace.summary()["counts"]
    (workplace.folder / "open").touch()
    second = workplace.run(*staged)

    assert (refused.code, "--allow-commands" in refused.err) == (2, True)
    assert (first.code, counts["succeeded"]) == (3, 1)
    assert (second.code, workplace.summary()["counts"]["succeeded"]) == (0, 20)
    stages = [
        json.loads(part)["stage"] for part in (workplace.folder / "told").read_text().replace("}{", "}\n{").split("\n")
    ]
    assert stages == [1, 1, 2]


def test_nobody_to_ask_after_a_stage(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Without a gate and without a terminal a run stops after each stage."""
    workplace.write_job(20)

    done = workplace.run(*command("run", sandbox, "--stages", "10%,100%"))

    assert (done.code, workplace.summary()["counts"]["succeeded"]) == (3, 2)
    assert "stage 1 ended after 2 items" in done.out


def test_commands_are_for_the_user_to_allow(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A job file can neither run commands by itself, nor allow itself to; where the user does, a secret may come so."""
    profile: dict[str, Any] = {
        "base_url": sandbox.url,
        "auth": {"type": "basic", "username": KEY, "password": f"${{command:echo {SECRET}}}"},
    }
    workplace.write_job(2, api=profile)
    refused = workplace.run("run", "job.json")
    allowed = workplace.run("run", "job.json", "--allow-commands")
    workplace.write_job(2, api=profile, run={"allow_commands": True})
    cunning = workplace.run("run", "job.json")

    assert (refused.code, "--allow-commands" in refused.err) == (2, True)
    assert allowed.code == 0, allowed.err
    assert cunning.code == 2
    assert leaks(workplace, SECRET) == []


def test_status_and_report(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """The table has every run, one run has its counts, and a report can be written again without its summary."""
    workplace.write_job(3)
    workplace.run(*command("run", sandbox))
    workplace.run(*command("run", sandbox, "--dry-run"))
    place = workplace.last_run()

    table = workplace.run("status")
    rows = told(workplace.run("status", "--json"))
    one = told(workplace.run("status", place.name, "--json"))
    (place / "report.html").unlink()
    (place / "summary.json").unlink()
    report = workplace.run("report", str(place))

    assert [line for line in table.out.splitlines() if line[0] != " "] == ["run", *(row["run"] for row in rows)]
    assert [(row["kind"], row["state"]) for row in rows] == [("rehearsal", "ended"), ("run", "ended")]
    assert (one["counts"]["skipped"], one["live"]) == (3, None)
    assert report.out.strip() == str(place / "report.html")
    assert place.name in (place / "report.html").read_text()


@pytest.mark.parametrize(
    "arguments", [("status", "nothing"), ("report", "last"), ("ctl", "last", "pause"), ("retry", "x")]
)
def test_run_that_is_not_there(workplace: Workplace, arguments: tuple[str, ...]) -> None:
    """A run that no one knows is one message."""
    done = workplace.run(*arguments)

    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "migrator status" in done.err


def test_prune(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Old runs go, the latest stays."""
    workplace.write_job(2)
    for _ in range(3):
        workplace.run(*command("run", sandbox))
    latest = workplace.last_run()

    planned = workplace.run("prune", "--keep-last", "1", "--dry-run")
    done = workplace.run("prune", "--keep-last", "1")

    assert len(planned.out.splitlines()) == len(done.out.splitlines()) == 2
    assert list(latest.parent.iterdir()) == [latest]
    assert workplace.run("prune").code == 2


def test_metrics_file(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A run leaves what Prometheus is to know of it."""
    workplace.write_job(2)

    done = workplace.run(*command("run", sandbox, "--metrics-file", "rotate.prom"))

    assert done.code == 0
    text = (workplace.folder / "rotate.prom").read_text()
    assert 'migrator_last_run_items{job="rotate",status="succeeded"} 2.0' in text


def test_live_control(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A running job is paused, slowed down, hurried and stopped, each at once, and each is an event of it."""
    with start_sandbox("--items", "400", "--limit", "0", "--latency", "50ms") as sandbox:
        workplace.write_job(400)
        process = workplace.start(*command("run", sandbox, "--concurrency", "1", "--progress", "none"))
        wait_until(lambda: list(Path(workplace.folder / ".migrator" / "runs").glob("*/control.sock")))
        socket = workplace.last_run() / "control.sock"
        mode = stat.S_IMODE(socket.stat().st_mode)

        paused = told(workplace.run("ctl", "last", "pause"))
        still = told(workplace.run("ctl", "last", "status"))
        faster = told(workplace.run("ctl", "last", "concurrency", "16"))
        refused = workplace.run("ctl", "last", "rate", "often")
        slower = told(workplace.run("ctl", "last", "rate", "20/s"))
        live = told(workplace.run("status", "last", "--json"))
        workplace.run("ctl", "last", "resume")
        stopping = told(workplace.run("ctl", "last", "stop"))
        process.communicate(timeout=200)

    assert mode == 0o600
    assert (paused["waiting_for"], still["finished"] - paused["finished"] <= 1) == ("paused", True)
    assert (faster["concurrency"], refused.code, slower["waiting_for"]) == (16, 2, "paused")
    assert live["live"]["waiting_for"] == "paused"
    assert stopping["stopping"] == "stopped by migrator ctl"
    assert process.returncode == 3
    assert not socket.exists()
    events = [json.loads(line) for line in (workplace.last_run() / "events.jsonl").read_text().splitlines()]
    verbs = [event["verb"] for event in events if event["event"] == "control"]
    assert verbs == ["pause", "concurrency", "rate", "resume", "stop"]


def test_deadline(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """At the deadline nothing new is started, and the next run goes on."""
    with start_sandbox("--items", "100", "--limit", "0", "--latency", "50ms") as sandbox:
        workplace.write_job(100)

        late = workplace.run(*command("run", sandbox, "--deadline", "1s", "--concurrency", "1"))
        rest = workplace.run(*command("run", sandbox))

        assert (late.code, "deadline" in late.out) == (3, True)
        assert rest.code == 0
        assert set(sandbox.stats()["writes"].values()) == {1}


def joined_job(workplace: Workplace, member: str, rows: dict[str, str]) -> None:
    """Write a job whose items are found by a member of their records."""
    workplace.write_job(1, join={"column": "which", "member": member}, key="which" if "url" not in member else "id")
    secrets = ["webhook_url", "which"] if "url" in member else ["webhook_url"]
    document = json.loads((workplace.folder / "job.json").read_text()) | {"secrets": secrets}
    (workplace.folder / "job.json").write_text(json.dumps(document))
    lines = ["which,webhook_url", *[f"{which},{url}" for which, url in rows.items()], ""]
    (workplace.folder / "items.csv").write_text("\n".join(lines))


def test_items_by_their_display_name(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Where no one holds ids, items find their records by a name; the check without network takes them as they are."""
    joined_job(workplace, "display_name", {f"Slack integration {number}": webhook(number) for number in (3, 5)})

    checked = workplace.run("check", "job.json")
    done = workplace.run(*command("run", sandbox))

    assert (checked.code, done.code) == (0, 0), done.err
    assert sandbox.stats()["writes"] == {"i-00003": 1, "i-00005": 1}
    assert held(sandbox, "i-00005")["target"]["webhook_url"] == webhook(5)


def test_names_that_name_none_or_many(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A name that no record has, or that several have, is a problem of its row, and nothing is sent."""
    change(sandbox, "i-00004", {"display_name": "Slack integration 3"})
    rows = {"Slack integration 3": webhook(3), "Slack integration 5": webhook(5), "Nobody": webhook(6)}
    joined_job(workplace, "display_name", rows)

    done = workplace.run(*command("run", sandbox))

    assert done.code == 2
    assert "items.csv:2" in done.err
    assert "names 2 records" in done.err
    assert "i-00003, i-00004" in done.err
    assert "items.csv:4" in done.err
    assert "names no record" in done.err
    assert sandbox.stats()["writes"] == {"i-00004": 1}


def test_items_by_their_old_webhook(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Found by what is rotated away, a run that was stopped half way still knows its records when it goes on."""
    joined_job(workplace, "target.webhook_url", {old(number): webhook(number) for number in range(1, 9)})
    sandbox.order({"match": "i-00005", "fault": "status", "status": 409})

    stopped = workplace.run(*command("run", sandbox, "--max-failures", "1", "--concurrency", "1"))
    rest = workplace.run(*command("run", sandbox))
    failed = workplace.run("retry", "last")

    assert (stopped.code, rest.code, failed.code) == (3, 1, 0), rest.err + failed.err
    assert sandbox.stats()["writes"] == {f"i-{number:05d}": 1 for number in range(1, 9)}
    assert leaks(workplace, "old-0001", "new-secret") == []


def test_next_page_on_another_server(
    workplace: Workplace, sandbox: SandboxProcess, start_sandbox: StartSandbox
) -> None:
    """A list whose next page is someone else's is not read on: no credentials go there."""
    with start_sandbox("--items", "3") as other:
        body = json.dumps({"data": [], "metadata": {"next": f"{other.url}{ROOT}"}})
        sandbox.order({"match": ROOT, "fault": "status", "status": 200, "body": body})

        done = workplace.run("export", "confluent-cloud", "--out", "items.csv", "--base-url", sandbox.url)

        assert (done.code, "another server" in done.err) == (3, True)
        assert other.stats()["requests"] == 0
