"""Every command as it is declared: its arguments, its own options, its help and an example."""

from typing import Final

import click

from migrator.cli.completion import files, profiles, runs
from migrator.cli.declare import Command, Extra
from migrator.options import Group

__all__ = ["COMMANDS", "DETAILED"]

SELECTION, _, SAFETY, OUTPUT = Group

DETAILED: Final = "--detailed-exitcode"

EXIT_CODES: Final = """
Exit codes: 0 all items succeeded or needed no change; 1 some failed or are in doubt; 2 wrong use, nothing was sent;
3 stopped early; 4 another run of this job is active; 129, 130 and 143 stopped by a signal. After 3 and a signal, the
same command resumes the run.
"""


def _job() -> list[click.Parameter]:
    """Return JOB and the options that say where its items are."""
    return [
        click.Argument(["job"], metavar="JOB", shell_complete=files),
        Extra(
            "--items",
            group=SELECTION,
            metavar="FILE",
            shell_complete=files,
            help="Take the items from this file; - is standard input.",
        ),
        Extra(
            "--template",
            group=SELECTION,
            metavar="NAME|FILE",
            shell_complete=files,
            help="The job file that goes with an items file.  [confluent-integration]",
        ),
    ]


def _run() -> click.Argument:
    return click.Argument(["run"], metavar="RUN", shell_complete=runs)


def _json(what: str = "the result") -> Extra:
    return Extra("--json", "as_json", group=OUTPUT, is_flag=True, help=f"Print {what} as one JSON document.")


RUN: Final = Command(
    "run",
    "job_commands:run",
    help="Check every row, then send. An unfinished run of the same job is resumed.\n" + EXIT_CODES,
    example="migrator run rotate-slack-webhooks.json\nmigrator run webhooks.csv --rate 50/s --max-failures 1%",
    parameters=[*_job(), _json("the summary")],
)

CHECK: Final = Command(
    "check",
    "job_commands:check",
    help="Check every row and show the problems with file, line and column. Nothing is sent.",
    example="migrator check rotate-slack-webhooks.json\nmigrator check rotate-slack-webhooks.json --no-credentials",
    parameters=[
        *_job(),
        Extra(
            "--no-credentials",
            group=SAFETY,
            is_flag=True,
            help="Need no variable, file or command of the job file, as in a pull request.",
        ),
        _json(),
    ],
)

PLAN: Final = Command(
    "plan",
    "job_commands:plan",
    help="""Read what the server holds, and show what would change. Secrets are masked, and nothing is written.

Exit codes: 0 every item can be written; 1 some are missing, forbidden or unreadable; 2 wrong use; 3 stopped early.
With --detailed-exitcode: 0 nothing would change; 2 something would; 1 any error, wrong use included.""",
    example="migrator plan job.json --out plan.json\nmigrator run job.json --plan plan.json",
    parameters=[
        *_job(),
        Extra(DETAILED, group=OUTPUT, is_flag=True, help="Exit with 2 if something would change, as Terraform does."),
        Extra(
            "--out",
            group=OUTPUT,
            metavar="FILE",
            shell_complete=files,
            help="Write the plan to this file, for run --plan.",
        ),
        _json("the plan"),
    ],
)

VERIFY: Final = Command(
    "verify",
    "run_commands:verify",
    help="""Compare a run's ledger with its files, and mend the files; with --read, with the server too.

Exit codes: 0 all is consistent, or was mended; 1 something is not; 2 wrong use.""",
    example="migrator verify last\nmigrator verify last --read",
    parameters=[
        _run(),
        Extra("--read", group=SAFETY, is_flag=True, help="Also compare what the server holds of each item."),
        _json(),
    ],
)

EXPORT: Final = Command(
    "export",
    "api_commands:export",
    help="""Write an API's records to an items file, one row each, with the columns that run takes.

API is a profile's name, a profile's file, or a job file. If it was interrupted, the same command resumes it.""",
    example="migrator export confluent-cloud --out items.csv --where \"target.kind == 'Slack'\"",
    parameters=[
        click.Argument(["api"], metavar="API", shell_complete=profiles),
        Extra("--where", group=SELECTION, metavar="EXPR", help="Only records for which this JMESPath is true."),
        Extra(
            "--out",
            group=OUTPUT,
            metavar="FILE",
            shell_complete=files,
            required=True,
            help="The items file; only you can read it.",
        ),
        Extra("--redact", group=OUTPUT, is_flag=True, help="Write fingerprints in place of secrets."),
    ],
)

RETRY: Final = Command(
    "retry",
    "run_commands:retry",
    help="""Send again what did not succeed in a run, as a new run. Items in doubt are left to reconcile.
"""
    + EXIT_CODES,
    example="migrator retry last",
    parameters=[_run(), _json("the summary")],
)

ROLLBACK: Final = Command(
    "rollback",
    "run_commands:rollback",
    help="""Put back what a run changed, as a new run. The run must have kept it (--keep-before).

An item that was changed by others since is left as it is, and is skipped.
"""
    + EXIT_CODES,
    example="migrator rollback last --key-file rollback.key",
    parameters=[_run(), _json("the summary")],
)

RECONCILE: Final = Command(
    "reconcile",
    "run_commands:reconcile",
    help="Read the items that are in doubt from the server, and record what became of them.",
    example="migrator reconcile last",
    parameters=[_run(), _json()],
)

