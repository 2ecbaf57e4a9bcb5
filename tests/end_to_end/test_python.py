"""The program from Python: without a print, a prompt, a signal handler or the environment, wherever a loop runs."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import CREDENTIALS, Workplace
from sandboxes import SandboxProcess, StartSandbox

import migrator
from migrator.report.observer import Observer

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


class Seen(Observer):
    """Remembers what it sees."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.keys: list[str] = []

    def event(self, event: Mapping[str, Any]) -> None:
        """Remember an event's name."""
        self.events.append(event["event"])

    def item(self, record: Mapping[str, Any]) -> None:
        """Remember an item's key."""
        self.keys.append(record["key"])


def migrate(workplace: Workplace, sandbox: SandboxProcess, *observers: Observer, **options: Any) -> migrator.Result:
    """Migrate the workplace's job."""
    job = migrator.load_job(workplace.folder / "job.json", env=CREDENTIALS)
    chosen = migrator.Options(base_url=sandbox.url, state=str(workplace.folder / ".migrator"), **options)
    return asyncio.run(migrator.migrate(job, chosen, observers=observers))


def test_migrate(workplace: Workplace, sandbox: SandboxProcess, capfd: pytest.CaptureFixture[str]) -> None:
    """Every item is sent, the observers see it, and nothing is printed or left behind in the process."""
    workplace.write_job(30)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    seen = Seen()

    result = migrate(workplace, sandbox, seen)

    assert (result.exit_code, result.counts, result.stopped) == (0, {migrator.Status.SUCCEEDED: 30}, None)
    assert result.folder == workplace.last_run()
    assert sorted(seen.keys) == [f"i-{number:05d}" for number in range(1, 31)]
    assert seen.events[0] == "run.started"
    assert seen.events[-1] == "run.ended"
    assert capfd.readouterr() == ("", "")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


def test_migrate_outside_the_main_thread(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A thread with an event loop of its own can do the same."""
    workplace.write_job(10)
    found: list[migrator.Result] = []
    thread = threading.Thread(target=lambda: found.append(migrate(workplace, sandbox)))

    thread.start()
    thread.join()

    assert found[0].counts == {migrator.Status.SUCCEEDED: 10}


def test_results_of_items(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """The results are those of the ledger, in the order of the input, with the server's reason."""
    workplace.write_job(25)
    sandbox.order({"match": "i-00007", "fault": "status", "status": 422, "times": 9})

    result = migrate(workplace, sandbox, max_failures="50%")

    async def read() -> list[migrator.ItemResult]:
        return [item async for item in result.items()]

    items = asyncio.run(read())
    assert [item.item for item in items] == list(range(1, 26))
    assert [item.key for item in items if item.error is not None] == ["i-00007"]
    assert result.exit_code == 1


def test_cancelled_call_is_resumed(workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """A call that is cancelled leaves a run that the same call resumes, and sends nothing that has a result."""
    workplace.write_job(60)
    with start_sandbox("--items", "60", "--limit", "0", "--latency", "30ms") as sandbox:
        job = migrator.load_job(workplace.folder / "job.json", env=CREDENTIALS)
        options = migrator.Options(base_url=sandbox.url, state=str(workplace.folder / ".migrator"), concurrency=2)

        async def cancelled() -> None:
            task = asyncio.create_task(migrator.migrate(job, options))
            while len(sandbox.stats()["writes"]) < 10:  # noqa: ASYNC110  the server is another process
                await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(cancelled())
        result = asyncio.run(migrator.migrate(job, options))

        assert result.counts == {migrator.Status.SUCCEEDED: 60}
        assert sum(sandbox.stats()["writes"].values()) <= 60 + 2


def test_invalid_items_are_told_with_their_places(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A row that is not valid raises an error with its file and line, and nothing is sent."""
    workplace.write_job(3)
    (workplace.folder / "items.csv").write_text("id,webhook_url\ni-00001,https://hooks.example/1\n,https://x.example\n")

    with pytest.raises(migrator.JobError) as caught:
        migrate(workplace, sandbox)

    assert caught.value.problems[0].line == 3
    assert sandbox.stats()["requests"] == 0


def test_misspelt_option_is_refused() -> None:
    """An option that does not exist is named."""
    with pytest.raises(migrator.MigratorError, match="max_failure"):
        migrator.Options(max_failure="1%")


def test_environment_is_not_read(
    workplace: Workplace, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an option nor a credential comes from the environment."""
    workplace.write_job(5)
    monkeypatch.setenv("MIGRATOR_LIMIT", "1")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)

    assert migrate(workplace, sandbox).counts == {migrator.Status.SUCCEEDED: 5}
    with pytest.raises(migrator.JobError, match="CONFLUENT_CLOUD_API"):
        migrator.load_job(workplace.folder / "job.json")


def test_every_public_name_is_there_and_import_is_quick() -> None:
    """`import migrator` loads nothing else, and each name of `__all__` can be had."""
    script = "import sys, migrator; print([m for m in sys.modules if m.startswith(('migrator.', 'aiohttp', 'anyio'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
    assert all(getattr(migrator, name) is not None for name in migrator.__all__)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_examples(name: str, workplace: Workplace, start_sandbox: StartSandbox) -> None:
    """Each example of the documents runs as it stands, against a server with a limit, and is refused nothing."""
    workplace.write_job(40)
    with start_sandbox("--items", "200", "--limit", "60", "--window", "1") as sandbox:
        migrates = name == "migrate.py"
        argument = "job.json" if migrates else f"{sandbox.url}/notifications/v1/integrations/i-00001"
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name), argument],
            cwd=workplace.folder,
            env=os.environ | CREDENTIALS | {"API_URL": sandbox.url},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        assert sandbox.stats()["requests"] >= (40 if migrates else 100)
