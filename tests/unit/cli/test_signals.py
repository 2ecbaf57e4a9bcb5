"""Signals end the process before there is a run, and are handed to the run while there is one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import anyio
import pytest

from migrator.cli.signals import NUMBERS, Signals


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Return signals that are handled, and put the handlers of the tests back."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    found = Signals()
    found.install()
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    """Send a signal to ourselves."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_before_a_run_a_signal_ends_the_process(signals: Signals, number: signal.Signals, code: int) -> None:
    """The exit code names the signal, as shells have it."""
    assert signals is not None
    with pytest.raises(SystemExit) as ended:
        send(number)
    assert ended.value.code == code


@pytest.mark.anyio
async def test_run_is_handed_its_signals(signals: Signals) -> None:
    """The latest receiver is asked first; what it does not handle goes to the one before."""
    seen: list[tuple[str, int]] = []
    taken = anyio.Event()

    def first(number: signal.Signals) -> bool:
        seen.append(("first", number))
        taken.set()
        return True

    def second(number: signal.Signals) -> bool:
        seen.append(("second", number))
        return number == signal.SIGINT

    with signals.sent_to(first):
        with signals.sent_to(second):
            send(signal.SIGINT)
            send(signal.SIGTERM)
            await taken.wait()
        assert seen == [("second", signal.SIGINT), ("second", signal.SIGTERM), ("first", signal.SIGTERM)]


@pytest.mark.anyio
async def test_prompt_is_ended_where_it_is(signals: Signals) -> None:
    """A prompt blocks the event loop, which could not hand anything on; afterwards the run has its signals again."""
    got = anyio.Event()

    def receiver(_number: signal.Signals) -> bool:
        got.set()
        return True

    with signals.sent_to(receiver):
        with pytest.raises(SystemExit), signals.raised():
            send(signal.SIGTERM)
        send(signal.SIGTERM)
        await got.wait()


@pytest.mark.anyio
async def test_after_a_run_signals_end_the_process_again(signals: Signals) -> None:
    """There is nothing left to stop."""
    with signals.sent_to(lambda _: True):
        pass

    with pytest.raises(SystemExit):
        send(signal.SIGINT)


def test_nohup_is_heeded() -> None:
    """SIGHUP stays ignored where the starter ignores it."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        Signals().install()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_last_moment_is_not_disturbed(signals: Signals) -> None:
    """When the exit code is decided, a signal changes nothing."""
    signals.ignore()

    for number in NUMBERS:
        send(number)


INTERRUPTED_TWICE = """
import os, signal, sys

class WhileImporting:
    def find_spec(self, name, *_):
        if name == "migrator.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

class WhileLeaving:
    def __del__(self, kill=os.kill, process=os.getpid()):
        kill(process, 2)

sys.meta_path.insert(0, WhileImporting())
late = WhileLeaving()

from migrator.__main__ import main

main()
"""


def test_second_signal_while_the_process_leaves() -> None:
    """An impatient Ctrl-C, after the interpreter has taken its handlers away, does not change the exit code."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_TWICE], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (130, "")
