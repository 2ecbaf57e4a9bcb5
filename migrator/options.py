"""The options of a run: one table, from which everything that knows options is made.

The table is the class `RunOptions`: one field an option. From it come the defaults, the names of the environment's
variables, the JSON Schema of a job file's `run` and its check, the command line's declarations and their help.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final

from migrator.errors import OptionError
from migrator.messages import JSON, host_of, is_loopback
from migrator.secret import Secret
from migrator.values import (
    CONCURRENCY,
    DEADLINE,
    DURATION,
    ENCODING,
    FILE,
    FILES,
    FLAG,
    FOLDER,
    KEYS,
    LOG_LEVEL,
    NAMES,
    RATE,
    REDIS_URL,
    RESERVE,
    SCHEDULER,
    SERVER,
    STAGES,
    TEXT,
    THRESHOLD,
    Deadline,
    IfRunning,
    Kind,
    LogFormat,
    Pace,
    Progress,
    SendTests,
    Stage,
    Threshold,
    Verify,
    has_password,
    one_of,
    parse_rate,
    parse_share,
    whole,
)

__all__ = [
    "OPTIONS",
    "Deadline",
    "Group",
    "IfRunning",
    "LogFormat",
    "Option",
    "Pace",
    "Progress",
    "RunOptions",
    "Stage",
    "Threshold",
    "Verify",
    "options_of",
    "parse_rate",
    "parse_share",
    "resolve",
    "run_schema",
    "wrong_members",
]


class Group(StrEnum):
    """The parts of a command's help."""

    SELECTION = "Selection"
    PACE = "Pace"
    SAFETY = "Safety"
    OUTPUT = "Output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option, wherever it stands.

    Attributes:
        name: as the job file has it; `--key-file` and MIGRATOR_KEY_FILE are `key_file`.
        kind: how its value is read.
        default: its value where it is not given.
        help: one sentence for help and schema.
        shown: the default as help shows it; empty for none.
        group: the part of help that it belongs to.
        commands: the commands for which it means something.
        in_job_file: whether a job file may set it.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    shown: str
    group: Group
    commands: frozenset[str]
    in_job_file: bool

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment's variable."""
        return f"MIGRATOR_{self.name.upper()}"

    def schema(self) -> dict[str, JSON]:
        """Return the JSON Schema of its value in a job file."""
        return {"description": self.help, **self.kind.schema}


RUN: Final = frozenset({"run"})
READS_ITEMS: Final = RUN | {"plan", "check"}
"""Commands that open the items that the command line names."""
SENDS: Final = frozenset({"run", "retry"})
"""Commands that send the items of a job file."""
RUNS: Final = SENDS | {"rollback"}
"""Commands that are a run."""
TALKS: Final = RUNS | {"plan", "export", "reconcile", "verify"}
"""Commands that talk to an API."""


def _option(
    group: Group,
    commands: frozenset[str],
    kind: Kind,
    default: Any,
    text: str,
    *,
    shown: str = "",
    in_job_file: bool = True,
) -> Any:
    """Return the field of an option; its name is the field's."""
    facts = {"kind": kind, "help": text, "group": group, "commands": commands}
    return field(default=default, metadata=facts | {"shown": shown, "in_job_file": in_job_file})


