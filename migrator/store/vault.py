"""Before-images under lock and key: what a service held before a write, secrets and all, for the key's owner alone.

AES-256-GCM under a key that scrypt derives from the user's passphrase and a salt of the run's own (RFC 7914; it is kept
in the ledger). The item is bound into each image, so that none can be put into another's place.
"""

import os
from pathlib import Path
from secrets import token_bytes
from typing import Final

import msgspec

from migrator.errors import MigratorError, VaultError
from migrator.messages import JSON
from migrator.options import RunOptions
from migrator.secret import Secret

__all__ = ["SALT_BYTES", "Vault", "read_passphrase"]

SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
COST, BLOCK, LANES = 2**15, 8, 1
"""scrypt's parameters for a key that is derived once a run: 32 MiB and a tenth of a second."""


class Vault:
    """Locks and opens before-images.

    Args:
        key: derived from the user's, 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.key = key
        self._cipher = AESGCM(key)

    @classmethod
    def derived(cls, passphrase: Secret, *, salt: bytes) -> "Vault":
        """Return the vault of a run.

        Args:
            passphrase: the user's key.
            salt: of the run, 16 bytes.
        """
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        return cls(Scrypt(salt=salt, length=32, n=COST, r=BLOCK, p=LANES).derive(passphrase.reveal().encode()))

    def lock(self, item: int, image: JSON) -> bytes:
        """Return an item's image, encrypted."""
        nonce = token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, msgspec.json.encode(image), _bound(item))

    def open(self, item: int, locked: bytes) -> JSON:
        """Return an item's image.

        Raises:
            VaultError: it was locked with another key, for another item, or was changed.
        """
        from cryptography.exceptions import InvalidTag

        try:
            plain = self._cipher.decrypt(locked[:NONCE_BYTES], locked[NONCE_BYTES:], _bound(item))
        except InvalidTag:
            raise VaultError("the state before the run cannot be read: it was kept with another key") from None
        found: JSON = msgspec.json.decode(plain)
        return found

    def __repr__(self) -> str:
        return "<vault>"


def _bound(item: int) -> bytes:
    return f"item {item}".encode()


KEY_VARIABLE: Final = "MIGRATOR_KEY"
SHORTEST_KEY: Final = 12


def read_passphrase(options: RunOptions) -> Secret:
    """Return the user's key for what is kept for a rollback.

    Raises:
        MigratorError: there is none, or it is too short.
    """
    if options.key_file is not None:
        try:
            key = Path(options.key_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "cannot be read"
            raise MigratorError(f"the key file {options.key_file}: {why}") from None
    else:
        key = os.environ.get(KEY_VARIABLE, "")
    if len(key) < SHORTEST_KEY:
        raise MigratorError(
            f"what is kept for a rollback is encrypted: put a key of {SHORTEST_KEY} characters or more into a file for "
            f"--key-file, or into the variable {KEY_VARIABLE}, and keep it"
        )
    return Secret(key)
