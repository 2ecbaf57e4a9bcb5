"""What a user types as an option's value: each kind is read by one function and described in one place."""

import codecs
import csv
import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from migrator.messages import JSON, is_loopback
from migrator.secret import Secret
from migrator.times import SECONDS, parse_duration

__all__ = [
    "CONCURRENCY",
    "DEADLINE",
    "DURATION",
    "ENCODING",
    "FILE",
    "FILES",
    "FLAG",
    "FOLDER",
    "KEYS",
    "LOG_LEVEL",
    "NAMES",
    "RATE",
    "REDIS_URL",
    "RESERVE",
    "SERVER",
    "STAGES",
    "TEXT",
    "THRESHOLD",
    "Deadline",
    "IfRunning",
    "Kind",
    "LogFormat",
    "Pace",
    "Progress",
    "SendTests",
    "Stage",
    "Threshold",
    "Verify",
    "has_password",
    "one_of",
    "parse_rate",
    "parse_redis_url",
    "parse_share",
    "whole",
]

VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RATE_TEXT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|m|min|h)")
TIME_OF_DAY: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")

TRUE: Final = frozenset({"1", "true", "yes", "on"})
FALSE: Final = frozenset({"0", "false", "no", "off", ""})


class Verify(StrEnum):
    """What a 2xx answer is compared with."""

    NONE = "none"
    RESPONSE = "response"
    READ = "read"


class SendTests(StrEnum):
    """For which items the API's own test message is sent, through the row's webhook."""

    NONE = "none"
    CANARY = "canary"
    ALL = "all"


class Pace(StrEnum):
    """How a quota is used: as soon as it is there, or spread over its window."""

    FAST = "fast"
    SMOOTH = "smooth"


class IfRunning(StrEnum):
    """What to do while another run of the same job is active."""

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


class Threshold(msgspec.Struct, frozen=True):
    """How many items may fail before the run stops.

    Attributes:
        count: this many failed items stop the run; None where a share is given.
        share: the run stops above this share of the finished items, from 0 to 1.
        counted_from: a share counts only from this many finished items on.
    """

    count: int | None = None
    share: float | None = None
    counted_from: int = 20

    def reached(self, *, failed: int, finished: int) -> bool:
        """Tell whether this many failures of this many finished items are too many."""
        if self.count is not None:
            return failed >= max(1, self.count)
        return self.share is not None and finished >= self.counted_from and failed > self.share * finished

    def __str__(self) -> str:
        return f"{self.share:.4g} of the items" if self.share is not None else f"{self.count} items"


class Stage(msgspec.Struct, frozen=True):
    """Where a stage ends: after a number of items, or after a share of all, from 0 to 1."""

    count: int | None = None
    share: float | None = None

    def items(self, total: int) -> int:
        """Return the number of items at which it ends, at least one."""
        if self.count is not None:
            return min(self.count, total)
        return min(total, max(1, math.ceil((self.share or 0.0) * total)))


class Deadline(msgspec.Struct, frozen=True):
    """When a run starts no more items: after some seconds, or at the next time that the clock shows a time of day."""

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


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of value.

    Attributes:
        parse: reads a text; its ValueError says what is allowed, as the end of "--rate takes …".
        metavar: what stands for the value in help; None for a flag, which takes no value.
        schema: JSON Schema of the value in a job file.
        choices: every allowed text, where there are few.
        path: `file` or `dir` where a shell completes the value as a path.
        secret: whether it is a URL that may hold a password, which is never shown and never typed.
    """

    parse: Callable[[str], Any]
    metavar: str | None
    schema: Mapping[str, JSON] = msgspec.field(default_factory=lambda: {"type": "string"})
    choices: tuple[str, ...] = ()
    path: str | None = None
    secret: bool = False

    def types(self) -> tuple[str, ...]:
        """Return the JSON types of the value in a job file."""
        named = self.schema.get("type", "string")
        return (named,) if isinstance(named, str) else tuple(named)  # type: ignore[arg-type]


def has_password(url: str) -> bool:
    """Tell whether a URL holds a user or a password."""
    return "@" in url.partition("://")[2].partition("/")[0]


SCHEDULER_ADDRESS: Final = re.compile(r"(tls|tcp)://[^/@?#]+:\d+")


def parse_scheduler(text: str) -> str:
    """Read the address of a Dask scheduler.

    Raises:
        ValueError: it is none, or goes to another machine without TLS.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if not host or port is None or not SCHEDULER_ADDRESS.fullmatch(text.strip()):
        raise ValueError("an address such as tls://HOST:8786")
    if parts.scheme == "tcp" and not is_loopback(host):
        raise ValueError("tls:// for another machine; tcp:// is for this machine only")
    return text.strip()


