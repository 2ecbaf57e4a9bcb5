"""Secrets cannot be shown by mistake, and are found in text however they are spelt."""

import base64
import copy
import json
import pickle
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.secret import Fingerprinter, Masker, Secret

HOOK = "https://hooks.slack.example/services/TEXAMPLE/BEXAMPLE0001/example-0001"
FINGERPRINT = Fingerprinter(b"key of a test")

secrets = st.text(st.characters(codec="utf-8"), min_size=8, max_size=40)


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{:>40}".format, lambda secret: f"{secret!s:.3}"])
def test_shown_secret(show: "object") -> None:
    """A secret that is printed or formatted shows nothing of its value."""
    assert callable(show)

    text = show(Secret("hunter2-hunter2"))

    assert "hunter2" not in text


def test_secret_is_not_pickled() -> None:
    """A secret refuses to be pickled or copied into another process."""
    for take in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="secret"):
            take(Secret("hunter2"))


def test_equality() -> None:
    """Secrets compare by value, and never equal a string."""
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"


def test_fingerprints_are_keyed() -> None:
    """The same value has the same fingerprint under one key and another under another."""
    assert FINGERPRINT(HOOK) == FINGERPRINT(Secret(HOOK))
    assert FINGERPRINT(HOOK) != Fingerprinter(b"another")(HOOK)
    assert len(FINGERPRINT(HOOK)) == 8


@pytest.mark.parametrize(
    "spell",
    [
        lambda value: value,
        lambda value: quote(value, safe=""),
        lambda value: json.dumps(value)[1:-1],
        lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
        lambda value: json.dumps(value)[1:-1].replace("/", "\\/"),
        lambda value: base64.b64encode(value.encode()).decode().rstrip("="),
        lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
    ],
    ids=["raw", "percent-encoded", "json", "json in UTF-8", "json with escaped slashes", "base64", "base64url"],
)
@given(value=secrets)
def test_masking_by_value(spell: "object", value: str) -> None:
    """No spelling of a secret survives masking."""
    assert callable(spell)
    spelt = spell(value)

    masked = Masker(FINGERPRINT, [Secret(value)]).text(f"<<{spelt}>>")

    assert spelt not in masked.replace("***#" + FINGERPRINT(value), "")


def test_telling_parts_of_a_webhook() -> None:
    """The path and the last segment of a webhook are masked on their own, too."""
    masked = Masker(FINGERPRINT).text("no hook BEXAMPLE0001/example-0001, really: example-0001", [Secret(HOOK)])

    assert "example-0001" not in masked
    assert "BEXAMPLE0001" not in masked


def test_shown_webhook_names_its_host() -> None:
    """A masked URL still tells the service, and its fingerprint."""
    assert Masker(FINGERPRINT).text(f"sent {HOOK}", [Secret(HOOK)]) == (
        f"sent https://hooks.slack.example/***#{FINGERPRINT(HOOK)}"
    )


def test_query_secret() -> None:
    """The signature in a URL's query is a telling part."""
    hook = "https://x.environment.example:443/workflows/12/triggers/manual?api-version=1&sig=abcdefghijklmnop"

    assert "abcdefghijklmnop" not in Masker(FINGERPRINT).text("bad sig abcdefghijklmnop", [Secret(hook)])


def test_server_text_hides_urls_that_nobody_knew() -> None:
    """A server that quotes the webhook which is being replaced does not reveal it."""
    shown = Masker(FINGERPRINT).server_text("was https://hooks.slack.example/services/T0/B0/old-one before")

    assert shown.startswith("was https://hooks.slack.example/***#")
    assert "old-one" not in shown


@given(st.text())
def test_server_text_is_printable_and_short(text: str) -> None:
    """Whatever a server sends, no control sequence reaches the terminal and no more than 500 characters are kept."""
    shown = Masker(FINGERPRINT).server_text(text)

    assert len(shown) <= 500
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)


def test_basic_credentials_are_masked_in_base64_pairs() -> None:
    """A credential that was registered is masked without being named in the call."""
    masker = Masker(FINGERPRINT, [Secret("s3cr3t-of-the-key")])

    assert masker.text("Bearer s3cr3t-of-the-key") == f"Bearer ***#{FINGERPRINT('s3cr3t-of-the-key')}"
