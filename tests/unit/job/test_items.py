"""Items are read as they are written, and what cannot be read is named with its line."""

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.job.csv_reader import neutralised, restored
from migrator.job.items import Form, Item, flatten, read_cells, read_items
from migrator.job.job_file import Empty, Job, load_job
from migrator.job.problems import Problem
from migrator.job.profile.variables import Outside
from migrator.secret import Secret


def job(**changes: Any) -> Job:
    """Return a job of two columns."""
    document: dict[str, Any] = {
        "name": "j",
        "api": {"base_url": "http://127.0.0.1"},
        "request": {"method": "PATCH", "path": "/{id}", "body": {"a": "{a}"}},
        "key": "id",
    }
    return load_job(json.dumps(document | changes), source="job.json", outside=Outside({}, str))


def read(data: bytes, form: Form = Form.CSV, **changes: Any) -> tuple[list[Item], list[str]]:
    """Return the items and the problems, as texts."""
    found = list(read_items(io.BytesIO(data), form=form, job=job(**changes), name="f"))
    return [one for one in found if isinstance(one, Item)], [str(one) for one in found if isinstance(one, Problem)]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"id,a\n1,x\n2,y\n", id="plain"),
        pytest.param(b"\xef\xbb\xbfid,a\r\n1,x\r\n2,y\r\n", id="BOM and CRLF"),
        pytest.param(b"id;a\n1;x\n2;y\n", id="semicolon"),
        pytest.param(b"id\ta\n1\tx\n2\ty", id="tab, no newline at the end"),
        pytest.param(b'"id","a"\n"1","x"\n\n"2","y"\n\n', id="quoted, blank lines"),
        pytest.param(b"a,id,_status\nx,1,old\ny,2,old\n", id="other order, own columns of an earlier run"),
    ],
)
def test_forms_of_csv(data: bytes) -> None:
    """Every common form of CSV gives the same items."""
    items, problems = read(data)

    assert problems == []
    assert [(item.number, item.key, item.values["a"]) for item in items] == [(1, "1", "x"), (2, "2", "y")]


def test_quoted_newlines_keep_line_numbers() -> None:
    """A cell of several lines does not shift the lines of the rows behind it."""
    items, problems = read(b'id,a\n1,"x\ny"\n2,z\n3\n')

    assert [(item.line, item.values["a"]) for item in items] == [(2, "x\ny"), (4, "z")]
    assert problems == ["f:5: has 1 cells, the header has 2"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "f:1: is empty; the first line has to name the columns"),
        (b"id,a,id\n", "f:1: id: is the name of two columns"),
        (b"id,\n", "f:1: column 2 has no name"),
        (b"id,b\n1,x\n", "f:1: a: the job needs this column, and it is missing"),
        (b"id,a,aa\n1,x,y\n", "f:1: aa: unknown column; did you mean a?"),
        (b"id,a\n1,x,y\n", "f:2: has 3 cells, the header has 2"),
        (
            b"id,a\n1,\xff\n",
            "f:2:3: holds a byte that is not UTF-8: if Excel wrote the file, give --encoding windows-1252",
        ),
        (b"id,a\n1,\0\n", "f:2:3: holds a NUL byte"),
        (
            b'id,a\n1,"x\n2,y\n',
            "f:2: a quote that opens in this row is not closed; a quote inside a cell is written twice",
        ),
        (b'id,a\n1,"x"y\n', "f:2: a quote inside a cell has to be written twice, and the whole cell put in quotes"),
        (b"id,a\n,x\n", "f:2: id: is the key and may not be empty"),
    ],
)
def test_problems_of_csv(data: bytes, problem: str) -> None:
    """What is wrong with a table is said with its line."""
    assert problem in read(data)[1]


