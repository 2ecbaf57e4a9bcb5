"""The ways in which a server may spell what it was sent: tests look for each of them."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

__all__ = ["SPELLINGS"]


def percent(text: str, *, lower: bool = False) -> str:
    """Encode every byte."""
    encoded = "".join(f"%{byte:02X}" for byte in text.encode())
    return encoded.lower() if lower else encoded


def utf16(text: str) -> str:
    """Write every character as JSON may."""
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[place]:02x}{units[place + 1]:02X}" for place in range(0, len(units), 2))


def base64_after(before: str) -> Callable[[str], str]:
    """Encode a text that stands behind another."""
    return lambda text: base64.b64encode(f"{before}{text}:behind".encode()).decode()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": lambda text: text,
    "upper": lambda text: "".join(
        one.upper() if len(one.upper().casefold()) == len(one.casefold()) else one for one in text
    ),
    "lower": lambda text: "".join(one.lower() if one.lower().casefold() == one.casefold() else one for one in text),
    "percent": lambda text: quote(text, safe=""),
    "percent, slashes kept": lambda text: quote(text, safe="/:"),
    "percent of a form": quote_plus,
    "percent, every byte": percent,
    "percent, every byte, in lower case": lambda text: percent(text, lower=True),
    "percent, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON in ASCII": lambda text: json.dumps(text)[1:-1],
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON with escaped slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "every character as \\u": utf16,
    "percent in JSON": lambda text: json.dumps(quote(text))[1:-1],
    "HTML": html.escape,
    "hex": lambda text: text.encode().hex(),
    "hex in capitals": lambda text: text.encode().hex().upper(),
    "hex behind half a byte": lambda text: "f" + text.encode().hex(),
    "Python bytes": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64url without padding": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in a URL": lambda text: quote(base64.b64encode(text.encode()).decode(), safe=""),
    "base64 of JSON": lambda text: base64.b64encode(json.dumps({"token": text}).encode()).decode(),
    "base64 of base64": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    **{f"base64 of a pair, {len(key) % 3}": base64_after(f"{key}:") for key in ("k", "ke", "key")},
}
