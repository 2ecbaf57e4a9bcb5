"""The page shows a run to people who were not there, in a real browser, and a server's text is only ever text."""

import asyncio
import json
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import failure, result, results
from summaries import summary

from migrator.errors import FolderError
from migrator.report.page import data
from migrator.report.page.data import FAILURES
from migrator.report.page.render import COLUMNS, write_page
from migrator.report.page.words import EXIT_WORDS, KIND_WORDS, STATUS_WORDS, STOP_WORDS
from migrator.report.summary import Summary
from migrator.results import ErrorKind, Exit, ItemError, ItemResult, Status, StopKind
from migrator.store.ledger_reader import LedgerReader, read_ledger
from migrator.store.ledger_writer import Ledger
from migrator.times import timestamp

START_MS = 1_795_435_200_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSER_S = 50
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

HOSTILE = "<script>alert(1)</script></script><!-- <img src=x onerror=alert(2)> &amp; {{verdict}} ' \" \u202e \x00"


def chromium(*arguments: str) -> str:
    """Return what a headless Chromium prints."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--enable-logging=stderr",
                f"--user-data-dir={profile}",
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=BROWSER_S,
        )
    # What the page's policy forbids, and what its script cannot do, is said on the console.
    assert "CONSOLE" not in done.stderr
    return done.stdout


class Page(HTMLParser):
    """A page's text, by element and by cell, without its styles and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.hidden: list[bool] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.hidden.append("hidden" in dict(attrs) or "later" in (dict(attrs).get("class") or "").split())
        if tag in {"td", "th"}:
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._cell = False
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in {"script", "style"}:
            return
        if self._cell:
            self.rows[-1][-1] += data
        for tag in set(self._open):
            self.texts[tag] = self.texts.get(tag, "") + data

    @property
    def verdict(self) -> str:
        """The sentence on top."""
        return self.texts["h1"].replace("\xa0", " ")

    @property
    def failures(self) -> list[list[str]]:
        """The rows of the table of failures, each with all its cells."""
        return [row for row in self.rows[1:] if len(row) == len(COLUMNS) and row[0].isdecimal()]


def write(folder: Path, rows: Iterable[ItemResult], /, *, events: Sequence[dict[str, Any]] = (), **changes: Any) -> str:
    """Write the page of a run with these results, and return it."""
    given = list(rows)
    meta = changes.pop("meta", {"job": "rotate", "dry_run": "false", "items_source": "items.csv"})

    async def settle() -> None:
        async with Ledger.open(folder / "ledger.db") as ledger:
            await ledger.put(**meta)
            await asyncio.gather(*(ledger.settle(row) for row in given))

    asyncio.run(settle())
    if events:
        lines = [json.dumps({"level": "info", "run": "rotate", **event}) for event in events]
        (folder / "events.jsonl").write_text("\n".join([*lines, '{"event": "cut o']))
    values: dict[str, Any] = {"items": len(given)}
    with read_ledger(folder / "ledger.db") as ledger:
        write_page(folder, ledger, summary(**(values | changes)))
    return (folder / "report.html").read_text("utf-8")


def event(name: str, since_s: float, **fields: Any) -> dict[str, Any]:
    """Return an event so many seconds after the start."""
    return {"timestamp": timestamp(START_MS + round(since_s * 1000)), "event": name, **fields}


def many(count: int, **changes: Any) -> Iterator[ItemResult]:
    """Yield results half a second apart, every tenth of them a failure that the server explains."""
    for number in range(1, count + 1):
        at: dict[str, Any] = {"finished_ms": START_MS + 500 * number, "remaining": 100 - number % 100} | changes
        if number % 10:
            yield result(number, duration_ms=50.0 + number % 200, **at)
        else:
            detail = f"integration i-{number:05} does not exist"
            error = ItemError(
                kind=ErrorKind.NOT_FOUND,
                status=404,
                code="missing",
                title="Not Found",
                detail=detail,
                pointer="/id",
                message=f"the server answered 404: Not Found: {detail}",
            )
            yield failure(number, http_status=404, error=error, attempts=2, request_id=f"req-{number}", **at)


