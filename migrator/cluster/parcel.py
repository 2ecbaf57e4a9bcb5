"""A request as it travels to a worker: with its secrets in clear, so that it is only ever part of a frame.

Texts that may hold a lone surrogate travel as bytes, since msgpack takes none.
"""

import msgspec

from migrator.messages import AnswerRules, Request
from migrator.secret import Secret

__all__ = ["Parcel", "packed", "restored"]


class Parcel(msgspec.Struct, array_like=True, frozen=True):
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
    reading: "Parcel | None"
    secrets: tuple[bytes, ...]
    limiter_key: bytes
    idempotent: bool


def packed(request: Request) -> Parcel:
    """Return a request as it travels, with its secrets in clear."""
    return Parcel(
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


def restored(found: Parcel, rules: AnswerRules) -> Request:
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
        reading=None if found.reading is None else restored(found.reading, rules),
        secrets=tuple([Secret(_text(secret)) for secret in found.secrets]),
        limiter_key=_text(found.limiter_key),
        idempotent=found.idempotent,
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