SELECTION, PACE, SAFETY, OUTPUT = Group


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the user may set for a run; durations in seconds, rates in requests per second, shares from 0 to 1.

    To add an option, add a field. `_option` takes the group in help, the commands that use the option, how its value
    is read (a `Kind` of `migrator.values`), the default, and one sentence of help. Give `shown=` where help should
    name the default, and `in_job_file=False` for what only the person who starts the run may allow. Nothing else is
    needed: command line, environment, job file, schema and help follow.
    """

    base_url: str | None = _option(SELECTION, TALKS, SERVER, None, "Send to this server in place of the profile's.")
    limit: int | None = _option(SELECTION, READS_ITEMS, whole(1), None, "Take only the first N items.")
    only: tuple[str, ...] | None = _option(
        SELECTION, SENDS | {"plan"}, KEYS, None, "Take only the items with these keys."
    )
    encoding: str = _option(SELECTION, READS_ITEMS, ENCODING, "utf-8", "The encoding of the items file.", shown="utf-8")
    only_changed: bool = _option(
        SELECTION, SENDS | {"plan"}, FLAG, False, "Read each item first; skip it if it is already as wanted."
    )
    since_last: bool = _option(
        SELECTION, SENDS, FLAG, False, "Skip an item whose request is the last one that succeeded."
    )
    plan: str | None = _option(SELECTION, SENDS, FILE, None, "Apply this plan; refuse an item that has changed since.")
    fresh: bool = _option(SELECTION, RUNS, FLAG, False, "Start a new run; do not resume.")

    concurrency: int | None = _option(PACE, TALKS, CONCURRENCY, None, "The most requests in flight.", shown="auto")
    rate: float | None = _option(PACE, TALKS, RATE, None, "Never send faster than this, such as 50/s.")
    pace: Pace = _option(
        PACE, TALKS, one_of(Pace), Pace.FAST, "Use the quota at once, or spread it over its window.", shown="fast"
    )
    reserve: float = _option(PACE, TALKS, RESERVE, 0.0, "Leave this part of the quota to its other users.", shown="0%")
    shared_quota: Secret | None = _option(
        PACE, TALKS, REDIS_URL, None, "Share the quota with runs on other hosts, through Redis.", in_job_file=False
    )
    quota_name: str | None = _option(
        PACE, TALKS, TEXT, None, "The name of the shared quota; else $MIGRATOR_KEY tells it from others."
    )
    workers: int | None = _option(
        PACE, SENDS, whole(1, 256), None, "Let so many worker processes of this machine do the items (extra dask)."
    )
    scheduler: str | None = _option(
        PACE, SENDS, SCHEDULER, None, "Let the workers of this Dask cluster do the items.", in_job_file=False
    )
    max_wait: float = _option(PACE, TALKS, DURATION, 3600.0, "Stop if the quota requires a longer wait.", shown="1h")
    max_outage: float = _option(PACE, RUNS, DURATION, 300.0, "Stop if the server is down for longer.", shown="5m")
    deadline: Deadline | None = _option(PACE, RUNS, DEADLINE, None, "Start no more items after this time.")
    timeout: float = _option(PACE, TALKS, DURATION, 30.0, "The longest time for one request.", shown="30s")
    max_attempts: int = _option(
        PACE, TALKS, whole(1, 1000), 5, "Try an item this often, the first time included.", shown="5"
    )

    use_proxy: bool = _option(SAFETY, TALKS, FLAG, False, "Use the proxy of $HTTPS_PROXY, but for $NO_PROXY.")
    ca_file: str | None = _option(SAFETY, TALKS, FILE, None, "Trust this file's certificates, not the system's.")
    client_cert: str | None = _option(
        SAFETY, TALKS, FILE, None, "Show this certificate to the server; the file has its key too."
    )
    max_failures: Threshold = _option(
        SAFETY,
        RUNS,
        THRESHOLD,
        Threshold(share=0.1),
        "Stop when this many items have failed.",
        shown="10%, from 20 items on",
    )
    canary: int = _option(
        SAFETY, RUNS, whole(0), 1, "Send N items first; go on only if all of them succeed.", shown="1"
    )
    stages: tuple[Stage, ...] = _option(
        SAFETY, SENDS, STAGES, (), "Stop and ask after each of these steps, such as 1,10%,100%."
    )
    verify: Verify = _option(
        SAFETY,
        RUNS | {"plan"},
        one_of(Verify),
        Verify.RESPONSE,
        "Compare what the server holds with what was sent.",
        shown="response",
    )
    keep_before: bool = _option(
        SAFETY, SENDS | {"plan"}, FLAG, False, "Keep what each write replaces, encrypted, for rollback."
    )
    key_file: str | None = _option(
        SAFETY,
        RUNS | {"reconcile", "verify"},
        FILE,
        None,
        "The file with the key for --keep-before; else $MIGRATOR_KEY.",
        in_job_file=False,
    )
    allow_commands: bool = _option(
        SAFETY, TALKS | {"check"}, FLAG, False, "Let the job file run commands.", in_job_file=False
    )
    allow_env: tuple[str, ...] | None = _option(
        SAFETY, TALKS | {"check"}, NAMES, None, "Let the job file read these variables too.", in_job_file=False
    )
    allow_file: tuple[str, ...] | None = _option(
        SAFETY, TALKS | {"check"}, FILES, None, "Let the job file read this file too.", in_job_file=False
    )
    if_running: IfRunning = _option(
        SAFETY,
        RUNS,
        one_of(IfRunning),
        IfRunning.FAIL,
        "What to do while another run of this job is active.",
        shown="fail",
    )
    dry_run: bool = _option(SAFETY, RUNS, FLAG, False, "Do everything but the writes; one read tries the credentials.")
    yes: bool = _option(SAFETY, RUNS, FLAG, False, "Do not ask.", in_job_file=False)

    state: str = _option(
        OUTPUT,
        TALKS | {"status", "report", "ctl", "prune"},
        FOLDER,
        ".migrator",
        "The folder for runs.",
        shown="$MIGRATOR_STATE, else .migrator",
        in_job_file=False,
    )
    progress: Progress = _option(OUTPUT, RUNS, one_of(Progress), Progress.AUTO, "How progress is shown.", shown="auto")
    log_format: LogFormat = _option(
        OUTPUT, RUNS, one_of(LogFormat), LogFormat.AUTO, "The form of events on standard error.", shown="auto"
    )
    log_level: str = _option(
        OUTPUT, RUNS, LOG_LEVEL, "info", "The least important events that are shown.", shown="info"
    )
    quiet: bool = _option(OUTPUT, RUNS, FLAG, False, "Print nothing if all is well.")
    test_message: SendTests = _option(
        SAFETY,
        RUN,
        one_of(SendTests),
        SendTests.NONE,
        "Send the API's own test message through the new webhooks first; people see it.",
        shown="none",
    )
    terraform: str | None = _option(
        SAFETY, SENDS | {"plan"}, FILE, None, "Name what Terraform owns, by the output of terraform show -json."
    )
    strict: bool = _option(SAFETY, RUN | {"plan", "check"}, FLAG, False, "Take warnings of the check for errors.")
    redact_files: bool = _option(OUTPUT, SENDS, FLAG, False, "Mask secrets in succeeded.csv and failed.csv too.")
    live_report: bool = _option(OUTPUT, SENDS, FLAG, False, "Write report.html again while the run is active.")
    metrics_file: str | None = _option(
        OUTPUT, RUNS, FILE, None, "Write metrics there, for Prometheus' node exporter.", in_job_file=False
    )

    @property
    def on_workers(self) -> bool:
        """Whether items are done outside of this process."""
        return self.workers is not None or self.scheduler is not None


OPTIONS: Final[Mapping[str, Option]] = {
    one.name: Option(name=one.name, default=one.default, **one.metadata) for one in fields(RunOptions)
}
"""Every option by its name, in the order of help."""


def options_of(command: str) -> Iterator[Option]:
    """Yield the options that mean something for a command."""
    return (option for option in OPTIONS.values() if command in option.commands)


def run_schema() -> dict[str, JSON]:
    """Return the JSON Schema of a job file's `run`."""
    return {
        "type": "object",
        "description": "Options of the run, with underscores.",
        "examples": [{"max_failures": "5%"}],
        "additionalProperties": False,
        "properties": {name: option.schema() for name, option in OPTIONS.items() if option.in_job_file},
    }


