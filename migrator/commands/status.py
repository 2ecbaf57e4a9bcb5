"""What the state folder knows: a table of its runs, or one run, live where it is under way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.errors import LedgerError
from migrator.results import Status
from migrator.run.control import live_status
from migrator.store.ledger_reader import read_ledger
from migrator.store.state_folder import StateFolder
from migrator.times import clock_face, timestamp

__all__ = ["of_all", "of_one", "table", "text_of_one"]

HEAD: Final = ("run", "kind", "state", "items", "done", "failed", "in doubt", "started", "exit")


def of_all(state: StateFolder) -> list[dict[str, Any]]:
    """Return what is known of each run, the latest first.

    Raises:
        FolderError: the state folder cannot be read.
    """
    return [_recorded(state, place) for place in reversed(state.runs())]


def of_one(state: StateFolder, place: Path) -> dict[str, Any]:
    """Return what is known of a run, with how it stands at this moment as `live`, if it is under way.

    Raises:
        LedgerError: its ledger cannot be read.
    """
    found = _recorded(state, place)
    if "damaged" in found:
        raise LedgerError(found["damaged"])
    live = live_status(place)
    return found | {"live": live, "folder": str(place), "stopped": _stopped(place)}


def _recorded(state: StateFolder, place: Path) -> dict[str, Any]:
    try:
        with read_ledger(place / "ledger.db") as ledger:
            meta, counts, errors = ledger.meta(), ledger.counts(), ledger.error_counts()
    except LedgerError as error:
        return {"run": place.name, "state": "damaged", "damaged": str(error)}
    stands = meta.get("state", "begun")
    if stands == "running" and not state.is_held(meta.get("job", "")):
        stands = "broken off"
    return {
        "run": place.name,
        "job": meta.get("job"),
        "kind": "rehearsal" if meta.get("dry_run") == "true" else meta.get("kind", "run"),
        "state": stands,
        "server": meta.get("base_url"),
        "items": int(meta.get("items", "0")),
        "pending": int(meta.get("items", "0")) - counts.total(),
        "counts": {status.value: counts[status] for status in Status},
        "errors": {kind.value: count for kind, count in errors.most_common()},
        "started": timestamp(int(meta.get("started_ms", "0"))),
        "finished": meta.get("finished") if stands != "running" else None,
        "exit_code": int(meta["exit_code"]) if "exit_code" in meta and stands != "running" else None,
    }


def _stopped(place: Path) -> Any:
    try:
        return msgspec.json.decode((place / "summary.json").read_bytes()).get("stopped")
    except (OSError, msgspec.MsgspecError, AttributeError):
        return None


def table(found: list[dict[str, Any]]) -> str:
    """Return a table of runs for people."""
    if not found:
        return "no runs so far"
    rows = [HEAD]
    for one in found:
        if "damaged" in one:
            rows.append((one["run"], "", "damaged", "", "", "", "", "", ""))
            continue
        counts = one["counts"]
        rows.append(
            (
                one["run"],
                one["kind"],
                one["state"],
                str(one["items"]),
                str(one["items"] - one["pending"]),
                str(counts["failed"]),
                str(counts["in_doubt"]),
                one["started"][:19].replace("T", " "),
                "" if one["exit_code"] is None else str(one["exit_code"]),
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def text_of_one(one: Mapping[str, Any]) -> str:
    """Return a run for people."""
    counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in one["counts"].items() if count)
    lines = [
        f"{one['run']}: {one['state']}, {one['items'] - one['pending']} of {one['items']} items",
        f"  counts   {counts or 'none so far'}",
        f"  server   {one['server']}",
        f"  started  {one['started']}",
    ]
    if one["errors"]:
        lines.append("  causes   " + ", ".join(f"{count} {kind}" for kind, count in one["errors"].items()))
    live = one["live"]
    if live is not None:
        eta = "" if live["eta_s"] is None else f", {clock_face(live['eta_s'])} left"
        waiting = "" if live["waiting_for"] is None else f"; waiting: {live['waiting_for']}"
        lines.append(f"  now      {live['rate_per_s']}/s, {live['in_flight']} in flight{eta}{waiting}")
    elif one["stopped"] is not None:
        lines.append(f"  stopped  {one['stopped']['reason']}: {one['stopped']['message']}")
    lines.append(f"  results  {one['folder']}")
    return "\n".join(lines)
