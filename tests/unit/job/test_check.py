"""The whole input is checked before the first request, rendered as it would be sent."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.job.check import Verdict, check
from migrator.job.items import Form, Item, read_items
from migrator.job.job_file import Job, builtin_template, load_job
from migrator.job.profile.variables import Outside
from migrator.job.template import Template

ENV = {"CONFLUENT_CLOUD_API_KEY": "KEY", "CONFLUENT_CLOUD_API_SECRET": "secret-value"}


def integrations() -> Job:
    """Return the built-in template."""
    return builtin_template("confluent-integration", Outside(ENV, str))


def own(request: dict[str, Any], **changes: Any) -> Job:
    """Return a job on a server of its own."""
    document = {"name": "j", "api": {"base_url": "http://127.0.0.1/base/"}, "request": request, "key": "id", **changes}
    return load_job(json.dumps(document), source="job.json", outside=Outside({}, str))


def verdict(text: str, job: Job, form: Form = Form.CSV, limit: int | None = None) -> Verdict:
    """Check a text."""
    return check(io.BytesIO(text.encode()), form=form, job=job, name="f", limit=limit)


def requests(text: str, job: Job, form: Form = Form.CSV) -> list[tuple[str, Any]]:
    """Return the URL and the body of each item."""
    template = Template.compile(job)
    found = []
    for item in read_items(io.BytesIO(text.encode()), form=form, job=job, name="f"):
        assert isinstance(item, Item), item
        request = template.request(item)
        found.append((request.url, None if request.body is None else json.loads(request.body)))
    return found


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("i-1," + "x" * 65 + ",,,", "display_name: may have 64 characters at the most"),
        ("i-1,n,Slack,,", "target.webhook_url: is missing"),
        ("i-1,n,,https://x.example/h,", "target.kind: is missing"),
        ("i-1,n,Webhook,https://x.example/h,", "target.url: is missing"),
        ("i-1,n,RoleEmail,,", "target.kind: has to be Slack, MsTeams or Webhook"),
        ("i-1,n,Slack,hooks.slack.example,", "target.webhook_url: has to be an http or https URL without blanks"),
        ("i-1,n,Slack, https://x.example/h,", "target.webhook_url: has to be an http or https URL without blanks"),
        ("i-1,,,,", "has nothing to send: every value is empty"),
        (".,n,,,", "id: is part of the path, and may not be . or .."),
        ("..,n,,,", "id: is part of the path, and may not be . or .."),
    ],
)
def test_limits_of_the_api(row: str, problem: str) -> None:
    """What the API would refuse, or silently ignore, is found before anything is sent and named by its column."""
    found = verdict(f"id,display_name,target.kind,target.webhook_url,target.url\n{row}\n", integrations())

    assert any(problem in str(one) for one in found.problems), found.problems
    assert all(one.line == 2 for one in found.problems)


def test_unknown_field() -> None:
    """A misspelt field would get 200 and change nothing: it is an error here."""
    found = verdict("id,display_nmae\ni-1,x\n", integrations())

    assert [str(one) for one in found.problems] == ["f:2: display_nmae: unknown column; did you mean display_name?"]


def test_repeated_keys() -> None:
    """A key that stands there twice is named with both lines."""
    found = verdict("id,display_name\na,x\nb,x\na,y\n", integrations())

    assert [str(one) for one in found.problems] == ["f:4: id: is already the key of line 2"]


def test_many_problems_are_counted() -> None:
    """The first hundred problems are shown, the rest is counted."""
    found = verdict("id,display_name\n" + "".join(f"{n // 2},a\n" for n in range(500)), integrations())

    assert (len(found.problems), found.problem_count) == (100, 250)


def test_one_cause_is_told_once() -> None:
    """What many rows have is one problem, with the first row and their number; what few have is told row by row."""
    many = verdict("id,webhook_url\n" + "".join(f"{n},x\n" for n in range(3000)), integrations())
    few = verdict("id,display_name\n" + "".join(f"{n},{'x' * 70}\n" for n in range(3)), integrations())

    assert [str(one) for one in many.problems] == [
        "f:2: webhook_url: unknown column (3,000 rows, first: row 2); did you mean target.webhook_url?"
    ]
    assert many.problem_count == 3000
    assert [one.line for one in few.problems] == [2, 3, 4]


def test_limit() -> None:
    """Rows behind the limit are not looked at."""
    assert verdict("id,display_name\na,x\nb,\n", integrations(), limit=1).problem_count == 0


@pytest.mark.parametrize(("text", "form"), [("id,a\n", Form.CSV), ("[]", Form.JSON), ("\n\n", Form.JSONL)])
def test_no_items(text: str, form: Form) -> None:
    """A file without items is a problem."""
    assert verdict(text, own({"method": "PATCH", "path": "/{id}", "body": {"a": "{a}"}}), form).problem_count == 1


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12))
def test_every_repetition_is_found(keys: list[str]) -> None:
    """There are as many problems as rows whose key stood there before."""
    text = "id,display_name\n" + "".join(f"{key},x\n" for key in keys)

    assert verdict(text, integrations()).problem_count == len(keys) - len(set(keys))


def test_rendering() -> None:
    """Placeholders take the value with its type alone, as text inside a longer string; braces are doubled."""
    request = {
        "method": "PUT",
        "path": "/v1/{id}/x",
        "body": {
            "n": "{n}",
            "text": "no {n} of {id}",
            "literal": "{{n}}",
            "list": ["{n}", 1],
            "deep": {"gone": "{gone}"},
        },
    }
    job = own(request, item_schema={"properties": {"n": {"type": "integer"}}})

    ((url, body),) = requests("id,n,gone\na b/c?d,5,\n", job)

    assert url == "http://127.0.0.1/base/v1/a%20b%2Fc%3Fd/x"
    assert body == {"n": 5, "text": "no 5 of a b/c?d", "literal": "{n}", "list": [5, 1]}


def test_all_columns_nest() -> None:
    """Without a body every column but those in the path goes into it, dotted names nest."""
    rows = requests("id,a.b,a.c,d\n1,x,,y\n", own({"method": "PATCH", "path": "/{id}"}))

    assert rows == [("http://127.0.0.1/base/1", {"a": {"b": "x"}, "d": "y"})]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(lambda t: t.strip(".")))
def test_one_segment(value: str) -> None:
    """Any value stays one segment of the path, as it was."""
    from urllib.parse import unquote

    rows = json.dumps({"id": value, "a": 1})

    ((url, _),) = requests(rows, own({"method": "PATCH", "path": "/x/{id}/y", "body": {"a": "{a}"}}), Form.JSONL)

    assert url.startswith("http://127.0.0.1/base/x/")
    assert url.count("/") == 6
    assert unquote(url.split("/")[5]) == value


@pytest.mark.parametrize(("value", "good"), [("a b", True), ("ü/?", True), ("..", False), (".", False)])
def test_ids_without_limits_of_the_api(value: str, good: bool) -> None:
    """An unusual id is fine where it stays one segment."""
    rows = json.dumps({"id": value, "a": 1})

    found = verdict(rows, own({"method": "PATCH", "path": "/x/{id}", "body": {"a": "{a}"}}), Form.JSONL)

    assert (found.items, found.problem_count) == ((1, 0) if good else (0, 1))


def test_urls_in_bodies_are_left_alone() -> None:
    """A URL value is sent byte for byte."""
    url = "https://x.example:443/a%2Fb/../c?sp=%2Ftriggers&sig=x"

    ((_, body),) = requests(f"id,a\n1,{url}\n", own({"method": "PATCH", "path": "/{id}", "body": {"a": "{a}"}}))

    assert body == {"a": url}


def test_digits_are_kept() -> None:
    """Numbers reach the body with their digits."""
    job = own({"method": "PATCH", "path": "/{id}", "body": {"a": "{a}"}})
    template = Template.compile(job)
    source = io.BytesIO(b'{"id": "1", "a": 1.10}\n{"id": "2", "a": 18446744073709551617}\n')

    bodies = [
        template.request(item).body
        for item in read_items(source, form=Form.JSONL, job=job, name="f")
        if isinstance(item, Item)
    ]

    assert bodies == [b'{"a":1.10}', b'{"a":18446744073709551617}']


def test_limiter_key_by_column() -> None:
    """A column may give each of its values a quota of its own."""
    api = {"base_url": "http://127.0.0.1", "rate_limit": {"key": "column:org"}}
    job = own({"method": "PATCH", "path": "/{id}", "body": {"a": "{a}"}}, api=api)
    template = Template.compile(job)
    source = io.BytesIO(b"id,a,org\n1,x,p\n2,x,q\n")

    keys = [
        template.request(item).limiter_key
        for item in read_items(source, form=Form.CSV, job=job, name="f")
        if isinstance(item, Item)
    ]

    assert keys == ["p@http://127.0.0.1", "q@http://127.0.0.1"]


def test_a_request_that_is_too_long() -> None:
    """An id that makes a URL longer than servers accept is a problem of its row."""
    job = own({"method": "PATCH", "path": "/x/{id}", "body": {"a": "{a}"}})

    found = verdict(f"id,a\n1,x\n{'z' * 9000},y\n", job)

    assert [(one.line, one.message[:40]) for one in found.problems] == [(3, "makes a URL of more than 8,000 character")]


@pytest.mark.parametrize("form", [Form.JSON, Form.JSONL])
@pytest.mark.parametrize(
    "value",
    [r'"\ud800"', "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, "9" * 1001, "NaN", "1e", '{"b":1,"b":2}'],
)
def test_what_cannot_be_sent(value: str, form: Form) -> None:
    """What could not be encoded is a problem with its line, and no exception."""
    job = own({"method": "PATCH", "path": "/x/{id}", "body": {"a": "{a}"}})
    rows = ['{"id": "1", "a": 1}', f'{{"id": "2", "a": {value}}}']
    text = "\n".join(rows) if form is Form.JSONL else "[" + ",\n".join(rows) + "]"

    found = verdict(text, job, form)

    assert [one.line for one in found.problems] == [2]
    assert found.items == 1


@pytest.mark.parametrize("value", ["1e999999", "-0.10", "18446744073709551617", "123456789.123456789123456789"])
def test_numbers_are_sent_as_they_are_written(value: str) -> None:
    """A number that no float holds goes digit by digit."""
    job = own({"method": "PATCH", "path": "/x/{id}", "body": {"a": "{a}"}})
    (item,) = read_items(io.BytesIO(f'[{{"id": "1", "a": {value}}}]'.encode()), form=Form.JSON, job=job, name="f")

    assert isinstance(item, Item)
    body = Template.compile(job).request(item).body
    assert body is not None
    assert json.loads(body, parse_float=str, parse_int=str)["a"].replace("E+", "e") == value


@pytest.mark.parametrize("path", ["/things/{id}", "/things/{thing_id}", "/things/{thing}?notify=false"])
def test_limits_are_found_by_the_shape_of_the_path(path: str) -> None:
    """What a path's columns are called does not decide whether the API's limits are checked."""
    limits = {"PATCH /things/{id}": {"properties": {"title": {"maxLength": 3}}}}
    column = path.partition("{")[2].partition("}")[0]
    job = own(
        {"method": "PATCH", "path": path, "body": {"title": "{title}"}},
        api={"base_url": "http://127.0.0.1", "limits": limits},
        key=column,
    )

    assert verdict(f"{column},title\n1,long\n", job).problem_count == 1


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "é"])
def test_a_cell_cannot_break_a_header(value: str) -> None:
    """A header's value is one line of ASCII, whatever a cell holds."""
    job = own({"method": "PATCH", "path": "/{id}", "body": {"a": 1}, "headers": {"X-Note": "n {note}"}})

    assert verdict(f'id,note\n1,"{value}"\n', job).problem_count >= 1
    assert verdict("id,note\n1,fine\n", job).problem_count == 0
