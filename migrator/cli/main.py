"""The command line: parameters in, one message or a summary out, and the contract's exit code.

Each command imports what it needs when it runs, so that `--help` and completion stay quick.
"""

import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click

from migrator import __version__
from migrator.cli import api_commands, run_commands
from migrator.cli.options import (
    EXIT_USAGE,
    Examples,
    checked,
    ended,
    find_job,
    job_argument,
    open_items,
    refuse_invalid,
    run_options,
)
from migrator.cli.signals import SIGNALS
from migrator.cli.terminal import attended, calling, note

__all__ = ["cli", "main"]

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

EXIT_STOPPED, EXIT_BUG, EXIT_INTERRUPTED = 3, 70, 130


class Commands(click.Group):
    """The commands; one that is a coroutine is run to its end here, and nowhere else."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        found = super().invoke(ctx)
        if not inspect.iscoroutine(found):
            return found
        import anyio  # noqa: PLC0415  quick start

        return anyio.run(attended, found)


@click.group(cls=Commands, context_settings=CONTEXT, epilog="Start with: migrator check JOB, then migrator run JOB.")
@click.version_option(__version__, message="migrator %(version)s")
def cli() -> None:
    """Bulk PATCHes to a REST API, at the quota's edge, with every item accounted for."""


for command in (
    api_commands.plan,
    api_commands.export,
    run_commands.retry,
    run_commands.rollback,
    run_commands.reconcile,
    run_commands.ctl,
    run_commands.status,
    run_commands.report,
    run_commands.prune,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and leave with the contract's exit code."""
    SIGNALS.install()
    try:
        _fill_streams()
        with _errors():
            sys.exit(cli.main(standalone_mode=False, prog_name="migrator") or 0)
    finally:
        SIGNALS.ignore()


def _fill_streams() -> None:
    """Open what a starter has closed: else the next file that is opened would be taken for a standard stream."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  it lives as long as we


@contextmanager
def _errors() -> Iterator[None]:
    """Turn what a user can cause into one message and an exit code; the rest is a bug, and says so."""
    try:
        yield
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("migrator: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our standard output has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_STOPPED)
    except Exception as error:  # noqa: BLE001  the last line of defence
        code = _message(error)
        sys.exit(code)


def _message(error: Exception) -> int:
    """Print an error and return its exit code."""
    from migrator.errors import MigratorError  # noqa: PLC0415  quick start
    from migrator.job.problems import JobError  # noqa: PLC0415

    if isinstance(error, JobError):
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        click.echo(f"migrator: the job file has {count} problem{'s' if count != 1 else ''}; nothing was sent", err=True)
        return EXIT_USAGE
    while isinstance(error, ExceptionGroup) and error.subgroup(MigratorError) is not None:
        error = error.exceptions[0]
    if isinstance(error, MigratorError):
        click.echo(f"migrator: {error}", err=True)
        return error.exit_code
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    # An exception's text may quote a URL or a body, so the frames alone are shown.
    frames = "".join(traceback.format_tb(error.__traceback__))
    click.echo(
        f"{frames}migrator: a bug: {type(error).__name__}. What was recorded is kept; please report it.", err=True
    )
    return EXIT_BUG


@cli.command(
    cls=Examples,
    example="migrator run rotate-slack-webhooks.json\nmigrator run webhooks.csv --rate 50/s --max-failures 1%",
)
@job_argument
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
async def run(job: str, items: str | None, template: str | None, *, as_json: bool, **typed: str | bool | None) -> int:
    """Check every row, then send; resume by itself an unfinished run of the same job.

    Exit codes: 0 all succeeded; 1 some failed or are in doubt; 2 not valid, nothing was sent; 3 stopped early, can be
    resumed; 4 another run of this job is under way; 130 and 143 interrupted, can be resumed.
    """
    from migrator import options  # noqa: PLC0415
    from migrator.commands import join, refusal, run  # noqa: PLC0415
    from migrator.run import migrate  # noqa: PLC0415

    found = find_job(job, items, template, allow_commands=bool(typed["allow_commands"]))
    chosen = options.resolve(command_line=typed, env=os.environ, job_run=found.run, source=found.source)
    async with refusal.refusals_told(found, chosen, tell=note):
        origin = open_items(found, job, items, template)
        found = await join.joined(found, origin, chosen)
        verdict = checked(found, origin, limit=chosen.limit)
        refuse_invalid(verdict, origin)
        with calling(chosen) as caller:
            ending = await migrate.migrate(run.job_work(found, origin, verdict, chosen), chosen, caller)
    return ended(ending, chosen, as_json=as_json)


@cli.command(cls=Examples, example="migrator check rotate-slack-webhooks.json")
@job_argument
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
def check(job: str, items: str | None, template: str | None, *, as_json: bool) -> None:
    """Check every row and show the problems with file, line and column; no network."""
    import msgspec  # noqa: PLC0415

    found = find_job(job, items, template)
    origin = open_items(found, job, items, template)
    verdict = checked(found, origin, limit=None)
    if as_json:
        problems = [
            {"file": p.file, "line": p.line, "column": p.column, "field": p.field, "message": p.message}
            for p in verdict.problems
        ]
        document: Mapping[str, Any] = {
            "items": verdict.items,
            "problem_count": verdict.problem_count,
            "problems": problems,
        }
        click.echo(msgspec.json.encode(document).decode())
    elif not verdict.problem_count:
        click.echo(f"{origin.name}: {verdict.items} items, no problems")
    refuse_invalid(verdict, origin)


@cli.command(cls=Examples, example="migrator schema > job.schema.json")
def schema() -> None:
    """Print the JSON Schema of a job file."""
    import json  # noqa: PLC0415

    from migrator.job.api_profile import job_schema  # noqa: PLC0415

    click.echo(json.dumps(job_schema(), indent=2, ensure_ascii=False))


@cli.command(cls=Examples, example="migrator sandbox --port 8080 --items 400 --limit 100 --window 60 --error-rate 1%")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--items", type=click.IntRange(0), default=1000, show_default=True, help="Integrations that are there.")
@click.option(
    "--limit", type=click.IntRange(0), default=100, show_default=True, help="Requests a window; 0 for no limit."
)
@click.option("--window", type=float, default=60.0, show_default=True, help="Seconds.")
@click.option(
    "--algorithm",
    type=click.Choice(["fixed", "first", "sliding", "counter", "gcra"]),
    default="fixed",
    show_default=True,
    help="How requests are counted.",
)
@click.option(
    "--reset", type=click.Choice(["relative", "epoch", "draft"]), default="relative", show_default=True, help="Headers."
)
@click.option(
    "--rounding",
    type=click.Choice(["up", "down", "nearest", "none"]),
    default="up",
    show_default=True,
    help="How the reset is made a whole number.",
)
@click.option("--latency", default="0ms", show_default=True, help="Time that each answer takes.")
@click.option("--jitter", default="0ms", show_default=True, help="Up to so much more.")
@click.option("--error-rate", default="0%", show_default=True, help="Share of requests that get a 5xx.")
@click.option(
    "--concurrency-limit", type=click.IntRange(0), default=0, help="Refuse more requests at a time than that."
)
@click.option("--masked", is_flag=True, help="Show masks in place of webhooks, as many other services do.")
@click.option("--unknown", type=click.Choice(["403", "404"]), default="403", show_default=True, help="For unknown ids.")
@click.option(
    "--envelope", type=click.Choice(["errors", "error"]), default="errors", show_default=True, help="Of error bodies."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of latencies and errors.")
@click.option("--api-key", metavar="KEY", help="Refuse other credentials.")
@click.option("--api-secret", metavar="SECRET", help="The key's secret.")
async def sandbox(**typed: Any) -> None:
    """Serve a faithful local Confluent Cloud notifications API, with rate limits and faults to order.

    Prints one line, `listening on http://127.0.0.1:PORT`, when it is ready.
    """
    from migrator import options  # noqa: PLC0415
    from migrator.sandbox import app  # noqa: PLC0415

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
            error_rate=options.parse_share(typed["error_rate"]),
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
        await app.serve(settings, port=typed["port"], announce=lambda url: click.echo(f"listening on {url}"))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise click.UsageError(f"port {typed['port']} cannot be listened on: {reason}") from None


def _milliseconds(text: str) -> float:
    from migrator.times import parse_duration  # noqa: PLC0415

    return 0.0 if text in {"0", "0ms", "0s"} else parse_duration(text)
