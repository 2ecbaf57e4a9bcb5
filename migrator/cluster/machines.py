"""Where the items of a run are finished, if not in its own process: finds the workers and keeps the crew complete."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup

from migrator import __version__
from migrator.api.session import Session
from migrator.cluster import wire
from migrator.cluster.controls import CrewControls
from migrator.cluster.crew import WorkerCrew
from migrator.cluster.link import Link
from migrator.cluster.worker import GRACE_S
from migrator.errors import MigratorError
from migrator.job.job_file import Job
from migrator.options import RunOptions
from migrator.ratelimit.concurrency import Concurrency
from migrator.report.journal import Journal
from migrator.results import Exit, StopKind, StopReason
from migrator.run.item import ItemResults
from migrator.run.work_list import Crew, RunFiles, WorkFacts
from migrator.store.item_record import encoded, record
from migrator.store.state_folder import StateFolder, read_key

__all__ = ["Cluster", "ClusterMachines"]

LOOK_S: Final = 1.0
"""Seconds between two questions which workers there are."""

FIRST_S: Final = 30.0
"""Seconds in which the first worker has to be there."""

READY_S: Final = 10.0
"""Seconds that a worker has to prepare itself."""

NOT_THE_WORKERS: Final = ("items", "notify", "run", "gate", "preflight")
"""The members of a job file that the driver alone needs."""

SETTINGS: Final = (
    *("base_url", "concurrency", "rate", "pace", "reserve", "max_wait", "max_outage", "timeout", "max_attempts"),
    *("use_proxy", "ca_file", "client_cert", "verify"),
)


class Cluster(Protocol):
    """What says which workers there are; `dask.DaskCluster`."""

    @property
    def address(self) -> str:
        """The scheduler's address."""

    async def addresses(self) -> list[str]:
        """Return the addresses of the workers; raises OSError or TimeoutError where the scheduler is gone."""

    async def connect(self, worker: str) -> wire.Stream:
        """Return a connection with a worker; raises OSError or TimeoutError where there is none."""


class ClusterMachines:
    """The workers of a cluster (`run.work_list.Machines`).

    Args:
        cluster: says which workers there are.
        job: the job.
        options: what the user has set.
    """

    def __init__(self, cluster: Cluster, job: Job, options: RunOptions) -> None:
        self._cluster, self._job, self._options = cluster, job, options

    @asynccontextmanager
    async def opened(
        self, session: Session, files: RunFiles, state: StateFolder, facts: WorkFacts
    ) -> AsyncIterator[Crew]:
        """Prepare the workers for a run, and let them go on leaving.

        Raises:
            MigratorError: there are none, or none can take part.
        """
        addresses = await self._first()
        lanes = Concurrency(self._options.concurrency).lanes
        run = files.place.name
        crew = WorkerCrew(
            controls=CrewControls(
                rate=self._options.rate, concurrency=self._options.concurrency, lanes=lanes * max(1, len(addresses))
            ),
            results=ItemResults(masker=session.masker, clock=session.clock, secret_path=facts.secret_path),
            ledger=files.ledger,
            doubtful=frozenset(one.item for one in files.reader.in_flight()),
            unverified={row.item: (row, encoded(record(row, run=run))) for row in files.reader.unverified()},
            batch_size=facts.batch_size,
        )
        roster = _Roster(
            self._cluster,
            crew,
            setup=wire.encode(self._setup(run, read_key(state.path), facts, has_tokens=session.tokens is not None)),
            session=session,
            files=files,
            options=self._options,
        )
        tasks = await anyio.create_task_group().__aenter__()
        try:
            await roster.muster(addresses, tasks)
            tasks.start_soon(roster.keep, tasks)
            yield crew
        finally:
            crew.close()
            tasks.cancel_scope.cancel()
            # An error of the run is not the tasks': they would wrap it in a group.
            await tasks.__aexit__(None, None, None)

    async def _first(self) -> list[str]:
        """Return the addresses of the workers, as soon as there is one.

        Raises:
            MigratorError: there is none.
        """
        with anyio.move_on_after(FIRST_S):
            while True:
                try:
                    addresses = await self._cluster.addresses()
                except (OSError, TimeoutError):
                    addresses = []
                if addresses:
                    return addresses
                await anyio.sleep(LOOK_S)
        raise MigratorError(f"the Dask scheduler {self._cluster.address} has no workers", Exit.STOPPED)

    def _setup(self, run: str, key: bytes, facts: WorkFacts, *, has_tokens: bool) -> wire.Setup:
        """Return what a worker needs to know; the job's credentials are not in it, unless the job file holds them."""
        job, options = self._job, self._options
        document = {name: value for name, value in job.document.items() if name not in NOT_THE_WORKERS}
        if has_tokens and isinstance(document["api"], dict):
            # Workers get the token, and nothing by which it is got.
            document["api"] = {**document["api"], "auth": {"type": "none"}}
        return wire.Setup(
            version=__version__,
            run=run,
            base_url=facts.base_url,
            document=json.dumps(document),
            path=str(Path(job.source).absolute()),
            allow_files=options.allow_file or (),
            allow_commands=options.allow_commands,
            key=key,
            has_tokens=has_tokens,
            secret_path=facts.secret_path,
            reuse_connections=facts.idempotent,
            settings={name: getattr(options, name) for name in SETTINGS},
        )


