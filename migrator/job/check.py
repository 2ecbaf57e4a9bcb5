"""The whole input, before the first request: every problem, in constant memory."""

import array
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, Final

from migrator.job.items import Form, Item, read_items
from migrator.job.job_file import Job
from migrator.job.problems import Problem
from migrator.job.template import Template

__all__ = ["Verdict", "check"]

SHOWN: Final = 100
"""Problems that are kept; the rest is counted."""

PARTITIONS: Final = 64
"""Parts into which keys' hashes fall, so that one part of a large input fits in little memory."""

SPILL: Final = 4096
"""Hashes of one part that are held before they go to the disk."""

SPILL_EVERY: Final = 1024
"""Rows after which it is looked whether they should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with an input.

    Attributes:
        items: rows, good and bad.
        problems: the first hundred.
        problem_count: all of them.
        digest: SHA-256 of the bytes.
        warnings: what may be wrong, each cause once; nothing of it keeps an item from being sent.
    """

    items: int
    problems: tuple[Problem, ...]
    problem_count: int
    digest: str
    warnings: tuple[str, ...] = ()


def check(
    source: BinaryIO,
    *,
    form: Form,
    job: Job,
    name: str,
    limit: int | None = None,
    see: Callable[[Item], None] | None = None,
) -> Verdict:
    """Check every row of an input; what comes behind the limit is not looked at.

    Args:
        source: a seekable stream, at its beginning.
        form: how it is written.
        job: says what is allowed.
        name: the input's name, for problems.
        limit: rows to look at.
        see: is told each item that can be sent.
    """
    keys = _Keys()
    rows = 0
    problems: list[Problem] = []
    count = 0
    template = Template.compile(job)
    try:
        add, is_fine = keys.add, template.is_fine
        for found in read_items(source, form=form, job=job, name=name):
            wrong = () if isinstance(found, Item) and is_fine(found) else _problems(found, template, name)
            if isinstance(found, Item) and not wrong:
                rows += 1
                add(found.key)
                if see is not None:
                    see(found)
                if not rows % SPILL_EVERY:
                    keys.spill()
                if rows == limit:
                    break
                continue
            count += len(wrong)
            problems += wrong[: SHOWN - len(problems)]
        for twice in _repeated(keys, source, form=form, job=job, name=name, limit=limit):
            count += 1
            if len(problems) < SHOWN:
                problems.append(twice)
    finally:
        keys.close()
    if not rows and not count:
        count, problems = 1, [Problem(name, None, None, None, "holds no items")]
    problems.sort(key=lambda problem: problem.line or 0)
    return Verdict(items=rows, problems=tuple(problems), problem_count=count, digest=_digest(source))


def _problems(found: Item | Problem, template: Template, name: str) -> Sequence[Problem]:
    """Return what keeps a row from being sent."""
    if isinstance(found, Problem):
        return [found]
    return [Problem(name, found.line, None, column, message) for column, message in template.problems(found)]


def _digest(source: BinaryIO) -> str:
    source.seek(0)
    digest = hashlib.sha256()
    while chunk := source.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


class _Keys:
    """Finds keys that may be there twice: hashes of 8 bytes, in parts, beyond a few thousand on the disk."""

    def __init__(self) -> None:
        self._parts = [array.array("q") for _ in range(PARTITIONS)]
        self._files: list[IO[bytes] | None] = [None] * PARTITIONS

    def add(self, key: str) -> None:
        """Take down a key."""
        # Python's own hash of a text is keyed anew in each process, so that no input can be made to collide.
        value = hash(key)
        self._parts[value % PARTITIONS].append(value)

    def spill(self) -> None:
        """Write to the disk what has become long; to be called every few thousand keys."""
        for index, part in enumerate(self._parts):
            if len(part) >= SPILL:
                file = self._files[index]
                if file is None:
                    file = self._files[index] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the others
                part.tofile(file)
                del part[:]

    def repeated(self) -> set[int]:
        """Return the hashes that are there more than once."""
        found: set[int] = set()
        for part, file in zip(self._parts, self._files, strict=True):
            values = array.array("q")
            if file is not None:
                file.seek(0)
                values.frombytes(file.read())
            seen: set[int] = set()
            for value in (*values, *part):
                if value in seen:
                    found.add(value)
                seen.add(value)
        return found

    def close(self) -> None:
        """Give the temporary files back."""
        for file in self._files:
            if file is not None:
                file.close()


def _repeated(
    keys: _Keys, source: BinaryIO, *, form: Form, job: Job, name: str, limit: int | None
) -> Iterator[Problem]:
    """Yield a problem for each key that stands there again; a second pass makes sure, and finds the first line."""
    suspects = keys.repeated()
    if not suspects:
        return
    source.seek(0)
    first: dict[str, int] = {}
    rows = 0
    template = Template.compile(job)
    for found in read_items(source, form=form, job=job, name=name):
        if not isinstance(found, Item) or _problems(found, template, name):
            continue
        rows += 1
        if hash(found.key) in suspects:
            if found.key in first:
                column = ", ".join(job.key)
                yield Problem(name, found.line, None, column, f"is already the key of line {first[found.key]}")
            else:
                first[found.key] = found.line
        if rows == limit:
            return
