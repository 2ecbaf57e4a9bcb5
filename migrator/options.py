"""The options of a run: parsed from four places, of which the nearest wins.

Command line beats environment beats job file beats default. Every value is read by the same rule wherever it stands,
and an error names the place.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from migrator.errors import OptionError
from migrator.messages import JSON, host_of, is_loopback
from migrator.times import SECONDS, parse_duration

__all__ = [
    "Deadline",
    "IfRunning",
    "LogFormat",
    "Pace",
    "Progress",
    "RunOptions",
    "Stage",
    "Threshold",
    "Verify",
    "parse_rate",
    "parse_share",
    "resolve",
]

RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|m|min|h)")
TIME_OF_DAY: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")

TRUE: Final = frozenset({"1", "true", "yes", "on"})
FALSE: Final = frozenset({"0", "false", "no", "off", ""})


class Verify(StrEnum):
    """What a 2xx answer is compared with."""

    NONE = "none"
    RESPONSE = "response"
    READ = "read"


class Pace(StrEnum):
    """How a budget is spent."""

    FAST = "fast"
    SMOOTH = "smooth"


class IfRunning(StrEnum):
    """What to do where another run of the same job is under way."""

    FAIL = "fail"
    SKIP = "skip"
    WAIT = "wait"


class Progress(StrEnum):
    """How progress is shown."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    NONE = "none"


class LogFormat(StrEnum):
    """How events are written to standard error."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Threshold:
    """How many items may fail before the run stops.

    Attributes:
        count: so many failed items stop it; None where a share is given.
        share: more than this part of the finished items, from 0 to 1.
        counted_from: a share says nothing before so many items have finished.
    """

    count: int | None = None
    share: float | None = None
    counted_from: int = 20

    def reached(self, *, failed: int, finished: int) -> bool:
        """Tell whether so many failures of so many finished items are too many."""
        if self.count is not None:
            return failed >= max(1, self.count)
        return self.share is not None and finished >= self.counted_from and failed > self.share * finished

    def __str__(self) -> str:
        return f"{self.share:.4g} of the items" if self.share is not None else f"{self.count} items"


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a stage goes: so many items, or a share of all, from 0 to 1."""

    count: int | None = None
    share: float | None = None

    def items(self, total: int) -> int:
        """Return the number of items at which it ends, one at least."""
        if self.count is not None:
            return min(self.count, total)
        return min(total, max(1, math.ceil((self.share or 0.0) * total)))


