"""How a text is looked through for a secret that is spelt in another way.

A server echoes what it was sent as it likes: percent-encoded, JSON-escaped, in hex, in base64 (at any of three
alignments, and of a longer text such as ``key:secret``), in other letter case. To list the spellings of a secret never
ends, since they mix. So the *text* is taken back instead: each escape in it is undone, each run of hex or base64 is
decoded, letter case is folded, and the secret's own value is looked for in what comes out.
"""

import codecs
import re
from binascii import a2b_base64, a2b_hex
from collections.abc import Iterator, Sequence
from string import ascii_letters, digits, hexdigits
from typing import Final, NamedTuple

__all__ = ["WINDOW", "View", "codes", "folded", "needles", "views"]

SHORTEST: Final = 4
"""Characters of a secret: a shorter one would blank out innocent text everywhere and protects nothing."""

SHORTEST_PART: Final = 8
"""Characters: path segments and query values of this length are taken for the telling part of a URL."""

WINDOW: Final = 8
"""Characters by which another item's secret is recognised."""

ROUNDS: Final = 3
"""How often escapes are undone: a URL's percent-encoding in a JSON text in a JSON text."""

DEEPEST: Final = 2
"""Base64 in base64, as a signed token's payload that holds a header."""

ESCAPES: Final = re.compile(
    r"(?P<percent>(?:%[0-9A-Fa-f]{2})+)|(?P<hex>(?:\\x[0-9A-Fa-f]{2})+)|(?P<utf16>(?:\\u[0-9A-Fa-f]{4})+)"
    r"|\\(?P<plain>[/\"'\\bfnrt])|&(?P<html>amp|lt|gt|quot|apos|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
)
PLAIN: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
HTML: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{6,}")
HEX: Final = re.compile(r"[0-9A-Fa-f]{8,}")
URLSAFE: Final = str.maketrans("-_", "+/")
NOISE: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")
UTF_16: Final = codecs.lookup("utf-16-be")
"""Found at the start: Python loads a codec when it is first used, and there may be no file descriptor left by then."""

DELIMITERS: Final = str.maketrans("?&=#", "////")
TO_BASE64: Final = bytes.maketrans(b"-_", b"+/")
NO_BASE64: Final = bytes(code for code in range(256) if chr(code) not in f"{ascii_letters}{digits}+/-_")
NO_HEX: Final = bytes(code for code in range(256) if chr(code) not in hexdigits)
LONGEST_CODE: Final = 1 << 14
"""Characters of one run of hex or base64 that are decoded."""


