"""What a command asks and shows, and how a signal ends a command that no run handles."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from migrator.cli.display.terminal import calling, coloured, note, run_attended
from migrator.cli.log import Log
from migrator.cli.signals import SIGNALS
from migrator.errors import MigratorError
from migrator.options import RunOptions, resolve
from migrator.report.metrics import Metrics
from migrator.report.notify import Notice
from migrator.results import StopReason
from migrator.secret import Secret

NOTICES = [{"ping": Secret("https://ping.example/hook")}]


@pytest.fixture
def signals() -> Iterator[None]:
    """Handle signals as the program does, and put the test runner's handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    SIGNALS.install()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Run:
    """A run, as far as it can be stopped."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def stop(self, reason: StopReason) -> None:
        """Note why it stops."""
        self.told.append(reason.message)

    def abandon(self) -> None:
        """Note that it gives up."""
        self.told.append("abandon")


def options(**typed: Any) -> RunOptions:
    """Return the options of a command line."""
    return resolve(command_line=typed, env={}, job_run={}, source="")


def observers(chosen: RunOptions) -> list[type]:
    """Return the types of what watches a run with these options."""

    async def watched() -> list[type]:
        with calling(chosen, NOTICES, typed={}) as caller:
            # Standard error is no terminal here: nothing is asked.
            assert (caller.confirm, caller.ask) == (None, None)
            return [type(observer) for observer in caller.observers]

    return anyio.run(watched)


def test_what_watches_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log, the metrics file and the notices; a rehearsal tells none but the log."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    metrics = str(tmp_path / "run.prom")

    assert observers(options(metrics_file=metrics)) == [Log, Metrics, Notice]
    assert observers(options(metrics_file=metrics, dry_run=True)) == [Log]


def test_notices_that_cannot_be_used() -> None:
    """A command as a target is refused before the run, unless commands are allowed."""

    async def refused() -> None:
        with (
            pytest.raises(MigratorError, match="--allow-commands"),
            calling(options(), [{"command": ["tell"]}], typed={}),
        ):
            pass

    anyio.run(refused)


@pytest.mark.usefixtures("signals")
def test_signals_stop_a_run() -> None:
    """While a run is active the first signal stops it, and the second gives up what is in flight."""
    run = Run()

    async def stopped() -> None:
        with calling(options(), typed={}) as caller, caller.stopper.heeded():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            with anyio.fail_after(20):
                await caller.stopper.watch(run)

    run_attended(stopped())
    assert run.told == ["SIGTERM received", "abandon"]


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_command(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    """A command without a run is cancelled, with the contract's exit code and a sentence."""

    async def waiting() -> None:
        os.kill(os.getpid(), number)
        await anyio.sleep(20)

    with pytest.raises(SystemExit) as left:
        run_attended(waiting())

    assert left.value.code == 128 + number
    assert capsys.readouterr().err == f"migrator: {number.name} received; nothing was sent\n"


def test_result_of_a_command() -> None:
    """A command's result is handed back."""

    async def command() -> int:
        return 7

    assert run_attended(command()) == 7


def test_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A note goes to standard error under the program's name; colour is for terminals."""
    note("the key is new")

    assert capsys.readouterr() == ("", "migrator: the key is new\n")
    assert (coloured("x", None), coloured("x", "red")) == ("x", "\x1b[31mx\x1b[0m")
