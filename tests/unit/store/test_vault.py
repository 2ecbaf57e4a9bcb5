"""Before-images are for the key's owner alone, each bound to its item."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import MigratorError, VaultError
from migrator.options import RunOptions
from migrator.secret import Secret
from migrator.store.vault import SALT_BYTES, Vault, read_passphrase

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
IMAGES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@cache
def vault(key: str = "a long passphrase", salt: bytes = b"s" * SALT_BYTES) -> Vault:
    """Return a vault; deriving its key takes a tenth of a second, so each is made once."""
    return Vault.derived(Secret(key), salt=salt)


@settings(max_examples=30)
@given(st.integers(1, 10**9), IMAGES)
def test_image_comes_back_as_it_was(item: int, image: object) -> None:
    """Any JSON that a service holds is given back, and the locked bytes do not repeat."""
    locked = vault().lock(item, image)  # type: ignore[arg-type]

    assert vault().open(item, locked) == image
    assert vault().lock(item, image) != locked


@given(st.integers(0, 200), st.integers(1, 255))
def test_changed_image_is_refused(place: int, bits: int) -> None:
    """A flipped bit anywhere, nonce and tag included, is noticed."""
    locked = bytearray(vault().lock(7, {"name": "made-up"}))
    locked[place % len(locked)] ^= bits

    with pytest.raises(VaultError):
        vault().open(7, bytes(locked))


def test_image_is_bound_to_its_item() -> None:
    """The image of one item is not taken for another's: a rollback would write the wrong record."""
    with pytest.raises(VaultError, match="another key"):
        vault().open(8, vault().lock(7, {}))


def test_other_key_or_other_run_opens_nothing() -> None:
    """Neither another passphrase nor another run's salt opens an image."""
    locked = vault().lock(7, {"webhook_url": "made-up-secret"})

    assert b"made-up-secret" not in locked
    for other in (vault("another passphrase"), vault(salt=b"t" * SALT_BYTES)):
        with pytest.raises(VaultError, match="another key"):
            other.open(7, locked)


def test_key_comes_from_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named wins over the variable; blanks around the key do not count."""
    (tmp_path / "key").write_text("  a key in a file\n")
    monkeypatch.setenv("MIGRATOR_KEY", "twelve chars")

    assert read_passphrase(RunOptions()).reveal() == "twelve chars"
    assert read_passphrase(RunOptions(key_file=str(tmp_path / "key"))).reveal() == "a key in a file"


@pytest.mark.parametrize("key", [None, "", "eleven char"])
def test_short_key_is_refused(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    """The message says where a key goes, and not what it was."""
    monkeypatch.delenv("MIGRATOR_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("MIGRATOR_KEY", key)

    with pytest.raises(MigratorError, match=r"12 characters or more .* MIGRATOR_KEY") as refused:
        read_passphrase(RunOptions())
    assert "eleven" not in str(refused.value)


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"\xff\xff\xff", "cannot be read")])
def test_key_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None, why: str) -> None:
    """A missing file, or one that is no text, is a message and not a traceback."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)

    with pytest.raises(MigratorError, match=f"the key file .*key: {why}"):
        read_passphrase(RunOptions(key_file=str(tmp_path / "key")))
