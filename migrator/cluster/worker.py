"""A worker's part of a run: items come in, each goes its whole way here, and all that is to be kept goes back.

The worker knows the job, takes credentials from its own environment and files, and has a throttle and a client of its
own. What it sends is what `run.item` sends in a single process.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from random import SystemRandom
from typing import Any, Final, TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec.structs import replace

from migrator import __version__
from migrator.api.attempts import Attempts
from migrator.api.expressions import body_reader
from migrator.api.outcome import RetryPolicy
from migrator.api.reader import Reader
from migrator.api.session import Session, system_clock
from migrator.api.transport.client import Client
from migrator.api.transport.network import network_of
from migrator.cluster import wire
from migrator.cluster.parcel import restored
from migrator.cluster.remote import Outbox, RemoteEngine, RemoteEvents, RemoteLedger, RemoteQuota, RemoteTokens
from migrator.errors import LedgerError, MigratorError, ReadingError, WaitTooLong
from migrator.job.job_file import Job, load_job
from migrator.job.problems import JobError
from migrator.job.profile.api_profile import ApiProfile
from migrator.job.profile.variables import Allowed
from migrator.job.source import outside_of
from migrator.job.template import Template, rules_of
from migrator.messages import Clock, Request, Sender
from migrator.options import Pace, RunOptions, Verify
from migrator.ratelimit.model import PacerSettings
from migrator.ratelimit.throttle import Throttle
from migrator.results import ItemResult, StopKind, StopReason
from migrator.run.item import ItemResults, Items
from migrator.run.preconditions import Preconditions
from migrator.secret import Fingerprinter, Masker
from migrator.store.item_record import decoded
from migrator.store.plan_file import PlannedItem
from migrator.store.vault import Vault

__all__ = ["OpenSender", "SenderNeeds", "open_client", "serve"]

BEAT_S: Final = 0.5
"""Seconds between two reports of how the worker stands, which also say that it is there."""

GRACE_S: Final = 5.0
"""Seconds beyond a request's time-out after which a silent other side is given up."""


class SenderNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What the part that makes attempts is opened with.

    Attributes:
        api: the API, with this machine's credentials.
        options: of the run.
        reuse_connections: whether a connection may serve several requests.
        clock: reads both clocks.
        masker: learns tokens.
        tokens: holds the token, where the driver gets it.
    """

    api: ApiProfile
    options: RunOptions
    reuse_connections: bool
    clock: Clock
    masker: Masker
    tokens: RemoteTokens | None


OpenSender: TypeAlias = Callable[[SenderNeeds], AbstractAsyncContextManager[Sender]]
"""Opens what makes attempts."""


def open_client(needs: SenderNeeds) -> AbstractAsyncContextManager[Sender]:
    """Open the client that a single process has too."""
    return Client.open(
        needs.api,
        timeout_s=needs.options.timeout,
        clock=needs.clock,
        network=network_of(needs.options, needs.api),
        reuse_connections=needs.reuse_connections,
        learn=needs.masker.learn,
        tokens=needs.tokens,
    )


async def serve(
    stream: wire.Stream,
    *,
    env: Mapping[str, str],
    open_sender: OpenSender = open_client,
    clock: Clock | None = None,
) -> None:
    """Work for one run until it is over, or its driver is gone.

    Args:
        stream: the connection with the driver.
        env: this machine's environment.
        open_sender: opens what makes attempts.
        clock: reads both clocks; None for those of the system.
    """
    try:
        hello = await stream.read()
        try:
            _refuse_other_version(wire.version_in(hello))
            await _work(stream, wire.decode_setup(hello), env, open_sender, clock or system_clock())
        except JobError as error:
            said = "; ".join(problem.message for problem in error.problems)
            await stream.write(wire.encode([wire.Refused(f"its job cannot be read there: {said}")]))
        except MigratorError as error:
            await stream.write(wire.encode([wire.Refused(str(error))]))
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return
    finally:
        stream.abort()


def _refuse_other_version(version: str) -> None:
    if version != __version__:
        raise MigratorError(f"it has migrator {__version__}, and the run {version}")


async def _work(
    stream: wire.Stream, setup: wire.Setup, env: Mapping[str, str], open_sender: OpenSender, clock: Clock
) -> None:
    job, options, out = job_of(setup, env), options_of(setup.settings), Outbox()
    async with (
        _station(setup, options, out, open_sender, job, clock=clock) as station,
        anyio.create_task_group() as tasks,
    ):
        out.put(wire.Ready(station.session.throttle.lanes))
        tasks.start_soon(_drain, out, stream, tasks)
        tasks.start_soon(_beat, out, station.session.throttle)
        # An error would come out of the task group in a group of its own. What the driver has not recorded is its
        # matter when it resumes.
        with suppress(OSError, TimeoutError):
            await station.listen(stream, tasks, silence_s=options.timeout + GRACE_S)
        tasks.cancel_scope.cancel()


async def _drain(out: Outbox, stream: wire.Stream, tasks: TaskGroup) -> None:
    try:
        await out.drain(stream)
    except OSError:
        tasks.cancel_scope.cancel()


async def _beat(out: Outbox, throttle: Throttle) -> None:
    while True:
        out.put(wire.Standing(throttle.statistics()))
        await anyio.sleep(BEAT_S)


def job_of(setup: wire.Setup, env: Mapping[str, str]) -> Job:
    """Return the job, with the values that this machine has for its variables and files.

    Which variables it may read was checked where the run was started, by the same names.

    Raises:
        JobError: one is missing.
    """
    allowed = Allowed(commands=setup.allow_commands, env=None, files=setup.allow_files)
    outside = outside_of(setup.path, env=env, allowed=allowed)
    return load_job(setup.document, source=setup.path, outside=outside)


def options_of(settings: Mapping[str, Any]) -> RunOptions:
    """Return the options that the driver has sent."""
    named = dict(settings) | {"pace": Pace(settings["pace"]), "verify": Verify(settings["verify"])}
    return RunOptions(**named)


class _Station(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has open for a run.

    Attributes:
        session: with the API.
        engine: stands for the driver's.
        ledger: stands for the driver's.
        quota: stands for the driver's.
        tokens: stand for the driver's; None where credentials are fixed.
        items: takes items their whole way.
        doubtful: items at hand that were in flight when an earlier process or worker ended.
        written: items at hand that are only to be read back.
        planned: what a plan says of the items at hand.
        states: their records, where they were read in bulk, by URL.
        held: the items at hand.
        job: the job.
        events: stand for the driver's journal.
    """

    session: Session
    engine: RemoteEngine
    ledger: RemoteLedger
    quota: RemoteQuota
    tokens: RemoteTokens | None
    out: Outbox
    items: Items
    doubtful: set[int] = msgspec.field(default_factory=set)
    written: dict[int, ItemResult] = msgspec.field(default_factory=dict)
    planned: dict[int, PlannedItem] = msgspec.field(default_factory=dict)
    states: dict[str, bytes] = msgspec.field(default_factory=dict)
    held: set[int] = msgspec.field(default_factory=set)
    job: Job
    events: RemoteEvents

    async def listen(self, stream: wire.Stream, tasks: TaskGroup, *, silence_s: float) -> None:
        """Do what the driver says until it closes the connection or is silent for too long.

        Raises:
            OSError: the connection is broken.
            TimeoutError: the driver is silent.
        """
        while True:
            with anyio.fail_after(silence_s):
                frame = await stream.read()
            for message in wire.decode_to_worker(frame):
                self._obey(message, tasks)

    def _obey(self, message: wire.ToWorker, tasks: TaskGroup) -> None:
        match message:
            case wire.Work():
                tasks.start_soon(self._finish, message)
            case wire.LookFirst():
                self._look_first(message)
            case wire.Durable(count):
                self.ledger.acknowledge(count)
            case wire.Shares():
                self.quota.answer(message)
            case wire.Token():
                if self.tokens is not None:
                    self.tokens.answer(message)
            case wire.Beat(pending):
                self.engine.pending = pending
            case wire.Failed(text):
                self.ledger.fail(text)
            case _:
                self._control(message)

    def _control(self, message: wire.ToWorker) -> None:
        """Let the throttle do what the user or the run wants."""
        throttle = self.session.throttle
        match message:
            case wire.Settings(rate, concurrency, paused):
                throttle.set_rate(rate)
                throttle.set_concurrency(concurrency)
                (throttle.pause if paused else throttle.resume)()
            case wire.Hold(seconds):
                throttle.hold(seconds)
            case wire.Stop():
                throttle.stop()
            case _:
                pass

    def _look_first(self, looks: wire.LookFirst) -> None:
        """Look at each item from now on before it is written."""
        self.items.precondition = Preconditions(
            reader=self.session.reader,
            ledger=self.ledger,
            only_changed=looks.only_changed,
            vault=None if looks.vault_key is None else Vault(looks.vault_key),
            planned=self.planned if looks.planned else None,
            interrupted=self.doubtful,
            fingerprint=self.session.masker.fingerprint,
            states=self.states,
            sent=None,
            warn=lambda message: self.events.event("before.masked", level="warning", message=message),
            template=Template.compile(self.job, base_url=self.session.base_url),
        )

    async def _finish(self, work: wire.Work) -> None:
        """Take an item its whole way; what would stop the run is told, and stops it there."""
        request = unpacked(work, self.job)
        item = request.item
        self._take_in(work, request)
        try:
            await self.items.finish(request)
        except WaitTooLong as wait:
            self.out.put(wire.TooLong(item, wait.wait_s, wait.reason))
        except ReadingError as error:
            self.out.put(wire.Unread(item, error.error))
        except LedgerError as error:
            self.engine.stop(StopReason(StopKind.LEDGER, str(error)))
            self.out.put(wire.Unsent(item))
        else:
            if item not in self.engine.told:
                self.out.put(wire.Unsent(item))
        finally:
            self._let_go(request)

    def _take_in(self, work: wire.Work, request: Request) -> None:
        """Keep what is known of an item while it is at hand."""
        self.held.add(request.item)
        self.engine.in_canary = work.canary
        if work.doubtful:
            self.doubtful.add(request.item)
        if work.written is not None:
            self.written[request.item] = decoded(work.written, provisional=False)
        if work.planned is not None:
            self.planned[request.item] = work.planned
        if work.state is not None:
            self.states[request.url] = work.state

    def _let_go(self, request: Request) -> None:
        item = request.item
        self.doubtful.discard(item)
        self.written.pop(item, None)
        self.planned.pop(item, None)
        self.states.pop(request.url, None)
        self.engine.told.discard(item)
        self.held.discard(item)
        if not self.held:
            # In the same frame as the end of the last item, so that the driver knows all when it ends the run.
            self.out.put(wire.Standing(self.session.throttle.statistics()))


