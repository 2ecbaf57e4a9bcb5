"""What was last sent with success: a keyed digest of each item's request, over all runs of a job on a server."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from migrator.messages import Request
from migrator.secret import Fingerprinter
from migrator.store.files import open_private

__all__ = ["SentBefore"]

BATCH: Final = 500
"""Items that are written together; those of a process that dies in between are sent once more."""


class SentBefore:
    """Made by `SentBefore.open`.

    Args:
        connection: to the file.
        fingerprint: makes the digests.
    """

    def __init__(self, connection: sqlite3.Connection, fingerprint: Fingerprinter) -> None:
        self._connection = connection
        self._fingerprint = fingerprint
        self._pending: list[tuple[str, str]] = []

    @classmethod
    @contextmanager
    def open(cls, path: Path, fingerprint: Fingerprinter) -> Iterator["SentBefore"]:
        """Open the file, which is made with mode 0600, and close it on leaving.

        Raises:
            FolderError: it cannot be made.
            sqlite3.Error: it cannot be used.
        """
        if not path.exists():
            open_private(path, "ab").close()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS sent (key TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID"
            )
            sent = cls(connection, fingerprint)
            try:
                yield sent
            finally:
                sent.flush()

    def holds(self, request: Request) -> bool:
        """Tell whether the very same request was the last that succeeded for its item."""
        row = self._connection.execute("SELECT digest FROM sent WHERE key = ?", (request.key,)).fetchone()
        return row is not None and row[0] == self._digest(request)

    def note(self, request: Request) -> None:
        """Note that a request has succeeded."""
        self._pending.append((request.key, self._digest(request)))
        if len(self._pending) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT OR REPLACE INTO sent VALUES (?, ?)", self._pending)
        self._connection.execute("COMMIT")
        self._pending.clear()

    def _digest(self, request: Request) -> str:
        body = (request.wanted or request.body or b"").decode("utf-8", "surrogateescape")
        return self._fingerprint.digest(f"{request.method} {request.url}\n{body}")

    def __repr__(self) -> str:
        return f"<sent before: {len(self._pending)} pending>"
