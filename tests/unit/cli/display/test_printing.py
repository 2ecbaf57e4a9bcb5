"""Standard output has the result and nothing else."""

import json

import pytest
from summaries import summary

from migrator.cli.display.printing import as_document, ended
from migrator.options import resolve
from migrator.results import Exit
from migrator.run.migrate import Ending

STEP = f"2 items failed: correct the cause (_error in failed.csv), then migrator retry rotate-{'x' * 40}"


def how_it_ended(
    capsys: pytest.CaptureFixture[str], exit_code: Exit, *, as_json: bool = False, quiet: bool = False
) -> str:
    """Print how a run ended, and return what standard output got."""
    options = resolve(command_line={"quiet": quiet}, env={}, job_run={}, source="")
    ending = Ending(exit_code, summary(exit_code=int(exit_code), next_steps=[STEP]))

    assert ended(ending, options, as_json=as_json) == exit_code
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def test_summary_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """No line is longer than 80 columns, and the advised command is in one line."""
    lines = how_it_ended(capsys, Exit.SOME_FAILED).splitlines()

    assert max(map(len, lines)) <= 80
    assert lines[-1] == f"           migrator retry rotate-{'x' * 40}"


def test_document_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json there is one JSON document, whatever its length."""
    document = json.loads(how_it_ended(capsys, Exit.SOME_FAILED, as_json=True))

    assert (document["exit_code"], document["next_steps"]) == (1, [STEP])


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """A quiet run prints nothing where all went well; otherwise it does."""
    assert how_it_ended(capsys, Exit.OK, quiet=True) == ""
    assert "rotate on https://api.example" in how_it_ended(capsys, Exit.SOME_FAILED, quiet=True)


def test_run_that_was_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    """Where another run of the job is active, its holder is named."""
    options = resolve(command_line={}, env={}, job_run={}, source="")

    ended(Ending(Exit.OK, None, "process 7 on ops-1"), options, as_json=False)

    assert capsys.readouterr().out == "another run of this job is active (process 7 on ops-1): skipped\n"


def test_document() -> None:
    """A document is indented JSON."""
    assert json.loads(as_document({"a": [1]})) == {"a": [1]}
