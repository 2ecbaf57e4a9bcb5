"""Decides after a stage whether the next one may start: a command of the job file, or a person."""

import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from tempfile import TemporaryFile
from typing import TypeAlias

import anyio
import msgspec

from migrator.options import RunOptions
from migrator.report.journal import Journal
from migrator.results import Status

__all__ = ["Ask", "Stages"]

Ask: TypeAlias = Callable[[str], Awaitable[bool]]
"""Asks a person a question, and returns whether the answer was yes."""

GATE_S = 600.0
"""Seconds that a gate may take; it may be a test suite."""


class Stages:
    """Decides after each stage.

    Args:
        options: what the user has set.
        gate: the job file's command; empty for none.
        journal: what is written while it happens.
        counts: returns the finished items by status.
        ask: asks a person; None where there is none.

    Attributes:
        question: what a person is being asked.
    """

    def __init__(
        self,
        options: RunOptions,
        gate: tuple[str, ...],
        *,
        journal: Journal,
        counts: Callable[[], Counter[Status]],
        ask: Ask | None,
    ) -> None:
        self._options = options
        self._gate = gate
        self._journal = journal
        self._counts = counts
        self._ask = ask
        self.question: str | None = None

    async def passed(self, number: int, end: int) -> str | None:
        """Return why not to go on after a stage, or None to go on."""
        self._journal.event("stage.ended", stage=number, items=end)
        why = await self._asked_gate(number, end) if self._gate else None
        if why is None and self._ask is not None:
            why = None if self._options.yes else await self._asked_person(self._ask, number, end)
        elif why is None and not self._gate:
            why = "there is no terminal to ask on, and the job file has no gate: give the same command on a terminal"
        if why is None:
            self._journal.event("stage.passed", stage=number)
        return why

    async def _asked_gate(self, number: int, end: int) -> str | None:
        told = msgspec.json.encode({"stage": number, "items": end, "counts": self._counts()})
        try:
            # From a file, since a command may end without a look at it, which breaks a pipe.
            with anyio.fail_after(GATE_S), TemporaryFile() as stdin:
                stdin.write(told)
                stdin.seek(0)
                done = await anyio.run_process(
                    self._gate, stdin=stdin, stdout=subprocess.DEVNULL, stderr=None, check=False
                )
        except TimeoutError:
            return f"the gate did not end within {GATE_S:.0f} s"
        except OSError as error:
            return f"the gate {self._gate[0]} cannot be run: {error.strerror}"
        return None if done.returncode == 0 else f"the gate refused (exit code {done.returncode})"

    async def _asked_person(self, ask: Ask, number: int, end: int) -> str | None:
        counts = ", ".join(f"{count} {status}" for status, count in self._counts().items() if count)
        self.question = f"stage {number} ended after {end} items ({counts}); go on? type yes: "
        try:
            return None if await ask(self.question) else "it was not confirmed"
        finally:
            self.question = None
