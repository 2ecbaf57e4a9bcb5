"""The journal writes what happens as it happens, and nothing secret; what it lost, the ledger gives back."""

import asyncio
import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_rows import failure, result, results

from migrator.messages import Instant
from migrator.report import journal
from migrator.report.journal import Event, Journal, open_journal, write_results
from migrator.results import ErrorKind, ItemError, ItemResult, Status
from migrator.secret import Fingerprinter, Masker, Secret
from migrator.store.item_record import encoded, record
from migrator.store.ledger_reader import read_ledger
from migrator.store.ledger_writer import Ledger
from migrator.times import timestamp

RUN = "job-20261123T120000Z-0a1b"
CREDENTIAL = Secret("c0nfluent-s3cret")
MASKER = Masker(Fingerprinter(b"k" * 32), [CREDENTIAL])
MASKED = MASKER.shown(CREDENTIAL)
NOON = 1_795_435_200.123


def clock() -> Instant:
    """Return noon, always."""
    return Instant(mono=0.0, utc=NOON)


def settle(path: Path, *rows: ItemResult) -> None:
    """Settle results in a ledger."""

    async def settled() -> None:
        async with Ledger.open(path) as ledger:
            for row in rows:
                await ledger.settle(row)

    asyncio.run(settled())


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Return the folder of a run, from whose name its records have the run's id."""
    folder = tmp_path / RUN
    folder.mkdir()
    return folder


def tell(journal: Journal, row: ItemResult) -> None:
    """Tell a journal of a result, with the line that the ledger has of it."""
    journal.item(row, encoded(record(row, run=RUN)))


def live_lines(*rows: ItemResult) -> bytes:
    """Return what the journal writes of results while they happen."""
    file = io.BytesIO()
    journal = Journal(run=RUN, events=io.BytesIO(), results=file, masker=MASKER, clock=clock)
    for row in rows:
        tell(journal, row)
    return file.getvalue()


