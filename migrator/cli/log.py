"""Events on standard error: as JSON for programs, or as short lines for people."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from migrator.options import LogFormat
from migrator.report.observer import Observer

__all__ = ["Log"]

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log(Observer):
    """Writes events of a level and above to standard error.

    Of results it writes those of items that did not succeed, unless the level is ``debug``.

    Args:
        log_format: JSON or for people; AUTO is JSON where standard error is no terminal.
        level: the lowest level that is written.
    """

    def __init__(self, log_format: LogFormat, level: str) -> None:
        self._threshold = LEVELS[level]
        terminal = sys.stderr.isatty()
        self._as_json = log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not terminal)
        self._console = structlog.dev.ConsoleRenderer(colors=terminal, pad_event_to=18)

    def event(self, event: Mapping[str, Any]) -> None:
        """Write an event of the level or above."""
        if LEVELS.get(str(event["level"]), LEVELS["info"]) >= self._threshold:
            self._write(event)

    def item(self, record: Mapping[str, Any]) -> None:
        """Write a result, where the item did not succeed."""
        rank = LEVELS.get(str(record["level"]), LEVELS["info"])
        if (rank if rank >= LEVELS["warning"] else LEVELS["debug"]) >= self._threshold:
            self._write(record)

    def _write(self, event: Mapping[str, Any]) -> None:
        line = msgspec.json.encode(event).decode() if self._as_json else self._console(None, "", _for_people(event))
        # A reader of standard error may have gone; that does not end a run.
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)  # noqa: T201  standard error is for events


def _for_people(event: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a line on the terminal need not say, and what could play tricks on a terminal."""
    if event["event"] == "item":
        names = ("timestamp", "event", "level", "item", "key", "status", "http_status", "error")
        event = {name: event[name] for name in names}
    error = event.get("error")
    shown = dict(event) | ({"error": error["message"]} if isinstance(error, Mapping) else {})
    shown.pop("run", None)
    return {name: _printable(value) if isinstance(value, str) else value for name, value in shown.items()}


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
