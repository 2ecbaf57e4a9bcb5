"""A plan says what would change, hides secrets, and writes nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import Workplace
from in_process import Bench, bench, settings
from sandboxes import KEY, SECRET

from migrator.commands.plan import make_plan, plan_text
from migrator.errors import MigratorError
from migrator.store.plan_file import Plan, PlannedChange, PlannedItem

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server."""
    async with bench(workplace) as found:
        yield found


async def planned(here: Bench, rows: int, **job: Any) -> Plan:
    """Plan a job of so many rows."""
    loaded = here.job(rows, **job)
    source, verdict = here.checked(loaded)
    return await make_plan(loaded, source, verdict, here.options("plan"), tell=print)


async def test_each_item_has_its_action(here: Bench) -> None:
    """What is as wanted, what would change and what is not there are told apart."""
    await here.guest.send(
        "PATCH",
        "i-00002",
        {"target": {"kind": "Slack",
                    "webhook_url": "https://hooks.slack.example/services/TEXAMPLE/BEXAMPLE0002/new-secret-0002"}},
    )  # fmt: skip
    await here.guest.send("DELETE", "i-00003")

    plan = await planned(here, 3)

    assert [one.action for one in plan.items] == ["change", "unchanged", "forbidden"]
    assert plan.counts == {"change": 1, "unchanged": 1, "missing": 0, "forbidden": 1, "unreadable": 0}
    assert plan.requests == 3
    assert here.guest.sandbox.statistics.writes == {"i-00002": 1, "i-00003": 1}  # our own


async def test_secrets_are_fingerprints(here: Bench) -> None:
    """Neither the old nor the new webhook is in the plan, and the two can be told apart."""
    plan = await planned(here, 1)

    (change,) = plan.items[0].changes
    assert change.pointer == "/target/webhook_url"
    assert change.before != change.after
    assert "old-0001" not in repr(plan)
    assert "new-secret" not in repr(plan)
    assert "/target/webhook_url" in plan_text(plan)


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        pytest.param({}, 9, id="writes"),
        pytest.param({"keep_before": "true"}, 18, id="keep-before"),
        pytest.param({"verify": "read"}, 18, id="verify read"),
        pytest.param({"keep_before": "true", "verify": "read", "only_changed": "true"}, 25, id="all"),
        pytest.param({"only_changed": "true"}, 17, id="only-changed"),
        pytest.param({"plan": "plan.json"}, 16, id="with the plan"),
    ],
)
async def test_requests_of_the_run_are_told(here: Bench, options: dict[str, str], requests: int) -> None:
    """A later run with the same options takes so many: 9 items, of which 8 change."""
    webhook = "https://hooks.slack.example/services/TEXAMPLE/BEXAMPLE0002/new-secret-0002"
    await here.guest.send("PATCH", "i-00002", {"target": {"kind": "Slack", "webhook_url": webhook}})
    job = here.job(9)
    source, verdict = here.checked(job)
    plan = await make_plan(job, source, verdict, here.options("run", **options), tell=print)

    assert plan.run_requests == requests


async def test_masked_members_are_told(workplace: Workplace) -> None:
    """Where the service shows a mask, no one can tell whether the value changes, and the text says so."""
    async with bench(workplace, settings(masked=True)) as here:
        plan = await planned(here, 1)

    assert plan.items[0].changes[0].masked
    assert "The API masks a field that would be written." in plan_text(plan)


async def test_many_items_are_read_from_the_list(workplace: Workplace) -> None:
    """A hundred items and more cost a few requests; one that the list has not is missing."""
    async with bench(workplace, settings(items=149)) as here:
        plan = await planned(here, 150)

    assert plan.requests <= 3
    assert (plan.counts["change"], plan.counts["missing"]) == (149, 1)


async def test_what_a_list_leaves_out_is_read_by_itself(workplace: Workplace) -> None:
    """A list that shows a part of the records, such as the active ones, is no proof that the others are missing."""
    async with bench(workplace, settings(items=12)) as here:
        profile = {
            "base_url": here.guest.url,
            "auth": {"type": "basic", "username": KEY, "password": SECRET},
            "read": True,
            "collection": {
                "path": "/notifications/v1/integrations?page_size=10",
                "items": "data[?id != 'i-00007']",
                "paging": {"by": "next-url", "from": "metadata.next"},
                "item": "/notifications/v1/integrations/{id}",
            },
        }
        plan = await planned(here, 12, api=profile)

    assert plan.counts["change"] == 12


async def test_server_that_cannot_be_read_ends_the_plan(here: Bench) -> None:
    """No plan is better than one that leaves items out."""
    job = here.job(3)
    source, verdict = here.checked(job)
    with pytest.raises(MigratorError):
        await make_plan(
            job, source, verdict, here.options("plan", base_url="http://127.0.0.1:9", max_attempts="1"), tell=print
        )


async def test_api_without_reading_has_no_plan(here: Bench) -> None:
    """The message names what the profile lacks."""
    with pytest.raises(MigratorError, match="declares no way to read a record"):
        await planned(here, 1, api={"base_url": here.guest.url, "auth": {"type": "none"}, "read": False})


def plan_of(*items: PlannedItem, **changes: Any) -> Plan:
    """Return a plan of some items."""
    values: dict[str, Any] = {
        "job": "rotate",
        "server": "https://api.example",
        "job_digest": "",
        "items_digest": "",
        "key_check": "",
        "made": "",
        "counts": {"change": len(items), "missing": 0},
        "eta_s": 90.0,
        "run_requests": len(items) + 1,
        "requests": 1,
        "items": list(items),
    }
    return Plan(**values | changes)


def test_text_shows_two_hundred_items() -> None:
    """The rest is counted, and the file has it."""
    changes = (PlannedChange(pointer="/name", before={"a": 1}, after="new", absent=False),)
    text = plan_text(plan_of(*(PlannedItem(item=n, key=f"k{n}", action="change", changes=changes) for n in range(250))))

    assert text.count('- {"a":1}') == 200
    assert "… and 50 more; --out FILE has all of them" in text
    assert text.splitlines()[-1].endswith(": 250 change; the run takes 251 requests, at least 1 min 30 s")


def test_text_of_what_cannot_be_written() -> None:
    """An item that cannot be read has its reason; a member that is not there is said to be absent."""
    absent = (PlannedChange(pointer="/name", before=None, after="new", absent=True),)
    text = plan_text(
        plan_of(
            PlannedItem(item=1, key="a", action="unreadable", message="the server answered 500"),
            PlannedItem(item=2, key="b", action="change", changes=absent),
            PlannedItem(item=3, key="c", action="unchanged"),
            eta_s=None,
        )
    )

    assert "the server answered 500" in text
    assert "- (absent)" in text
    assert "c  (row 3)" not in text
    assert text.endswith("the run takes 4 requests")


def test_colours_are_the_callers() -> None:
    """The caller says what a colour looks like."""
    item = PlannedItem(item=1, key="a", action="missing")

    assert "<red>   missing  a  (row 1)" in plan_text(plan_of(item), styled=lambda text, colour: f"<{colour}>{text}")
