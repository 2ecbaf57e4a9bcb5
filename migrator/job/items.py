"""Items files: from an open stream to items or problems, one by one, in constant memory.

A row that cannot be read is a problem, and reading goes on behind it wherever that is possible.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

from migrator.job.csv_reader import TYPES, CSVTable, as_text, read_types, restored, types_of
from migrator.job.job_file import Empty, Job, Join
from migrator.job.json_reader import array_entries, json_lines
from migrator.job.placeholders import columns_in
from migrator.job.problems import Problem, compile_schema, explain, hints, member_names
from migrator.job.rendering import text_of
from migrator.messages import JSON
from migrator.secret import Secret, is_stand_in

__all__ = ["Form", "Item", "flatten", "read_cells", "read_items"]

INTEGER: Final = re.compile(r"-?(0|[1-9]\d{0,999})")
NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?")
IGNORED_PREFIX: Final = "_"

BLANKS: Final = 'has blanks around it: take them off, or set "trim": true in the job file'

UNKNOWN: Final = "unknown"
"""In the place of an id that is not known yet."""

Value: TypeAlias = "JSON | Secret | Decimal"


class Form(StrEnum):
    """How an items file is written."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


class Item(NamedTuple):
    """One row of the input.

    Attributes:
        number: from 1, in the input's order.
        key: what names it.
        values: by column; a nested member of a JSON item by its dotted name. Those of secret columns are `Secret`.
        line: where it begins in the file.
    """

    number: int
    key: str
    values: Mapping[str, Any]
    line: int


_Row: TypeAlias = tuple[int, int, dict[str, Any]]
"""A row's number and line, and its cells by column, or the members of a JSON object, flat."""

Skip: TypeAlias = Callable[[int], bool]
"""Tells whether the row with a number is passed over."""


def read_items(
    source: BinaryIO, *, form: Form, job: Job, name: str, skip: Skip | None = None
) -> Iterator[Item | Problem]:
    """Yield every item of a stream, or what is wrong with it.

    Args:
        source: the bytes, at their beginning.
        form: how they are written.
        job: says what columns mean.
        name: the file's name, for problems.
        skip: is asked for each row in turn; nothing is made or said of one that is skipped.
    """
    rules = _Rules(job, name, each=form is not Form.CSV)
    rows = _csv_rows(source, name, rules) if form is Form.CSV else _json_rows(source, form, name)
    if rules.trims() and form is not Form.CSV:
        rows = _trimmed(rows)
    return rules.items(rows, skip)


