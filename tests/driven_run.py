"""A run in virtual time: the real engine, items and throttle, against a server that is a function."""

import io
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import virtual_time

from migrator.api.attempts import Attempts
from migrator.api.outcome import RetryPolicy
from migrator.api.reader import Reader
from migrator.api.session import Session
from migrator.messages import Answer, Clock, Failure, FailureKind, Reply, Request, Stage
from migrator.options import RunOptions
from migrator.ratelimit.headers import Dialect
from migrator.ratelimit.model import PacerSettings
from migrator.ratelimit.throttle import Throttle
from migrator.report.journal import Journal
from migrator.results import ItemResult, Outcome, Status
from migrator.run.engine import Engine
from migrator.run.item import ItemResults, Items
from migrator.run.preconditions import Precondition
from migrator.secret import Fingerprinter, Masker
from migrator.store.item_record import encoded, record

__all__ = ["Driven", "Script", "Server", "drive", "error", "later", "ok", "requests", "unreachable"]

HOST = "https://api.example"
LATENCY_S = 0.1

Script = Callable[["Server", Request], tuple[int, dict[str, str]] | None]
"""What a server answers: a status and headers, or None where it cannot be reached."""


def ok(_server: "Server", _request: Request) -> tuple[int, dict[str, str]]:
    """Take everything."""
    return 200, {}


def error(status: int, *items: int) -> Script:
    """Return what answers some items with an error, or all where none are named."""
    return lambda _server, request: (status if not items or request.item in items else 200, {})


def unreachable(_server: "Server", _request: Request) -> None:
    """Be away."""


def requests(count: int, *, first: int = 1, method: str = "PATCH", idempotent: bool = True) -> list[Request]:
    """Return requests for so many items."""
    return [
        Request(
            item=number,
            key=f"i-{number}",
            method=method,
            url=f"{HOST}/items/i-{number}",
            body=b'{"name":"new"}',
            limiter_key=HOST,
            idempotent=idempotent,
        )
        for number in range(first, first + count)
    ]


@dataclass
class Server:
    """Decides at once, answers after a tenth of a second of virtual time, and remembers what it saw.

    Attributes:
        script: what it answers.
        clock: both clocks.
        sent: the items of the requests it got, with the second of each.
        record: what it shows of every record.
        methods: of the requests it got.
        most: requests that were in flight at once.
        latency_s: returns how long the next answer takes.
    """

    script: Script
    clock: Clock
    sent: list[tuple[int, float]] = field(default_factory=list)
    record: Mapping[str, Any] | None = None
    methods: list[str] = field(default_factory=list)
    most: int = 0
    latency_s: Callable[[Request], float] = lambda _: LATENCY_S
    _in_flight: int = 0

    async def send(self, request: Request) -> Answer:
        """Answer a request."""
        sent = self.clock()
        self.sent.append((request.item, sent.mono))
        self.methods.append(request.method)
        self._in_flight += 1
        self.most = max(self.most, self._in_flight)
        found = self.script(self, request)
        try:
            await anyio.sleep(self.latency_s(request))
        finally:
            self._in_flight -= 1
        if found is None:
            return Failure(
                kind=FailureKind.CONNECTION,
                stage=Stage.CONNECT,
                maybe_sent=False,
                message="the server cannot be reached",
                sent=sent,
                received=self.clock(),
            )
        status, headers = found
        return Reply(status=status, headers=headers, body=self._body(), sent=sent, received=self.clock())

    def _body(self) -> bytes:
        return b"" if self.record is None else json.dumps(self.record).encode()

    @property
    def items(self) -> list[int]:
        """The items of the requests it got, in their order."""
        return [item for item, _ in self.sent]


class Records:
    """Keeps results in memory, in the order in which they were recorded."""

    def __init__(self) -> None:
        self.results: dict[int, ItemResult] = {}
        self.begun: dict[int, int] = {}
        self.unverified: dict[int, ItemResult] = {}

    def begin(self, item: int, key: str, attempt: int, at_ms: int) -> None:
        """Note that an item is about to be sent."""
        self.begun[item] = attempt

    async def begin_durably(self, item: int, key: str, attempt: int, at_ms: int) -> None:
        """Note that an item is about to be sent."""
        self.begun[item] = attempt

    def withdraw(self, item: int) -> None:
        """Note that an attempt had no effect."""
        self.begun.pop(item, None)

    async def written(self, row: ItemResult) -> None:
        """Keep an item that is to be read back."""
        self.unverified[row.item] = row

    async def settle(self, row: ItemResult) -> bytes:
        """Keep a result."""
        self.begun.pop(row.item, None)
        self.unverified.pop(row.item, None)
        self.results[row.item] = row
        return encoded(record(row, run="run"))


