"""Old webhooks that nothing uses any more are named by their fingerprints, so that they can be revoked."""

import csv
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import Workplace
from hypothesis import given
from hypothesis import strategies as st
from in_process import Bench, bench

from migrator.commands.webhooks.unused import urls_in
from migrator.secret import Secret

TEXTS = st.text(max_size=5)
URLS = st.sampled_from(["https://a.example/x", "http://b.example", "https://c.example/y?z"])
DOCUMENTS = st.recursive(
    st.none() | st.integers() | TEXTS | URLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS)
def test_urls_at_every_depth(document: object) -> None:
    """They are the texts that begin as one, in members and lists alone: a name is no value."""
    found: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for inner in value:
                walk(inner)
        elif isinstance(value, str) and value.partition("://")[0] in {"http", "https"}:
            found.append(value)

    walk(document)
    assert list(urls_in(document)) == found


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server, with a key beside the job."""
    (workplace.folder / "key").write_text("a key that is long enough")
    async with bench(workplace) as found:
        yield found


def retired(place: Path) -> dict[str, str]:
    """Return what stands in the file: the webhook by the item's key."""
    with (place / "retired.csv").open(newline="") as file:
        return {row["key"]: row["webhook"] for row in csv.DictReader(file)}


@pytest.mark.anyio
async def test_what_is_still_used_is_not_retired(here: Bench) -> None:
    """An old webhook that another integration has is left out; the others are shown as their fingerprints."""
    shared = "https://hooks.slack.example/services/TEXAMPLE/BOLD0002/old-0002"
    await here.guest.send("PATCH", "i-00009", {"target": {"kind": "Slack", "webhook_url": shared}})

    place = await here.run(here.job(3), keep_before=True, key_file=str(here.workplace.folder / "key"))

    found = retired(place)
    assert sorted(found) == ["i-00001", "i-00003"]
    old = "https://hooks.slack.example/services/TEXAMPLE/BOLD0001/old-0001"
    assert found["i-00001"] == here.masker.shown(Secret(old))
    assert "old-0001" not in (place / "retired.csv").read_text()