@given(place=st.integers(1, 8_000), filler=st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_places_in_a_long_table(place: int, filler: int) -> None:
    """A byte that cannot be read is named by its line and column, however far down, and costs its own row alone."""
    lines = [b"id,a", *(f"{number},{'x' * filler}".encode() for number in range(1, 8_001))]
    lines[place] = f"{place},".encode() + b"\xff"

    items, problems = read(b"\n".join(lines))

    where = f"f:{place + 1}:{len(str(place)) + 2}"
    assert [problem.partition(": ")[0] for problem in problems] == [where]
    assert [item.number for item in items] == [number for number in range(1, 8_001) if number != place]


@given(place=st.integers(0, 7_999), pretty=st.booleans())
@settings(max_examples=25, deadline=None)
def test_places_in_a_long_array(place: int, pretty: bool) -> None:
    """So it is in an array that is read piece by piece, whether or not it is in one line."""
    entries = [f'{{"id": "{number}", "a": 1}}' for number in range(8_000)]
    entries[place] = f'{{"id": "{place}", "a": ?}}'
    text = f"[{(',' + chr(10) if pretty else ', ').join(entries)}]"
    before = text[: text.index("?")]

    items, problems = read(text.encode(), Form.JSON)

    where = f"f:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    assert problems == [f"{where}: is no valid JSON: Expecting value"]
    assert [item.key for item in items] == [str(number) for number in range(place)]


def test_a_key_of_several_columns() -> None:
    """Each of its parts is needed."""
    items, problems = read(b"id,a\n1,x\n2,\n", key=["id", "a"])

    assert [item.key for item in items] == ["1/x"]
    assert len(problems) == 1


def test_reading_goes_on_behind_a_bad_row() -> None:
    """One bad row does not hide the next."""
    items, problems = read(b'id,a\n1\n2,x\n3,"a"b\n4,y\n')

    assert [item.number for item in items] == [2, 4]
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("data", "form", "problem"),
    [
        (b"[1]", Form.JSON, "f:1: an item has to be a JSON object"),
        (b"{}", Form.JSON, "f:1:1: has to be a JSON array of objects"),
        (b'[{"id": "1"}\n {"id": "2"}]', Form.JSON, "f:2:2: is no valid JSON: expected a comma or the array's closing"),
        (b'[{"id": "1"},\n{"id": x}]', Form.JSON, "f:2:8: is no valid JSON"),
        (b'[{"id": "1"}] x', Form.JSON, "f:1:15: there is text after the array"),
        (b'[{"id": NaN}]', Form.JSON, "holds NaN, which is no JSON number"),
        (b'[{"id": "1", "id": "2"}]', Form.JSON, "has the member 'id' twice in one object"),
        (b'[{"id": "\xff"}]', Form.JSON, "holds a byte that is not UTF-8"),
        (b"[]", Form.JSON, "f:1: holds no items"),
        (b"", Form.JSON, "has to be a JSON array"),
        (b'{"id": "1", "a": 1}\n{"id"\n', Form.JSONL, "f:2:6: is no valid JSON"),
        (b'{"id": "1", "b": 1}\n', Form.JSONL, "f:1: b: unknown column"),
        (b'"x"\n', Form.JSONL, "f:1: an item has to be a JSON object"),
    ],
)
def test_problems_of_json(data: bytes, form: Form, problem: str) -> None:
    """What is wrong with a JSON document is said with its line."""
    assert any(problem in found for found in read(data, form)[1])


def test_numbers_are_kept_exactly() -> None:
    """Numbers of any size keep their digits."""
    text = b'{"id": 18446744073709551617, "a": 1.10}\n'

    (item,), problems = read(text, Form.JSONL)

    assert problems == []
    assert (item.key, item.values["a"]) == ("18446744073709551617", Decimal("1.10"))


def test_cells_are_read_by_type() -> None:
    """A CSV cell is read by the type that the item's schema names, and by nothing else."""
    schema = {"properties": {"a": {"type": "integer"}}}

    items, problems = read(b"id,a\n1,5\n2, 5\n3,5.0\n4,18446744073709551617\n5,yes\n", item_schema=schema)

    assert [item.values["a"] for item in items] == [5, 18446744073709551617]
    assert problems == [f"f:{line}: a: has to be of type integer" for line in (3, 4, 6)]


@pytest.mark.parametrize(
    ("empty", "values"), [("omit", {"id": "1"}), ("null", {"id": "1", "a": None}), ("string", {"id": "1", "a": ""})]
)
def test_empty_cells(empty: str, values: dict[str, object]) -> None:
    """An empty cell becomes what the job says."""
    (item,), _ = read(b"id,a\n1,\n", empty=empty)

    assert item.values == values


def test_secrets_are_a_type_from_the_reader_on() -> None:
    """The value of a secret column is a secret; one that is no text is refused."""
    (item,), problems = read(b'{"id": "1", "a": "x"}\n{"id": "2", "a": 5}\n', Form.JSONL, secrets=["a"])

    assert item.values["a"] == Secret("x")
    assert problems == ["f:2: a: is a secret, and has to be a string"]