class _ReadsFirst:
    """Reads each record before its item is written, as --keep-before does."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def check(self, request: Request) -> Outcome | Request:
        """Read the record."""
        await self._reader.record(request)
        return request

    def succeeded(self, request: Request) -> None:
        """Do nothing."""


async def always(_number: int, _end: int) -> None:
    """Go on after every stage."""


@dataclass(frozen=True)
class Driven:
    """What came of a run.

    Attributes:
        engine: what drove it.
        server: what it talked to.
        results: by item.
        begun: items that were begun and have no result.
        events: what the journal has.
        seconds: how long it took, in virtual time.
    """

    engine: Engine
    server: Server
    results: dict[int, ItemResult]
    begun: dict[int, int]
    events: list[dict[str, Any]]
    seconds: float

    @property
    def counts(self) -> Counter[Status]:
        """Results by status."""
        return Counter(result.status for result in self.results.values())

    @property
    def stopped(self) -> str | None:
        """Why it stopped, in the word of `StopKind`."""
        return None if self.engine.stopped_by is None else self.engine.stopped_by.kind.value


Meanwhile = Callable[[Engine, Throttle], Coroutine[Any, Any, None]]


def drive(
    items: Iterable[Request],
    script: Script = ok,
    *,
    options: RunOptions | None = None,
    total: int | None = None,
    done: Counter[Status] | None = None,
    doubtful: frozenset[int] = frozenset(),
    unverified: Mapping[int, ItemResult] | None = None,
    record: Mapping[str, Any] | None = None,
    precondition: Precondition | None = None,
    reads_first: bool = False,
    meanwhile: Meanwhile | None = None,
    many_keys: bool = False,
    next_stage_allowed: Callable[[int, int], Awaitable[str | None]] = always,
    latency_s: Callable[[Request], float] = lambda _: LATENCY_S,
) -> Driven:
    """Drive a run in virtual time, and return what came of it."""
    todo, options = list(items), options if options is not None else RunOptions(concurrency=4)
    done = Counter() if done is None else done

    async def main(clock: Clock) -> Driven:
        server, records, events = Server(script, clock, record=record, latency_s=latency_s), Records(), io.BytesIO()
        masker, rng = Masker(Fingerprinter(b"k" * 32), []), Random(1)
        policy = RetryPolicy(max_attempts=options.max_attempts)
        async with Throttle(
            settings=PacerSettings(rate=options.rate, pace=options.pace, reserve=options.reserve),
            dialect=Dialect(),
            concurrency=options.concurrency,
            clock=clock,
            rng=rng,
            max_wait_s=options.max_wait,
        ) as throttle:
            journal = Journal(run="run", events=events, results=io.BytesIO(), masker=masker, clock=clock)
            session = Session(
                base_url=HOST,
                throttle=throttle,
                client=server,
                reader=Reader(Attempts(throttle=throttle, client=server, policy=policy, rng=rng, masker=masker)),
                policy=policy,
                masker=masker,
                clock=clock,
            )
            engine = Engine(
                name="run",
                options=options,
                total=len(todo) + done.total() if total is None else total,
                done=done,
                journal=journal,
                throttle=throttle,
                clock=clock,
                many_keys=many_keys,
                next_stage_allowed=next_stage_allowed,
            )
            results = ItemResults(masker=masker, clock=clock, secret_path=False)
            way = Items(
                engine=engine,
                session=session,
                results=results,
                ledger=records,
                journal=journal,
                doubtful=doubtful,
                unverified=unverified or {},
                verify=options.verify,
            )
            way.precondition = _ReadsFirst(session.reader) if reads_first else precondition
            async with anyio.create_task_group() as tasks:
                if meanwhile is not None:
                    tasks.start_soon(meanwhile, engine, throttle)
                await engine.drive(iter(todo), way.finish)
                tasks.cancel_scope.cancel()
            seen = [json.loads(line) for line in events.getvalue().splitlines()]
            return Driven(engine, server, records.results, records.begun, seen, clock().mono)

    return virtual_time.run(main)


def later(seconds: float, act: Callable[[Engine, Throttle], None]) -> Meanwhile:
    """Return what acts on a run after so many seconds of virtual time."""

    async def meanwhile(engine: Engine, throttle: Throttle) -> None:
        await anyio.sleep(seconds)
        act(engine, throttle)

    return meanwhile
