"""What a run and its workers tell each other: many small messages in one frame.

Texts that may hold a lone surrogate travel as bytes. A frame is shown as its length where it is logged.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from migrator.cluster.parcel import Parcel
from migrator.ratelimit.throttle import ThrottleStatistics
from migrator.results import ItemError, StopReason
from migrator.store.plan_file import PlannedItem

__all__ = [
    "Accepted",
    "Ask",
    "AskToken",
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
    "Token",
    "TooLong",
    "Unread",
    "Unsent",
    "Withdraw",
    "Work",
    "Written",
    "decode_from_worker",
    "decode_setup",
    "decode_to_worker",
    "encode",
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
        has_tokens: whether the driver gets tokens.
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
    has_tokens: bool
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

    request: Parcel
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


class Token(Message, frozen=True):
    """The answer to a question for a token.

    Attributes:
        number: the question's.
        token: the present one; None where there is no other than that which was refused.
        fresh_s: seconds until it is to be asked for again; None where nothing tells.
        failure: why there is none at all.
        refused: whether the credentials were refused, so that no further attempt can help.
    """

    number: int
    token: bytes | None
    fresh_s: float | None
    failure: str | None
    refused: bool


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


class AskToken(Message, frozen=True):
    """A question for the token to send; it names one that the server refused."""

    number: int
    refused: bytes | None


class Accepted(Message, frozen=True):
    """The server has taken a token."""

    token: bytes


class Standing(Message, frozen=True):
    """The worker is there, and this is how its throttle stands."""

    throttle: ThrottleStatistics


ToWorker: TypeAlias = Work | LookFirst | Token | Durable | Failed | Shares | Settings | Hold | Stop | Beat
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
    | AskToken
    | Accepted
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
