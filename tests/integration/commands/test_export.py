"""A collection is written to an items file page by page, and goes on where it stopped."""

import csv
import json
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CREDENTIALS, Workplace
from in_process import Bench, bench, settings
from sandbox_server import Clock

from migrator.commands.export import Exported, export, git_would_take
from migrator.errors import MigratorError
from migrator.job.problems import JobError
from migrator.job.profile.variables import NOTHING_MORE
from migrator.job.source import find_profile
from migrator.results import Exit
from migrator.secret import Secret

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server of more integrations than a page has."""
    async with bench(workplace, settings(items=120)) as found:
        yield found


async def exported(here: Bench, *, where: str | None = None, redact: bool = False, **typed: Any) -> Exported:
    """Export everything to a file in the workplace."""
    profile = find_profile("confluent-cloud", env=CREDENTIALS, allowed=NOTHING_MORE)
    return await export(profile, here.options("export", **typed), out=out(here), where=where, redact=redact)


def out(here: Bench) -> Path:
    """Return where the file is."""
    return here.workplace.folder / "items.csv"


def rows(here: Bench) -> list[dict[str, str]]:
    """Return the rows of the file."""
    with out(here).open(newline="") as file:
        return list(csv.DictReader(file))


async def test_every_record_is_a_row(here: Bench) -> None:
    """All pages are written, in a file for its owner alone, and nothing is left beside it."""
    done = await exported(here)

    assert (done.rows, done.records, done.resumed) == (120, 120, False)
    assert [row["id"] for row in rows(here)] == [f"i-{number:05d}" for number in range(1, 121)]
    assert rows(here)[0]["target.webhook_url"].endswith("old-0001")
    assert stat.S_IMODE(out(here).stat().st_mode) == 0o600
    assert [path.name for path in here.workplace.folder.iterdir() if path.name.startswith("items.csv")] == ["items.csv"]


async def test_only_what_is_wanted(here: Bench) -> None:
    """A record for which the expression is not true has no row."""
    done = await exported(here, where="id == 'i-00007'")

    assert (done.rows, done.records) == (1, 120)
    assert [row["id"] for row in rows(here)] == ["i-00007"]


async def test_secrets_can_be_left_out(here: Bench) -> None:
    """Fingerprints stand in their place, one for each value."""
    await exported(here, redact=True)

    shown = {row["target.webhook_url"] for row in rows(here)}
    assert len(shown) == 120
    assert not [text for text in shown if "old-" in text]


async def test_masks_are_counted(workplace: Workplace) -> None:
    """What the API does not show is told."""
    async with bench(workplace, settings(masked=True)) as here:
        assert (await exported(here)).masked == 9


async def test_it_goes_on_where_it_stopped(workplace: Workplace) -> None:
    """When the quota ends the export half way, the same command reads the rest, and no page twice."""
    clock = Clock()
    async with bench(workplace, settings(items=600, limit=2, window_s=3600.0), clock=clock) as here:
        with pytest.raises(MigratorError, match="give the same command again to resume") as stopped:
            await exported(here, max_wait="1s")
        assert stopped.value.exit_code == Exit.STOPPED
        assert not out(here).exists()
        clock.now += 3600.0
        shutil.rmtree(here.state.path / "apis")  # what the throttle has learned would make it wait

        done = await exported(here)

        assert (done.rows, done.resumed) == (600, True)
        assert [row["id"] for row in rows(here)] == [f"i-{number:05d}" for number in range(1, 601)]
        assert here.guest.sandbox.statistics.statuses["200"] == 3


async def test_other_question_starts_anew(here: Bench) -> None:
    """What an export with another expression left is not mixed in."""
    (here.workplace.folder / "items.csv.part").write_text("id\nwrong\n")
    (here.workplace.folder / "items.csv.cursor").write_text('{"question":"other","next_url":null,"size":9,"read":true}')

    assert not (await exported(here)).resumed
    assert len(rows(here)) == 120


@pytest.mark.parametrize("where", ["[", "id ==", "nothing(", "nothing(@)", "[" * 5000, "!" * 5000])
async def test_expression_that_is_not_valid_is_told(here: Bench, where: str) -> None:
    """Nothing is read."""
    with pytest.raises(MigratorError, match="--where is no valid JMESPath expression"):
        await exported(here, where=where)
    assert here.guest.sandbox.statistics.statuses == {}


async def test_records_of_which_an_expression_makes_no_sense_are_left_out(here: Bench) -> None:
    """A function that does not take a record's value ends no export."""
    assert (await exported(here, where="length(`1`) > `1`")).rows == 0


def test_git_would_take_what_it_does_not_ignore(tmp_path: Path) -> None:
    """A file with credentials in a working tree is worth a warning, unless git ignores it."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)  # noqa: S607  wherever git is
    (tmp_path / ".gitignore").write_text("ignored.csv\n")

    assert git_would_take(tmp_path / "items.csv")
    assert not git_would_take(tmp_path / "ignored.csv")
    assert not git_would_take(Path("/proc/items.csv"))


@pytest.mark.parametrize("name", ["acme.json", "sub/acme.json"])
def test_a_profile_s_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A profile is a file by itself, or a part of a job file; files that it names stand beside it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    (path.parent / "token").write_text("beside")
    profile = {"base_url": "https://api.example", "auth": {"type": "bearer", "token": "${file:token}"}}
    path.write_text(json.dumps(profile))
    job = {"name": "x", "api": profile, "request": {"method": "PATCH", "path": "/x/{id}"}, "key": "id"}
    (path.parent / "job.json").write_text(json.dumps(job))

    found = find_profile(f"./{name}", env={}, allowed=NOTHING_MORE)
    assert (found.name, found.base_url, found.auth.secret) == ("acme", "https://api.example", Secret("beside"))
    assert find_profile(str(path.parent / "job.json"), env={}, allowed=NOTHING_MORE).auth == found.auth


def test_a_file_that_is_neither_a_profile_nor_a_job(tmp_path: Path) -> None:
    """It is told as a job file is."""
    (tmp_path / "odd.json").write_text('{"base_ulr": "https://api.example"}')
    with pytest.raises(JobError, match="base_ulr: is not known"):
        find_profile(str(tmp_path / "odd.json"), env={}, allowed=NOTHING_MORE)