names = st.text(st.characters(codec="utf-8", exclude_characters="\0."), min_size=1, max_size=5)


@given(st.recursive(st.integers() | st.text(), lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3)))
def test_flattening_keeps_every_leaf(value: Any) -> None:
    """Nested members keep their values under dotted names."""

    def leaves(inner: Any) -> int:
        return sum(leaves(member) for member in inner.values()) if isinstance(inner, dict) else 1

    assert len(flatten({"x": value})) == leaves({"x": value})


@given(st.binary(max_size=300), st.sampled_from(Form))
def test_any_bytes(data: bytes, form: Form) -> None:
    """Whatever is in a file, reading ends with items and problems, and never with an error."""
    items, problems = read(data, form)

    assert all(item.key for item in items)
    assert items or problems or form is not Form.JSON


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(st.uuids().map(str), cells), min_size=1, max_size=8), st.sampled_from(",;\t"))
def test_csv_round_trip(rows: list[tuple[str, str]], delimiter: str) -> None:
    """What Python's csv writes is read back, cell by cell; a quote before a formula is taken off."""
    expected = [(key, restored(cell)) for key, cell in rows]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("id", "a"), *rows])
    data = text.getvalue().encode()

    items, problems = read(data, empty="string")
    columns, found = read_cells(io.BytesIO(data), form=Form.CSV, name="f")

    assert problems == []
    assert [(item.key, item.values["a"]) for item in items] == expected
    assert (columns, [tuple(one) for _, one in found]) == (["id", "a"], expected)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["a", "b.c", "d"]), st.text() | st.integers(), max_size=3),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
def test_json_round_trip(rows: list[dict[str, Any]], pretty: bool) -> None:
    """What Python's json writes is read back, as an array over several pieces or as lines."""
    documents = [{"id": str(number), **row, "pad": "x" * 7000} for number, row in enumerate(rows, start=1)]
    array = json.dumps(documents, indent=1 if pretty else None).encode()
    lines = "\n".join(json.dumps(document) for document in documents).encode()
    open_job = {"request": {"method": "PATCH", "path": "/{id}"}}

    for data, form in ((array, Form.JSON), (lines, Form.JSONL)):
        items, problems = read(data, form, **open_job)
        assert problems == []
        assert [dict(item.values) for item in items] == documents


@pytest.mark.parametrize("form", [Form.CSV, Form.JSON])
@pytest.mark.parametrize(
    ("ignored", "columns"), [(["extra"], {"id", "a"}), (["*"], {"id", "a"}), (["a"], None), ([], None)]
)
def test_ignored_columns(form: Form, ignored: list[str], columns: set[str] | None) -> None:
    """A column that the job ignores is not in an item; one that the job names cannot be ignored."""
    text = '[{"id": "1", "a": "x", "extra": "y", "_row": "z"}]' if form is Form.JSON else "id,a,extra,_row\n1,x,y,z\n"
    items, problems = read(text.encode(), form, ignore_columns=ignored)

    assert ([set(item.values) for item in items], bool(problems)) == ([] if columns is None else [columns], not columns)


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "sep=;;"])
def test_separator_of_a_spreadsheet(first: str) -> None:
    """Excel's line for the delimiter is read as one; lines are counted with it."""
    items, problems = read(f"{first}\r\nid;a\r\n1;x,y\r\n;z\r\n".encode())

    assert [(item.key, item.values["a"], item.line) for item in items] == [("1", "x,y", 3)]
    assert problems == ["f:4: id: is the key and may not be empty"]


def test_rows_of_delimiters() -> None:
    """A row without any value is no item, as an empty line is none; numbers go on without it."""
    data = b"id;a\n1;x\n;\n\n2;y\n;\n;;;;\n"
    items, problems = read(data)
    _, cells = read_cells(io.BytesIO(data), form=Form.CSV, name="f")

    assert problems == []
    assert [(item.number, item.key, item.line) for item in items] == [(1, "1", 2), (2, "2", 5)]
    assert list(cells) == [(1, ["1", "x"]), (2, ["2", "y"])]


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u3000"])
@pytest.mark.parametrize("form", Form)
def test_blanks_around_keys(blank: str, form: Form) -> None:
    """A key with blanks around it is another record's address: it is an error, or trimmed where the job says so."""
    key = f"{blank}1{blank}"
    data = f"id,a\n{key},{blank}x\n" if form is Form.CSV else json.dumps({"id": key, "a": f"{blank}x"})
    raw = (f"[{data}]" if form is Form.JSON else data).encode()

    items, problems = read(raw, form)
    trimmed, none = read(raw, form, trim=True)

    assert items == []
    assert len(problems) == 1
    assert 'has blanks around it: take them off, or set "trim": true' in problems[0]
    assert [(item.key, item.values["a"]) for item in trimmed] == [("1", "x")]
    assert none == []


