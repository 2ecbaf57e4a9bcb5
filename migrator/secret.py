"""Secrets: a type that cannot be printed by mistake, keyed fingerprints, and masking by value.

A webhook's URL is its credential, servers echo it in error texts and clients quote it in exceptions.
So masking looks for the *value*, in every spelling in which it travels, and not for a field's name.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NoReturn
from urllib.parse import quote, urlsplit

__all__ = ["Fingerprinter", "Masker", "Secret", "has_mask", "is_mask", "is_stand_in"]

SHORTEST_MASKED: Final = 4
"""Characters: a shorter value would blank out innocent text everywhere and protects nothing."""

SHORTEST_PART: Final = 8
"""Characters: path segments and query values of this length are taken for the telling part of a URL."""

FINGERPRINT_DIGITS: Final = 8
"""Hex digits shown: enough to tell some thousand values apart, far too few to find one."""

LEARNED: Final = 8
"""Renewed tokens that are kept in mind: the present one, and those of requests that are still in flight."""

LONGEST_SERVER_TEXT: Final = 500
"""Characters of a server's text that are kept."""

URL_IN_TEXT: Final = re.compile(r"(?P<origin>https?://[^\s/?#\"'<>\\@]+)(?P<rest>[/?#][^\s\"'<>\\]*)?", re.IGNORECASE)
OPAQUE: Final = re.compile(r"[A-Za-z0-9._:-]{1,100}")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Secret:
    """A value that is shown as ``<secret>`` wherever it is printed, formatted or logged.

    ``reveal`` is the only way to the value. Pickling and copying to other processes are refused.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


class Fingerprinter:
    """HMAC-SHA256 under a key that stays in the state folder, so that equal values can be seen to be equal.

    The manner of Vault's audit devices: without the key a short token cannot be found by trying.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, value: Secret | str) -> str:
        """Return the first 8 hex digits of the value's keyed digest."""
        return self.digest(value)[:FINGERPRINT_DIGITS]

    def digest(self, value: Secret | str) -> str:
        """Return the whole keyed digest, 64 hex digits."""
        text = value.reveal() if isinstance(value, Secret) else value
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        return "<fingerprinter>"


class Masker:
    """Replaces secrets in text by their fingerprint, whichever way they are spelt.

    Args:
        fingerprint: how a masked value is named.
        credentials: secrets that are masked everywhere, beside those that a call names.
    """

    __slots__ = ("_credentials", "_fixed", "_learned", "fingerprint")

    def __init__(self, fingerprint: Fingerprinter, credentials: Iterable[Secret] = ()) -> None:
        self.fingerprint = fingerprint
        self._credentials = tuple(sorted(_replacements(credentials, self), key=_longest_first))
        self._fixed = self._credentials
        self._learned: list[Secret] = []

    def learn(self, credential: Secret) -> None:
        """Mask a further credential everywhere from now on, such as a token that was renewed."""
        self._learned = [*self._learned[1 - LEARNED :], credential]
        found = [*self._fixed, *_replacements(self._learned, self)]
        self._credentials = tuple(sorted(found, key=_longest_first))

    def shown(self, secret: Secret) -> str:
        """Return what stands for a secret: ``***#a1b2c3d4``, with the origin before it where it is a URL."""
        return f"{_origin(secret.reveal())}***#{self.fingerprint(secret)}"

    def text(self, text: str, secrets: Iterable[Secret] = ()) -> str:
        """Return our own text without any of the secrets, nor a telling part of one."""
        own = sorted(_replacements(secrets, self), key=_longest_first)
        for spelling, replacement in (*own, *self._credentials):
            if spelling in text:
                text = text.replace(spelling, replacement)
        return text

    def token(self, text: str, secrets: Iterable[Secret] = ()) -> str:
        """Return an opaque id that a server sent: as it is, where it is one and holds no secret.

        This is for what comes with every answer: looking for every spelling of a secret takes a hundred times as long.
        """
        if OPAQUE.fullmatch(text) is None:
            return self.server_text(text, secrets)
        for secret in secrets:
            value = secret.reveal()
            if text in value or value.rpartition("/")[2] in text:
                return self.server_text(text, secrets)
        return text

    def server_text(self, text: str, secrets: Iterable[Secret] = ()) -> str:
        """Return text that a server sent, fit to be shown: masked, printable, and at most 500 characters.

        Beside the known secrets every URL in it is cut to its origin, since a server may quote a webhook
        that we never knew, such as the one that is being replaced.
        """
        masked = self.text(text, secrets)
        masked = URL_IN_TEXT.sub(self._cut_url, masked)
        masked = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", masked)
        return masked if len(masked) <= LONGEST_SERVER_TEXT else masked[: LONGEST_SERVER_TEXT - 1] + "…"

    def _cut_url(self, found: re.Match[str]) -> str:
        rest = found["rest"]
        if not rest or rest == "/" or "***#" in rest:
            return found[0]
        return f"{found['origin']}/***#{self.fingerprint(found[0])}"

    def __repr__(self) -> str:
        return f"<masker of {len(self._credentials)} spellings>"