@dataclass(frozen=True, slots=True)
class Deadline:
    """When nothing new is begun any more: after so many seconds, or at a time of day, which is the next one to come."""

    after_s: float | None = None
    at: dt.time | None = None

    def seconds(self, now: dt.datetime) -> float:
        """Return the seconds until then; `now` is the local time, with its zone."""
        if self.at is None:
            return self.after_s or 0.0
        day = dt.timedelta(days=1)
        today = dt.datetime.combine(now.date(), self.at).astimezone()
        due = today if today > now else dt.datetime.combine(now.date() + day, self.at).astimezone()
        return (due - now).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the user may set for a run; durations in seconds, rates in requests per second, shares from 0 to 1.

    The field's name with hyphens is the option's name, in capitals after `MIGRATOR_` the variable's, as it is the job
    file's member in `run`.
    """

    base_url: str | None = None
    concurrency: int | None = None
    rate: float | None = None
    pace: Pace = Pace.FAST
    max_wait: float = 3600.0
    reserve: float = 0.0
    max_failures: Threshold = Threshold(share=0.1)
    max_attempts: int = 5
    timeout: float = 30.0
    canary: int = 1
    stages: tuple[Stage, ...] = ()
    limit: int | None = None
    max_outage: float = 300.0
    deadline: Deadline | None = None
    verify: Verify = Verify.RESPONSE
    only_changed: bool = False
    since_last: bool = False
    keep_before: bool = False
    key_file: str | None = None
    plan: str | None = None
    allow_commands: bool = False
    dry_run: bool = False
    fresh: bool = False
    yes: bool = False
    state: str = ".migrator"
    if_running: IfRunning = IfRunning.FAIL
    progress: Progress = Progress.AUTO
    log_format: LogFormat = LogFormat.AUTO
    log_level: str = "info"
    redact_files: bool = False
    metrics_file: str | None = None
    quiet: bool = False


def parse_rate(text: str) -> float:
    """Return the requests per second of ``50/s``, ``600/m`` or ``5000/h``.

    Raises:
        ValueError: it is no rate above zero.
    """
    found = RATE.fullmatch(text.strip())
    rate = float(found[1]) / SECONDS[found[2]] if found else 0.0
    if not 0.0 < rate < 1e9:
        raise ValueError("a rate such as 50/s, 600/m or 5000/h")
    return rate


def parse_share(text: str) -> float:
    """Return the share, from 0 to 1, of ``10%``.

    Raises:
        ValueError: it is no percentage from 0 to 100.
    """
    found = SHARE.fullmatch(text.strip())
    if not found or not 0.0 <= float(found[1]) <= 100.0:
        raise ValueError("a percentage such as 5%")
    return float(found[1]) / 100.0


def _reserve(text: str) -> float:
    share = parse_share(text)
    if share >= 1.0:
        raise ValueError("a percentage below 100%")
    return share


def _threshold(text: str) -> Threshold:
    if text.strip().isdecimal():
        return Threshold(count=int(text))
    try:
        return Threshold(share=parse_share(text))
    except ValueError:
        raise ValueError("a number of items such as 50, or a percentage such as 5%") from None


def _stages(text: str) -> tuple[Stage, ...]:
    stages = []
    for part in text.split(","):
        try:
            stages.append(Stage(count=_whole(1)(part)) if part.strip().isdecimal() else Stage(share=parse_share(part)))
        except ValueError:
            raise ValueError("items and percentages such as 1,10%,50%,100%") from None
    return tuple(stages)


def _deadline(text: str) -> Deadline:
    if found := TIME_OF_DAY.fullmatch(text.strip()):
        return Deadline(at=dt.time(int(found[1]), int(found[2])))
    try:
        return Deadline(after_s=parse_duration(text))
    except ValueError:
        raise ValueError("a time of day such as 03:30, or a duration such as 2h") from None


def _whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least} up" if most == 10**9 else f"a number from {least} to {most}")
        return int(text)

    return parse


def _concurrency(text: str) -> int | None:
    if text.strip() == "auto":
        return None
    try:
        return _whole(1, 1000)(text)
    except ValueError:
        raise ValueError("auto, or a number from 1 to 1000") from None


def _flag(text: str) -> bool:
    if text.strip().lower() in TRUE:
        return True
    if text.strip().lower() in FALSE:
        return False
    raise ValueError("true or false")


def _one_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def parse(text: str) -> StrEnum:
        try:
            return kind(text.strip())
        except ValueError:
            raise ValueError(_either(kind)) from None

    return parse


def _level(text: str) -> str:
    levels = ("debug", "info", "warning", "error")
    if text.strip().lower() not in levels:
        raise ValueError(_either(levels))
    return text.strip().lower()


def _either(words: Iterable[str]) -> str:
    *first, last = [str(word) for word in words]
    return f"{', '.join(first)} or {last}"


PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "base_url": str,
    "concurrency": _concurrency,
    "rate": parse_rate,
    "pace": _one_of(Pace),
    "max_wait": parse_duration,
    "reserve": _reserve,
    "max_failures": _threshold,
    "max_attempts": _whole(1, 1000),
    "timeout": parse_duration,
    "canary": _whole(0),
    "stages": _stages,
    "limit": _whole(1),
    "max_outage": parse_duration,
    "deadline": _deadline,
    "verify": _one_of(Verify),
    "only_changed": _flag,
    "since_last": _flag,
    "keep_before": _flag,
    "key_file": str,
    "plan": str,
    "allow_commands": _flag,
    "dry_run": _flag,
    "fresh": _flag,
    "yes": _flag,
    "state": str,
    "if_running": _one_of(IfRunning),
    "progress": _one_of(Progress),
    "log_format": _one_of(LogFormat),
    "log_level": _level,
    "redact_files": _flag,
    "metrics_file": str,
    "quiet": _flag,
}


def resolve(
    *, command_line: Mapping[str, str | bool | None], env: Mapping[str, str], job_run: Mapping[str, JSON], source: str
) -> RunOptions:
    """Put the options of a run together.

    Args:
        command_line: values as they were typed; None where an option was not given.
        env: the environment, of which `MIGRATOR_*` is looked at.
        job_run: the job file's `run`.
        source: the job file's name, for messages.

    Raises:
        OptionError: a value is not allowed, or the job file's `run` has a member that is no option.
    """
    unknown = sorted(job_run.keys() - PARSERS.keys())
    if unknown:
        raise OptionError(f"{source}: run.{unknown[0]} is no option; there are {', '.join(PARSERS)}")
    if "allow_commands" in job_run:
        raise OptionError(f"{source}: run.allow_commands is not the job file's to give: it takes --allow-commands")
    given = job_run.get("base_url")
    if isinstance(given, str) and not is_loopback(host_of(given) or ""):
        # Else a job file from elsewhere could have a built-in profile's credentials sent away.
        raise OptionError(f"{source}: run.base_url may only be on this machine; another server takes --base-url")
    chosen: dict[str, Any] = {}
    for option in fields(RunOptions):
        name = option.name
        typed, variable, member = command_line.get(name), f"MIGRATOR_{name.upper()}", job_run.get(name)
        if typed is not None and typed is not False:
            chosen[name] = _read(name, typed, f"--{name.replace('_', '-')}")
        elif env.get(variable):
            chosen[name] = _read(name, env[variable], f"the variable {variable}")
        elif member is not None:
            chosen[name] = _read(name, member, f"{source}: run.{name}")
    return RunOptions(**chosen)


def _read(name: str, value: JSON, where: str) -> Any:
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else str(value)
    try:
        return PARSERS[name](text or "")
    except ValueError as error:
        shown = "" if name == "base_url" else f", not {text!r}"
        raise OptionError(f"{where} takes {error}{shown}") from None
