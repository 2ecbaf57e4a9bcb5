"""Live control of a run, through a Unix socket in its folder: one JSON object each way, and only for its owner.

The folder's mode keeps others out before the socket's own does, since not every system heeds that (unix(7)).
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec

from migrator.errors import MigratorError
from migrator.options import parse_rate
from migrator.report.journal import Journal
from migrator.report.observer import RunStatistics
from migrator.results import StopKind, StopReason
from migrator.run.engine import Engine
from migrator.run.pool.roles import Controls
from migrator.store.files import decoded

__all__ = ["VERBS", "ask", "live_status", "serve"]

NAME: Final = "control.sock"
VERBS: Final = ("pause", "resume", "rate", "concurrency", "stop", "status")

ANSWER_S: Final = 5.0
LONGEST_LINE: Final = 4096

LONGEST_ADDRESS: Final = 100
"""Bytes of a socket's path that every system takes; Linux takes 107 (unix(7))."""


class _Refused(Exception):
    """A command that cannot be carried out; the text says why."""


class _Said(msgspec.Struct, frozen=True):
    """What a run answers."""

    status: Mapping[str, Any] = {}
    error: str | None = None


async def serve(
    place: Path, run: Engine, throttle: Controls, journal: Journal, statistics: Callable[[], RunStatistics]
) -> None:
    """Carry out commands until cancelled. A socket that cannot be made leaves the run as it is, without control."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                said = _carried_out(await reader.readline(), run, throttle, journal, statistics)
                writer.write(msgspec.json.encode(said) + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass
        finally:
            writer.close()

    path = place / NAME
    with ExitStack() as held:
        try:
            with suppress(FileNotFoundError):
                path.unlink()
            address = held.enter_context(_address(path))
            with _private():
                server = await asyncio.start_unix_server(answer, address, limit=LONGEST_LINE)
        except OSError as error:
            journal.event("control.unavailable", level="warning", message=error.strerror or type(error).__name__)
            return
        # From Python 3.13 on a server unlinks its address when it is closed, which has to be valid until then.
        try:
            await anyio.sleep_forever()
        finally:
            server.close()
            with suppress(OSError):
                path.unlink()


def _carried_out(
    line: bytes, run: Engine, throttle: Controls, journal: Journal, statistics: Callable[[], RunStatistics]
) -> dict[str, Any]:
    try:
        command = decoded(line, dict[str, str]) or {}
        verb, value = command.get("verb", ""), command.get("value", "")
        _carry_out(verb, value, run, throttle)
    except _Refused as error:
        return {"error": str(error)}
    if verb != "status":
        journal.event("control", verb=verb, value=value or None)
    return {"status": _status(run.name, statistics())}


def _carry_out(verb: str, value: str, run: Engine, throttle: Controls) -> None:
    match verb:
        case "pause":
            throttle.pause()
        case "resume":
            throttle.resume()
        case "rate":
            throttle.set_rate(None if value == "none" else _read(parse_rate, value))
        case "concurrency":
            throttle.set_concurrency(None if value == "auto" else _read(_level, value))
        case "stop":
            run.stop(StopReason(StopKind.CONTROL, "migrator ctl stop"))
        case "status":
            pass
        case _:
            raise _Refused(f"is no command: there are {', '.join(VERBS)}")


def _read(parse: Any, value: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise _Refused(f"takes {error}, not {value!r}") from None


def _level(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 1000:
        raise ValueError("auto, or a number from 1 to 1000")
    return int(value)


def _status(name: str, now: RunStatistics) -> dict[str, Any]:
    return {
        "run": name,
        "items": now.total,
        "finished": now.finished,
        "counts": {status.value: count for status, count in now.counts.items()},
        "retried": now.retried,
        "elapsed_s": round(now.elapsed_s, 1),
        "rate_per_s": round(now.rate, 2),
        "eta_s": None if now.eta_s is None else round(now.eta_s),
        "limited_by": now.limited_by,
        "in_flight": now.throttle.in_flight,
        "concurrency": now.throttle.slots,
        "workers": now.throttle.workers or None,
        "quota": {
            "limit": now.throttle.limit,
            "remaining": now.throttle.remaining,
            "reset_s": None if now.throttle.reset_s is None else round(now.throttle.reset_s, 1),
            "refused": now.throttle.refused,
        },
        "waiting_for": now.waiting_for,
        "stopping": None if now.stopping is None else now.stopping.kind.value,
    }


def ask(place: Path, verb: str, value: str | None = None) -> Mapping[str, Any]:
    """Give a running job a command, and return how it stands then.

    Raises:
        MigratorError: the run is not under way, or refuses.
    """
    command = {"verb": verb} | ({} if value is None else {"value": value})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S)
        try:
            with _address(place / NAME) as address:
                connection.connect(address)
            connection.sendall(msgspec.json.encode(command) + b"\n")
            with connection.makefile("rb") as answers:
                said = decoded(answers.readline(), _Said)
        except (OSError, ValueError):
            raise MigratorError(f"{place.name} is not active; migrator status lists the runs") from None
    if said is None:
        raise MigratorError(f"{place / NAME} does not answer as a run does; give the command again")
    if said.error is not None:
        raise MigratorError(f"{verb} {said.error}")
    return said.status


def live_status(place: Path) -> Mapping[str, Any] | None:
    """Return how a run stands, or None where it is not under way."""
    try:
        return ask(place, "status")
    except MigratorError:
        return None


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Return a path that is short enough for a socket: through a descriptor of its folder, where it is not."""
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


@contextmanager
def _private() -> Iterator[None]:
    """Let what is made be for its owner alone."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