def lines(path: Path) -> list[Any]:
    """Return a file's lines as JSON documents."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def journal_in(folder: Path) -> Any:
    """Open a journal in a folder."""
    return open_journal(folder, run=RUN, masker=MASKER, clock=clock)


def test_record_is_the_contracts() -> None:
    """A line of results.jsonl has the contract's members, in the contract's order."""
    line = live_lines(result(17))

    assert line == (
        b'{"timestamp":"2026-11-23T12:00:00.123Z","event":"item","level":"info","run":"job-20261123T120000Z-0a1b",'
        b'"item":17,"key":"i-00017","status":"succeeded","method":"PATCH",'
        b'"url":"https://api.example/notifications/v1/integrations/i-00017","http_status":200,"attempts":1,'
        b'"request_id":"7a1b","duration_ms":84.2,"waited_ms":12.0,"verified":true,'
        b'"rate_limit":{"limit":100,"remaining":42,"reset_s":17.3},"error":null}\n'
    )


def test_record_of_a_failure() -> None:
    """A failed item's line is of level error and carries the server's own words; no quota is null."""
    error = ItemError(kind=ErrorKind.NOT_FOUND, status=404, code="c", title="t", detail="d", pointer="/p", message="m")

    line = json.loads(live_lines(failure(1, error=error, limit=None, remaining=None, reset_s=None)))

    assert (line["level"], line["status"], line["rate_limit"]) == ("error", "failed", None)
    assert list(line["error"].items()) == [
        ("kind", "not_found"),
        ("status", 404),
        ("code", "c"),
        ("title", "t"),
        ("detail", "d"),
        ("pointer", "/p"),
        ("message", "m"),
    ]


@pytest.mark.parametrize(
    ("status", "level"),
    [
        (Status.SUCCEEDED, "info"),
        (Status.UNCHANGED, "info"),
        (Status.SKIPPED, "info"),
        (Status.FAILED, "error"),
        (Status.IN_DOUBT, "error"),
    ],
)
def test_level_tells_good_from_bad(status: Status, level: str) -> None:
    """Someone who greps for errors finds the items that did not succeed, and no other."""
    assert record(result(1, status=status), run=RUN).level == level


@pytest.mark.parametrize(
    ("utc_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_435_200_007, "2026-11-23T12:00:00.007Z"),
        (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
    ],
)
def test_timestamp(utc_ms: int, text: str) -> None:
    """A timestamp is ISO 8601 in UTC with three digits of milliseconds."""
    assert timestamp(utc_ms) == text


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(results(st.integers(1, 10**9)), max_size=12, unique_by=lambda row: row.item))
def test_line_written_again_is_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, rows: list[ItemResult]) -> None:
    """What is written live and what is written again from the ledger cannot be told apart."""
    folder = tmp_path_factory.mktemp("run") / RUN
    folder.mkdir()
    settle(folder / "ledger.db", *rows)

    with read_ledger(folder / "ledger.db") as ledger:
        write_results(folder / "results.jsonl", ledger)

    assert (folder / "results.jsonl").read_bytes() == live_lines(*rows)


ROWS = (result(3), failure(1), result(2))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: whole[:-20], id="last line cut off"),
        pytest.param(lambda whole: whole[:-1], id="last newline missing"),
        pytest.param(lambda whole: whole[: whole.index(b"\n") + 1], id="lines missing"),
        pytest.param(lambda whole: whole + whole, id="superfluous lines"),
        pytest.param(lambda whole: whole.replace(b"succeeded", b"unchanged"), id="other content"),
        pytest.param(lambda whole: b"\0" * len(whole), id="zeros, as after a power loss"),
        pytest.param(lambda _whole: b"", id="empty"),
        pytest.param(lambda _whole: None, id="no file"),
    ],
)
def test_damaged_results_are_mended(run_folder: Path, damage: Callable[[bytes], bytes | None]) -> None:
    """Whatever a crash has done to results.jsonl, it is written again as the ledger has it."""
    settle(run_folder / "ledger.db", *ROWS)
    left = damage(live_lines(*ROWS))
    if left is not None:
        (run_folder / "results.jsonl").write_bytes(left)

    with read_ledger(run_folder / "ledger.db") as ledger:
        mended = write_results(run_folder / "results.jsonl", ledger)

    assert mended
    assert (run_folder / "results.jsonl").read_bytes() == live_lines(*ROWS)
    assert stat.S_IMODE((run_folder / "results.jsonl").stat().st_mode) == 0o600


def test_sound_results_are_left_alone(run_folder: Path) -> None:
    """A file that is as the ledger has it is only read."""
    settle(run_folder / "ledger.db", *ROWS)
    (run_folder / "results.jsonl").write_bytes(live_lines(*ROWS))
    before = (run_folder / "results.jsonl").stat().st_ino

    with read_ledger(run_folder / "ledger.db") as ledger:
        assert not write_results(run_folder / "results.jsonl", ledger)

    assert (run_folder / "results.jsonl").stat().st_ino == before


def test_event_is_a_line_of_json_at_once(tmp_path: Path) -> None:
    """An event is dated, names its run, and can be read before the journal is closed."""
    with journal_in(tmp_path) as journal:
        journal.event("run.stopping", level="warning", reason="interrupted", message="SIGINT received")

        assert lines(tmp_path / "events.jsonl") == [
            {
                "timestamp": "2026-11-23T12:00:00.123Z",
                "event": "run.stopping",
                "level": "warning",
                "run": RUN,
                "reason": "interrupted",
                "message": "SIGINT received",
            }
        ]


def test_event_fields_come_first_in_the_contracts_order(tmp_path: Path) -> None:
    """Every line begins with when, what, how grave and which run, as a record does."""
    with journal_in(tmp_path) as journal:
        journal.event("run.started", items=3)

    assert list(lines(tmp_path / "events.jsonl")[0]) == ["timestamp", "event", "level", "run", "items"]


def test_event_has_no_secret(tmp_path: Path) -> None:
    """A credential is masked in whatever an event holds, however deep and of whatever type."""
    value = CREDENTIAL.reveal()
    with journal_in(tmp_path) as journal:
        journal.event(
            "x",
            text=f"a {value} b",
            nested={"list": [value, (value, {value})], value: 1},
            secret=CREDENTIAL,
            path=Path("a") / value,
            error=ValueError(f"cannot {value}"),
            body=value.encode(),
        )

    written = (tmp_path / "events.jsonl").read_bytes()
    assert value.encode() not in written
    assert lines(tmp_path / "events.jsonl")[0]["text"] == f"a {MASKED} b"
    assert lines(tmp_path / "events.jsonl")[0]["secret"] == MASKED


def test_event_takes_any_text(tmp_path: Path) -> None:
    """A file's name that is no UTF-8, and a number that JSON does not know, do not end the run."""
    with journal_in(tmp_path) as journal:
        journal.event("x", name="f\udcff", nan=float("nan"), none=None, flag=True)

    (line,) = lines(tmp_path / "events.jsonl")
    assert (line["name"], line["nan"], line["none"], line["flag"]) == ("f\\udcff", None, None, True)


