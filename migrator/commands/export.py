"""Export: reads an API's collection into an items file, page by page, so that a rotation begins with an editor."""

import csv
import io
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from migrator.api.expressions import search
from migrator.api.reader import Page, member
from migrator.api.session import Session, open_session, safe_base_url, system_clock
from migrator.errors import MigratorError, PagingError, ReadingError, WaitTooLong
from migrator.job.csv_reader import neutralised
from migrator.job.profile.api_profile import ApiProfile
from migrator.job.profile.collection import Collection, fault_in_expression
from migrator.options import RunOptions
from migrator.results import Exit
from migrator.secret import Masker, Secret, is_mask
from migrator.store import files
from migrator.store.state_folder import StateFolder

__all__ = ["Exported", "export", "git_would_take"]

PART: Final = ".part"
CURSOR: Final = ".cursor"


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        rows: records that were wanted.
        records: records that the collection has.
        masked: secrets that the API does not show.
        resumed: whether it went on where another process had stopped.
    """

    rows: int
    records: int
    masked: int
    resumed: bool


class _Cursor(msgspec.Struct, kw_only=True):
    """How far an export has come, durably: what stands behind `size` in the unfinished file is written again."""

    question: str
    next_url: str | None
    size: int
    read: bool = False
    rows: int = 0
    records: int = 0
    masked: int = 0


async def export(api: ApiProfile, options: RunOptions, *, out: Path, where: str | None, redact: bool) -> Exported:
    """Write an API's collection into a CSV file with mode 0600; resumes one that was broken off.

    Args:
        api: the API.
        options: server, pace and limits.
        out: the file.
        where: a JMESPath expression that a record has to fulfil.
        redact: write fingerprints in place of secrets.

    Raises:
        MigratorError: the API has no list, the expression is not valid, or the collection cannot be read.
        FolderError: the file cannot be written.
    """
    collection = api.collection
    if collection is None or not collection.columns:
        raise MigratorError(f"the profile of {api.name} has no collection with columns, which an export needs")
    if where is not None and (fault := fault_in_expression(where)):
        raise MigratorError(f"--where {fault}")
    base_url = safe_base_url(api, options)
    state = StateFolder.open(Path(options.state))
    masker = state.masker(api.credentials())
    asked = (base_url, where, redact, replace(collection, secrets=frozenset()), sorted(collection.secrets))
    writer = _Writer(api, collection, masker, out=out, where=where, redact=redact, question=repr(asked))

    try:
        async with open_session(
            api, options, base_url=base_url, state=state, masker=masker, clock=system_clock()
        ) as session:
            return await writer.write(session)
    except PagingError:
        raise
    except (ReadingError, WaitTooLong) as error:
        raise MigratorError(f"{error}; give the same command again to resume", Exit.STOPPED) from None


class _Writer:
    def __init__(
        self,
        api: ApiProfile,
        collection: Collection,
        masker: Masker,
        *,
        out: Path,
        where: str | None,
        redact: bool,
        question: str,
    ) -> None:
        self._rules = api.rules
        self._collection = collection
        self._masker = masker
        self._out = out
        self._part = out.with_name(out.name + PART)
        self._cursor_file = out.with_name(out.name + CURSOR)
        self._where = where
        self._redact = redact
        self._question = masker.fingerprint.digest(question)

    async def write(self, session: Session) -> Exported:
        cursor = self._begun()
        resumed = cursor is not None
        if cursor is None:
            cursor = _Cursor(question=self._question, next_url=None, size=0)
            self._append(cursor, [self._collection.columns], truncate=True)
        if not cursor.read:
            pages = session.reader.pages(
                self._collection,
                base_url=session.base_url,
                rules=self._rules,
                start=cursor.next_url,
                before=cursor.records,
            )
            async for page in pages:
                self._add(cursor, page)
        self._part.replace(self._out)
        self._cursor_file.unlink(missing_ok=True)
        return Exported(rows=cursor.rows, records=cursor.records, masked=cursor.masked, resumed=resumed)

    def _begun(self) -> _Cursor | None:
        """Return how far an earlier process has come with the same question, if it left anything."""
        try:
            if self._cursor_file.is_symlink() or self._part.is_symlink():
                return None
            cursor = files.decoded(self._cursor_file.read_bytes(), _Cursor)
            if cursor is None or cursor.question != self._question or self._part.stat().st_size < cursor.size:
                return None
        except OSError:
            return None
        os.truncate(self._part, cursor.size)
        return cursor

    def _add(self, cursor: _Cursor, page: Page) -> None:
        rows = []
        for record in page.records:
            cursor.records += 1
            if self._where is None or search(self._where, record):
                rows.append([self._cell(cursor, record, column) for column in self._collection.columns])
        cursor.rows += len(rows)
        cursor.next_url = page.next
        cursor.read = page.next is None
        self._append(cursor, rows)

    def _append(self, cursor: _Cursor, rows: Sequence[Sequence[str]], *, truncate: bool = False) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        with files.open_private(self._part, "wb" if truncate else "ab") as file:
            file.write(text.getvalue().encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
            cursor.size = os.fstat(file.fileno()).st_size
        with files.write_atomically(self._cursor_file) as file:
            file.write(msgspec.json.encode(cursor))

    def _cell(self, cursor: _Cursor, record: Mapping[str, Any], column: str) -> str:
        value = member(record, column)
        if value is None:
            return ""
        cell = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if column in self._collection.secrets:
            if is_mask(cell):
                cursor.masked += 1
            elif self._redact:
                return self._masker.shown(Secret(cell))
        return neutralised(cell)


def git_would_take(path: Path) -> bool:
    """Tell whether a file lies in a git working tree that does not ignore it."""
    try:
        done = subprocess.run(  # noqa: S603  a fixed command
            ["git", "-C", str(path.parent), "check-ignore", "--quiet", path.name],  # noqa: S607  wherever git is
            check=False,
            capture_output=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 1