class View(NamedTuple):
    """A text as it reads once something of it was undone.

    Attributes:
        text: with letter case folded.
        bounds: where each character, and the end, stands in the first text; None where they are the same.
        span: for what was decoded as a whole, where that stands in the first text.
    """

    text: str
    bounds: Sequence[int] | None = None
    span: tuple[int, int] | None = None

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return where a part of the view stands in the first text."""
        if self.span is not None:
            return self.span
        return (start, end) if self.bounds is None else (self.bounds[start], self.bounds[end])


def needles(value: str) -> tuple[str, ...]:
    """Return what is looked for of a secret: its value and a URL's telling parts, as `views` would show them.

    The last is the part by which the secret is recognised: its longest.
    """
    parts = [value]
    if "://" in value:
        path = value.partition("://")[2].partition("/")[2]
        pieces = path.translate(DELIMITERS).split("/")
        pieces.sort(key=len)
        parts += [part for part in (path, *pieces) if len(part) >= SHORTEST_PART]
    found = [folded(part) for part in parts if len(part) >= SHORTEST]
    if _has_escapes(value):
        for whole in parts:
            part = whole
            for _ in range(ROUNDS):
                if (further := _unescaped(part)) is None:
                    break
                part = further[0]
                found.insert(0, folded(part))
    return tuple(found)


def codes(text: str) -> bytes:
    """Return all that a short text reads as base64 or hex, at every alignment, in lower case."""
    raw = text.encode("utf-8", "replace")
    code = raw.translate(TO_BASE64, NO_BASE64) + b"AAA"
    length = len(code)
    pairs = raw.translate(None, NO_HEX)
    half = len(pairs)
    return (
        a2b_base64(code[: length & -4])
        + a2b_base64(code[1 : 1 + ((length - 1) & -4)])
        + a2b_base64(code[2 : 2 + ((length - 2) & -4)])
        + a2b_base64(code[3 : 3 + ((length - 3) & -4)])
        + a2b_hex(pairs[: half & -2])
        + a2b_hex(pairs[1 : 1 + ((half - 1) & -2)])
    ).lower()


def views(text: str, *, decoded: bool = True) -> Iterator[View]:
    """Yield a text, and all that it reads as once escapes are undone and codes are decoded.

    Args:
        text: anything.
        decoded: whether hex and base64 are looked into.
    """
    yield from _views(text, decoded=DEEPEST if decoded else 0)


def _views(text: str, *, decoded: int) -> Iterator[View]:
    bounds: Sequence[int] | None = None
    for _ in range(ROUNDS + 1):
        yield _folded_view(text, bounds)
        if decoded:
            yield from _decoded(text, bounds, decoded)
        further = _unescaped(text)
        if further is None:
            return
        text, inner = further
        bounds = inner if bounds is None else [bounds[place] for place in inner]


def folded(text: str) -> str:
    """Return a text without regard of letter case, and with the blank that forms write as a plus."""
    return text.lower().replace("+", " ") if text.isascii() else text.casefold().replace("+", " ")


def _folded_view(text: str, bounds: Sequence[int] | None) -> View:
    whole = folded(text)
    if text.isascii() or len(whole) == len(text):
        return View(whole, bounds)
    # Some characters become two or three, such as the German sharp s.
    places = [place for place, character in enumerate(text) for _ in character.casefold()]
    places.append(len(text))
    return View(whole, places if bounds is None else [bounds[place] for place in places])


def _has_escapes(text: str) -> bool:
    return "%" in text or "\\" in text or "&" in text


def _unescaped(text: str) -> tuple[str, list[int]] | None:
    """Return a text with its escapes undone, and where each character stood; None where there are none."""
    if not _has_escapes(text):
        return None
    parts: list[str] = []
    bounds: list[int] = []
    place = 0
    for found in ESCAPES.finditer(text):
        parts.append(text[place : found.start()])
        bounds.extend(range(place, found.start()))
        place = found.start()
        for character, width in _characters(found):
            parts.append(character)
            bounds.append(place)
            place += width
        place = found.end()
    if not parts:
        return None
    parts.append(text[place:])
    bounds.extend(range(place, len(text) + 1))
    return "".join(parts), bounds


def _characters(found: re.Match[str]) -> Iterator[tuple[str, int]]:
    """Yield the characters that an escape stands for, each with the width of its spelling."""
    match found.lastgroup:
        case "percent":
            yield from _of_bytes(bytes.fromhex(found[0].replace("%", "")), 3)
        case "hex":
            yield from _of_bytes(bytes.fromhex(found[0].replace("\\x", "")), 4)
        case "utf16":
            units = bytes.fromhex(found[0].replace("\\u", ""))
            for character in UTF_16.decode(units, "surrogatepass")[0]:
                yield character, 12 if ord(character) > 0xFFFF else 6
        case "plain":
            yield PLAIN.get(found["plain"], found["plain"]), 2
        case _:
            name = found["html"]
            digits = name[1:].lower() if name[0] == "#" else "0"
            number = int(f"0{digits}" if digits[0] == "x" else digits.lstrip("0") or "0", 0)
            yield HTML.get(name) or (chr(number) if number < 0x110000 else "\ufffd"), len(found[0])


def _of_bytes(data: bytes, width: int) -> Iterator[tuple[str, int]]:
    try:
        for character in data.decode():
            yield character, width * len(character.encode())
    except UnicodeDecodeError:
        for character in data.decode("latin-1"):
            yield character, width


def _decoded(text: str, bounds: Sequence[int] | None, depth: int) -> Iterator[View]:
    """Yield what runs of base64 and hex in a text stand for, each with the place of the whole run."""
    for run in BASE64.finditer(text):
        start, end = run.span()
        span = (start, end) if bounds is None else (bounds[start], bounds[end])
        code = run[0][:LONGEST_CODE].translate(URLSAFE)
        for skipped in range(4):
            rest = code[skipped:]
            missing = -len(rest) % 4
            data = a2b_base64(rest + "A" * missing)
            yield from _inner(data[: len(data) - missing], span, depth)
    for run in HEX.finditer(text):
        start, end = run.span()
        span = (start, end) if bounds is None else (bounds[start], bounds[end])
        code = run[0][:LONGEST_CODE]
        for skipped in range(2):
            rest = code[skipped:]
            yield from _inner(bytes.fromhex(rest[: len(rest) // 2 * 2]), span, depth)


def _inner(data: bytes, span: tuple[int, int], depth: int) -> Iterator[View]:
    text = data.decode("utf-8", "replace")
    yield View(folded(text), span=span)
    # Between noise there may be text, and what that holds may be spelt in another way again.
    for piece in NOISE.split(text):
        if len(piece) >= SHORTEST_PART:
            for view in _views(piece, decoded=depth - 1):
                yield View(view.text, span=span)
