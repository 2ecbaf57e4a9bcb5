"""After a stage a command, a person, or no one decides whether the next one may start."""

import io
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from migrator.messages import Instant
from migrator.options import RunOptions
from migrator.report.journal import Journal
from migrator.results import Status
from migrator.run.stages import Ask, Stages
from migrator.secret import Fingerprinter, Masker

pytestmark = pytest.mark.anyio

COUNTS = Counter({Status.SUCCEEDED: 9, Status.FAILED: 1})


async def yes(_question: str) -> bool:
    """Say yes."""
    return True


async def no(_question: str) -> bool:
    """Say no."""
    return False


async def decided(
    *, gate: tuple[str, ...] = (), ask: Ask | None = None, said_yes: bool = False
) -> tuple[str | None, list[str]]:
    """Return why not to go on after a stage, and the events."""
    events = io.BytesIO()
    masker = Masker(Fingerprinter(b"k" * 32), [])
    journal = Journal(run="run", events=events, results=io.BytesIO(), masker=masker, clock=lambda: Instant(0.0, 0.0))
    stages = Stages(RunOptions(yes=said_yes), gate, journal=journal, counts=lambda: COUNTS, ask=ask)
    why = await stages.passed(1, 10)
    return why, [json.loads(line)["event"] for line in events.getvalue().splitlines()]


def script(code: str) -> tuple[str, ...]:
    """Return a command."""
    return (sys.executable, "-c", code)


async def test_person_decides() -> None:
    """A no ends the run there, resumable."""
    assert await decided(ask=yes) == (None, ["stage.ended", "stage.passed"])
    assert await decided(ask=no) == ("it was not confirmed", ["stage.ended"])


async def test_yes_on_the_command_line_is_an_answer() -> None:
    """No one is asked then."""
    assert (await decided(ask=no, said_yes=True))[0] is None


async def test_nobody_to_ask_is_no() -> None:
    """A cron job with stages and without a gate stops after the first."""
    why, _ = await decided()

    assert why is not None
    assert "no terminal to ask on, and the job file has no gate" in why


async def test_person_is_asked_a_question_with_counts() -> None:
    """While it is open the display shows it."""
    asked: list[str] = []

    async def ask(question: str) -> bool:
        asked.append(question)
        return True

    await decided(ask=ask)

    assert asked == ["stage 1 ended after 10 items (9 succeeded, 1 failed); go on? type yes: "]


async def test_gate_is_told_how_the_run_stands(tmp_path: Path) -> None:
    """It reads one JSON document, and its exit code decides; what it prints goes nowhere."""
    told = tmp_path / "told"
    code = f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read()); print('noise')"

    assert (await decided(gate=script(code)))[0] is None
    assert json.loads(told.read_text()) == {"stage": 1, "items": 10, "counts": {"succeeded": 9, "failed": 1}}


async def test_gate_decides_before_a_person() -> None:
    """Its refusal is final; after its yes a person is asked as well."""
    assert (await decided(gate=script("raise SystemExit(7)"), ask=yes))[0] == "the gate refused (exit code 7)"
    assert (await decided(gate=script(""), ask=no))[0] == "it was not confirmed"
    assert (await decided(gate=script("")))[0] is None


async def test_gate_that_cannot_be_run_is_told() -> None:
    """The message names it."""
    why, _ = await decided(gate=("/nowhere/gate",))

    assert why == "the gate /nowhere/gate cannot be run: No such file or directory"