@pytest.mark.parametrize("request_body", [{"a": "{a}"}, None])
def test_a_header_of_many_columns(request_body: object) -> None:
    """A header of 100,000 columns is looked through once, and not once for each column."""
    names = ["id", "a", *(f"column_{number}" for number in range(100_000))]
    data = (",".join(names) + "\n" + ",".join("1" for _ in names) + "\n").encode()

    request = {"method": "PATCH", "path": "/x/{id}"} | ({} if request_body is None else {"body": request_body})
    items, problems = read(data, request=request)

    assert (len(items), len(problems)) == ((1, 0) if request_body is None else (0, 100_000))


def test_cells_for_files_with_the_input_s_own_columns() -> None:
    """They are texts, without the columns of an earlier run."""
    columns, cells = read_cells(io.BytesIO(b"id,a,_status\n1,x,old\n2,,\n"), form=Form.CSV, name="f")

    assert columns == ["id", "a"]
    assert list(cells) == [(1, ["1", "x"]), (2, ["2", ""])]


def test_cells_of_json_items() -> None:
    """They are written as JSON writes them, the columns are those of all, and the last one says which are no text."""
    data = b'{"id":1,"on":true}\n{"id":"2","n":1.50,"l":[1,"x"],"in":{"a":""},"_status":"old","z":null}\n'
    columns, cells = read_cells(io.BytesIO(data), form=Form.JSONL, name="f")

    assert columns == ["id", "on", "n", "l", "in.a", "z", "_types"]
    assert [row for _, row in cells] == [
        ["1", "true", "", "", "", "", '{"id": "json", "on": "json"}'],
        ["2", "", "1.50", '[1,"x"]', "", "", '{"n": "json", "l": "json", "in.a": "text", "z": "null"}'],
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=4) | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("pq"), inner, min_size=1, max_size=2),
    max_leaves=4,
)


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), min_size=1, max_size=4),
    st.sampled_from(Empty),
)
def test_json_items_survive_a_table(rows: list[dict[str, Any]], empty: Empty) -> None:
    """What is written of items into a CSV file is read as the same items, whatever empty cells mean to the job."""
    data = json.dumps([{"id": f"i-{place}", **row} for place, row in enumerate(rows)]).encode()
    columns, cells = read_cells(io.BytesIO(data), form=Form.JSON, name="f")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows([neutralised(cell) for cell in row] for _, row in cells)
    more: dict[str, Any] = {"empty": empty.value, "ignore_columns": []}
    request = {"method": "PATCH", "path": "/x/{id}"}

    plain, problems = read(data, Form.JSON, request=request, **more)
    again, wrong = read(table.getvalue().encode(), Form.CSV, request=request, **more)

    assert problems == wrong == []
    assert [item.values for item in again] == [item.values for item in plain]


@pytest.mark.parametrize(
    ("cell", "types", "words"),
    [
        ("tru", '{""a"":""json""}', "has to be JSON, since _types says so"),
        ("true", "[]", "has to be as the program has written it, or empty"),
        ("true", "{", "has to be as the program has written it, or empty"),
    ],
)
def test_a_cell_that_is_not_what_is_said_of_it(cell: str, types: str, words: str) -> None:
    """A person may have changed the file."""
    items, problems = read(f'id,a,_types\n1,{cell},"{types}"\n'.encode())
    assert items == []
    assert len(problems) == 1
    assert words in problems[0]


def test_the_column_of_a_quota_is_known() -> None:
    """A row may name whose quota it draws on, and no request has that column."""
    api = {"base_url": "https://api.example", "rate_limit": {"key": "column:org"}}
    items, problems = read(b"id,a,org\n1,x,blue\n", api=api)

    assert problems == []
    assert items[0].values["org"] == "blue"