# What it says


@pytest.mark.parametrize(
    ("rows", "changes", "verdict"),
    [
        ([result(1), result(2)], {"elapsed_s": 250.0}, "2 of 2 items succeeded in 4 min 10 s; nothing is left to do."),
        (
            [result(1), result(2, status=Status.UNCHANGED)],
            {"elapsed_s": 2.5},
            "1 of 2 items succeeded in 2.5 s, 1 was as wanted already; nothing is left to do.",
        ),
        (
            [result(1), failure(2), failure(3, status=Status.IN_DOUBT)],
            {"elapsed_s": 7500.0, "exit_code": 1},
            "1 of 3 items succeeded in 2 h 5 min; 1 failed and 1 is in doubt.",
        ),
        (
            [result(1), failure(2)],
            {
                "items": 1412,
                "exit_code": 3,
                "resumable": True,
                "stopped": {"reason": "too many failures", "message": "1 of 2"},
            },
            "Stopped after 1 min 30 s: 1 of 1,412 items succeeded; 1 failed and 1,410 are still to do.",
        ),
        ([], {"items": 0}, "There was nothing to do: the input has no items."),
        (
            [],
            {"items": 1, "exit_code": 3, "stopped": {"reason": "server unreachable", "message": "no"}, "elapsed_s": 0},
            "Stopped after 0 s: 0 of 1 item succeeded; 1 is still to do.",
        ),
        (
            [result(1, status=Status.SKIPPED, http_status=None, attempts=0, duration_ms=0.0)],
            {"meta": {"dry_run": "true"}},
            "Dry run: 1 of 1 item was made ready, and nothing was sent.",
        ),
    ],
)
def test_verdict(tmp_path: Path, rows: list[ItemResult], changes: dict[str, Any], verdict: str) -> None:
    """One sentence says how it went, also of an empty run, of a dry run and of one that was stopped."""
    assert Page(write(tmp_path, rows, **changes)).verdict == verdict


def test_why_it_stopped_is_said_in_words(tmp_path: Path) -> None:
    """Why it stopped, what the exit code means and what is to be done is said, with the message itself."""
    stopped = {"reason": StopKind.FAILURES.value, "message": "2 of 5 items did not succeed"}

    page = write(
        tmp_path,
        [result(1), failure(2)],
        items=5,
        exit_code=3,
        stopped=stopped,
        resumable=True,
        next_steps=["3 items still to do: give the same command again"],
    )

    text = Page(page).texts["p"]
    assert STOP_WORDS[StopKind.FAILURES] in text
    assert "“2 of 5 items did not succeed”" in text
    assert "Exit code 3: the run was stopped before its end." in text
    assert "3 items still to do: give the same command again" in Page(page).texts["li"]


def test_every_word_of_the_contract_is_explained() -> None:
    """No status, kind, reason or exit code is without words."""
    assert set(STATUS_WORDS) == set(Status)
    assert set(KIND_WORDS) == set(ErrorKind)
    assert set(STOP_WORDS) == set(StopKind)
    assert set(EXIT_WORDS) == set(Exit)


def test_who_ran_it_is_told(tmp_path: Path) -> None:
    """The user, the host and the run's settings are those that the ledger has."""
    meta = {"job": "rotate", "user": "ada", "host": "ops-1", "settings": json.dumps({"Concurrency": "7"})}

    page = Page(write(tmp_path, [], items=0, meta=meta))

    assert "ada" in page.texts["dd"]
    assert "ops-1" in page.texts["dd"]
    assert ("Concurrency" in page.texts["dt"], "7" in page.texts["dd"]) == (True, True)