def parse_redis_url(text: str) -> Secret:
    """Return the URL of a Redis or Valkey server, as a secret: it may hold a password.

    Raises:
        ValueError: it is no such URL, or it leads to another machine without TLS.
    """
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    # A query could switch the check of certificates off.
    if not host or parts.scheme not in {"redis", "rediss"} or parts.query or parts.fragment:
        raise ValueError("a URL such as rediss://HOST:6379/0, without query")
    if parts.scheme == "redis" and not is_loopback(host):
        raise ValueError("rediss:// (TLS) for another machine; redis:// is for this machine only")
    return Secret(text.strip())


def parse_rate(text: str) -> float:
    """Return the requests per second of ``50/s``, ``600/m`` or ``5000/h``.

    Raises:
        ValueError: it is not a rate above zero.
    """
    found = RATE_TEXT.fullmatch(text.strip())
    rate = float(found[1]) / SECONDS[found[2]] if found else 0.0
    if not 0.0 < rate < 1e9:
        raise ValueError("a rate such as 50/s, 600/m or 5000/h")
    return rate


def parse_share(text: str) -> float:
    """Return the share, from 0 to 1, of ``10%``.

    Raises:
        ValueError: it is not a percentage from 0 to 100.
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
            stages.append(Stage(count=_number(part, 1)) if part.strip().isdecimal() else Stage(share=parse_share(part)))
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


def _number(text: str, least: int, most: int = 10**9) -> int:
    if not text.strip().isdecimal() or not least <= int(text) <= most:
        raise ValueError(f"a whole number from {least} up" if most == 10**9 else f"a number from {least} to {most}")
    return int(text)


def _concurrency(text: str) -> int | None:
    if text.strip() == "auto":
        return None
    try:
        return _number(text, 1, 1000)
    except ValueError:
        raise ValueError("auto, or a number from 1 to 1000") from None


def _flag(text: str) -> bool:
    if text.strip().lower() in TRUE:
        return True
    if text.strip().lower() in FALSE:
        return False
    raise ValueError("true or false")


def _level(text: str) -> str:
    if text.strip().lower() not in LEVELS:
        raise ValueError(_either(LEVELS))
    return text.strip().lower()


LEVELS: Final = ("debug", "info", "warning", "error")


def _keys(text: str) -> tuple[str, ...]:
    try:
        keys = tuple(key.strip() for key in next(csv.reader([text], skipinitialspace=True), []))
    except csv.Error:
        keys = ()
    if not keys or not all(keys):
        raise ValueError("keys of items such as i-1,i-2; a key with a comma stands in quotes")
    return keys


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(VARIABLE_NAME.fullmatch(name) for name in names):
        raise ValueError("names of variables such as API_TOKEN,SLACK_URL")
    return names


def _server(text: str) -> str:
    # A password may hold a slash, so that no parser finds the end of it.
    if "@" in text:
        raise ValueError(
            "a URL without user name and password, which every user of this machine could read: they belong in the "
            "variables that the profile's auth names, such as CONFLUENT_CLOUD_API_KEY and CONFLUENT_CLOUD_API_SECRET"
        )
    return text


def _encoding(text: str) -> str:
    try:
        "".encode(text.strip())
        return codecs.lookup(text.strip()).name
    except (LookupError, ValueError):
        raise ValueError("an encoding such as windows-1252, utf-16 or shift_jis") from None


def _either(words: Iterable[str]) -> str:
    *first, last = [str(word) for word in words]
    return f"{', '.join(first)} or {last}"


def one_of(kind: type[StrEnum]) -> Kind:
    """Return the kind of value that is one of a few words."""

    def parse(text: str) -> StrEnum:
        try:
            return kind(text.strip())
        except ValueError:
            raise ValueError(_either(kind)) from None

    words = tuple(word.value for word in kind)
    return Kind(parse=parse, metavar="|".join(words), schema={"enum": words}, choices=words)


def whole(least: int, most: int = 10**9) -> Kind:
    """Return the kind of value that is a whole number within bounds."""
    bounds: dict[str, JSON] = {"minimum": least} if most == 10**9 else {"minimum": least, "maximum": most}
    schema: dict[str, JSON] = {"type": ["integer", "string"], "pattern": r"^\s*\d+\s*$", **bounds}
    return Kind(parse=lambda text: _number(text, least, most), metavar="N", schema=schema)


NUMBER_OR_TEXT: Final[Mapping[str, JSON]] = {"type": ["number", "string"]}

FLAG: Final = Kind(parse=_flag, metavar=None, schema={"type": "boolean"})
TEXT: Final = Kind(parse=str, metavar="TEXT")
SCHEDULER: Final = Kind(parse=parse_scheduler, metavar="URL")
REDIS_URL: Final = Kind(parse=parse_redis_url, metavar="URL", secret=True)
FILE: Final = Kind(parse=str, metavar="FILE", path="file")
FOLDER: Final = Kind(parse=str, metavar="DIR", path="dir")
CONCURRENCY: Final = Kind(
    parse=_concurrency,
    metavar="N|auto",
    schema={"type": ["integer", "string"], "minimum": 1, "maximum": 1000},
    choices=("auto",),
)
RATE: Final = Kind(parse=parse_rate, metavar="N/UNIT", schema={"type": "string", "examples": ["50/s", "600/m"]})
DURATION: Final = Kind(parse=parse_duration, metavar="T", schema={**NUMBER_OR_TEXT, "examples": ["90s", "5m", "1h"]})
RESERVE: Final = Kind(parse=_reserve, metavar="P%", schema={"type": "string", "examples": ["20%"]})
THRESHOLD: Final = Kind(parse=_threshold, metavar="N|P%", schema={**NUMBER_OR_TEXT, "examples": [50, "5%"]})
STAGES: Final = Kind(parse=_stages, metavar="LIST", schema={**NUMBER_OR_TEXT, "examples": ["1,10%,50%,100%"]})
DEADLINE: Final = Kind(parse=_deadline, metavar="HH:MM|T", schema={**NUMBER_OR_TEXT, "examples": ["03:30", "2h"]})
KEYS: Final = Kind(parse=_keys, metavar="KEY,…", schema={"type": "string", "examples": ["i-1,i-2"]})
NAMES: Final = Kind(parse=_names, metavar="NAME,…", schema={"type": "string"})
FILES: Final = Kind(parse=lambda text: tuple(text.split(",")), metavar="PATH", path="file")
SERVER: Final = Kind(parse=_server, metavar="URL")
ENCODING: Final = Kind(
    parse=_encoding,
    metavar="NAME",
    schema={"type": "string", "examples": ["windows-1252"]},
    choices=("utf-8", "windows-1252", "utf-16", "shift_jis", "gb18030"),
)
LOG_LEVEL: Final = Kind(parse=_level, metavar="LEVEL", schema={"enum": LEVELS}, choices=LEVELS)
