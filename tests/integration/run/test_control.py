"""A run is controlled through a socket in its folder: each command is carried out, or refused with a reason."""

import asyncio
import io
import json
import os
import socket
import stat
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from migrator.api.session import system_clock
from migrator.errors import MigratorError
from migrator.options import RunOptions
from migrator.ratelimit.headers import Dialect
from migrator.ratelimit.model import PacerSettings
from migrator.ratelimit.throttle import Throttle
from migrator.report.journal import Journal
from migrator.results import StopKind
from migrator.run.control import VERBS, ask, live_status, serve
from migrator.run.engine import Engine
from migrator.secret import Fingerprinter, Masker

pytestmark = pytest.mark.anyio


class Running:
    """A run that can be controlled.

    Attributes:
        place: its folder.
        engine: drives it.
        throttle: paces it.
        written: its events.
    """

    def __init__(self, place: Path, engine: Engine, throttle: Throttle, written: io.BytesIO) -> None:
        self.place = place
        self.engine = engine
        self.throttle = throttle
        self.written = written

    async def ask(self, verb: str, value: str | None = None) -> Mapping[str, Any]:
        """Give it a command, as another process does."""
        return await asyncio.to_thread(ask, self.place, verb, value)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What its journal has."""
        return [json.loads(line) for line in self.written.getvalue().splitlines()]


@asynccontextmanager
async def running(place: Path) -> AsyncIterator[Running]:
    """Serve the control of a run of twelve items that sends nothing."""
    clock, written = system_clock(), io.BytesIO()
    masker = Masker(Fingerprinter(b"k" * 32), [])
    journal = Journal(run="rotate-1", events=written, results=io.BytesIO(), masker=masker, clock=clock)
    async with Throttle(
        settings=PacerSettings(), dialect=Dialect(), concurrency=4, clock=clock, rng=Random(1), max_wait_s=60.0
    ) as throttle:
        engine = Engine(
            name="rotate-1",
            options=RunOptions(),
            total=12,
            done=Counter(),
            journal=journal,
            throttle=throttle,
            clock=clock,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, place, engine, throttle, journal, engine.statistics)
            while b"control.unavailable" not in written.getvalue():
                await anyio.sleep(0.005)
                if await asyncio.to_thread(live_status, place) is not None:
                    break
            yield Running(place, engine, throttle, written)
            tasks.cancel_scope.cancel()


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Running]:
    """Return a run that can be controlled."""
    async with running(tmp_path) as found:
        yield found


async def test_status(run: Running) -> None:
    """It tells how the run stands, and is no event."""
    now = await run.ask("status")

    assert (now["run"], now["items"], now["finished"], now["in_flight"]) == ("rotate-1", 12, 0, 0)
    assert now["stopping"] is None
    assert run.events == []


async def test_pause_and_resume(run: Running) -> None:
    """Nothing goes while a run is paused, and what waited goes then."""
    gone = anyio.Event()

    async def send() -> None:
        async with run.throttle.permit("key") as permit:
            gone.set()
            permit.answered(status=200, headers={})

    await run.ask("pause")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert run.throttle.statistics().waiting_for == "paused"
        assert not gone.is_set()
        await run.ask("resume")
        await gone.wait()
    assert [(event["event"], event["verb"]) for event in run.events] == [("control", "pause"), ("control", "resume")]


async def test_concurrency(run: Running) -> None:
    """The level is that of the command, or found by itself again."""
    assert (await run.ask("concurrency", "9"))["concurrency"] == 9
    await run.ask("concurrency", "auto")
    assert run.events[-1]["value"] == "auto"


async def test_rate(run: Running) -> None:
    """A ceiling is set and taken away."""
    await run.ask("rate", "5/s")
    await run.ask("rate", "none")

    assert [event["value"] for event in run.events] == ["5/s", "none"]


async def test_stop(run: Running) -> None:
    """The run stops as it does by a signal, and says so."""
    assert (await run.ask("stop"))["stopping"] == StopKind.CONTROL.value
    assert run.engine.stopped_by is not None
    assert run.engine.stopped_by.message == "migrator ctl stop"


@pytest.mark.parametrize(
    ("verb", "value", "message"),
    [
        ("rate", "fast", "^rate takes .*, not 'fast'$"),
        ("concurrency", "0", "^concurrency takes auto, or a number from 1 to 1000, not '0'$"),
        ("concurrency", "1001", "not '1001'"),
        ("dance", None, f"dance is no command: there are {', '.join(VERBS)}"),
    ],
)
async def test_command_that_is_refused(run: Running, verb: str, value: str | None, message: str) -> None:
    """The message is for the person who typed it, and the run goes on as before."""
    with pytest.raises(MigratorError, match=message):
        await run.ask(verb, value)
    assert run.events == []


@pytest.mark.parametrize("line", [b"\n", b"[1]\n", b"\xff\xfe\n", b'{"verb": 7}\n', b"x" * 100_000 + b"\n", b""])
async def test_garbage_does_no_harm(run: Running, line: bytes) -> None:
    """Whatever a program writes into the socket, the next command is carried out."""

    def talk() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(run.place / "control.sock"))
            try:
                connection.sendall(line)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)
            except OSError:
                return

    await asyncio.to_thread(talk)

    assert (await run.ask("status"))["run"] == "rotate-1"


async def test_socket_is_the_owners_alone(run: Running) -> None:
    """No one else may stop a run."""
    assert stat.S_IMODE((run.place / "control.sock").stat().st_mode) == 0o600


async def test_long_path(tmp_path: Path) -> None:
    """A state folder may be deeper than the path of a socket may be long."""
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 5)
    deep.mkdir(parents=True)
    assert len(os.fsencode(deep)) > 107

    async with running(deep) as run:
        assert (await run.ask("status"))["run"] == "rotate-1"
        assert await asyncio.to_thread(live_status, deep) is not None


async def test_socket_that_was_left_by_a_kill_is_replaced(tmp_path: Path) -> None:
    """What a killed process leaves does not keep the next from being controlled."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control.sock"))
    assert live_status(tmp_path) is None

    async with running(tmp_path) as run:
        assert (await run.ask("status"))["run"] == "rotate-1"


async def test_run_that_is_not_active(tmp_path: Path) -> None:
    """The message says what to do; afterwards no socket is left."""
    async with running(tmp_path):
        pass

    assert not (tmp_path / "control.sock").exists()
    with pytest.raises(MigratorError, match="is not active; migrator status lists the runs"):
        ask(tmp_path, "pause")


async def test_run_without_control_goes_on(tmp_path: Path) -> None:
    """Where no socket can be made, that is an event and no more."""
    (tmp_path / "control.sock").mkdir()

    async with running(tmp_path) as run:
        assert [event["event"] for event in run.events] == ["control.unavailable"]
