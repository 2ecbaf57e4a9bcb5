"""What a run and its workers tell each other: many small messages in one frame.

Texts that may hold a lone surrogate, and secrets, travel as bytes. A frame is shown as its length where it is logged.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from migrator.messages import AnswerRules, Request
from migrator.ratelimit.throttle import ThrottleStatistics
from migrator.results import ItemError, StopReason
from migrator.secret import Secret
from migrator.store.plan_file import PlannedItem

__all__ = [
    "Ask",
    "Beat",
    "Begin",
    "Done",
    "Durable",
    "Event",
    "Failed",
    "Frame",
    "FromWorker",
    "Hold",
    "Image",
    "LookFirst",
    "Ready",
    "Refused",
    "Report",
    "Retried",
    "Settings",
    "Settled",
    "Setup",
    "Shares",
    "Standing",
    "Stop",
    "StopRun",
    "Stream",
    "ToWorker",
    "TooLong",
    "Unread",
    "Unsent",
    "WireRequest",
    "Withdraw",
    "Work",
    "Written",
    "decode_from_worker",
    "decode_setup",
    "decode_to_worker",
    "encode",
    "packed",
    "unpacked",
    "version_in",
]


class Frame(bytes):
    """Some messages, encoded; its text is its length, since bodies are in it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<frame of {len(self)} bytes>"

    __str__ = __repr__


class Stream(Protocol):
    """A connection between a run and a worker, in whole frames; both methods raise OSError once it is broken."""

    async def read(self) -> bytes:
        """Return the next frame."""

    async def write(self, frame: Frame) -> None:
        """Hand a frame to the connection."""

    def abort(self) -> None:
        """Close the connection at once."""


