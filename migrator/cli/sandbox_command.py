"""What `migrator sandbox` does."""

import os
from typing import Any

import click

from migrator.options import parse_share
from migrator.sandbox import app
from migrator.times import parse_duration

__all__ = ["sandbox"]


async def sandbox(port: int, **typed: Any) -> None:
    """Serve the sandbox until it is stopped."""
    try:
        settings = app.Settings(
            items=typed["items"],
            limit=typed["limit"],
            window_s=typed["window"],
            algorithm=app.Algorithm(typed["algorithm"]),
            reset=app.ResetStyle(typed["reset"]),
            rounding=app.Rounding(typed["rounding"]),
            latency_s=_milliseconds(typed["latency"]),
            jitter_s=_milliseconds(typed["jitter"]),
            error_rate=parse_share(typed["error_rate"]),
            concurrency_limit=typed["concurrency_limit"],
            masked=typed["masked"],
            unknown_status=int(typed["unknown"]),
            new_envelope=typed["envelope"] == "error",
            seed=typed["seed"],
            api_key=typed["api_key"],
            api_secret=typed["api_secret"],
        )
    except ValueError as error:
        raise click.UsageError(f"sandbox takes {error}") from None
    try:
        await app.serve(settings, port=port, announce=lambda url: click.echo(f"listening on {url}"))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise click.UsageError(f"the sandbox cannot listen on port {port}: {reason}") from None


def _milliseconds(text: str) -> float:
    return 0.0 if text in {"0", "0ms", "0s"} else parse_duration(text)
