"""What strangers write and we read: each target takes any bytes, and raises where a promise is broken."""

import io
import json
import math
from collections.abc import Callable, Mapping
from typing import Final

from migrator.job.check import check
from migrator.job.items import Form, Item, read_cells, read_items
from migrator.job.job_file import Job, load_job
from migrator.job.problems import JobError, Problem
from migrator.job.profile.variables import Outside
from migrator.messages import Instant
from migrator.ratelimit.dialect.reset_time import ResetForm, parse_retry_after
from migrator.ratelimit.headers import Dialect, QuotaReader, parse_quota

__all__ = ["SEEDS", "TARGETS", "Target"]

Target = Callable[[bytes], None]

JOB: Final = {
    "name": "fuzz",
    "api": {"name": "x", "base_url": "http://127.0.0.1:9"},
    "request": {"method": "PATCH", "path": "/items/{id}", "body": {"url": "{url}", "note": "{note}"}},
    "key": "id",
    "secrets": ["url"],
    "item_schema": {"properties": {"note": {"type": "integer"}}},
    "items": "items.csv",
}

NAMES: Final = (
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-reset-after",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit",
    "retry-after",
    "date",
)
NOW: Final = Instant(1000.0, 1_795_435_200.0)


def _no_file(name: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", name)


def _job() -> Job:
    return load_job(json.dumps(JOB), source="fuzz.json", outside=Outside({}, _no_file))


_THE_JOB: Final = _job()


def csv_reader(data: bytes) -> None:
    """Every file gives items or problems: what is checked without a problem is read to the same number of items."""
    verdict = check(io.BytesIO(data), form=Form.CSV, job=_THE_JOB, name="items.csv")
    found = list(read_items(io.BytesIO(data), form=Form.CSV, job=_THE_JOB, name="items.csv"))
    assert all(isinstance(one, Item | Problem) for one in found)
    if not verdict.problem_count:
        numbers = [one.number for one in found if isinstance(one, Item)]
        assert numbers == list(range(1, verdict.items + 1))
        _, cells = read_cells(io.BytesIO(data), form=Form.CSV, name="items.csv")
        assert [number for number, _ in cells] == numbers


def json_reader(data: bytes) -> None:
    """The same of JSON and of JSON lines."""
    for form in (Form.JSON, Form.JSONL):
        verdict = check(io.BytesIO(data), form=form, job=_THE_JOB, name="items.json")
        found = list(read_items(io.BytesIO(data), form=form, job=_THE_JOB, name="items.json"))
        if not verdict.problem_count:
            assert [one.number for one in found if isinstance(one, Item)] == list(range(1, verdict.items + 1))


def job_file(data: bytes) -> None:
    """Every text is a job, or an error that says what is wrong with it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return
    try:
        load_job(text, source="fuzz.json", outside=Outside({"A": "value"}, _no_file))
        problems = None
    except JobError as error:
        problems = error.problems
    assert problems is None or (problems and all(map(str, problems)))


def rate_limit_headers(data: bytes) -> None:
    """Headers say something that can be reckoned with, or nothing: never less than none, and never without an end."""
    lines = data.decode("latin1").split("\n")
    headers = {name: line.strip() for name, line in zip(NAMES, lines, strict=False) if line}
    reader = QuotaReader(Dialect())
    quotas = [parse_quota(headers, at=NOW, dialect=Dialect(reset=form)) for form in ResetForm]
    quotas += [reader.read(headers, at=NOW), reader.read(headers, at=Instant(NOW.mono + 1.0, NOW.utc + 1.0))]
    for quota in filter(None, quotas):
        assert quota.limit is None or quota.limit >= 0
        assert quota.remaining is None or quota.remaining >= 0
        for seconds in (quota.reset_s, quota.window_s, quota.late_s, quota.resolution_s):
            assert seconds is None or (seconds >= 0.0 and math.isfinite(seconds)), quota
    wish = parse_retry_after(headers.get("retry-after", ""), at=NOW, date=headers.get("date"))
    assert wish is None or (wish >= 0.0 and math.isfinite(wish))


TARGETS: Final[Mapping[str, Target]] = {
    target.__name__.replace("_", "-"): target for target in (csv_reader, json_reader, job_file, rate_limit_headers)
}

SEEDS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "csv-reader": (
        b'id,url,note\n1,http://x/1,3\n"2","http://x/2",\n',
        b"\xef\xbb\xbfid;url\r\n1;x\r\n",
        b'id,url\n"a\n',
    ),
    "json-reader": (b'[{"id":"1","url":"u","note":3}]', b'{"id":"1"}\n{"id":2}\n'),
    "job-file": (json.dumps(JOB).encode(), b'{"name":"x","api":"confluent-cloud","request":{}}'),
    "rate-limit-headers": (
        b"100\n7\n30",
        b"100\n7\n1795435260",
        b'\n\n\n\n"a";r=5;t=10\n"a";q=100;w=60',
        b"5,5;w=60\n-1\nNaN\n1e9\n\n\n{}\nWed, 21 Oct 2026 07:28:00 GMT\nWed, 21 Oct 2026 07:00:00 GMT",
    ),
}
"""Where to begin."""