def read_cells(source: BinaryIO, *, form: Form, name: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the input's own columns and, for each item, its number and its cells as text.

    Columns that begin with an underscore are left out: they are results of an earlier run. The columns of a JSON input
    are the union of its items' members in the order in which they first appear, for which it is read twice. The last
    column says which cells are no text (`TYPES`); a CSV input that was made of such an input has it too.
    """
    if form is Form.CSV:
        with as_text(source) as text:
            table = CSVTable(text, name)
            kept = [
                place
                for place, column in enumerate(table.columns)
                if column == TYPES or not column.startswith(IGNORED_PREFIX)
            ]
        source.seek(0)
        return [table.columns[place] for place in kept], _csv_cells(source, name, kept)
    columns: dict[str, None] = {}
    for row in _json_rows(source, form, name):
        if not isinstance(row, Problem):
            columns.update(dict.fromkeys(column for column in row[2] if not column.startswith(IGNORED_PREFIX)))
    source.seek(0)
    return [*columns, TYPES], _json_cells(source, form, name, list(columns))


def _csv_cells(source: BinaryIO, name: str, kept: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    with as_text(source) as text:
        for found in CSVTable(text, name).rows():
            if not isinstance(found, Problem):
                number, _, cells = found
                yield number, [restored(cells[place]) for place in kept]


def _json_cells(source: BinaryIO, form: Form, name: str, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    for row in _json_rows(source, form, name):
        if not isinstance(row, Problem):
            cells = ["" if (value := row[2].get(column)) is None else text_of(value) for column in columns]
            yield row[0], [*cells, types_of(row[2])]


def flatten(members: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return an object's members with those of nested objects under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in members.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


class _Rules:
    """What a job says of its columns, compiled once."""

    def __init__(self, job: Job, name: str, *, each: bool) -> None:
        self._job = job
        self._name = name
        self._each = each
        self._secrets = tuple(sorted(job.secrets))
        self._schema = compile_schema(job.item_schema)
        properties = job.item_schema.get("properties")
        self._properties = properties if isinstance(properties, Mapping) else {}
        self.converters = {column: self._converter(column) for column in self._properties}
        request = job.request
        self._needed = {*columns_in(request.path), *job.key}
        self._joined: frozenset[str] = frozenset()
        if job.join is not None:
            self._joined = frozenset(columns_in(request.path)) - {job.join.column}
            self._needed = {*self._needed, job.join.column} - self._joined
        self._needed |= set(job.api.auth.columns.values())
        self._named = (
            self._needed | set(columns_in([request.body, request.wanted, dict(request.headers)])) | job.secrets
        ) - self._joined
        self._known = self._named | set(self._properties) | ({job.api.limiter_column or ""} - {""})
        self._open = not (request.has_body or request.has_wanted)
        self._ignored = job.ignored - self._named
        self._ignores_all = "*" in job.ignored
        if self._open:
            limits = job.api.limits.get(f"{request.method} {request.path}", {})
            self._known |= set(member_names(limits))
        self._segments = tuple(sorted(set(columns_in(request.path)) - set(job.key)))

    def ignores(self, column: str) -> bool:
        """Tell whether a column may be there and is not used."""
        unused = column in self._ignored or (self._ignores_all and column not in self._known)
        return column.startswith(IGNORED_PREFIX) or unused

    def trims(self) -> bool:
        """Return whether blanks are taken off values."""
        return self._job.trim

    def wrong_columns(self, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the columns of a table that are missing, or that nothing is known of, with a message."""
        present = {column: None for column in columns if not self.ignores(column)}
        # JSON items may leave members out, and so may a table that was made of them.
        needed = self._needed if self._open or TYPES in columns else self._named
        for column in sorted(needed - present.keys()):
            yield column, "the job needs this column, and it is missing"
        yield from self._unknown(present)

    def _unknown(self, present: Iterable[str]) -> Iterator[tuple[str, str]]:
        if not self._open:
            wrong = [column for column in present if column not in self._known and not self.ignores(column)]
            for column, hint in zip(wrong, hints(wrong, self._known), strict=True):
                yield column, "unknown column" + hint

    def items(self, rows: Iterator[_Row | Problem], skip: Skip | None = None) -> Iterator[Item | Problem]:
        """Yield an item, or all that is wrong, for each row that is not skipped."""
        is_valid, key_columns = self._schema.is_valid, self._job.key
        each = self._each
        join = self._job.join
        # The constructor of a named tuple is written in Python, and takes a twentieth of a check.
        hide, new_item = self._hide, tuple.__new__
        single = key_columns[0] if len(key_columns) == 1 else None
        segments = self._segments
        for row in rows:
            if isinstance(row, Problem):
                yield row
                continue
            number, line, values = row
            if skip is not None and skip(number):
                continue
            if join is not None and (message := self._join(join, values)):
                yield Problem(self._name, line, None, join.column, message)
                continue
            key = values.get(single) if single is not None else self._joined_key(values)
            if each and (wrong := self._without_unused(values)):
                yield from (Problem(self._name, line, None, column, message) for column, message in wrong)
                continue
            if type(key) is not str or not is_valid(values) or not key.isprintable() or key.strip() != key or not key:
                yield from self._problems(row)
                continue
            if segments and (blanks := self._with_blanks(segments, values)):
                yield Problem(self._name, line, None, blanks, BLANKS)
                continue
            if (secret := hide(values)) is None:
                yield new_item(Item, (number, key, values, line))
            else:
                yield Problem(self._name, line, None, *secret)

    def _join(self, join: Join, values: dict[str, Any]) -> str | None:
        """Add what the path needs from the record that a row names; return why that cannot be."""
        if self._job.lookup is None:
            # Before the records are known, as in a check without network, any will do.
            values.update(dict.fromkeys(self._joined, UNKNOWN))
            return None
        value = values.get(join.column)
        found = self._job.lookup(str(value)) if isinstance(value, str | int) else "is empty, and names no record"
        if isinstance(found, str):
            return found
        if missing := self._joined - found.keys():
            return f"names a record without {', '.join(sorted(missing))}"
        values.update({name: found[name] for name in self._joined})
        return None

    def _without_unused(self, values: dict[str, Any]) -> list[tuple[str, str]]:
        """Remove the members that are not used, and return those of which nothing is known, each with a message."""
        for column in [column for column in values if self.ignores(column)]:
            del values[column]
        return list(self._unknown(values))

    def _with_blanks(self, columns: Iterable[str], values: Mapping[str, Any]) -> str | None:
        """Return the first of the columns whose value has blanks around it."""
        return next((one for one in columns if isinstance(text := values.get(one), str) and text.strip() != text), None)

    def _hide(self, values: dict[str, Any]) -> tuple[str, str] | None:
        """Turn the values of secret columns into secrets; return the column of one that is none, and why."""
        for column in self._secrets:
            value = values.get(column)
            if type(value) is str:
                if is_stand_in(value):
                    return column, "holds a mask in place of the secret, which is never written back"
                values[column] = Secret(value)
            elif value is not None:
                return column, "is a secret, and has to be a string"
        return None

    def _joined_key(self, values: Mapping[str, Any]) -> str | None:
        parts = [values.get(column) for column in self._job.key]
        return None if any(part is None or part == "" for part in parts) else "/".join(str(part) for part in parts)

    def _problems(self, row: _Row) -> Iterator[Item | Problem]:
        found = False
        _, line, values = row
        for path, message in explain(self._schema.iter_errors(values)):
            found = True
            yield Problem(self._name, line, None, ".".join(str(step) for step in path) or None, message)
        for column in self._job.key:
            value = values.get(column)
            if isinstance(value, int | Decimal) and not isinstance(value, bool):
                # A number names an item as well as its text does.
                values[column] = str(value)
                if not found:
                    yield from self.items(iter([row]))
                return
            if not isinstance(value, str) or not value.strip():
                found = True
                yield Problem(self._name, line, None, column, "is the key and may not be empty")
            elif value.strip() != value:
                found = True
                yield Problem(self._name, line, None, column, BLANKS)
            elif not value.isprintable():
                found = True
                yield Problem(self._name, line, None, column, "is the key, and may not hold control characters")

    def _converter(self, column: str) -> Callable[[str], Any] | None:
        """Return how a cell of a column is read, by the type that the item's schema names; None for text."""
        schema = self._properties[column]
        kind = schema.get("type") if isinstance(schema, Mapping) else None
        kinds = {kind} if isinstance(kind, str) else set(kind) if isinstance(kind, Sequence) else set()
        if "string" in kinds:
            return None
        if "number" in kinds:
            return _number
        if "integer" in kinds:
            return _integer
        return _boolean if "boolean" in kinds else None

    def empty(self) -> Empty:
        """Return what an empty cell becomes."""
        return self._job.empty


def _integer(cell: str) -> int | str:
    return int(cell) if INTEGER.fullmatch(cell) else cell


def _number(cell: str) -> int | float | Decimal | str:
    if INTEGER.fullmatch(cell):
        return int(cell)
    if not NUMBER.fullmatch(cell):
        return cell
    try:
        exact = Decimal(cell)
    except InvalidOperation:
        return cell
    return float(cell) if Decimal(repr(float(cell))) == exact else exact


def _boolean(cell: str) -> bool | str:
    return {"true": True, "false": False}.get(cell, cell)


def _csv_rows(source: BinaryIO, name: str, rules: _Rules) -> Iterator[_Row | Problem]:
    with as_text(source) as text:
        table = CSVTable(text, name)
        wrong = [Problem(name, 1, None, column, message) for column, message in rules.wrong_columns(table.columns)]
        yield from table.problems or wrong
        if table.problems or wrong:
            return
        columns, empty = table.columns, rules.empty()
        converted = [
            (place, convert) for place, column in enumerate(columns) if (convert := rules.converters.get(column))
        ]
        ignored = [column for column in columns if rules.ignores(column)]
        trims = rules.trims()
        special = bool(converted or ignored)
        types = columns.index(TYPES) if TYPES in columns else None
        for found in table.rows():
            if isinstance(found, Problem):
                yield found
                continue
            number, line, cells = found
            if table.has_apostrophes:
                cells = [restored(cell) for cell in cells]
            if trims:
                cells = [cell.strip() for cell in cells]
            values: dict[str, Any] = dict(zip(columns, cells))  # noqa: B905  the widths have been compared
            if special:
                for place, convert in converted:
                    values[columns[place]] = convert(cells[place])
                for column in ignored:
                    del values[column]
            if "" in cells:
                _fill(values, empty if types is None else Empty.OMIT)
            wrong_type = None if types is None else read_types(values, cells[types])
            yield (number, line, values) if wrong_type is None else Problem(name, line, None, *wrong_type)


def _fill(values: dict[str, Any], empty: Empty) -> None:
    """Make of empty cells what the job says."""
    for column in [column for column, value in values.items() if value == ""]:
        if empty is Empty.OMIT:
            del values[column]
        elif empty is Empty.NULL:
            values[column] = None


def _trimmed(rows: Iterator[_Row | Problem]) -> Iterator[_Row | Problem]:
    """Take blanks off the values of JSON items."""
    for row in rows:
        if isinstance(row, Problem):
            yield row
        else:
            number, line, values = row
            yield number, line, {name: one.strip() if type(one) is str else one for name, one in values.items()}


def _json_rows(source: BinaryIO, form: Form, name: str) -> Iterator[_Row | Problem]:
    documents = array_entries if form is Form.JSON else json_lines
    number, empty = 0, True
    for one in documents(source, name):
        empty = False
        if isinstance(one, Problem):
            yield one
            continue
        number += 1
        line, value = one
        if not isinstance(value, dict):
            yield Problem(name, line, None, None, "an item has to be a JSON object")
            continue
        yield number, line, flatten(value)
    if empty:
        yield Problem(name, 1, None, None, "holds no items")
