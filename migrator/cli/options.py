"""What several commands share: their options, their examples, and how they find a job and tell how it ended."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from migrator.job.check import Verdict
    from migrator.job.job_file import Job
    from migrator.job.source import Source
    from migrator.options import RunOptions
    from migrator.run.migrate import Ending

__all__ = [
    "EXIT_USAGE",
    "Examples",
    "api_options",
    "checked",
    "chosen_state",
    "commands_allowed",
    "ended",
    "find_job",
    "job_argument",
    "open_items",
    "refuse_invalid",
    "run_options",
    "say",
    "state_option",
]

EXIT_USAGE: Final = 2


class Examples(click.Command):
    """A command whose help ends with an example, kept on lines of its own."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        del ctx
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")


def job_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Declare JOB and what says where its items are."""
    for declare in (
        click.argument("job", metavar="JOB"),
        click.option("--items", metavar="FILE", help="An items file in place of the job's own; - is standard input."),
        click.option(
            "--template", metavar="NAME|FILE", help="The job file that goes with an items file. [confluent-integration]"
        ),
    ):
        command = declare(command)
    return command


RUN_OPTIONS: Final = (
    click.option("--base-url", metavar="URL", help="Another server than the API profile's."),
    click.option("--concurrency", metavar="N|auto", help="The most requests in flight. [auto]"),
    click.option("--rate", metavar="N/UNIT", help="A ceiling of our own, such as 50/s or 600/m."),
    click.option("--pace", metavar="fast|smooth", help="Use the budget at once, or spread it over the window. [fast]"),
    click.option("--max-wait", metavar="T", help="A longer wait for quota ends the run, resumable. [1h]"),
    click.option("--reserve", metavar="P%", help="The part of the quota left to its other users. [0%]"),
    click.option("--max-failures", metavar="N|P%", help="Stop once so many items failed. [10%, from 20 items on]"),
    click.option("--max-attempts", metavar="N", help="Tries an item, the first included. [5]"),
    click.option("--timeout", metavar="S", help="One request, all in all. [30]"),
    click.option("--canary", metavar="N", help="First N items; go on only if all succeeded. [1]"),
    click.option("--limit", metavar="N", help="Only the first N items."),
    click.option("--stages", metavar="LIST", help="Go on by steps, such as 1,10%,50%,100%; ask in between."),
    click.option(
        "--verify", metavar="none|response|read", help="Compare what the server holds with what was sent. [response]"
    ),
    click.option("--only-changed", is_flag=True, help="Read first; skip an item that is as wanted already."),
    click.option("--since-last", is_flag=True, help="Skip an item whose request is as the last that succeeded."),
    click.option("--keep-before", is_flag=True, help="Keep what each write replaces, encrypted, for a rollback."),
    click.option("--key-file", metavar="FILE", help="The key for that; else $MIGRATOR_KEY."),
    click.option("--plan", metavar="FILE", help="Apply a plan; refuse an item that has changed since."),
    click.option("--deadline", metavar="HH:MM|T", help="Begin nothing new after that; can be resumed."),
    click.option("--max-outage", metavar="T", help="Give up a server that went down after that. [5m]"),
    click.option("--allow-commands", is_flag=True, help="Let the job file run commands (gate, notify)."),
    click.option("--dry-run", is_flag=True, help="Everything but the requests."),
    click.option("--fresh", is_flag=True, help="Do not resume; start a new run."),
    click.option("--yes", is_flag=True, help="Do not ask."),
    click.option("--state", metavar="DIR", help="Where runs are kept. [$MIGRATOR_STATE, else .migrator]"),
    click.option("--if-running", metavar="fail|skip|wait", help="Another run of this job is under way. [fail]"),
    click.option("--redact-files", is_flag=True, help="Mask secrets in succeeded.csv and failed.csv too."),
    click.option("--metrics-file", metavar="F", help="Prometheus text file, for the node exporter's collector."),
    click.option("--quiet", is_flag=True, help="Print nothing where all is well."),
    click.option("--progress", metavar="auto|bar|plain|none", help="How progress is shown. [auto]"),
    click.option("--log-format", metavar="auto|console|json", help="Events on standard error. [auto]"),
    click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error. [info]"),
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the options of a run."""
    for option in reversed(RUN_OPTIONS):
        command = option(command)
    return command


SHARED_OPTIONS: Final = frozenset(
    {
        "base_url",
        "concurrency",
        "rate",
        "pace",
        "max_wait",
        "reserve",
        "max_attempts",
        "timeout",
        "key_file",
        "allow_commands",
        "state",
    }
)
"""Options that make sense wherever an API is talked to."""


def api_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the options of a command that talks to an API and drives no run."""
    for option in reversed(RUN_OPTIONS):
        declared = option(lambda: None)
        if getattr(declared, "__click_params__")[-1].name in SHARED_OPTIONS:  # noqa: B009  click keeps them there
            command = option(command)
    return command


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Declare where runs are kept."""
    return click.option("--state", metavar="DIR", help="Where runs are kept. [$MIGRATOR_STATE, else .migrator]")(
        command
    )


def chosen_state(typed: str | None) -> str:
    """Return the state folder's name."""
    return typed or os.environ.get("MIGRATOR_STATE") or ".migrator"


def find_job(job: str, items: str | None, template: str | None, *, allow_commands: bool = False) -> "Job":
    """Return the job that the command line names."""
    from migrator.job import source  # noqa: PLC0415

    allowed = commands_allowed(typed=allow_commands)
    return source.find_job(job, items=items, template=template, env=os.environ, allow_commands=allowed)


def open_items(found: "Job", job: str, items: str | None, template: str | None) -> "Source":
    """Return the items that the command line names."""
    from migrator.job import source  # noqa: PLC0415

    return source.open_items(found, job, items=items, template=template, stdin=sys.stdin.buffer)


def commands_allowed(*, typed: bool) -> bool:
    """Tell whether a job file's commands may be run: the user says so, and never the job file."""
    return typed or os.environ.get("MIGRATOR_ALLOW_COMMANDS", "").lower() in {"1", "true", "yes", "on"}


def ended(ending: "Ending", options: "RunOptions", *, as_json: bool) -> int:
    """Print how a run ended, and return its exit code."""
    code = int(ending.exit_code)
    if as_json or not (options.quiet and code == 0):
        say(ending.document() if as_json else ending.text())
    return code


def say(text: str) -> None:
    """Print a result; a standard output that takes nothing is no reason to hide how it went."""
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        click.echo(f"migrator: standard output: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would complain once more at exit


def checked(job: "Job", origin: "Source", *, limit: int | None) -> "Verdict":
    """Check the whole input and print what is wrong with it."""
    from migrator.job import check  # noqa: PLC0415

    verdict = check.check(origin.rewound(), form=origin.form, job=job, name=origin.name, limit=limit)
    for problem in verdict.problems:
        click.echo(str(problem), err=True)
    more = verdict.problem_count - len(verdict.problems)
    if more:
        click.echo(f"… and {more} more", err=True)
    return verdict


def refuse_invalid(verdict: "Verdict", origin: "Source") -> None:
    """Say how much is wrong with an input, if anything is, and go no further.

    Raises:
        MigratorError: the input is not valid.
    """
    from migrator.errors import MigratorError  # noqa: PLC0415

    if verdict.problem_count:
        problems = f"{verdict.problem_count} problem{'s' if verdict.problem_count != 1 else ''}"
        raise MigratorError(f"{origin.name}: {problems}; nothing was sent")