def test_where_the_time_and_the_requests_went(tmp_path: Path) -> None:
    """How many requests were reads is told, and what the run waited for."""
    quota = {"limit": 100, "remaining": 42, "requests": 3, "refused": 0, "waited_s": {}}

    page = Page(write(tmp_path, [result(1)], quota=quota, time_s={"sending": 1.0, "quota used up": 5.0}))

    assert "3, of which 2 to read" in page.texts["dd"]
    assert "quota used up 5 s, sending 1 s" in page.texts["dd"]


def test_active_run_tells_only_what_is_known(tmp_path: Path) -> None:
    """How many requests were sent, and how it ended, is known when a run has ended."""
    write(
        tmp_path, [result(1)], items=3, events=[event("run.started", 0), event("run.waiting", 5, waiting_for="quota")]
    )
    with read_ledger(tmp_path / "ledger.db") as ledger:
        write_page(tmp_path, ledger, summary(items=3), live=True)
    page = Page((tmp_path / "report.html").read_text("utf-8"))

    assert page.verdict == "The run is active: 1 of 3 items have a result so far."
    assert [name for name in ("Requests sent", "Exit code", "Finished") if name in page.texts["dt"]] == []
    assert ["12:00:05", "waits: quota"] in page.rows


def test_kill_is_told(tmp_path: Path) -> None:
    """An invocation without an end was killed; the list has its last sign of life."""
    page = Page(
        write(
            tmp_path,
            [result(1)],
            invocations=2,
            events=[event("run.started", 0, items=1), event("server.down", 7), event("run.started", 60, items=1)],
        )
    )

    assert "2, of which 1 was killed" in page.texts["dd"]
    assert ["12:00:07", "the process was killed: this is its last event"] in page.rows


def test_different_control_commands_stay_apart(tmp_path: Path) -> None:
    """Each control command is listed with its own words; only the same one several times in a row is counted."""
    page = write(
        tmp_path,
        [result(1)],
        events=[
            event("run.started", 0, items=1),
            event("control", 1, verb="pause"),
            event("control", 2, verb="rate", value="5/s"),
            event("control", 3, verb="rate", value="5/s"),
            event("control", 4, verb="resume"),
        ],
    )

    lines = [row[1] for row in Page(page).rows if len(row) == 2 and "migrator ctl" in row[1]]
    assert lines == [
        "migrator ctl: pause",
        "migrator ctl: rate 5/s (2 times in a row)",
        "migrator ctl: resume",
    ]


def test_invocations_make_one_time_at_work(tmp_path: Path) -> None:
    """The night between two invocations is no time at work; the charts leave it out and mark the seam."""
    rows = [result(number, finished_ms=START_MS + 1000 * number) for number in range(1, 11)]
    rows += [result(number, finished_ms=START_MS + 36_000_000 + 1000 * number) for number in range(11, 21)]

    page = write(
        tmp_path,
        rows,
        invocations=2,
        started=timestamp(START_MS + 36_010_000),
        finished=timestamp(START_MS + 36_020_000),
        events=[
            event("run.started", 0, items=20),
            event("run.started", 36_010, items=20, resent=1),
            event("item.retry", 36_012, level="debug", item=12),
            event("run.ended", 36_020, exit_code=0),
        ],
    )

    assert Page(page).verdict == "20 of 20 items succeeded in 20 s over 2 invocations; nothing is left to do."
    assert "resumed: 20 items total; 1 item in flight when it was interrupted" in page
    assert "resumed at the upright dashed line" in page
    assert "1 refused" in page


def test_run_that_did_not_end_is_not_praised(tmp_path: Path) -> None:
    """When the last invocation was killed the summary of the one before is not taken for its end."""
    page = write(
        tmp_path,
        [result(1), result(2)],
        items=4,
        events=[event("run.started", 0), event("run.ended", 5, exit_code=3), event("run.started", 3600)],
    )

    assert Page(page).verdict == "The run has not finished: 2 of 4 items have a result so far."


