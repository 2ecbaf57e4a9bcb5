"""Which items a command takes, and how it reads them: --only, --limit, --encoding, --no-credentials."""

import json

import pytest
from conftest import Workplace
from sandboxes import SandboxProcess

ENV_WITHOUT_CREDENTIALS = {"PATH": "/usr/bin"}


def written(sandbox: SandboxProcess) -> set[str]:
    """Return the keys of the items that the server was asked to write."""
    return set(sandbox.stats()["writes"])


def test_only_the_named_items(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """Run, plan and retry take the items with the given keys, and every record has the item's own number."""
    workplace.write_job(20)
    server = ("--base-url", sandbox.url)

    plan = workplace.run("plan", "job.json", *server, "--only", "i-00003,i-00007", "--json")
    done = workplace.run("run", "job.json", *server, "--only", "i-00007,i-00003")

    assert [one["key"] for one in json.loads(plan.out)["items"]] == ["i-00003", "i-00007"]
    assert done.code == 0
    assert sorted(record["item"] for record in workplace.results()) == [3, 7]
    assert written(sandbox) == {"i-00003", "i-00007"}
    assert "has nothing to retry" in workplace.run("retry", "last").err


def test_key_that_no_item_has(workplace: Workplace) -> None:
    """A key that is not there is named, and nothing is sent."""
    workplace.write_job(3)

    done = workplace.run("run", "job.json", "--only", "i-00001,i-1")

    assert done.code == 2
    assert "items.csv: has no item with the key i-1\n" in done.err


def test_unfinished_selection(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """An unfinished run of some items is not mixed up with one of all; retry sends only what it was for."""
    workplace.write_job(6)
    only = ("--only", "i-00002,i-00099")
    (workplace.folder / "items.csv").write_text(
        (workplace.folder / "items.csv").read_text().replace("i-00006", "i-00099")
    )
    server = ("--base-url", sandbox.url)
    stopped = workplace.run("run", "job.json", *server, *only, "--canary", "1", "--stages", "1,100%")

    all_of_them = workplace.run("run", "job.json", *server)
    resumed = workplace.run("run", "job.json", *server, *only)

    assert stopped.code == 3
    assert all_of_them.code == 2
    assert "is for the items i-00002, i-00099 only: finish it first, or give --fresh" in all_of_them.err
    assert resumed.code == 0
    assert written(sandbox) == {"i-00002", "i-00099"}


def test_encoding(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A file that is not UTF-8 is refused with the encoding to give, and read with it, by a later retry too."""
    workplace.write_job(2, request={"method": "PATCH", "path": "/notifications/v1/integrations/{id}"}, secrets=[])
    rows = "id,display_name\ni-00001,Küche\nabsent,Straße\n"
    (workplace.folder / "items.csv").write_bytes(rows.encode("windows-1252"))
    command = ("run", "job.json", "--base-url", sandbox.url, "--max-failures", "100%", "--canary", "0")

    refused = workplace.run(*command)
    done = workplace.run(*command, "--encoding", "windows-1252")

    assert refused.code == 2
    assert "items.csv:2:10: holds a byte that is not UTF-8" in refused.err
    assert "give --encoding windows-1252" in refused.err
    assert done.code == 1
    assert "Straße" in (workplace.last_run() / "failed.csv").read_text()
    assert workplace.run("retry", "last", "--canary", "0").code == 1


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le"])
def test_other_unicode(workplace: Workplace, name: str) -> None:
    """Whatever Python decodes can be given."""
    workplace.write_job(3)
    text = (workplace.folder / "items.csv").read_text()
    (workplace.folder / "items.csv").write_bytes(text.encode(name))

    assert workplace.run("check", "job.json", "--encoding", name).code == 0
    assert workplace.run("check", "job.json").code == 2


def test_check_without_credentials(workplace: Workplace) -> None:
    """A check in a pull request needs nothing of what the job's credentials come from."""
    profile = {
        "base_url": "${THE_URL}",
        "auth": {"type": "basic", "username": "${KEY}", "password": "${file:secret}"},
        "headers": {"X-Token": "${command:pass show token}"},
    }
    workplace.write_job(3, api=profile)

    assert workplace.run("check", "job.json", env=ENV_WITHOUT_CREDENTIALS).code == 2
    assert workplace.run("check", "job.json", "--no-credentials", env=ENV_WITHOUT_CREDENTIALS).code == 0
    workplace.write_job(3, api=profile, key="nothing")
    assert workplace.run("check", "job.json", "--no-credentials", env=ENV_WITHOUT_CREDENTIALS).code == 2


def test_check_of_the_first_items(workplace: Workplace) -> None:
    """With a limit, what comes after it is not checked."""
    workplace.write_job(3)
    with (workplace.folder / "items.csv").open("a") as file:
        file.write("i-00001,again\n")

    assert workplace.run("check", "job.json").code == 2
    assert workplace.run("check", "job.json", "--limit", "3").code == 0


def test_detailed_exit_code(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """As Terraform's: 0 nothing would change, 2 something would, 1 any error, wrong use included."""
    workplace.write_job(3)
    plan = ("plan", "job.json", "--base-url", sandbox.url, "--detailed-exitcode")

    assert workplace.run(*plan).code == 2
    assert workplace.run("run", *plan[1:-1]).code == 0
    assert workplace.run(*plan).code == 0


@pytest.mark.parametrize("wrong", ["--bogus", "--rate=fast", "--items=gone.csv"])
def test_detailed_exit_code_of_an_error(workplace: Workplace, wrong: str) -> None:
    """Wrong use is 1 then, since 2 means changes."""
    workplace.write_job(1)

    assert workplace.run("plan", "job.json", "--detailed-exitcode", wrong).code == 1


def test_failed_items_are_run_again_in_any_encoding(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """The files of a run are UTF-8 and say so, so that the job's own encoding does not spoil them."""
    body = {"display_name": "{name}"}
    request = {"method": "PATCH", "path": "/notifications/v1/integrations/{id}", "body": body}
    job = workplace.write_job(1, request=request, secrets=[], run={"encoding": "windows-1252"})
    (workplace.folder / "items.csv").write_bytes("id,name\ni-99999,café\n".encode("windows-1252"))
    command = ["run", job, "--base-url", sandbox.url, "--canary", "0"]

    assert workplace.run(*command).code == 1
    failed = workplace.last_run() / "failed.csv"
    (workplace.folder / "again.csv").write_bytes(failed.read_bytes().replace(b"i-99999", b"i-00002"))
    again = workplace.run(*command, "--items", "again.csv", "--fresh")

    assert again.code == 0, again.err
    assert workplace.run("export", "confluent-cloud", "--base-url", sandbox.url, "--out", "all.csv").code == 0
    assert "i-00002,café," in (workplace.folder / "all.csv").read_text()
