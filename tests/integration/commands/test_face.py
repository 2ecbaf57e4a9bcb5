"""What a Python program calls: load, check, plan, migrate, without a print, a prompt or the environment."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import CREDENTIALS, Workplace, webhook
from in_process import Bench, bench
from msgspec.structs import replace

from migrator.commands.face import Options, check, load_job, migrate, plan
from migrator.errors import MigratorError, OptionError
from migrator.job.problems import JobError
from migrator.options import IfRunning
from migrator.report.observer import Observer
from migrator.results import Exit, Status, StopKind, StopReason
from migrator.run.migrate import Confirmation
from migrator.run.stopper import Stopper

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(workplace: Workplace) -> AsyncIterator[Bench]:
    """Return a server."""
    async with bench(workplace) as found:
        yield found


def options(here: Bench, **given: Any) -> Options:
    """Return options for the server."""
    return Options(base_url=here.guest.url, state=str(here.state.path), **given)


async def test_options_are_those_of_the_command_line(here: Bench) -> None:
    """Values may be typed or plain; what is not given is the job's, or the default."""
    job = here.job(1, run={"max_attempts": 2, "concurrency": 7})

    chosen = Options(concurrency=3, timeout=1.5, only_changed=True, max_failures="1%").resolved(job)

    assert (chosen.concurrency, chosen.timeout, chosen.only_changed, chosen.max_attempts) == (3, 1.5, True, 2)
    assert repr(Options(rate="5/s")) == "Options(rate='5/s')"


@pytest.mark.parametrize("given", [{"max_failure": 1}, {"concurrency": "many"}, {"rate": "fast"}])
async def test_options_that_are_not_there_are_refused(here: Bench, given: dict[str, Any]) -> None:
    """A misspelt name and a value that is not allowed are errors before anything is sent."""
    with pytest.raises(OptionError, match=next(iter(given))):
        Options(**given).resolved(here.job(1))


async def test_environment_is_not_read(here: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither options nor credentials come from it; a program passes what it means."""
    here.workplace.write_job(1)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MIGRATOR_CONCURRENCY", "9")

    with pytest.raises(JobError, match="CONFLUENT_CLOUD_API_KEY"):
        load_job(here.workplace.folder / "job.json")
    job = load_job(here.workplace.folder / "job.json", env=CREDENTIALS)
    assert Options().resolved(job).concurrency is None


async def test_check_finds_every_problem(here: Bench) -> None:
    """Problems are values, and nothing is sent."""
    job = here.job(2)
    items = here.workplace.folder / "items.csv"
    items.write_text(items.read_text() + f"i-00001,{webhook(9)}\n")

    found = check(job)

    assert (found.items, found.problem_count) == (3, 1)
    assert found.problems[0].line == 4


async def test_migrate_sends_and_tells(here: Bench) -> None:
    """Counts, exit code and folder are those of the run, and the items come in the input's order."""
    await here.guest.order({"match": "i-00002", "fault": "status", "status": 409})

    result = await migrate(here.job(3), options(here, max_failures="100%"))

    assert (result.exit_code, result.pending, result.stopped) == (Exit.SOME_FAILED, 0, None)
    assert result.counts == {Status.SUCCEEDED: 2, Status.FAILED: 1}
    assert [(row.item, row.status) async for row in result.items()] == [
        (1, Status.SUCCEEDED),
        (2, Status.FAILED),
        (3, Status.SUCCEEDED),
    ]


async def test_invalid_item_sends_nothing(here: Bench) -> None:
    """The error has every problem."""
    job = here.job(2)
    items = here.workplace.folder / "items.csv"
    items.write_text(items.read_text().replace("i-00002", "i-00001"))

    with pytest.raises(JobError) as refused:
        await migrate(job, options(here))
    assert len(refused.value.problems) == 1
    assert here.guest.sandbox.statistics.statuses == {}


async def test_confirmation_is_the_programs(here: Bench) -> None:
    """It sees what would be sent where; a no sends nothing."""
    asked: list[Confirmation] = []

    def confirm(question: Confirmation) -> bool:
        asked.append(question)
        return False

    with pytest.raises(MigratorError):
        await migrate(here.job(3), options(here), confirm=confirm)
    assert (asked[0].job, asked[0].total, asked[0].left, asked[0].method) == ("rotate", 3, 3, "PATCH")
    assert here.guest.sandbox.statistics.statuses == {}


async def test_stopped_run_is_resumed_by_the_same_call(here: Bench) -> None:
    """A program stops a run by its stopper, and goes on with the rest later; no item is sent twice."""
    job, stopper = here.job(9), Stopper()

    class StopsAfterTheFirst(Observer):
        def item(self, record: Mapping[str, Any]) -> None:
            stopper.stop(StopReason(StopKind.CONTROL, f"item {record['item']} is enough"))

    first = await migrate(job, options(here, concurrency=1), stopper=stopper, observers=[StopsAfterTheFirst()])

    assert first.stopped == StopReason(StopKind.CONTROL, "item 1 is enough")
    assert first.exit_code == Exit.STOPPED
    assert 0 < first.pending < 9
    second = await migrate(job, options(here))
    assert (second.folder, second.pending) == (first.folder, 0)
    assert set(here.guest.sandbox.statistics.writes.values()) == {1}


async def test_other_run_is_left_alone(here: Bench) -> None:
    """Where another run is active and is to be skipped, there is no folder and no item."""
    async with here.state.open(here.state.path).lock("rotate", IfRunning.FAIL):
        result = await migrate(here.job(1), options(here, if_running="skip"))

    assert (result.exit_code, result.folder, result.counts.total()) == (Exit.OK, None, 0)
    assert [row async for row in result.items()] == []


async def test_plan_writes_nothing(here: Bench) -> None:
    """It is what the command prints as JSON."""
    found = await plan(here.job(2), options(here))

    assert found.counts["change"] == 2
    assert here.guest.sandbox.statistics.writes == {}


async def test_job_that_was_not_loaded_has_no_items(here: Bench) -> None:
    """Only `load_job` knows where they are."""
    job = replace(here.job(1), arguments={})

    with pytest.raises(MigratorError, match="not made by load_job"):
        check(job)


def test_items_file_alone_is_a_job(tmp_path: Path) -> None:
    """The built-in template goes with it, or the one that is named."""
    items = tmp_path / "hooks.csv"
    items.write_text(f"id,target.kind,target.webhook_url\ni-1,Slack,{webhook(1)}\n")

    job = load_job(items, env=CREDENTIALS)

    assert job.name.startswith("confluent-integration-hooks-")
    assert check(job).problem_count == 0
