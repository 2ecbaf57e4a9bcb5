"""Whatever bytes a server sends, `decode` returns a document that can be relied on, or says why it cannot."""

import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrator.job.json_reader import DEEPEST, StrictJSONError, Unreadable, array_entries, decode, json_lines, read_json
from migrator.job.problems import Problem

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(document=documents, ascii_only=st.booleans(), indent=st.sampled_from([None, 2]))
@example(document={":": 1, '":': "a:b", "é": ["\U0001f600:"]}, ascii_only=True, indent=2)
def test_documents_are_read(document: Any, ascii_only: bool, indent: int | None) -> None:
    """A valid document is read, however it is written."""
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)

    assert decode(text.encode("utf-8", "surrogatepass")) == document


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """No bytes raise; what is read has no number that JSON lacks, and can be written again."""
    found = decode(data)

    assert isinstance(found, Unreadable) or decode(json.dumps(found, allow_nan=False).encode()) == found


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_in_a_text(byte: int) -> None:
    """Each byte inside a text gives a document or a reason: none is an exception."""
    found = decode(b'{"error": {"detail": "a' + bytes([byte]) + b'b"}}')

    readable = 0x20 <= byte < 0x80 and byte not in b'"\\'
    # A backslash before a b is an escape.
    assert isinstance(found, Unreadable) != (readable or byte == 0x5C)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param("ungültig".join('""').encode("latin-1"), "is not UTF-8", id="Latin-1"),
        pytest.param(b'{"\xe9": 1}', "is not UTF-8", id="a name in Latin-1"),
        pytest.param('{"a": 1}'.encode("utf-16"), "is no JSON", id="UTF-16"),
        pytest.param(b'"\xed\xa0\x80"', "is not UTF-8", id="a surrogate in UTF-8"),
        pytest.param(rb'"\ud800"', "is no JSON", id="a lone surrogate"),
        pytest.param(rb'"\udc00\ud800"', "is no JSON", id="surrogates the wrong way round"),
        pytest.param(b"NaN", "is no JSON", id="NaN"),
        pytest.param(b"[-Infinity]", "is no JSON", id="infinity"),
        pytest.param(b"1e999", "is no JSON", id="a number beyond all floats"),
        pytest.param(b"1" * 5000, "is no JSON", id="5,000 digits"),
        pytest.param(b'{"a": 1, "a": 2}', "has a member twice in one object", id="repeated member"),
        pytest.param(rb'{"a": {"b": 1, "b": "\u003a"}}', "has a member twice in one object", id="with a hidden colon"),
        pytest.param(rb'{"a": 1, "\u0061": 2}', "has a member twice in one object", id="spelt in two ways"),
        pytest.param(b"[" * 101 + b"]" * 101, "is nested too deeply", id="101 levels"),
        pytest.param(b"[" * 900 + b"]" * 900, "is nested too deeply", id="900 levels"),
        pytest.param(b'{"a":' * 100_000, "is nested too deeply", id="100,000 levels"),
        pytest.param(b"", "is no JSON", id="nothing"),
        pytest.param(b"<html>", "is no JSON", id="a page"),
        pytest.param(b"{}{}", "is no JSON", id="two documents"),
    ],
)
def test_unreadable(data: bytes, reason: str) -> None:
    """What JSON's readers disagree about is refused, and the reason quotes nothing."""
    assert decode(data) == Unreadable(reason)


def test_limits() -> None:
    """The deepest document that is allowed is read, and so is a byte order mark; a document without end is not."""
    assert not isinstance(decode(b"[" * DEEPEST + b"]" * DEEPEST), Unreadable)
    assert decode(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert decode(b" " * (1 << 24) + b"{}") == Unreadable("is longer than what is read of it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r'{"a": "\ud83d"}', "lone surrogate"),
        (r'{"\udc00": 1}', "lone surrogate"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
        ('{"b": 1, "a": 1, "a": 2}', "the member 'a' twice"),
        ("[NaN]", "NaN"),
    ],
)
def test_documents_of_ours(text: str, message: str) -> None:
    """A job file that holds what cannot be sent is refused."""
    with pytest.raises(StrictJSONError, match=message):
        read_json(text)


def test_pairs_of_surrogates() -> None:
    """A pair of surrogates is one character, in ASCII as JSON writes it."""
    assert read_json(r'["\ud83d\ude00", "\\ud83d"]') == ["\U0001f600", r"\ud83d"]


def test_items_that_cannot_be_sent() -> None:
    """A lone surrogate and a deep value are problems of their line, in JSON Lines and in arrays."""
    deep = "[" * 900 + "]" * 900
    rows = ['{"id": "1"}', r'{"id": "\ud800"}', f'{{"id": {deep}}}', '{"id": 1.10}']

    lines = list(json_lines(io.BytesIO("\n".join(rows).encode()), "f"))
    problems = [one for one in lines if isinstance(one, Problem)]

    assert [(one.line, one.message[:25]) for one in problems] == [
        (2, "holds a lone surrogate (s"),
        (3, "is nested too deeply: 100"),
    ]
    assert lines[3] == (4, {"id": Decimal("1.10")})
    for row, line in ((rows[1], 3), (rows[2], 3)):
        *_, last = array_entries(io.BytesIO(f'[\n{{"id": 1}},\n{row}]'.encode()), "f")
        assert isinstance(last, Problem)
        assert last.line == line


@given(st.lists(st.sampled_from(["", "\n", "\n\n", " \r\n"]), min_size=2, max_size=40), st.integers(1, 200))
def test_lines_of_an_array(gaps: list[str], size: int) -> None:
    """Each entry of an array has its line, wherever the pieces that are read end."""
    entries = [json.dumps({"text": "x" * size, "place": place}) for place in range(len(gaps))]
    text = "[" + ",".join(gap + entry for gap, entry in zip(gaps, entries, strict=True)) + "]"
    expected = [1 + sum(gap.count("\n") for gap in gaps[: place + 1]) for place in range(len(gaps))]

    class Slow(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            return super().read(61)

    found = list(array_entries(Slow(text.encode()), "f"))

    assert [one[0] for one in found if not isinstance(one, Problem)] == expected
