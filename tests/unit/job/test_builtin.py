"""The built-in profiles, and the example job that goes with each: what they send, and what they refuse."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from migrator.job.check import check
from migrator.job.items import Form, Item, read_items
from migrator.job.job_file import Job
from migrator.job.problems import JobError, compile_schema
from migrator.job.profile.api_profile import built_in, built_in_names
from migrator.job.source import find_job
from migrator.job.template import Template
from migrator.messages import Request

JOBS = Path(__file__).parents[3] / "jobs"
ENV = {
    "CONFLUENT_CLOUD_API_KEY": "k",
    "CONFLUENT_CLOUD_API_SECRET": "s3cret",
    "DD_API_KEY": "dd-api",
    "DD_APP_KEY": "dd-app",
    "GITHUB_TOKEN": "gh-token",
    "JIRA_API_TOKEN": "jira-token",
    "JIRA_URL": "https://acme.atlassian.net",
    "JIRA_USER": "someone@example.com",
    "OKTA_API_TOKEN": "okta-token",
    "OKTA_BASE_URL": "okta.com",
    "OKTA_ORG_NAME": "acme",
    "PAGERDUTY_TOKEN": "pd-token",
    "STRIPE_API_KEY": "sk_test",
}
EXAMPLES = sorted(path for path in JOBS.glob("*.json"))


def example(name: str) -> tuple[Job, BytesIO]:
    """Return an example job and its items."""
    job = find_job(str(JOBS / f"{name}.json"), items=None, template=None, env=ENV)
    return job, BytesIO((JOBS / f"{name}.csv").read_bytes())


def first(name: str, record: dict[str, Any] | None = None) -> Request:
    """Return the request of an example's first row."""
    job, source = example(name)
    item = next(read_items(source, form=Form.CSV, job=job, name=name))
    assert isinstance(item, Item)
    template = Template.compile(job)
    request = template.request(item)
    return template.complete(request, record=record) if record is not None else request


def document(request: Request) -> Any:
    """Return a request's body."""
    return json.loads(request.body or b"null")


def test_there_are_seven() -> None:
    """The profiles that the documents promise."""
    assert built_in_names(templates=False) == [
        "confluent-cloud",
        "datadog",
        "github",
        "jira",
        "okta",
        "pagerduty",
        "stripe",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_pass_the_check(path: Path) -> None:
    """Each example job is valid with its own items, and belongs to a built-in profile."""
    job, source = example(path.stem)

    found = check(source, form=Form.CSV, job=job, name="items.csv")

    assert (found.problem_count, found.items > 1) == (0, True), found.problems
    assert json.loads(path.read_text())["api"] in built_in_names(templates=False)


@pytest.mark.parametrize("name", built_in_names(templates=False))
def test_each_profile_has_an_example(name: str) -> None:
    """The limits of every profile are JSON Schema, and an example job uses one of them."""
    profile = json.loads(built_in(name) or "")
    for limits in profile["limits"].values():
        compile_schema(limits)

    jobs = [json.loads(path.read_text()) for path in EXAMPLES]
    assert [job for job in jobs if job["api"] == name]


def test_github() -> None:
    """The hook's configuration alone is written, with GitHub's media type, and writes are a second apart."""
    request = first("rotate-github-webhooks")
    job, _ = example("rotate-github-webhooks")

    assert (request.method, request.url) == ("PATCH", "https://api.github.com/repos/acme/shop/hooks/101/config")
    assert document(request) == {"url": "https://ci.example.com/hooks/shop", "secret": "EXAMPLE-0001"}
    assert (job.api.headers["Accept"], job.api.write_spacing_s) == ("application/vnd.github+json", 1.0)


def test_github_s_secret_goes_with_the_url() -> None:
    """GitHub removes the secret of a hook whose whole config is written without it, so that such a row is refused."""
    limits = json.loads(built_in("github") or "")["limits"]["PATCH /repos/{owner}/{repo}/hooks/{hook_id}"]
    allowed = compile_schema(limits).is_valid

    assert allowed({"config": {"url": "https://ci.example.com", "secret": "s"}})
    assert not allowed({"config": {"url": "https://ci.example.com"}})


def test_pagerduty() -> None:
    """The whole service is put, as it was read, with the new policy in it."""
    record = {
        "id": "P1",
        "type": "service",
        "name": "Shop",
        "escalation_policy": {"id": "old", "type": "x"},
        "teams": [],
    }
    request = first("move-pagerduty-escalation-policies", record)

    assert (request.method, request.url) == ("PUT", "https://api.pagerduty.com/services/PSERV01")
    sent = document(request)["service"]
    assert sent["escalation_policy"] == {"id": "PPOL002", "type": "escalation_policy_reference"}
    assert (sent["name"], sent["type"]) == ("Shop", "service")
    assert "teams" not in sent


def test_datadog() -> None:
    """Payload and headers of a webhook stay as they were read."""
    request = first("rotate-datadog-webhooks", {"name": "pager", "url": "https://old.example.com", "payload": "{}"})

    assert document(request) == {
        "name": "pager",
        "url": "https://alerts.example.com/in/EXAMPLE-0001",
        "payload": "{}",
    }


def test_okta() -> None:
    """A partial update by POST, which may be sent again since it sets values."""
    request = first("move-okta-departments")

    assert (request.method, request.url) == ("POST", "https://acme.okta.com/api/v1/users/00uEXAMPLE0001")
    assert (document(request), request.idempotent) == ({"profile": {"department": "Platform"}}, True)


def test_jira() -> None:
    """One label is removed and another added; the others stay."""
    request = first("rename-jira-labels")

    assert request.url == "https://acme.atlassian.net/rest/api/3/issue/SHOP-1"
    assert document(request) == {"update": {"labels": [{"remove": "urgent"}, {"add": "priority-high"}]}}


def test_stripe() -> None:
    """A form, with an Idempotency-Key for each item."""
    request = first("move-stripe-webhook-endpoints")

    assert request.body == b"url=https%3A%2F%2Fshop.example.com%2Fstripe"
    assert dict(request.headers)["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Idempotency-Key" in dict(request.headers)
    assert request.idempotent


@pytest.mark.parametrize(
    ("api", "message"),
    [
        (
            {"base_url": "https://evil.example", "auth": {"type": "bearer", "token": "${JIRA_API_TOKEN}"}},
            "JIRA_API_TOKEN",
        ),
        (
            {"base_url": "https://evil.example", "auth": {"type": "bearer", "token": "${OKTA_API_TOKEN}"}},
            "OKTA_API_TOKEN",
        ),
    ],
)
def test_credentials_stay_with_a_customer_s_own_server(tmp_path: Path, api: dict[str, Any], message: str) -> None:
    """Where a variable names the server, a job file cannot send the credentials to another one."""
    job = {"name": "x", "api": api, "request": {"method": "PATCH", "path": "/x/{id}"}, "key": "id"}
    (tmp_path / "job.json").write_text(json.dumps(job))

    with pytest.raises(JobError, match=message):
        find_job(str(tmp_path / "job.json"), items=None, template=None, env=ENV)
