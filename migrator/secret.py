"""Secrets: a type that cannot be printed by mistake, keyed fingerprints, and masking by value.

A webhook's URL is its credential, servers echo it in error texts and clients quote it in exceptions.
So masking looks for the *value*, in every spelling in which it travels, and not for a field's name.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NoReturn
from urllib.parse import urlsplit

from migrator.spellings import SHORTEST, WINDOW, View, codes, needles, views

__all__ = ["Fingerprinter", "Masker", "Secret", "has_mask", "is_mask", "is_stand_in", "urls_in"]

SHORTEST_CUT: Final = 6
"""Characters of a secret's beginning that are masked at the end of a text."""

REMEMBERED: Final = 1 << 16
"""Secrets of other items that are recognised."""

LOOKED_AT: Final = 4096
"""Characters of a server's text that are looked at: what is shown is a part of them."""

FINGERPRINT_DIGITS: Final = 8
"""Hex digits shown: enough to tell some thousand values apart, far too few to find one."""

LEARNED: Final = 8
"""Renewed tokens that are kept in mind: the present one, and those of requests that are still in flight."""

LONGEST_SERVER_TEXT: Final = 500
"""Characters of a server's text that are kept."""

URL_IN_TEXT: Final = re.compile(
    r"(?P<scheme>https?://)(?P<authority>[^\s/?#\"'<>\\]+)(?P<rest>[/?#][^\s\"'<>\\]*)?", re.IGNORECASE
)
WORD: Final = re.compile(r"[^\s\"'<>,;()\[\]{}]+")
UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
HEX_END: Final = re.compile(r"[0-9a-f-]+")
READABLE: Final = re.compile(r"[ -~]{12}")
OPAQUE: Final = re.compile(r"[A-Za-z0-9._:-]{1,100}")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Secret:
    """A value that is shown as ``<secret>`` wherever it is printed, formatted or logged.

    ``reveal`` is the only way to the value. Pickling and copying to other processes are refused.
    """

    __slots__ = ("_heads", "_needles", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._needles: tuple[str, ...] | None = None
        self._heads: tuple[str, ...] | None = None

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    @property
    def needles(self) -> tuple[str, ...]:
        """What a text is searched for, computed once (see `spellings.needles`)."""
        if self._needles is None:
            self._needles = needles(self._value)
        return self._needles

    @property
    def heads(self) -> tuple[str, ...]:
        """How each of the needles begins; an empty text where one is not ASCII, which needs a closer look."""
        if self._heads is None:
            self._heads = tuple([needle[:SHORTEST_CUT] if needle.isascii() else "" for needle in self.needles])
        return self._heads

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, others = (one.reveal().encode("utf-8", "surrogatepass") for one in (self, other))
        return hmac.compare_digest(mine, others)

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
    """Replaces secrets in text by their fingerprint, whichever way they are spelt (see `spellings`).

    It knows three kinds of secrets: credentials, which are masked everywhere; those of the item at hand, which a call
    names; and those of other items, of which it has been told by `remember`. Of the last it keeps the final 8
    characters, and of the latest 65,536 only, which takes about 11 MB. So an item's answer that repeats another item's
    secret is masked too, unless that is shorter than 8 characters, or was sent more than 65,536 secrets earlier.

    Args:
        fingerprint: how a masked value is named.
        credentials: secrets that are masked everywhere, in addition to those that a call names.
    """

    __slots__ = ("_credentials", "_fixed", "_hex_others", "_others", "fingerprint")

    def __init__(self, fingerprint: Fingerprinter, credentials: Iterable[Secret] = ()) -> None:
        self.fingerprint = fingerprint
        self._credentials = self._fixed = tuple(credentials)
        self._others: dict[str, int] = {}
        self._hex_others = False

    def learn(self, credential: Secret) -> None:
        """Mask a further credential everywhere from now on, such as a token that was renewed."""
        learned = self._credentials[len(self._fixed) :]
        self._credentials = (*self._fixed, *learned[1 - LEARNED :], credential)

    def remember(self, secrets: Iterable[Secret]) -> None:
        """Mask the secrets of an item in the texts of all other items from now on; to be called before it is sent."""
        others = self._others
        for secret in secrets:
            # A short secret has no needles: it is never looked for in texts.
            if secret.needles and len(secret.needles[-1]) >= WINDOW:
                end = secret.needles[-1][-WINDOW:]
                others[end] = len(secret.needles[-1])
                self._hex_others = self._hex_others or HEX_END.fullmatch(end) is not None
                if len(others) > REMEMBERED:
                    del others[next(iter(others))]

    def shown(self, secret: Secret) -> str:
        """Return what stands for a secret: ``***#a1b2c3d4``, with the origin before it where it is a URL."""
        return f"{_origin(secret.reveal())}***#{self.fingerprint(secret)}"

    def text(self, text: str, secrets: Iterable[Secret] = ()) -> str:
        """Return a text without any of the secrets, nor a telling part of one, however they are spelt.

        A text that was cut may end in the beginning of a secret, which is masked from 6 characters on.
        """
        spans = self._spans(text, (*secrets, *self._credentials))
        if not spans:
            return text
        parts, place = [], 0
        for start, end, shown in spans:
            parts += [text[place:start], shown]
            place = end
        return "".join([*parts, text[place:]])

    def _is_clean(self, text: str, secrets: Iterable[Secret]) -> bool:
        """Tell quickly of a short id that it surely holds no secret: one comes with every answer."""
        if OPAQUE.fullmatch(text) is None:
            return False
        whole = text.lower()
        # A UUID is no code of a text; most servers' ids are one.
        is_uuid = UUID.fullmatch(whole) is not None
        decoded = "" if is_uuid else codes(text).decode("latin-1").replace("+", " ")
        if READABLE.search(decoded) is not None:
            return False
        for secret in (*secrets, *self._credentials):
            for head in secret.heads:
                if not head or head in whole or head in decoded:
                    return False
        if not self._others or (is_uuid and not self._hex_others):
            return True
        return self._others.keys().isdisjoint(_windows(whole))

    def server_text(self, text: str, secrets: Iterable[Secret] = (), *, longest: int = LONGEST_SERVER_TEXT) -> str:
        """Return text that a server sent, fit to be shown: masked, printable, and at most so many characters.

        Known secrets are masked. Each URL in it is cut to its origin, since a server may quote a webhook that we never
        knew, such as the one that is being replaced. It is cut last, so that no secret lies across the cut.
        """
        secrets = tuple(secrets)
        if self._is_clean(text, secrets):
            return text
        masked = self.text(text[:LOOKED_AT], secrets)
        masked = URL_IN_TEXT.sub(self._cut_url, masked)
        masked = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", masked)
        return masked if len(masked) <= longest else masked[: longest - 1] + "…"

    def _spans(self, text: str, secrets: Iterable[Secret]) -> list[tuple[int, int, str]]:
        """Return what is to be masked of a text, in its order and without overlaps, and what takes its place."""
        if len(text) < SHORTEST:
            return []
        wanted = [(secret, needle) for secret in secrets for needle in secret.needles]
        found: list[tuple[int, int, Secret | None]] = []
        for view in views(text):
            for secret, needle in wanted:
                found += [(*place, secret) for place in _places(view, needle)]
            found += [(*place, None) for place in self._remembered(view)]
        if not found:
            return []
        return list(self._merged(text, sorted(found, key=lambda one: (one[0], -one[1]))))

    def _remembered(self, view: View) -> Iterator[tuple[int, int]]:
        """Yield where a view holds another item's secret, with the whole words that it touches."""
        text, others = view.text, self._others
        windows = _windows(text)
        if not others or others.keys().isdisjoint(windows):
            return
        words = [word.span() for word in WORD.finditer(text)]
        for place, window in enumerate(windows):
            if (length := others.get(window)) is not None:
                end = place + WINDOW
                touched = [word for word in words if word[0] < end and word[1] > end - length]
                first, last = touched[0][0] if touched else end, touched[-1][1] if touched else end
                yield view.place(min(first, max(0, end - length)), max(last, end))

    def _merged(self, text: str, found: Iterable[tuple[int, int, Secret | None]]) -> Iterator[tuple[int, int, str]]:
        merged: list[tuple[int, int, Secret | None]] = []
        for start, end, secret in found:
            if merged and start < merged[-1][1]:
                first, last, named = merged[-1]
                merged[-1] = (first, max(last, end), named or secret)
            else:
                merged.append((start, end, secret))
        for start, end, secret in merged:
            spelt = text[start:end]
            if secret is None:
                yield start, end, f"***#{self.fingerprint(spelt)}"
            else:
                whole = spelt == secret.reveal()
                yield start, end, self.shown(secret) if whole else f"***#{self.fingerprint(secret)}"

    def _cut_url(self, found: re.Match[str]) -> str:
        scheme, authority, rest = found["scheme"], found["authority"], found["rest"] or ""
        user, at, host = authority.rpartition("@")
        shown_user = f"***#{self.fingerprint(user)}@" if at else ""
        if len(rest) > 1 and "***#" not in rest:
            rest = f"/***#{self.fingerprint(found[0])}"
        return f"{scheme}{shown_user}{host}{rest}"

    def __repr__(self) -> str:
        return f"<masker of {len(self._credentials)} credentials>"


def _windows(text: str) -> list[str]:
    return [text[end - WINDOW : end] for end in range(WINDOW, len(text) + 1)]


def _places(view: View, needle: str) -> Iterator[tuple[int, int]]:
    """Yield where a needle stands in a view, or begins at its end."""
    text = view.text
    place = text.find(needle)
    while place >= 0:
        yield view.place(place, place + len(needle))
        place = text.find(needle, place + len(needle))
    if len(needle) > SHORTEST_CUT:
        place = text.rfind(needle[:SHORTEST_CUT], -len(needle))
        if place >= 0 and needle.startswith(text[place:]):
            yield view.place(place, len(text))


def _origin(value: str) -> str:
    """Return ``https://host/`` of a URL, or nothing: the host tells the service, and is no secret."""
    if not value.startswith(("http://", "https://")):
        return ""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}/" if parts.hostname and "@" not in parts.netloc else ""


def urls_in(value: object) -> Iterator[Secret]:
    """Yield every URL that is a text in a document: it may be a webhook, which is its own credential."""
    if isinstance(value, str):
        if value.startswith(("https://", "http://")):
            yield Secret(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from urls_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from urls_in(inner)


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
