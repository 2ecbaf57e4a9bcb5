"""The work list of a job: which requests it makes, and what is known of it before anything is sent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import in_process
import pytest
from conftest import Workplace
from in_process import Bench, bench

from migrator.commands.run import JobWork
from migrator.errors import MigratorError
from migrator.job.source import Source

pytestmark = pytest.mark.anyio


@pytest.fixture
def offline(workplace: Workplace) -> Iterator[Bench]:
    """Return a job's folder without a server behind it."""
    with in_process.offline(workplace) as found:
        yield found


def work(offline: Bench, **typed: Any) -> JobWork:
    """Return the work of a job of five rows."""
    changes = typed.pop("job", {})
    job = offline.job(5, **changes)
    options = offline.options(**typed)
    source, verdict = offline.checked(job, limit=options.limit, only=options.only)
    return JobWork(job, source, verdict, options)


def test_requests_are_those_that_are_not_done(offline: Bench) -> None:
    """Each item has one request, and what is finished is left out."""
    requests = list(work(offline).requests(iter([2, 4])))

    assert [request.item for request in requests] == [1, 3, 5]
    assert requests[0].url == "https://api.example/notifications/v1/integrations/i-00001"
    assert b"new-secret-0001" in (requests[0].body or b"")


@pytest.mark.parametrize(
    ("typed", "items"),
    [({"limit": "2"}, [1, 2]), ({"only": "i-00004,i-00002"}, [2, 4]), ({}, [1, 2, 3, 4, 5])],
)
def test_selection(offline: Bench, typed: dict[str, str], items: list[int]) -> None:
    """The total is that of the items that are wanted."""
    made = work(offline, **typed)

    assert [request.item for request in made.requests(iter(()))] == items
    assert made.facts.total == len(items)


def test_other_selection_is_other_work(offline: Bench) -> None:
    """A run of some items is not resumed by a run of others."""
    digests = {work(offline, **typed).facts.items_digest for typed in ({}, {"only": "i-00001"}, {"only": "i-00002"})}

    assert len(digests) == 3


@pytest.mark.parametrize(
    ("typed", "job", "words"),
    [
        ({}, {}, "give --keep-before"),
        ({"keep_before": True, "key_file": "key"}, {}, "possible; what each write replaces is kept"),
        (
            {},
            {"api": {"base_url": "https://api.example", "auth": {"type": "none"}, "read": False}},
            "no way to read a record",
        ),
    ],
)
def test_what_can_be_undone(offline: Bench, typed: dict[str, Any], job: dict[str, Any], words: str) -> None:
    """Before a person says yes, they read what a rollback can do."""
    (offline.workplace.folder / "key").write_text("a key that is long enough")
    typed |= {"key_file": str(offline.workplace.folder / "key")} if "key_file" in typed else {}

    assert words in work(offline, job=job, **typed).facts.undo


def test_work_of_a_retry_says_so(offline: Bench) -> None:
    """It is another run than the first, and is resumed by its own command."""
    first, again = work(offline).facts, work(offline).of("rotate-1", kind="retry", first_run="rotate-0").facts

    assert (again.kind, again.kept["of"], again.resume_command) == ("retry", "rotate-1", "migrator retry rotate-1")
    assert again.items_digest != first.items_digest


def test_items_from_standard_input_are_retried_from_their_file(offline: Bench) -> None:
    """What is not kept cannot be found again: the command to retry names failed.csv."""
    job = offline.job()
    source, verdict = offline.checked(job)
    piped = Source(stream=source.stream, form=source.form, name="standard input", facts={"job_argument": "my job.json",
                   "items_argument": "-"})  # fmt: skip

    facts = JobWork(job, piped, verdict, offline.options()).facts

    assert (
        facts.retry_command == "migrator run 'my job.json' --items {folder}/failed.csv --base-url https://api.example"
    )
    assert facts.reconcile_command is None


def test_key_is_asked_for_before_anything_is_sent(offline: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing can be kept, and the work is refused."""
    monkeypatch.delenv("MIGRATOR_KEY", raising=False)

    with pytest.raises(MigratorError, match="MIGRATOR_KEY"):
        work(offline, keep_before=True)


async def test_stage_of_a_run(workplace: Workplace) -> None:
    """A run sends each item once, and the server holds what the rows say."""
    async with bench(workplace) as here:
        place = await here.run(here.job(4))

        assert place.parent == here.state.path / "runs"
        assert await here.held(4) == "https://hooks.slack.example/services/TEXAMPLE/BEXAMPLE0004/new-secret-0004"
        assert Path(place, "summary.json").exists()