class _Roster:
    """Keeps the crew complete: greets workers that come, and counts those that go.

    Args:
        cluster: says which workers there are.
        crew: takes them in.
        setup: what each is told first.
        session: has the quota that is shared out, and the token.
        files: the run's.
        options: what the user has set.
    """

    def __init__(
        self,
        cluster: Cluster,
        crew: WorkerCrew,
        *,
        setup: wire.Frame,
        session: Session,
        files: RunFiles,
        options: RunOptions,
    ) -> None:
        self._cluster, self._crew, self._setup = cluster, crew, setup
        self._files, self._options = files, options
        if session.shared is None:
            raise RuntimeError("the session has no quota to share out")
        self._quota, self._tokens = session.shared, session.tokens
        self._known: set[str] = set()
        self._refused: dict[str, str] = {}

    @property
    def _journal(self) -> Journal:
        return self._files.journal

    async def muster(self, addresses: list[str], tasks: TaskGroup) -> None:
        """Greet the first workers.

        Raises:
            MigratorError: none of them can take part.
        """
        async with anyio.create_task_group() as greetings:
            for address in addresses:
                self._known.add(address)
                greetings.start_soon(self._greet, address, tasks)
        if not self._crew.links:
            why = "; ".join(sorted(set(self._refused.values()))) or "none of them answers"
            raise MigratorError(f"no worker of {self._cluster.address} can take part: {why}", Exit.STOPPED)

    async def keep(self, tasks: TaskGroup) -> None:
        """Look for workers until cancelled; stop the run where there have been none for too long."""
        gone_since: float | None = None
        while True:
            await anyio.sleep(LOOK_S)
            there = True
            try:
                addresses = await self._cluster.addresses()
            except (OSError, TimeoutError):
                addresses, there = [], False
            for address in addresses:
                if address not in self._known:
                    self._known.add(address)
                    tasks.start_soon(self._greet, address, tasks)
            now = anyio.current_time()
            gone_since = None if self._crew.links else gone_since or now
            if gone_since is not None and (not there or now - gone_since >= self._options.max_outage):
                why = "no worker is left" if there else f"the Dask scheduler {self._cluster.address} is gone"
                self._crew.stop(StopReason(StopKind.WORKERS, why))
                return

    async def _greet(self, address: str, tasks: TaskGroup) -> None:
        """Prepare a worker for the run, and take it into the crew."""
        try:
            stream = await self._cluster.connect(address)
        except (OSError, TimeoutError):
            self._known.discard(address)
            return
        try:
            with anyio.fail_after(READY_S):
                await stream.write(self._setup)
                answer = wire.decode_from_worker(await stream.read())[0]
        except (OSError, TimeoutError, msgspec.MsgspecError, IndexError):
            answer = wire.Refused("it does not answer; is migrator installed there?")
        if not isinstance(answer, wire.Ready):
            stream.abort()
            self._refuse(address, answer.message if isinstance(answer, wire.Refused) else "it speaks another language")
            return
        link = Link(
            address,
            stream,
            lanes=answer.lanes,
            ledger=self._files.ledger,
            events=self._journal,
            quota=self._quota,
            tokens=self._tokens,
            listener=self._crew,
            pending=lambda: self._crew.pending,
        )
        self._crew.join(link)
        self._journal.event("worker.joined", worker=address)
        tasks.start_soon(self._serve, link)

    async def _serve(self, link: Link) -> None:
        held = 0
        try:
            held, why = await link.serve(silence_s=self._options.timeout + GRACE_S)
            self._journal.event("worker.lost", level="warning", worker=link.name, items=held, message=why)
        finally:
            self._crew.leave(link)
            self._known.discard(link.name)

    def _refuse(self, address: str, message: str) -> None:
        """Note a worker that cannot take part; it stays known, and is not asked again."""
        self._refused[address] = message
        self._journal.event("worker.refused", level="warning", worker=address, message=message)
