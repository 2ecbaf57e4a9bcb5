"""New Slack webhooks are looked at before anything is sent: alive, dead, unknown, or not to be asked at all."""

from collections.abc import Iterator

import in_process
import pytest
from conftest import Workplace
from in_process import Bench
from slack_stand_in import Seen, slack

from migrator.commands.webhooks.probe import Verdict, preflight, probe_all, verdict_of
from migrator.errors import MigratorError
from migrator.job.job_file import Preflight

pytestmark = pytest.mark.anyio

HOOK = "https://hooks.slack.com/services/T0/B0/"


@pytest.fixture
def offline(workplace: Workplace) -> Iterator[Bench]:
    """Return a job's folder without a server behind it."""
    with in_process.offline(workplace) as found:
        yield found


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("no_text", Verdict.ALIVE),
        ("no_service", Verdict.DEAD),
        ("channel_is_archived", Verdict.DEAD),
        ("", Verdict.UNKNOWN),
        ("<html>", Verdict.UNKNOWN),
    ],
)
def test_words(word: str, verdict: Verdict) -> None:
    """A word that is not known means nothing."""
    assert verdict_of(word) is verdict


async def probed(seen: Seen, *webhooks: str) -> dict[str, Verdict]:
    """Probe webhooks at the stand-in."""
    found = await probe_all(webhooks, Preflight(column="webhook_url", server=seen.url))
    return {webhook.removeprefix(HOOK): one.verdict for webhook, one in found.items()}


async def test_each_is_asked_once_without_credentials() -> None:
    """An empty text is what makes a live webhook say so; it posts nothing."""
    with slack({"dead": (404, "no_service"), "odd": (400, "oops")}) as seen:
        found = await probed(seen, HOOK + "good", HOOK + "dead", HOOK + "odd")

    assert found == {"good": Verdict.ALIVE, "dead": Verdict.DEAD, "odd": Verdict.UNKNOWN}
    assert sorted(seen.paths) == [f"/services/T0/B0/{name}" for name in ("dead", "good", "odd")]
    assert all(body == {"text": ""} for body in seen.bodies)
    assert all("authorization" not in headers and "cookie" not in headers for headers in seen.headers)


@pytest.mark.parametrize(
    "webhook",
    [
        "https://hooks.slack.com/workflows/T0/B0/x",
        "https://hooks.slack.com/triggers/T0/B0/x",
        "https://hooks.slack.com/services/../workflows/x",
        "https://hooks.slack.com/services/%2e%2e/workflows/x",
        "https://hooks.slack.com/services/T0?x=1",
        "https://[broken",
    ],
)
async def test_what_may_start_something_is_never_asked(webhook: str) -> None:
    """Any request to such a path may run what is behind it."""
    with slack({}) as seen:
        assert set((await probed(seen, webhook)).values()) == {Verdict.NOT_PROBED}
        assert seen.paths == []


@pytest.mark.parametrize(
    "webhook",
    [
        "https://hooks.slack.example/services/T0/B0/x",
        "http://hooks.slack.com/services/T0/B0/x",
        "https://user@hooks.slack.com/services/T0/B0/x",
        "https://hooks.slack.com:8443/services/T0/B0/x",
    ],
)
async def test_other_hosts_are_never_asked(webhook: str) -> None:
    """Without a stand-in, Slack's own servers over https are all that is asked."""
    found = await probe_all([webhook], Preflight(column="webhook_url"))

    assert found[webhook].verdict is Verdict.NOT_PROBED


async def test_server_that_does_not_answer_tells_nothing() -> None:
    """Unknown is not dead: the item is written."""
    found = await probe_all([HOOK + "x"], Preflight(column="webhook_url", server="http://127.0.0.1:9"))

    assert found[HOOK + "x"].verdict is Verdict.UNKNOWN


async def test_dead_webhook_stops_the_run_before_it_starts(offline: Bench) -> None:
    """The message names the row and the server's word, and not the webhook."""
    with slack({"new-secret-0002": (404, "no_service")}) as seen:
        job = offline.job(3, preflight={"kind": "slack", "column": "webhook_url", "server": seen.url})
        source, _ = offline.checked(job)

        with pytest.raises(MigratorError, match=r"row 2: webhook_url: the webhook is dead: no_service") as refused:
            await preflight(job, source, limit=3)
        assert "new-secret" not in str(refused.value)

        found = await preflight(job, source, limit=3, only={1, 3})
        assert found == {Verdict.ALIVE: 2}


async def test_job_without_a_preflight_asks_nobody(offline: Bench) -> None:
    """It is for the job file to ask for it."""
    job = offline.job(3)
    source, _ = offline.checked(job)

    assert not await preflight(job, source, limit=3)