def _longest_first(pair: tuple[str, str]) -> int:
    return -len(pair[0])


def _origin(value: str) -> str:
    """Return ``https://host/`` of a URL, or nothing: the host tells the service, and is no secret."""
    if not value.startswith(("http://", "https://")):
        return ""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}/" if parts.hostname and "@" not in parts.netloc else ""


def _replacements(secrets: Iterable[Secret], masker: Masker) -> Iterator[tuple[str, str]]:
    for secret in secrets:
        shown = masker.shown(secret)
        for spelling in set(_spellings(secret.reveal())):
            if len(spelling) >= SHORTEST_MASKED:
                yield spelling, shown if spelling == secret.reveal() else f"***#{masker.fingerprint(secret)}"


def _spellings(value: str) -> Iterator[str]:
    """Yield a value as it is, percent-encoded, JSON-escaped and in base64, and a URL's telling parts alike."""
    for part in (value, *_telling_parts(value)):
        yield part
        yield quote(part, safe="")
        yield quote(part, safe="/:")
        yield json.dumps(part)[1:-1]
        yield json.dumps(part, ensure_ascii=False)[1:-1]
        yield json.dumps(part)[1:-1].replace("/", "\\/")
        encoded = part.encode("utf-8", "surrogatepass")
        yield base64.b64encode(encoded).decode().rstrip("=")
        yield base64.urlsafe_b64encode(encoded).decode().rstrip("=")


def _telling_parts(value: str) -> Iterator[str]:
    if "://" not in value:
        return
    _, _, rest = value.partition("://")
    _, slash, path = rest.partition("/")
    if slash and len(path) >= SHORTEST_PART:
        yield path
    for part in re.split(r"[/?&=#]", path):
        if len(part) >= SHORTEST_PART:
            yield part


MASKED: Final = re.compile(r"[*•·xX]{3,}.{0,4}|\[redacted\]|-- redacted --|\{[a-z_]+\}", re.IGNORECASE)
"""What services write in place of a secret that they do not show; it can be compared with nothing."""


def is_mask(value: object) -> bool:
    """Tell whether a value is what a service shows in place of a secret."""
    return isinstance(value, str) and MASKED.fullmatch(value) is not None


def is_stand_in(value: str) -> bool:
    """Tell whether a text stands in a secret's place: a service's mask, or a fingerprint of ours."""
    return "***#" in value or MASKED.fullmatch(value) is not None


def has_mask(value: object) -> bool:
    """Tell whether there is a mask anywhere in a value: such a state can never be written back."""
    if isinstance(value, Mapping):
        return any(has_mask(member) for member in value.values())
    if isinstance(value, list | tuple):
        return any(has_mask(member) for member in value)
    return is_mask(value)