def test_subscribers_are_told_of_events_and_results(tmp_path: Path) -> None:
    """A subscriber sees each event, masked, and each result, in the order in which they happen."""
    seen: list[Event] = []

    def keep(event: Event) -> None:
        seen.append(dict(event))

    with open_journal(tmp_path, run=RUN, masker=MASKER, clock=clock, subscribers=[keep]) as journal:
        journal.event("run.started", note=CREDENTIAL.reveal())
        tell(journal, result(1))

    assert [event["event"] for event in seen] == ["run.started", "item"]
    assert seen[0]["note"] == MASKED
    assert seen[1] == msgspec.to_builtins(record(result(1), run=RUN))


def test_results_are_visible_before_the_end(tmp_path: Path) -> None:
    """Where results come in slowly each one can be read at once; an event or a flush brings out the rest."""
    with journal_in(tmp_path) as journal:
        tell(journal, result(1, finished_ms=1_000_000))
        tell(journal, result(2, finished_ms=1_001_000))
        assert len(lines(tmp_path / "results.jsonl")) == 2

        tell(journal, result(3, finished_ms=1_001_001))
        journal.flush()
        assert len(lines(tmp_path / "results.jsonl")) == 3


def test_journal_is_appended_to(tmp_path: Path) -> None:
    """A run that is resumed goes on in the same files, which are private; leftovers of a kill are gone."""
    (tmp_path / ".new-failed.csv.0a1b2c3d").write_text("half of it")
    for number in (1, 2):
        with journal_in(tmp_path) as journal:
            journal.event("run.started")
            tell(journal, result(number))

    assert [line["item"] for line in lines(tmp_path / "results.jsonl")] == [1, 2]
    assert len(lines(tmp_path / "events.jsonl")) == 2
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {
        "results.jsonl": 0o600,
        "events.jsonl": 0o600,
    }


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk_ends_the_journal_and_not_the_run() -> None:
    """A disk that takes no more is told once and for all, and subscribers still see what happens."""
    seen: list[str] = []
    journal = Journal(
        run=RUN,
        events=Path("/dev/full").open("wb"),  # noqa: SIM115  the journal closes it
        results=Path("/dev/full").open("wb"),  # noqa: SIM115  the journal closes it
        masker=MASKER,
        clock=clock,
        subscribers=[lambda event: seen.append(event["event"])],
    )

    journal.event("one")
    for number in range(1, 1000):
        tell(journal, result(number))
    journal.event("two")
    journal.close()

    assert journal.failure == "No space left on device"
    assert (seen[0], seen[-1], len(seen)) == ("one", "two", 1001)


def test_events_never_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full file of events becomes the earlier one, and the one before it goes; results are all kept."""
    monkeypatch.setattr(journal, "LARGEST_EVENTS", 1 << 20)
    text = "x" * 10_000
    with journal_in(tmp_path) as kept_journal:
        for number in range(400):
            kept_journal.event("noise", number=number, text=text)
        tell(kept_journal, result(1))

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["events.1.jsonl", "events.jsonl", "results.jsonl"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= (2 << 20) + 50_000
    kept = [line["number"] for name in ("events.1.jsonl", "events.jsonl") for line in lines(tmp_path / name)]
    assert kept == list(range(kept[0], 400))
    assert stat.S_IMODE((tmp_path / "events.jsonl").stat().st_mode) == 0o600
