"""Secrets cannot be shown by mistake, and are found in text however they are spelt."""

import copy
import pickle
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from secret_spellings import SPELLINGS

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


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@given(value=secrets, before=st.sampled_from(["", "x", "id=", "a/b/", "%", "\\", "Zm9v", "deadbeef"]))
@example(value="".join(map(chr, range(0x20, 0x7F))), before="")
@example(value="".join(map(chr, range(0xA0, 0x100))), before="")
@example(value="Straße İstanbul ŉ Σς", before="")
@example(value="a%41b\\u0041+/=c&amp;d", before="")
@example(value="\U0001f600\U0001f601 astral", before="")
@example(value=HOOK, before="")
def test_masking_by_value(spell: Callable[[str], str], value: str, before: str) -> None:
    """No spelling of a secret survives masking, wherever it stands."""
    spelt = spell(value)
    marked = spelt if before in {"%", "\\"} else before + spelt

    masked = Masker(FINGERPRINT, [Secret(value)]).text(f"<<{marked}>>")

    assert masked.startswith("<<")
    assert masked.endswith(">>")
    assert f"***#{FINGERPRINT(value)}" in masked
    assert len(spelt) < 12 or spelt[4:] not in masked


@pytest.mark.parametrize("code", range(0x21, 0x7F))
def test_every_character_of_a_secret(code: int) -> None:
    """Each printable character is found in each spelling: the classes are enumerated, not drawn."""
    value = f"pass{chr(code) * 3}word"

    for name, spell in SPELLINGS.items():
        assert "***#" in Masker(FINGERPRINT, [Secret(value)]).server_text(f"it was {spell(value)} then"), name


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_ids_of_requests(spell: Callable[[str], str]) -> None:
    """An id that repeats a secret is masked, also that of another item; any other is left as it is."""
    masker = Masker(FINGERPRINT, [Secret("s3cr3t-of-the-key")])
    masker.remember([Secret("https://hooks.slack.example/services/T1/B1/another-Item-17")])

    for value in ("s3cr3t-of-the-key", "my-own-Webhook", "another-Item-17"):
        assert spell(value) not in masker.server_text(f"req-{spell(value)}", [Secret("my-own-Webhook")])
    for harmless in ("req-17", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "4bf92f3577b34da6a3ce929d0e0e4736", "AAAA"):
        assert masker.server_text(harmless, [Secret("my-own-Webhook")]) == harmless


@pytest.mark.parametrize(
    "other",
    ["abcdefghij+klmn/op==", "correct horse battery", 'quo"ted,va lue', "a+b+c+d+e+f+g+h", "tail-is-short x y z"],
)
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_secrets_of_other_items_are_masked_whole(spell: Callable[[str], str], other: str) -> None:
    """Also where they are more than one word, or hold the plus that is a blank in a form."""
    masker = Masker(FINGERPRINT)
    masker.remember([Secret(other)])

    shown = masker.server_text(f"said: {spell(other)} to you")

    assert spell(other)[:6] not in shown
    assert shown.startswith("said: ")
    assert shown.endswith(" to you")


def test_other_items_are_forgotten_in_the_end() -> None:
    """What is known of other items is bounded: the earliest are forgotten."""
    masker = Masker(FINGERPRINT)
    for number in range(70_000):
        masker.remember([Secret(f"hook-of-item-{number:08d}")])

    assert "00069999" not in masker.text("said hook-of-item-00069999")
    assert "00010000" not in masker.text("said hook-of-item-00010000")
    assert "00000001" in masker.text("said hook-of-item-00000001")


def test_a_secret_across_a_cut() -> None:
    """A text is masked before it is cut, wherever the secret stands."""
    secret = Secret("0123456789abcdefghij" * 4)
    masker = Masker(FINGERPRINT, [secret])

    for shift in (*range(380, 510), *range(4000, 4100)):
        shown = masker.server_text("." * shift + secret.reveal() + " tail")
        assert "012345" not in shown
        assert "abcdef" not in shown


@pytest.mark.parametrize("kept", range(6, 40))
def test_a_server_that_cuts(kept: int) -> None:
    """A secret that the server has cut at the end of its text is masked from 6 characters on."""
    secret = Secret("0123456789abcdefghijklmnopqrstuvwxyz-0123456789")

    assert "012345" not in Masker(FINGERPRINT).text(f"token {secret.reveal()[:kept]}", [secret])


@given(st.text(max_size=300))
@example("%" * 50)
@example("\\" * 50)
@example("\\ud800\\udc00\\ud800&#x110000;&#0;&#xD800;%C3%ff")
def test_innocent_text_is_left_alone(text: str) -> None:
    """A text that holds no secret stays as it is, character by character."""
    assert Masker(FINGERPRINT, [Secret("no-text-holds-this-one")]).text(text) == text


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
    assert "passw0rd" not in Masker(FINGERPRINT).server_text("see https://user:passw0rd@host.example/path")
    assert "passw0rd" not in Masker(FINGERPRINT).server_text("see https://user:passw0rd@host.example")


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


def test_a_short_secret_is_remembered_without_harm() -> None:
    """It is too short to be looked for in texts."""
    masker = Masker(Fingerprinter(bytes(32)))
    masker.remember([Secret("abc"), Secret("")])
    assert masker.text("abc is a word", []) == "abc is a word"
