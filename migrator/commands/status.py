"""`migrator status`: what the state folder knows of its runs, or of one, live while it is active."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

from migrator.errors import LedgerError
from migrator.report.summary import Summary, summarise
from migrator.results import Status
from migrator.run.control import live_status
from migrator.store.ledger_reader import read_ledger
from migrator.store.state_folder import StateFolder
from migrator.times import timestamp

__all__ = ["of_all", "of_one"]


def of_all(state: StateFolder, *, now: float | None = None) -> list[dict[str, Any]]:
    """Return what is known of each run, the latest first.

    Args:
        state: the state folder.
        now: seconds since the epoch; None for the system's clock.

    Raises:
        FolderError: the state folder cannot be read.
    """
    now = time() if now is None else now
    held: dict[str, bool] = {}
    retried: set[str] = set()
    return [_recorded(state, place, now, held, retried) for place in reversed(state.runs())]


def of_one(state: StateFolder, place: Path) -> dict[str, Any]:
    """Return what is known of a run, with how it stands at this moment as `live`, if it is active.

    Raises:
        LedgerError: its ledger cannot be read.
    """
    found = _recorded(state, place, time(), {}, _retried_after(state, place))
    if "damaged" in found:
        raise LedgerError(found["damaged"])
    return found | {"live": live_status(place), "folder": str(place)}


def _retried_after(state: StateFolder, place: Path) -> set[str]:
    """Return the runs that later ones retry."""
    retried: set[str] = set()
    for later in reversed(state.runs()):
        if later == place:
            break
        with suppress(LedgerError), read_ledger(later / "ledger.db") as ledger:
            if ledger.meta().get("kind") == "retry":
                retried.add(ledger.meta()["of"])
    return retried


def _recorded(state: StateFolder, place: Path, now: float, held: dict[str, bool], retried: set[str]) -> dict[str, Any]:
    """Return what a ledger knows of its run; a retry is added to those that are retried, the newest run first."""
    try:
        with read_ledger(place / "ledger.db") as ledger:
            meta = ledger.meta()
            summary = summarise(ledger, place, meta=meta)
    except LedgerError as error:
        return {"run": place.name, "state": "damaged", "damaged": str(error)}
    job, stands = meta.get("job", ""), meta.get("state", "starting")
    if stands == "running":
        held[job] = held[job] if job in held else state.is_held(job)
        stands = "running" if held[job] else "interrupted"
    if meta.get("kind") == "retry":
        retried.add(meta["of"])
    # An end that an earlier invocation reported is not that of one that has not ended, or was killed.
    ended = meta.get("state") not in {None, "running"}
    started_ms = int(meta.get("started_ms", "0"))
    return {
        "run": place.name,
        "job": job,
        "kind": "rehearsal" if meta.get("dry_run") == "true" else meta.get("kind", "run"),
        "state": stands,
        "server": meta.get("base_url"),
        "items": summary["items"],
        "pending": summary["pending"],
        "counts": summary["counts"],
        "errors": summary["errors"],
        "started": timestamp(started_ms),
        "age_s": max(0, round(now - started_ms / 1000)),
        "finished": meta.get("finished") if ended else None,
        "exit_code": int(meta["exit_code"]) if ended and "exit_code" in meta else None,
        "stopped": summary["stopped"] if ended else None,
        "next": None if stands == "running" or place.name in retried else _next_command(summary, meta, ended=ended),
    }


def _next_command(summary: Summary, meta: Mapping[str, str], *, ended: bool) -> str | None:
    """Return the command that goes on with a run; None where there is nothing to do.

    A run whose process died while it ended has every result, and its files and notices are still to be finished.
    """
    counts = summary["counts"]
    if summary["resumable"] or not ended:
        return meta.get("resume_command") or "give the same command again"
    if counts[Status.IN_DOUBT] and meta.get("reconcile_command"):
        return meta["reconcile_command"]
    return meta.get("retry_command") if counts[Status.FAILED] else None