class Message(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """One message; its tag is the class's name."""


class WireRequest(msgspec.Struct, array_like=True, frozen=True):
    """A `Request`, without the rules, which the worker knows, and the members of a batch, which meet on the worker."""

    item: int
    key: bytes
    method: str
    url: str
    body: bytes | None
    wanted: bytes | None
    headers: tuple[tuple[str, str], ...]
    frame: bytes | None
    credentials: tuple[str, bytes] | None
    needs_record: bool
    reading: "WireRequest | None"
    secrets: tuple[bytes, ...]
    limiter_key: bytes
    idempotent: bool


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker needs to know of a run.

    Attributes:
        version: the program's, which has to be the worker's too.
        run: the run's id.
        base_url: the server's.
        document: the job file, without what is the driver's part.
        path: where it is on the driver's machine, for files that it names relative to itself.
        allow_files: further files that it may read.
        allow_commands: whether it may run commands.
        key: of fingerprints.
        secret_path: whether a URL's path holds a secret.
        reuse_connections: whether a connection may serve several requests.
        settings: of the run, by the names of `RunOptions`: numbers in seconds, texts and flags.
    """

    version: str
    run: str
    base_url: str
    document: str
    path: str
    allow_files: tuple[str, ...]
    allow_commands: bool
    key: bytes
    secret_path: bool
    reuse_connections: bool
    settings: dict[str, Any]


class Work(Message, frozen=True):
    """An item to finish.

    Attributes:
        request: what to send.
        canary: whether it is one of the first items, of which each has to succeed.
        doubtful: whether it was in flight when an earlier process or worker ended.
        written: its line where it was written and is only to be read back; None else.
        planned: what a plan says of it.
        state: its record as JSON, where it was read in bulk.
    """

    request: WireRequest
    canary: bool
    doubtful: bool
    written: bytes | None
    planned: PlannedItem | None = None
    state: bytes | None = None


class LookFirst(Message, frozen=True):
    """Each item is looked at before it is written.

    Attributes:
        only_changed: whether an item that is as wanted is left alone.
        planned: whether there is a plan.
        vault_key: of the vault that keeps before-images; None where none are kept.
    """

    only_changed: bool
    planned: bool
    vault_key: bytes | None


class Durable(Message, frozen=True):
    """So many of the worker's operations on the ledger are on the disk."""

    count: int


class Failed(Message, frozen=True):
    """The ledger cannot be written."""

    message: str


class Shares(Message, frozen=True):
    """The answer to a question for shares of the quota.

    Attributes:
        number: the question's.
        wait_s: seconds to wait before it is asked again; 0 where there are shares.
        windows: the window of each share.
    """

    number: int
    wait_s: float
    windows: tuple[int, ...]


class Settings(Message, frozen=True):
    """The worker's part of what the run may do.

    Attributes:
        rate: the most requests per second; None for no ceiling.
        concurrency: the most requests in flight; None lets the worker find its own level.
        paused: whether nothing may go.
    """

    rate: float | None
    concurrency: int | None
    paused: bool


class Hold(Message, frozen=True):
    """Send nothing for so many seconds."""

    seconds: float


class Stop(Message, frozen=True):
    """Start nothing new; what is in flight finishes."""


class Beat(Message, frozen=True):
    """The driver is there, and so many items of the run are not finished."""

    pending: int


class Ready(Message, frozen=True):
    """The worker can finish so many items at once."""

    lanes: int


class Refused(Message, frozen=True):
    """The worker cannot take part; the text says why, and holds no secret."""

    message: str


class Begin(Message, frozen=True):
    """An operation on the ledger: an item is about to be sent."""

    item: int
    attempt: int
    at_ms: int


class Withdraw(Message, frozen=True):
    """An operation on the ledger: an attempt is known to have had no effect."""

    item: int


class Written(Message, frozen=True):
    """An operation on the ledger: an item was written and is to be read back."""

    line: bytes


class Image(Message, frozen=True):
    """An operation on the ledger: what a record held before it is written, encrypted."""

    item: int
    url: str
    image: bytes


class Settled(Message, frozen=True):
    """An operation on the ledger: an item's result."""

    line: bytes
    provisional: bool


class Done(Message, frozen=True):
    """An item is finished, and its last result is durable."""

    item: int
    stop: StopReason | None
    exempt: bool


class Unsent(Message, frozen=True):
    """An item was not sent, since the run stops."""

    item: int


class TooLong(Message, frozen=True):
    """An item would have to wait for longer than the user allows."""

    item: int
    wait_s: float
    reason: str


class Unread(Message, frozen=True):
    """An item was not sent, since nothing can be read; None where the run stops."""

    item: int
    error: ItemError | None


class Event(Message, frozen=True):
    """An event of the run, masked."""

    name: str
    level: str
    fields: dict[str, Any]


class Retried(Message, frozen=True):
    """An attempt is made again."""

    throttled: bool


class StopRun(Message, frozen=True):
    """The run is to stop."""

    reason: StopReason


class Ask(Message, frozen=True):
    """A question for so many shares of the quota of a limiter key; the answer names its number."""

    number: int
    limiter_key: bytes
    count: int


class Report(Message, frozen=True):
    """How a request that had a share of the quota ended, as `ratelimit.shared.model.Report` has it."""

    limiter_key: bytes
    window: int
    kind: int
    remaining: int
    wait_s: float


class Standing(Message, frozen=True):
    """The worker is there, and this is how its throttle stands."""

    throttle: ThrottleStatistics


ToWorker: TypeAlias = Work | LookFirst | Durable | Failed | Shares | Settings | Hold | Stop | Beat
FromWorker: TypeAlias = (
    Ready
    | Refused
    | Begin
    | Withdraw
    | Written
    | Image
    | Settled
    | Done
    | Unsent
    | TooLong
    | Unread
    | Event
    | Retried
    | StopRun
    | Ask
    | Report
    | Standing
)

_encoder: Final = msgspec.msgpack.Encoder()
_to_worker: Final = msgspec.msgpack.Decoder(list[ToWorker])
_from_worker: Final = msgspec.msgpack.Decoder(list[FromWorker])
_setup: Final = msgspec.msgpack.Decoder(Setup)


def encode(messages: "Sequence[Message] | Setup") -> Frame:
    """Return messages, or the setup of a worker, as a frame."""
    return Frame(_encoder.encode(messages))


def decode_to_worker(frame: bytes) -> list[ToWorker]:
    """Return the messages to a worker; raises msgspec.MsgspecError for anything else."""
    return _to_worker.decode(frame)


def decode_from_worker(frame: bytes) -> list[FromWorker]:
    """Return the messages of a worker; raises msgspec.MsgspecError for anything else."""
    return _from_worker.decode(frame)


class _Version(msgspec.Struct):
    version: str


def version_in(frame: bytes) -> str:
    """Return the version of the program that has sent the setup of a worker, whatever else is in it."""
    return msgspec.msgpack.decode(frame, type=_Version).version


def decode_setup(frame: bytes) -> Setup:
    """Return the setup of a worker; raises msgspec.MsgspecError for anything else."""
    return _setup.decode(frame)


def packed(request: Request) -> WireRequest:
    """Return a request as it travels, with its secrets in clear."""
    return WireRequest(
        request.item,
        _bytes(request.key),
        request.method,
        request.url,
        request.body,
        request.wanted,
        request.headers,
        request.frame,
        None if request.credentials is None else (request.credentials[0], _bytes(request.credentials[1].reveal())),
        request.needs_record,
        None if request.reading is None else packed(request.reading),
        tuple([_bytes(secret.reveal()) for secret in request.secrets]),
        _bytes(request.limiter_key),
        request.idempotent,
    )


def unpacked(found: WireRequest, rules: AnswerRules) -> Request:
    """Return a request that has travelled, with the rules of its job."""
    return Request(
        item=found.item,
        key=_text(found.key),
        method=found.method,
        url=found.url,
        body=found.body,
        wanted=found.wanted,
        rules=rules,
        headers=found.headers,
        frame=found.frame,
        credentials=None if found.credentials is None else (found.credentials[0], Secret(_text(found.credentials[1]))),
        needs_record=found.needs_record,
        reading=None if found.reading is None else unpacked(found.reading, rules),
        secrets=tuple([Secret(_text(secret)) for secret in found.secrets]),
        limiter_key=_text(found.limiter_key),
        idempotent=found.idempotent,
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