def unpacked(work: wire.Work, job: Job) -> Request:
    """Return the request of an item."""
    return restored(work.request, rules_of(job))


@asynccontextmanager
async def _session(needs: SenderNeeds, open_sender: OpenSender, quota: RemoteQuota) -> AsyncIterator[Session]:
    """Open a throttle that shares the run's quota, and what sends through it."""
    options = needs.options
    async with (
        Throttle(
            settings=PacerSettings(pace=options.pace, reserve=options.reserve, rate=options.rate),
            dialect=needs.api.rate_limit,
            in_body=body_reader(needs.api.body_limits),
            concurrency=options.concurrency,
            clock=needs.clock,
            max_wait_s=options.max_wait,
            shared=quota,
        ) as throttle,
        open_sender(needs) as client,
    ):
        policy = RetryPolicy(max_attempts=options.max_attempts)
        attempts = Attempts(throttle=throttle, client=client, policy=policy, rng=SystemRandom(), masker=needs.masker)
        yield Session(
            base_url=needs.api.base_url,
            throttle=throttle,
            client=client,
            reader=Reader(attempts),
            policy=policy,
            masker=needs.masker,
            clock=needs.clock,
        )


@asynccontextmanager
async def _station(
    setup: wire.Setup, options: RunOptions, out: Outbox, open_sender: OpenSender, job: Job, *, clock: Clock
) -> AsyncIterator[_Station]:
    """Open what a worker needs for a run."""
    masker = Masker(Fingerprinter(setup.key), job.api.credentials())
    quota, events, ledger = RemoteQuota(out), RemoteEvents(out, masker), RemoteLedger(setup.run, out)
    api = replace(job.api, base_url=setup.base_url)
    tokens = RemoteTokens(out, clock=clock, learn=masker.learn) if setup.has_tokens else None
    needs = SenderNeeds(
        api=api,
        options=options,
        reuse_connections=setup.reuse_connections,
        clock=clock,
        masker=masker,
        tokens=tokens,
    )
    async with _session(needs, open_sender, quota) as session:
        engine = RemoteEngine(
            setup.run, max_outage_s=options.max_outage, out=out, events=events, hold=session.throttle.hold, clock=clock
        )
        doubtful: set[int] = set()
        written: dict[int, ItemResult] = {}
        items = Items(
            engine=engine,
            session=session,
            results=ItemResults(masker=masker, clock=clock, secret_path=setup.secret_path),
            ledger=ledger,
            journal=events,
            doubtful=doubtful,
            unverified=written,
            verify=options.verify,
        )
        yield _Station(
            session=session,
            engine=engine,
            ledger=ledger,
            quota=quota,
            tokens=tokens,
            out=out,
            items=items,
            doubtful=doubtful,
            written=written,
            job=job,
            events=events,
        )
