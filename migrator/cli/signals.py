"""Signals: handled from the first moment of the process to its last, and handed to the run while there is one.

The handlers stay installed all the time. A handler that is removed leaves a moment in which the signal's default ends
the process in the middle of a write, and the second Ctrl-C of an impatient user comes within milliseconds.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

__all__ = ["SIGNALS", "Signals"]

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Receiver = Callable[[signal.Signals], bool]
"""Is given a signal within the event loop, and returns whether it handled it."""


class Signals:
    """The signals of this process.

    Before there is an event loop, a signal ends the process with 128 plus its number; a second one ends it at once.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receivers: list[Receiver] = []
        self._leaving = False

    def install(self) -> None:
        """Handle SIGINT, SIGTERM and SIGHUP; SIGHUP stays ignored where the starter ignores it, as nohup does."""
        for number in NUMBERS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def ignore(self) -> None:
        """Ignore them: the process is about to end, with an exit code that is decided already."""
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    @contextmanager
    def sent_to(self, receiver: Receiver) -> Iterator[None]:
        """Hand signals to a receiver, within the running event loop, before those that were there already."""
        # asyncio takes long to import, and help does not need it.
        from asyncio import get_running_loop

        self._loop = get_running_loop()
        self._receivers.append(receiver)
        try:
            yield
        finally:
            self._receivers.remove(receiver)
            if not self._receivers:
                self._loop = None

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Let a signal end the process where it is, such as at a prompt, which blocks the event loop."""
        loop, self._loop = self._loop, None
        try:
            yield
        finally:
            self._loop = loop

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._dispatch, signal.Signals(number))
            return
        if self._leaving:
            os._exit(128 + number)
        self._leaving = True
        raise SystemExit(128 + number)

    def _dispatch(self, number: signal.Signals) -> None:
        for receiver in reversed(self._receivers):
            if receiver(number):
                return


SIGNALS: Final = Signals()
"""The ones of this process."""
