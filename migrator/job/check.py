"""The whole input, before the first request: every problem, in constant memory."""

import array
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, Final

import msgspec
from msgspec.structs import replace

from migrator.job.items import Form, Item, read_items
from migrator.job.job_file import Job
from migrator.job.problems import Problem
from migrator.job.template import Template

__all__ = ["Verdict", "check"]

SHOWN: Final = 100
"""Problems that are kept; the rest is counted."""

SAME_CAUSE: Final = 3
"""Rows with the same problem that are named one by one; of more, only the first is."""

LONGEST_URL: Final = 8000
"""Characters: what servers have to accept (RFC 9110, section 4.1)."""

LONG_KEY: Final = 200
PROVEN: Final = 1000

UNSENDABLE: Final = (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What is raised where a request cannot be written."""

PARTITIONS: Final = 64
"""Parts into which the keys' hashes fall, so that a set of one part takes little memory."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with an input.

    Attributes:
        items: rows, good and bad.
        problems: the first hundred; one that many rows have stands there once.
        problem_count: all of them, each row counted.
        digest: SHA-256 of the bytes.
        selected: the number of each item that was asked for, by its key; None for all.
        warnings: what may be wrong, each cause once; nothing of it keeps an item from being sent.
    """

    items: int
    problems: tuple[Problem, ...]
    problem_count: int
    digest: str
    selected: Mapping[str, int] | None = None
    warnings: tuple[str, ...] = ()


def check(
    source: BinaryIO,
    *,
    form: Form,
    job: Job,
    name: str,
    limit: int | None = None,
    only: Sequence[str] | None = None,
    see: Callable[[Item], None] | None = None,
) -> Verdict:
    """Check every row of an input; what comes after the limit is not read.

    Args:
        source: a seekable stream, at its beginning.
        form: how it is written.
        job: says what is allowed.
        name: the input's name, for problems.
        limit: rows to check.
        only: the keys of the items that are wanted; None for all. A key that no row has is a problem.
        see: is told each item that can be sent.
    """
    keys = _Keys()
    wanted: dict[str, int | None] = dict.fromkeys(only or ())
    rows = 0
    problems = _Problems()
    template = Template.compile(job)
    add, is_fine, proves = keys.add, template.is_fine, _Proof(template, form)
    for found in read_items(source, form=form, job=job, name=name):
        wrong = () if isinstance(found, Item) and is_fine(found) and proves(found) else _problems(found, template, name)
        if isinstance(found, Item) and not wrong:
            rows += 1
            add(found.key)
            if see is not None:
                see(found)
            if found.key in wanted:
                wanted[found.key] = found.number
            if rows == limit:
                break
            continue
        problems.add(wrong)
    problems.add(_repeated(keys, source, form=form, job=job, name=name, limit=limit))
    problems.add(
        Problem(name, None, None, None, f"has no item with the key {key}") for key in wanted if wanted[key] is None
    )
    if not rows and not problems.count:
        problems.add([Problem(name, None, None, None, "holds no items")])
    return Verdict(
        items=rows,
        problems=problems.shown(),
        problem_count=problems.count,
        digest=_digest(source),
        selected=None if only is None else {key: number for key, number in wanted.items() if number is not None},
    )


class _Proof:
    """Makes an item's very request, as `run` will: what cannot be encoded is found before anything is sent.

    Cells of a CSV file are text that came from UTF-8, so that one of them encodes as well as another: there the first
    thousand rows are made, and every row with a long key, whose URL may be too long.
    """

    def __init__(self, template: Template, form: Form) -> None:
        self._request = template.request
        self._left = PROVEN if form is Form.CSV else -1

    def __call__(self, item: Item) -> bool:
        """Tell whether the item's request can be made; False where it takes a closer look."""
        if not self._left and len(item.key) < LONG_KEY:
            return True
        self._left -= self._left > 0
        try:
            return len(self._request(item).url) <= LONGEST_URL
        except UNSENDABLE:
            return False


class _Problems:
    """Counts problems and keeps the first ones; what many rows have is kept once, with the number of rows."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: dict[tuple[str | None, str], list[Problem]] = {}
        self._rows: Counter[tuple[str | None, str]] = Counter()

    def add(self, found: Iterable[Problem]) -> None:
        """Add problems."""
        for problem in found:
            self.count += 1
            kind = problem.field, problem.message
            if kind in self._kept or len(self._kept) < SHOWN:
                self._rows[kind] += 1
                same = self._kept.setdefault(kind, [])
                if len(same) < SAME_CAUSE:
                    same.append(problem)

    def shown(self) -> tuple[Problem, ...]:
        """Return them in the order of the input."""
        found = []
        for kind, same in self._kept.items():
            rows = self._rows[kind]
            found += same if rows <= SAME_CAUSE else [replace(same[0], rows=rows)]
        return tuple(sorted(found, key=lambda problem: problem.line or 0))[:SHOWN]


def _problems(found: Item | Problem, template: Template, name: str) -> Sequence[Problem]:
    """Return what keeps a row from being sent."""
    if isinstance(found, Problem):
        return [found]
    wrong = [Problem(name, found.line, None, column, message) for column, message in template.problems(found)]
    if not wrong:
        try:
            if len(template.request(found).url) > LONGEST_URL:
                message = f"makes a URL of more than {LONGEST_URL:,} characters, which servers need not accept"
                wrong.append(Problem(name, found.line, None, None, message))
        except UNSENDABLE:
            message = "cannot be written as a request: a value holds what JSON or a header cannot say"
            wrong.append(Problem(name, found.line, None, None, message))
    return wrong


def _digest(source: BinaryIO) -> str:
    source.seek(0)
    digest = hashlib.sha256()
    while chunk := source.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


class _Keys:
    """Finds keys that may be there twice: their hashes, 8 bytes each, in parts that are searched one by one."""

    def __init__(self) -> None:
        self._parts = [array.array("q") for _ in range(PARTITIONS)]

    def add(self, key: str) -> None:
        """Note a key."""
        # Python's own hash of a text is keyed differently in each process, so that no input can be made to collide.
        value = hash(key)
        self._parts[value % PARTITIONS].append(value)

    def repeated(self) -> set[int]:
        """Return the hashes that are there more than once."""
        found: set[int] = set()
        for part in self._parts:
            seen: set[int] = set()
            for value in part:
                if value in seen:
                    found.add(value)
                seen.add(value)
        return found


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