def wrong_members(job_run: Mapping[str, JSON]) -> Iterator[tuple[str, str]]:
    """Yield each member of a job file's `run` that cannot be used, and why."""
    for name, value in job_run.items():
        option = OPTIONS.get(name)
        if option is None:
            close = get_close_matches(name, OPTIONS, n=1)
            yield name, "is not an option" + (f"; did you mean {close[0]}?" if close else "")
        elif not option.in_job_file:
            yield name, f"may not stand in a job file: give {option.flag} on the command line"
        elif name == "base_url" and not is_loopback(host_of(str(value)) or ""):
            # Else a job file from elsewhere could send a built-in profile's credentials to its own server.
            yield name, "may only be on this machine in a job file: give --base-url on the command line"
        elif not set(option.kind.types()) & _json_types(value):
            yield name, f"has to be of type {' or '.join(option.kind.types())}"
        else:
            try:
                _read(option, value)
            except ValueError as error:
                yield name, f"takes {error}"


def _json_types(value: JSON) -> set[str]:
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    return {"number"} if isinstance(value, float) else {"string"} if isinstance(value, str) else set()


def resolve(
    *,
    command_line: Mapping[str, str | bool | None],
    env: Mapping[str, str],
    job_run: Mapping[str, JSON],
    source: str,
    command: str = "run",
) -> RunOptions:
    """Put the options of a run together: command line beats environment beats job file beats default.

    Args:
        command_line: values as they were typed; None where an option was not given.
        env: the environment, of which `MIGRATOR_*` is read.
        job_run: the job file's `run`.
        source: the job file's name, for messages.
        command: the command, whose own options alone are read.

    Raises:
        OptionError: a value is not allowed; the text names its place.
    """
    for name, message in wrong_members(job_run):
        raise OptionError(f"{source}: run.{name} {message}")
    chosen: dict[str, Any] = {}
    for option in options_of(command):
        typed, variable, member = command_line.get(option.name), env.get(option.variable), job_run.get(option.name)
        if typed is not None and typed is not False:
            if option.kind.secret and has_password(str(typed)):
                raise OptionError(
                    f"{option.flag} may not hold a password, which others could see: set {option.variable} to the URL"
                )
            chosen[option.name] = _given(option, typed, option.flag)
        elif variable:
            chosen[option.name] = _given(option, variable, f"the variable {option.variable}")
        elif member is not None:
            chosen[option.name] = _read(option, member)
    return RunOptions(**chosen)


def _given(option: Option, value: str | bool, where: str) -> Any:  # noqa: FBT001  a flag's value is a value
    try:
        return _read(option, value)
    except ValueError as error:
        hidden = option.name == "base_url" or option.kind.secret or "://" in str(value)  # there may be a password in it
        shown = "" if hidden else f", not {value!r}"
        raise OptionError(f"{where} takes {error}{shown}") from None


def _read(option: Option, value: JSON) -> Any:
    return option.kind.parse(str(value).lower() if isinstance(value, bool) else str(value))