def test_failures_in_the_servers_own_words(tmp_path: Path) -> None:
    """A row has the item, the key, the outcome, the status, all that the server said, the attempts, and its id."""
    said = ItemError(
        kind=ErrorKind.VALIDATION,
        status=422,
        code="invalid_url",
        title="Invalid target",
        detail="not a webhook",
        pointer="/target/url",
        message="the server answered 422: Invalid target: not a webhook (and 2 more); use another",
    )
    silent = ItemError(kind=ErrorKind.TIMEOUT, message="no answer within 30 s")
    rows = [
        failure(9, attempts=3, error=said),
        failure(2, http_status=None, request_id=None, error=silent),
        failure(5, status=Status.IN_DOUBT, error=None),
    ]

    found = Page(write(tmp_path, rows)).failures

    assert [row[0] for row in found] == ["2", "5", "9"]
    assert found[0][2:5] == ["failedno answer in time", "", "no answer within 30 s"]
    assert found[1][2] == "in doubt"
    assert found[2] == [
        "9",
        "i-00009",
        "failedrefused as invalid",
        "422",
        "Invalid targetnot a webhook(and 2 more); use anotherinvalid_url/target/url",
        "3",
        "7a1b",
        "12:00:00",
    ]


def test_same_words_are_one_cause(tmp_path: Path) -> None:
    """Failures of which the server said the same are counted together, the most frequent first."""
    page = Page(write(tmp_path, [*many(40), failure(41)]))

    causes = [row for row in page.rows if len(row) == 5 and row[0].isdecimal()]
    assert [(row[0], row[2], row[3], row[4]) for row in causes] == [
        ("4", "404", "not found", "Not Found"),
        ("1", "422", "refused as invalid", "the server answered 422"),
    ]


# What it is


def test_page_is_private_and_whole(tmp_path: Path) -> None:
    """The page can be read by its owner alone, and an old one is replaced or left."""
    write(tmp_path, [result(1)])
    path = tmp_path / "report.html"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.glob("*.html*")] == ["report.html"]

    path.unlink()
    path.mkdir()
    with pytest.raises(FolderError, match=r"report\.html cannot be written"):
        write(tmp_path, [])


def test_templates_are_loaded_late() -> None:
    """A command that writes no page does not wait for jinja2."""
    program = "import sys, migrator.cli.run_commands, migrator.report.views; sys.exit('jinja2' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], timeout=BROWSER_S, check=False).returncode == 0


def test_nothing_is_loaded_and_nothing_else_may_run(tmp_path: Path) -> None:
    """The page names no resource, and its policy allows its own script and style and nothing else."""
    page = Page(write(tmp_path, many(50)))

    links = [attrs for _, attrs in page.tags if attrs.keys() & {"src", "href", "srcset", "data", "action", "style"}]
    handlers = [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    (policy,) = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert (links, handlers) == ([], [])
    assert policy is not None
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; script-src 'sha256-[\w+/=]{44}'; "
        r"base-uri 'none'; form-action 'none'",
        policy,
    )
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_ids_and_headings_help_those_who_do_not_see(tmp_path: Path) -> None:
    """Charts have words, heads of tables have a scope, fields have labels, and no id is there twice."""
    page = Page(write(tmp_path, many(50)))

    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    labels = [attrs.get("for") for tag, attrs in page.tags if tag == "label"]
    assert len(ids) == len(set(ids))
    assert labels == [attrs["id"] for tag, attrs in page.tags if tag in {"input", "select"}]
    assert all(attrs.get("scope") == "col" for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if attrs.get("role") == "img")
    assert all(attrs.keys() & {"role", "aria-hidden"} for tag, attrs in page.tags if tag == "svg" and "y" not in attrs)


