"""Which webhooks are warned of, how warnings are grouped, and where a job has webhooks."""

import json
from typing import Any

import pytest

from migrator.commands.webhooks.hosts import Place, Rules, messages_of, places_in
from migrator.job.items import Item
from migrator.job.job_file import Job, load_job
from migrator.job.profile.variables import Outside
from migrator.secret import Secret

SLACK = "https://hooks.slack.com/services/T0/B0/made-up"
TEAMS = "https://acme.webhook.office.com/webhookb2/1/IncomingWebhook/2/3"
AZURE = "https://prod-1.westeurope.logic.azure.com:443/workflows/1/triggers/manual/paths/invoke?sig=x"
POWER = "https://1.2.environment.api.powerplatform.com:443/powerautomate/automations/direct/workflows/1?sig=x"
PLAIN = "https://alerts.acme.io/in"


@pytest.mark.parametrize(
    ("url", "kind", "messages"),
    [
        (SLACK, "Slack", []),
        (SLACK, None, []),
        ("https://hooks.slack-gov.com/services/T/B/x", "Slack", []),
        (POWER, "MsTeams", []),
        (PLAIN, "Webhook", []),
        (PLAIN, None, []),
        ("https://unheard-of.acme.io/in", "MsTeams", []),
        (PLAIN, "Slack", ["is no Slack webhook: those begin with"]),
        ("https://hooks.slack.com/workflows/T/A/1/2", "Slack", ["starts a Slack workflow"]),
        ("https://hooks.slack.com/triggers/T/1/2", "Slack", ["starts a Slack workflow"]),
        ("https://hooks.slack.com/T/B/x", "Slack", ["those are below /services/"]),
        (SLACK, "MsTeams", ["is a Slack webhook under the kind MsTeams"]),
        (SLACK, "Webhook", ["is a Slack webhook under the kind Webhook"]),
        (TEAMS, "MsTeams", ["switched off in May 2026"]),
        ("https://outlook.office.com/webhook/1/IncomingWebhook/2", "MsTeams", ["switched off in May 2026"]),
        ("https://outlook.office.com/mail", None, []),
        (AZURE, "MsTeams", ["ended on 2025-11-30"]),
        (POWER, "Slack", ["is a Teams webhook under the kind Slack"]),
        (AZURE, None, ["ended on 2025-11-30"]),
        ("https://169.254.169.254/latest", "Webhook", ["the address is link-local"]),
        ("https://[fe80::1]/x", "Webhook", ["the address is link-local"]),
        ("https://10.0.0.1:8443/x", "Webhook", ["the address is private"]),
        ("http://alerts.acme.io/in", "Webhook", ["is plain HTTP"]),
        ("http://127.0.0.1:8080/x", "Slack", ["made up for examples, or is this machine"]),
        ("http://localhost/x", "Slack", ["made up for examples, or is this machine"]),
        ("https://hooks.slack.example/services/T/B/x", "Slack", ["made up for examples"]),
        ("https://example.com/x", "MsTeams", ["made up for examples"]),
        ("https://notexample.com/x", "Webhook", []),
        ("no url", "Slack", []),
    ],
)
def test_messages(url: str, kind: str | None, messages: list[str]) -> None:
    """Each rule by itself; an example's host or this machine is warned of once, and of nothing else."""
    found = list(messages_of(url, kind))

    assert len(found) == len(messages), found
    assert all(message in one for message, one in zip(messages, found, strict=True))
    assert not any(url in one for one in found)


def job(**changes: Any) -> Job:
    """Return a job."""
    document = {
        "name": "x",
        "api": {"base_url": "https://api.acme.io"},
        "request": {
            "method": "PATCH",
            "path": "/x/{id}",
            "body": {"target": {"kind": "Slack", "webhook_url": "{hook}"}},
        },
        "key": "id",
        "secrets": ["hook"],
        **changes,
    }
    return load_job(json.dumps(document), source="job.json", outside=Outside({}, lambda _: ""))


def body(value: Any) -> Any:
    """Return a request with a body."""
    return {"method": "PATCH", "path": "/x/{id}", "body": value}


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, [Place("hook", "Slack", None)]),
        ({"request": body({"target": {"kind": "{kind}", "url": "{url}"}})}, [Place("url", None, "kind")]),
        (
            {"request": {**body({"data": "{@wanted}"}), "wanted": {"kind": "Slack", "url": "{url}"}}},
            [Place("url", "Slack", None)],
        ),
        ({"request": body([{"kind": "Slack", "url": "{a}{b}"}])}, []),
        ({"request": body({"url": "{url}"})}, []),
        (
            {"request": {"method": "PATCH", "path": "/x/{id}"}, "secrets": ["target.webhook_url", "target.token"]},
            [Place("target.webhook_url", None, "target.kind")],
        ),
        (
            {"request": body({"a": "{b}"}), "preflight": {"kind": "slack", "column": "b"}},
            [Place("b", "Slack", None)],
        ),
    ],
)
def test_where_a_job_has_webhooks(changes: dict[str, Any], places: list[Place]) -> None:
    """By a kind beside it in the body, by a secret's name where there is no body, and by the preflight."""
    assert places_in(job(**changes)) == places


def test_one_warning_for_one_cause() -> None:
    """Three thousand rows with one mistake are one warning, with their number and the first line."""
    rules = Rules(job(), rehearsal=False)
    for number in range(3000):
        rules.see(
            Item(number=number + 1, line=number + 2, key=str(number), values={"hook": Secret(f"{PLAIN}/{number}")})
        )

    (warned,) = rules.warnings()

    assert (warned.rows, warned.line) == (3000, 2)
    assert str(warned).startswith("hook: is no Slack webhook")
    assert str(warned).endswith("(3,000 rows, first: line 2)")


def test_one_webhook_in_two_rows() -> None:
    """The same webhook twice is warned of with the line where it stands first."""
    rules = Rules(job(), rehearsal=False)
    for line, url in ((2, SLACK), (3, SLACK + "2"), (4, SLACK), (5, SLACK)):
        rules.see(Item(number=line - 1, line=line, key=str(line), values={"hook": Secret(url)}))

    (warned,) = rules.warnings()

    assert "another row has too" in warned.message
    assert (warned.rows, warned.line) == (2, 2)


def test_the_kind_of_each_row() -> None:
    """Where a column has the kind, each row is held to its own."""
    rules = Rules(job(request=body({"target": {"kind": "{kind}", "url": "{hook}"}})), rehearsal=False)
    for line, kind in ((2, "Slack"), (3, "MsTeams")):
        values = {"hook": Secret(f"{SLACK}{line}"), "kind": kind}
        rules.see(Item(number=line, line=line, key=str(line), values=values))

    assert [warned.line for warned in rules.warnings()] == [3]


def test_a_job_without_webhooks() -> None:
    """Where there is nothing to look at, no item need be looked at."""
    assert not Rules(job(request=body({"a": "{hook}"})), rehearsal=False).wanted


@pytest.mark.parametrize(("rehearsal", "count"), [(True, 0), (False, 1)])
def test_made_up_hosts(count: int, *, rehearsal: bool) -> None:
    """In a rehearsal they are what one expects; else they are one warning, whatever the columns and hosts."""
    rules = Rules(
        job(request=body([{"kind": "Slack", "url": "{a}"}, {"kind": "MsTeams", "url": "{b}"}])), rehearsal=rehearsal
    )
    for line in range(2, 9):
        values = {"a": f"https://hooks.slack.example/services/{line}", "b": f"http://127.0.0.1/{line}"}
        rules.see(Item(number=line, line=line, key=str(line), values=values))

    assert len(rules.warnings()) == count
