"""A run on workers keeps every promise of a run in one process, whatever becomes of the workers.

The driver, its ledger and the workers' own code are real; the workers are tasks of the test, so that a loss can come at
an exact moment.
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from cluster_stand_in import Server, StandInCluster

from migrator.cluster.crew import MOST_LOSSES
from migrator.cluster.machines import ClusterMachines
from migrator.commands.run import JobWork
from migrator.errors import MigratorError
from migrator.job.check import check
from migrator.job.source import find_job, open_items
from migrator.options import RunOptions, Threshold
from migrator.results import Exit, ItemResult, Status
from migrator.run.migrate import Caller, Ending, migrate
from migrator.secret import Secret
from migrator.store.ledger_reader import read_ledger
from migrator.store.vault import Vault

pytestmark = pytest.mark.anyio

ITEMS = 60
SLOTS = 8


@dataclass
class Bench:
    """A job, a cluster that does it, and a server.

    Attributes:
        folder: with the job and its runs.
        server: counts requests.
        cluster: has two workers.
    """

    folder: Path
    server: Server
    cluster: StandInCluster
    options: RunOptions

    async def run(self) -> Ending:
        """Do the job, or resume it."""
        env = {"KEY": "driver-key"}
        name = str(self.folder / "job.json")
        job = find_job(name, items=None, template=None, env=env)
        source = open_items(job, name, items=None, template=None, stdin=BytesIO())
        with source.stream:
            verdict = check(source.rewound(), form=source.form, job=job, name=source.name)
            work = JobWork(job, source, verdict, self.options)
            machines = ClusterMachines(self.cluster, job, self.options)
            return await migrate(work, self.options, Caller(), machines=machines)

    def results(self) -> list[ItemResult]:
        """Return the results of the latest run."""
        place = max((self.folder / "state" / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        with read_ledger(place / "ledger.db") as reader:
            return list(reader.rows())

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the latest run."""
        place = max((self.folder / "state" / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(line) for line in (place / "events.jsonl").read_text().splitlines()]

    @property
    def statuses(self) -> Counter[Status]:
        """Results by status."""
        return Counter(row.status for row in self.results())

    def after(self, requests: int, act: Callable[[str], None]) -> None:
        """Act on the worker that sends the request of this number."""
        sent = 0

        def count(worker: str, _key: str) -> None:
            nonlocal sent
            sent += 1
            if sent == requests:
                act(worker)

        self.server.on_request = count


@asynccontextmanager
async def bench(folder: Path, *, method: str = "PATCH", workers: int = 2, **options: Any) -> AsyncIterator[Bench]:
    """Open a bench with sixty items."""
    request: dict[str, Any] = {"method": method, "path": "/things/{id}", "body": {"hook": "{hook}"}}
    api = {"base_url": "http://127.0.0.1:9", "auth": {"type": "bearer", "token": "${KEY}"}, "read": True}
    job = {"name": "job", "api": api, "request": request, "key": "id", "secrets": ["hook"], "items": "items.csv"}
    (folder / "job.json").write_text(json.dumps(job))
    rows = [f"i-{number},https://hooks.example/secret-{number}" for number in range(1, ITEMS + 1)]
    (folder / "items.csv").write_text("\n".join(["id,hook", *rows, ""]))
    server = Server()
    for number in range(1, ITEMS + 1):
        # Every third item is as wanted already.
        held = f"https://hooks.example/secret-{number}" if number % 3 == 0 else "https://hooks.example/old"
        server.records[f"http://127.0.0.1:9/things/i-{number}"] = json.dumps({"hook": held}).encode()
    chosen = RunOptions(state=str(folder / "state"), workers=workers, concurrency=SLOTS, yes=True)
    async with anyio.create_task_group() as tasks:
        yield Bench(folder, server, StandInCluster(server, tasks, workers=workers), replace(chosen, **options))
        tasks.cancel_scope.cancel()


async def test_every_item_is_sent_once_and_all_workers_take_part(tmp_path: Path) -> None:
    """The results are those of a run in one process."""
    async with bench(tmp_path) as place:
        ended = await place.run()
        assert (ended.exit_code, place.statuses) == (Exit.OK, Counter({Status.SUCCEEDED: ITEMS}))
        assert set(place.server.seen.values()) == {1}
        assert len(place.server.by_worker) == 2
        assert ended.summary is not None
        assert ended.summary["quota"]["requests"] == ITEMS


async def test_a_lost_worker_loses_no_item_and_doubles_no_more_than_were_in_flight(tmp_path: Path) -> None:
    """What it had goes to the other worker."""
    async with bench(tmp_path) as place:
        place.after(20, place.cluster.kill)
        ended = await place.run()
        assert (ended.exit_code, place.statuses) == (Exit.OK, Counter({Status.SUCCEEDED: ITEMS}))
        assert len(place.server.seen) == ITEMS
        assert 0 < place.server.seen.total() - ITEMS <= SLOTS
        assert "worker.lost" in [event["event"] for event in place.events()]


async def test_what_a_lost_worker_may_have_sent_and_is_not_safe_to_repeat_is_in_doubt(tmp_path: Path) -> None:
    """No POST goes out twice; all that was not sent is sent by the other worker."""
    async with bench(tmp_path, method="POST", max_failures=Threshold(count=ITEMS)) as place:
        place.after(20, place.cluster.kill)
        ended = await place.run()
        assert ended.exit_code is Exit.SOME_FAILED
        assert set(place.server.seen.values()) == {1}
        done = {row.key for row in place.results() if row.status is Status.SUCCEEDED}
        doubtful = {row.key for row in place.results() if row.status is Status.IN_DOUBT}
        assert 0 < len(doubtful) <= SLOTS
        assert set(place.server.seen) - done <= doubtful
        assert len(done | doubtful) == ITEMS


async def test_a_silent_worker_is_given_up(tmp_path: Path) -> None:
    """It may send what it holds, and no more than that; its results are not taken any more."""
    async with bench(tmp_path, timeout=0.3) as place:
        place.after(20, place.cluster.freeze)
        ended = await place.run()
        assert (ended.exit_code, place.statuses) == (Exit.OK, Counter({Status.SUCCEEDED: ITEMS}))
        assert place.server.seen.total() - ITEMS <= SLOTS
        lost = next(event for event in place.events() if event["event"] == "worker.lost")
        assert lost["message"] == "no word for 5 s"


async def test_without_workers_and_scheduler_the_run_stops_and_can_be_resumed(tmp_path: Path) -> None:
    """The next command sends what is left, with other workers."""

    def lose_all(_worker: str) -> None:
        place.cluster.gone = True
        for name in list(place.cluster.names):
            place.cluster.kill(name)

    async with bench(tmp_path) as place:
        place.after(20, lose_all)
        started = time.monotonic()
        ended = await place.run()
        assert (ended.exit_code, time.monotonic() - started < 10) == (Exit.STOPPED, True)
        assert ended.summary is not None
        assert ended.summary["stopped"] == {
            "reason": "no worker left",
            "message": "the Dask scheduler tls://stand-in:8786 is gone",
        }
        place.cluster.gone, place.cluster.names = False, ["worker-3"]
        assert (await place.run()).exit_code is Exit.OK
        assert place.statuses == Counter({Status.SUCCEEDED: ITEMS})
        assert len(place.server.seen) == ITEMS
        assert place.server.seen.total() - ITEMS <= SLOTS


async def test_a_worker_that_comes_later_takes_part(tmp_path: Path) -> None:
    """A worker that Dask started again gets items too."""
    async with bench(tmp_path, workers=1, concurrency=1) as place:
        place.after(5, lambda _worker: place.cluster.names.append("worker-9"))
        place.options = replace(place.options, concurrency=2, rate=20.0)
        assert (await place.run()).exit_code is Exit.OK
        assert set(place.server.by_worker) == {"worker-1", "worker-9"}


async def test_a_worker_that_lacks_a_credential_says_so(tmp_path: Path) -> None:
    """The message names the variable, and nothing is sent."""
    async with bench(tmp_path) as place:
        place.cluster.env = {}
        with pytest.raises(MigratorError, match=r"can take part: its job cannot be read there: .*KEY is not set"):
            await place.run()
        assert not place.server.seen


async def test_an_item_that_ends_three_workers_ends_itself(tmp_path: Path) -> None:
    """A deadly item does not take all workers with it."""
    async with bench(tmp_path, workers=MOST_LOSSES + 1, concurrency=4, canary=0) as place:

        async def kill_soon(worker: str) -> None:
            # The driver has to hear that the item was started, however slow this machine is: a frame lingers for a
            # millisecond, and takes some turns of the loop then.
            await asyncio.sleep(0.01)
            for _ in range(8):
                await asyncio.sleep(0)
            place.cluster.kill(worker)

        kills: list[asyncio.Task[None]] = []

        def kill(worker: str, key: str) -> None:
            if key == "i-7":
                kills.append(asyncio.create_task(kill_soon(worker)))

        place.server.on_request, place.server.unanswered = kill, frozenset({"i-7"})
        ended = await place.run()
        assert ended.exit_code is Exit.SOME_FAILED
        assert place.statuses == Counter({Status.SUCCEEDED: ITEMS - 1, Status.IN_DOUBT: 1})
        assert place.server.seen["i-7"] == MOST_LOSSES


async def test_workers_look_at_items_before_they_write_them(tmp_path: Path) -> None:
    """What is as wanted is not written, and a lost worker's items are looked at again."""
    async with bench(tmp_path, only_changed=True) as place:
        place.after(15, place.cluster.kill)
        assert (await place.run()).exit_code is Exit.OK
        assert (place.statuses.total(), len(place.server.seen)) == (ITEMS, ITEMS * 2 // 3)
        # What the lost worker had written is as wanted for the next one.
        assert 0 <= place.statuses[Status.UNCHANGED] - ITEMS // 3 <= SLOTS


async def test_workers_keep_what_each_write_replaces(tmp_path: Path) -> None:
    """It is in the run's ledger, encrypted, and can be read with the user's key alone."""
    key = tmp_path / "key"
    key.write_text("a key that the user keeps\n")
    async with bench(tmp_path, keep_before=True, key_file=str(key)) as place:
        assert (await place.run()).exit_code is Exit.OK
    folder = next((tmp_path / "state" / "runs").iterdir())
    with read_ledger(folder / "ledger.db") as reader:
        vault = Vault.derived(Secret("a key that the user keeps"), salt=bytes.fromhex(reader.meta()["salt"]))
        images = {image.item: vault.open(image.item, image.locked) for image in reader.images()}
    assert len(images) == ITEMS
    first = images[1]
    assert isinstance(first, dict)
    assert first["before"] == {"hook": "https://hooks.example/old"}


async def test_what_was_sent_last_is_not_sent_again(tmp_path: Path) -> None:
    """The run knows it, and asks no worker."""
    async with bench(tmp_path, since_last=True) as place:
        assert (await place.run()).exit_code is Exit.OK
        assert place.server.seen.total() == ITEMS
        assert (await place.run()).exit_code is Exit.OK
        assert place.server.seen.total() == ITEMS
        assert place.statuses == Counter({Status.UNCHANGED: ITEMS})


async def test_tokens_are_got_by_the_run_alone(tmp_path: Path) -> None:
    """One that is refused is renewed once for all workers, which have nothing by which a token is got."""
    (tmp_path / "token").write_text("token-1")
    async with bench(tmp_path) as place:
        job = json.loads((tmp_path / "job.json").read_text())
        job["api"]["auth"] = {"type": "bearer", "file": "token"}
        (tmp_path / "job.json").write_text(json.dumps(job))

        def revoke(_worker: str) -> None:
            (tmp_path / "token").write_text("token-2")
            place.server.revoked = "token-1"

        place.after(20, revoke)
        assert (await place.run()).exit_code is Exit.OK
        assert set(place.server.tokens) == {"token-1", "token-2"}
        assert place.server.seen.total() == ITEMS
        assert place.cluster.env.keys() == {"KEY"}


async def test_no_secret_is_in_the_run_s_files(tmp_path: Path) -> None:
    """Neither the workers' credential nor a row's secret is in the events or results."""
    async with bench(tmp_path) as place:
        await place.run()
    for folder, _, names in os.walk(tmp_path / "state"):
        for name in names:
            data = Path(folder, name).read_bytes()
            assert b"worker-key" not in data
            assert b"driver-key" not in data
            assert name.endswith(".csv") or b"secret-17" not in data