def test_hostile_words_are_text(tmp_path: Path) -> None:
    """Whatever a server or a file says, the page has the elements that it would have anyway."""
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"

    def tags(folder: Path, text: str) -> list[str]:
        folder.mkdir()
        error = ItemError(
            kind=ErrorKind.SERVER, status=500, code=text, title=text, detail=text, pointer=text, message=text
        )
        page = write(
            folder,
            [failure(1, key=text, url=text, request_id=text, error=error)],
            events=[event("run.started", 0), event("odd", 1, said=text)],
            meta={
                "job": text,
                "items_source": text,
                "user": text,
                "host": text,
                "settings": json.dumps({text: text}),
            },
            job=text,
            run=text,
            server=text,
            folder=text,
            stopped={"reason": text, "message": text},
            next_steps=[text],
            quota={"limit": 1, "remaining": 1, "requests": 1, "refused": 1, "waited_s": {text: 1.0}},
        )
        return [tag for tag, _ in Page(page).tags]

    assert tags(hostile, HOSTILE) == tags(plain, "harmless")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_results_can_be_shown(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever may stand in a ledger, there is a page of it, and each failure is in it."""
    rows = [data.draw(results(st.just(number))) for number in range(1, data.draw(st.integers(1, 6)))]
    bad = [row for row in rows if row.status in {Status.FAILED, Status.IN_DOUBT}]
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        page = Page(write(Path(folder), rows))

    assert [int(row[0]) for row in page.failures] == [row.item for row in bad]


class ManyRows(LedgerReader):
    """A ledger of so many results that are never in memory at once."""

    def __init__(self, folder: Path, rows: Iterable[ItemResult]) -> None:
        self._rows = rows
        self._folder = folder

    def rows_as_finished(self) -> Iterator[ItemResult]:
        yield from self._rows

    def meta(self) -> dict[str, str]:
        return {}

    def in_flight(self) -> list[Any]:
        return []


def write_many(folder: Path, count: int, **changes: Any) -> None:
    """Write the page of many results."""
    told: Summary = summary(items=count, exit_code=1)
    write_page(folder, ManyRows(folder, many(count, **changes)), told)


def test_memory_does_not_grow_with_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the items take no more memory, once the table of failures is full."""
    monkeypatch.setattr(data, "FAILURES", 500)
    write_many(tmp_path, 10)  # what is imported and compiled for the first page counts for neither
    peaks = []
    for count in (8_000, 16_000):
        tracemalloc.start()
        try:
            write_many(tmp_path, count)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 16_000_000


def test_a_hundred_thousand_items_fit_into_a_mail(tmp_path: Path) -> None:
    """The page of a large run stays small, lists as many failures as anybody reads, and tells of the others."""
    write_many(tmp_path, 100_000)

    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    assert len(page.failures) == FAILURES
    assert "the first 2,000 to fail of 10,000; the 8,000 others are in failed.csv" in page.texts["p"]


def test_long_words_do_not_make_the_page_large(tmp_path: Path) -> None:
    """A server that answers each failure with a novel does not fill the mailbox."""
    novel = "<&>" * 10_000
    error = ItemError(kind=ErrorKind.SERVER, code=novel, title=novel, detail=novel, pointer=novel, message=novel)
    rows = [failure(number, error=error, key=novel, request_id=novel) for number in range(1, 401)]

    write(tmp_path, rows)

    assert (tmp_path / "report.html").stat().st_size < 5_000_000


# What a browser makes of it


@needs_browser
def test_browser_shows_the_run(tmp_path: Path) -> None:
    """In a browser the verdict, the counts and the failures are there, and the table can be searched and sorted."""
    rows = [*many(30), failure(31, error=ItemError(kind=ErrorKind.SERVER, detail=HOSTILE, message=HOSTILE))]
    write(
        tmp_path,
        rows,
        exit_code=1,
        events=[event("run.started", 0, items=31), event("item.retry", 3, level="debug"), event("run.ended", 16)],
    )

    page = Page(chromium("--dump-dom", (tmp_path / "report.html").as_uri()))

    assert page.verdict == "27 of 31 items succeeded in 1 min 30 s; 4 failed."
    assert "27succeeded" in page.texts["li"]
    assert "4failed" in page.texts["li"]
    assert "3 refusals (429)" in page.texts["span"]
    assert "4 shown" in page.texts["p"]
    assert [row[0] for row in page.failures] == ["10", "20", "30", "31"]
    assert page.failures[0][4] == "Not Foundintegration i-00010 does not existmissing/id"
    # The browser's own rendering of the text, from the document that it has built: nothing of it has become an element.
    assert page.failures[3][4].startswith("<script>alert(1)</script></script><!-- <img src=x onerror=alert(2)> &amp;")
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert [tag for tag, _ in page.tags].count("script") == 1
    heads = [dict(attrs) for tag, attrs in page.tags if tag == "th" and "aria-sort" in attrs]
    assert [head["aria-sort"] for head in heads] == ["ascending"] + ["none"] * (len(COLUMNS) - 1)
    assert ("hidden" in attributes(page, "tools"), "hidden" in attributes(page, "more")) == (False, True)


def attributes(page: Page, name: str) -> dict[str, str | None]:
    """Return the attributes of the element with an id."""
    (found,) = [attrs for _, attrs in page.tags if attrs.get("id") == name]
    return found


@needs_browser
def test_browser_searches_and_sorts(tmp_path: Path) -> None:
    """Typing leaves the rows that have every word, a head orders the rows, and many rows come in portions."""
    path = tmp_path / "report.html"
    text = write(tmp_path, [*many(1500), failure(1501, attempts=7)])
    # What a person would do, by a script of the test; the page's policy has to be put aside for it.
    acts = """<script>
      const search = document.getElementById("search");
      search.value = "does NOT-EXIST".replace("-", " ") + " i-00120";
      search.dispatchEvent(new Event("input"));
      document.body.dataset.found = document.getElementById("found").textContent;
      search.value = "";
      search.dispatchEvent(new Event("input"));
      const tries = document.querySelectorAll("#failures th button")[5];
      tries.click(); tries.click();
    </script></body>"""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text).replace("</body>", acts)
    path.write_text(text)

    page = Page(chromium("--dump-dom", path.as_uri()))

    (body,) = [attrs for tag, attrs in page.tags if tag == "body"]
    assert body["data-found"] == "1 of 151 match"
    assert page.failures[0][0] == "1501"
    assert page.failures[1][0] == "10"
    assert "100 of 151 shown" in page.texts["p"]
    assert sum(page.hidden) == 51
    assert "hidden" not in attributes(page, "more")


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out(tmp_path: Path, width: int) -> None:
    """On a phone as on a desk the page is not wider than the screen, however long the words."""
    path = tmp_path / "report.html"
    error = ItemError(kind=ErrorKind.SERVER, title="W" * 300, code="C" * 100, pointer="/p" * 90, message="M" * 300)
    rows = [*many(30), failure(31, error=error, key="K" * 150, request_id="R" * 100)]
    text = write(tmp_path, rows, folder="/" + "f" * 200, server="https://" + "s" * 150, job="j" * 100)
    # A window of Chromium cannot be as narrow as a phone; a frame can.
    frame = tmp_path / "frame.html"
    measure = "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>"
    path.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text).replace("</body>", measure))
    frame.write_text(
        f"<body><script>onmessage = (told) => {{ document.body.dataset.wide = told.data; }};</script>"
        f'<iframe src="report.html" width="{width}" height="800" style="border:0"></iframe></body>'
    )

    page = Page(chromium("--dump-dom", f"--window-size={width + 200},900", frame.as_uri()))

    (body,) = [attrs for tag, attrs in page.tags if tag == "body"]
    assert int(body["data-wide"] or "0") <= width