CTL: Final = Command(
    "ctl",
    "run_commands:ctl",
    help="""Control a run while it is active: pause, resume, rate N/UNIT|none, concurrency N|auto, stop, status.

It prints how the run is doing: in sentences on a terminal, else as JSON.""",
    example="migrator ctl last pause\nmigrator ctl last rate 5/s\nmigrator ctl last stop",
    parameters=[
        _run(),
        click.Argument(["verb"], type=click.Choice(["pause", "resume", "rate", "concurrency", "stop", "status"])),
        click.Argument(["value"], required=False),
        _json(),
    ],
)

STATUS: Final = Command(
    "status",
    "run_commands:status",
    help="Show the runs in the state folder, or one run: its counts, its rate and the time left.",
    example="migrator status\nmigrator status last --json",
    parameters=[click.Argument(["run"], metavar="[RUN]", required=False, shell_complete=runs), _json()],
)

REPORT: Final = Command(
    "report",
    "run_commands:report",
    help="Write a run's HTML report again, and print where it is.",
    example="migrator report last",
    parameters=[_run()],
)

PRUNE: Final = Command(
    "prune",
    "run_commands:prune",
    help="Remove the folders of old runs that have ended, and print them.",
    example="migrator prune --keep-last 10 --older-than 30d --dry-run",
    parameters=[
        Extra("--keep-last", group=SELECTION, type=click.IntRange(0), metavar="N", help="Keep N runs of each job."),
        Extra("--older-than", group=SELECTION, metavar="T", help="Only runs that ended before that, such as 30d."),
        Extra("--dry-run", group=SAFETY, is_flag=True, help="Only print what would be removed."),
    ],
)

INIT: Final = Command(
    "init",
    "api_commands:init",
    help="""Write a job file and a template of its items, for a request of a built-in profile or of an OpenAPI document.

What the document does not say, such as how a list is paged, is printed. Files that are there are not replaced.""",
    example="""migrator init confluent-cloud --columns target.kind,target.webhook_url
migrator init --openapi api.yaml --operation updateThing --columns name,owner.id
migrator init --example""",
    parameters=[
        click.Argument(["api"], metavar="[API]", required=False),
        Extra("--openapi", metavar="SPEC", help="An OpenAPI 3 or Swagger 2 document, in JSON or YAML."),
        Extra("--operation", metavar="ID", help="An operationId, or 'METHOD /path'."),
        Extra("--columns", metavar="A,B.C", help="The members of the body to fill; a dot nests.  [all]"),
        Extra("--example", is_flag=True, help="Write the example job of a built-in profile.  [confluent-cloud]"),
        Extra("--force", is_flag=True, help="Replace files that are there."),
    ],
)

SCHEMA: Final = Command(
    "schema",
    "api_commands:schema",
    help="Print the JSON Schema of a job file.",
    example="migrator schema > job.schema.json",
)


def _choice(*words: str) -> click.Choice[str]:
    return click.Choice(words)


SANDBOX: Final = Command(
    "sandbox",
    "sandbox_command:sandbox",
    help="""Serve a local copy of the Confluent Cloud notifications API, with rate limits and faults.

When it is ready, it prints one line: listening on http://127.0.0.1:PORT""",
    example="migrator sandbox --port 8080 --items 400 --limit 100 --window 60 --error-rate 1%",
    parameters=[
        Extra("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free port."),
        Extra("--items", type=click.IntRange(0), default=1000, show_default=True, help="Integrations that it has."),
        Extra(
            "--limit", type=click.IntRange(0), default=100, show_default=True, help="Requests a window; 0: no limit."
        ),
        Extra("--window", type=float, default=60.0, show_default=True, help="The window's length in seconds."),
        Extra(
            "--algorithm",
            type=_choice("fixed", "first", "sliding", "counter", "gcra"),
            default="fixed",
            show_default=True,
            help="How requests are counted.",
        ),
        Extra(
            "--reset",
            type=_choice("relative", "epoch", "draft"),
            default="relative",
            show_default=True,
            help="The form of the rate-limit headers.",
        ),
        Extra(
            "--rounding",
            type=_choice("up", "down", "nearest", "none"),
            default="up",
            show_default=True,
            help="How the reset becomes a whole number.",
        ),
        Extra("--latency", default="0ms", show_default=True, help="The time that each answer takes."),
        Extra("--jitter", default="0ms", show_default=True, help="The most by which it varies."),
        Extra("--error-rate", default="0%", show_default=True, help="The share of requests that get a 5xx."),
        Extra(
            "--concurrency-limit", type=click.IntRange(0), default=0, help="Refuse more requests at a time; 0: none."
        ),
        Extra("--masked", is_flag=True, help="Answer with masks in place of webhooks, as many other services do."),
        Extra(
            "--unknown",
            type=_choice("403", "404"),
            default="403",
            show_default=True,
            help="The status of an unknown id.",
        ),
        Extra(
            "--envelope",
            type=_choice("errors", "error"),
            default="errors",
            show_default=True,
            help="The form of error bodies.",
        ),
        Extra("--seed", type=int, default=1, show_default=True, help="The seed of latencies and errors."),
        Extra("--api-key", metavar="KEY", help="Refuse other credentials."),
        Extra("--api-secret", metavar="SECRET", help="The key's secret."),
    ],
)

COMMANDS: Final = (
    RUN,
    CHECK,
    PLAN,
    RETRY,
    ROLLBACK,
    RECONCILE,
    VERIFY,
    EXPORT,
    STATUS,
    CTL,
    REPORT,
    PRUNE,
    INIT,
    SCHEMA,
    SANDBOX,
)
"""Every command, in the order of help."""
