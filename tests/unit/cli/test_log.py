"""Events on standard error: as JSON for programs, or as short lines for people."""

import io
import json
import sys

import msgspec
import pytest
from result_rows import failure, result

from migrator.cli.log import Log
from migrator.options import LogFormat
from migrator.results import ItemResult
from migrator.store.item_record import record

RUN = "job-20261123T120000Z-0a1b"


def told(log: Log, *rows: ItemResult) -> None:
    """Show a log four events, one for each level, and results."""
    for level in ("debug", "info", "warning", "error"):
        log.event({"event": f"an.event.{level}", "level": level, "run": RUN, "cause": "\x1b[2Jcleared"})
    for row in rows:
        log.item(msgspec.to_builtins(record(row, run=RUN)))


@pytest.mark.parametrize(
    ("level", "names"),
    [
        ("debug", ["an.event.debug", "an.event.info", "an.event.warning", "an.event.error", "item", "item"]),
        ("info", ["an.event.info", "an.event.warning", "an.event.error", "item"]),
        ("warning", ["an.event.warning", "an.event.error", "item"]),
        ("error", ["an.event.error", "item"]),
    ],
)
def test_standard_error_by_level(capsys: pytest.CaptureFixture[str], level: str, names: list[str]) -> None:
    """Standard error gets one JSON line an event of the level and above, and of results only what went wrong."""
    told(Log(LogFormat.JSON, level), result(1), failure(2))

    printed = capsys.readouterr()
    assert [json.loads(line)["event"] for line in printed.err.splitlines()] == names
    assert printed.out == ""


def test_standard_error_is_json_where_it_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Left to itself, standard error is for programs where no one looks at it."""
    told(Log(LogFormat.AUTO, "info"))

    assert all(msgspec.json.decode(line) for line in capsys.readouterr().err.splitlines())


def test_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On the console a failure is one short line with its cause, and a server's text cannot steer the terminal."""
    told(Log(LogFormat.CONSOLE, "info"), failure(2, key="k\x07"))

    printed = capsys.readouterr().err
    assert "the server answered 422" in printed.splitlines()[-1]
    assert printed.splitlines()[-1].count("i-") == 0
    assert "\x1b[2J" not in printed
    assert "\x07" not in printed
    assert RUN not in printed


def test_closed_standard_error_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no one reads standard error any more, the run goes on."""
    closed = io.StringIO()
    log = Log(LogFormat.JSON, "info")
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)

    told(log, failure(1))
