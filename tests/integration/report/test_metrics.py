"""The metrics file is read by a real parser, is whole at any moment, and remembers the last success."""

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from summaries import summary

from migrator.errors import MetricsError
from migrator.report.metrics import LAST_SUCCESS, write_metrics
from migrator.report.summary import QuotaUse

ENDED = datetime(2026, 11, 23, 12, 1, 30, 500_000, tzinfo=UTC).timestamp()
LATER = "2026-11-24T12:00:00.000Z"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(path: Path) -> Samples:
    """Return every sample of a file by its name and its labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def value(path: Path, name: str, **labels: str) -> float | None:
    """Return one sample's value, or None where there is none."""
    return samples(path).get((name, tuple(sorted(({"job": "rotate"} | labels).items()))))


@pytest.fixture
def umask() -> Iterator[None]:
    """Set the strictest umask."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_all_that_a_run_tells(tmp_path: Path) -> None:
    """Counts by status, times, waits by reason, refusals, the quota and the exit code are there, and no more."""
    path = tmp_path / "rotate.prom"

    write_metrics(path, summary())

    job = ("job", "rotate")
    assert samples(path) == {
        ("migrator_last_run_end_timestamp_seconds", (job,)): ENDED,
        (LAST_SUCCESS, (job,)): ENDED,
        ("migrator_last_run_duration_seconds", (job,)): 90.5,
        ("migrator_last_run_exit_code", (job,)): 0.0,
        ("migrator_last_run_items", (job, ("status", "succeeded"))): 100.0,
        ("migrator_last_run_items", (job, ("status", "unchanged"))): 0.0,
        ("migrator_last_run_items", (job, ("status", "failed"))): 0.0,
        ("migrator_last_run_items", (job, ("status", "in_doubt"))): 0.0,
        ("migrator_last_run_items", (job, ("status", "skipped"))): 0.0,
        ("migrator_last_run_items", (job, ("status", "pending"))): 0.0,
        ("migrator_last_run_requests", (job,)): 103.0,
        ("migrator_last_run_refusals", (job,)): 3.0,
        ("migrator_last_run_throttle_wait_seconds", (job, ("reason", "quota"))): 12.5,
        ("migrator_last_run_throttle_wait_seconds", (job, ("reason", "pace"))): 1.0,
        ("migrator_quota_limit", (job,)): 100.0,
        ("migrator_quota_remaining", (job,)): 42.0,
    }


def test_names_and_types(tmp_path: Path) -> None:
    """Every metric has our prefix, a help text and the type of a value that may fall, and none claims to be a total."""
    write_metrics(tmp_path / "rotate.prom", summary())

    families = list(text_string_to_metric_families((tmp_path / "rotate.prom").read_text()))
    assert all(family.name.startswith("migrator_") and family.documentation for family in families)
    assert {family.type for family in families} == {"gauge"}
    assert not [family.name for family in families if family.name.endswith(("_total", "_count", "_sum", "_bucket"))]


def test_unknown_quota_is_left_out(tmp_path: Path) -> None:
    """A quota that no answer told is no sample, rather than a zero that would raise an alarm."""
    unknown: QuotaUse = {"limit": None, "remaining": None, "requests": 1, "refused": 0, "waited_s": {}}

    write_metrics(tmp_path / "rotate.prom", summary(quota=unknown))

    assert value(tmp_path / "rotate.prom", "migrator_quota_limit") is None
    assert value(tmp_path / "rotate.prom", "migrator_quota_remaining") is None
    assert value(tmp_path / "rotate.prom", "migrator_last_run_requests") == 1.0


@pytest.mark.parametrize("code", [1, 3, 143])
def test_last_success_is_kept(tmp_path: Path, code: int) -> None:
    """After runs that did not succeed, the time of the last success stays what it was."""
    path = tmp_path / "rotate.prom"
    write_metrics(path, summary())

    for _ in range(2):
        write_metrics(path, summary(exit_code=code, finished=LATER))

    assert value(path, LAST_SUCCESS) == ENDED
    assert value(path, "migrator_last_run_end_timestamp_seconds") == datetime.fromisoformat(LATER).timestamp()
    assert value(path, "migrator_last_run_exit_code") == code


def test_without_any_success(tmp_path: Path) -> None:
    """A job that never succeeded has no time of success, so that `absent()` and age can tell it."""
    write_metrics(tmp_path / "rotate.prom", summary(exit_code=1))

    assert value(tmp_path / "rotate.prom", LAST_SUCCESS) is None


@pytest.mark.parametrize(
    "former",
    [
        b"",
        b"\xff\xfe\x00",
        b"migrator_last_success_timestamp_seconds{job=",
        b'migrator_last_success_timestamp_seconds{job="rotate"} soon\n',
        b"{\n",
        b'# TYPE\n{"',
        b'migrator_last_success_timestamp_seconds{job="another"} 17\n',
    ],
)
def test_strange_former_content_is_replaced(tmp_path: Path, former: bytes) -> None:
    """A damaged file, or another job's, tells no success and does not keep a new one from being written."""
    path = tmp_path / "rotate.prom"
    path.write_bytes(former)

    write_metrics(path, summary(exit_code=1))

    assert value(path, LAST_SUCCESS) is None
    assert value(path, "migrator_last_run_exit_code") == 1.0


def test_two_jobs_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Jobs that write at the same time leave one whole file each, with one help text a name for both."""

    def write(job: str) -> None:
        for _ in range(50):
            write_metrics(tmp_path / f"{job}.prom", summary(job=job))

    threads = [threading.Thread(target=write, args=(job,)) for job in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.prom", "two.prom"]
    for job in ("one", "two"):
        assert {dict(labels)["job"] for _, labels in samples(tmp_path / f"{job}.prom")} == {job}
    comments = [
        [line for line in (tmp_path / name).read_text().splitlines() if line.startswith("#")]
        for name in ("one.prom", "two.prom")
    ]
    assert comments[0] == comments[1]


def test_file_is_whole_at_any_moment(tmp_path: Path) -> None:
    """A reader while it is being written sees the old file or the new one."""
    path = tmp_path / "rotate.prom"
    write_metrics(path, summary())
    whole = len(samples(path))
    ended = threading.Event()

    def write() -> None:
        for code in range(100):
            write_metrics(path, summary(exit_code=code % 2))
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = {len(samples(path))}
    while not ended.is_set():
        seen.add(len(samples(path)))
    thread.join()

    assert seen == {whole}


@pytest.mark.usefixtures("umask")
def test_others_may_read_it(tmp_path: Path) -> None:
    """The node exporter, another user, can read the file whatever the umask is, and no one else may write it."""
    write_metrics(tmp_path / "rotate.prom", summary())

    assert stat.S_IMODE((tmp_path / "rotate.prom").stat().st_mode) == 0o644


def test_folder_that_is_missing(tmp_path: Path) -> None:
    """A folder that is not there is named, with the reason."""
    with pytest.raises(MetricsError, match=r"missing/rotate\.prom cannot be written: No such file or directory"):
        write_metrics(tmp_path / "missing" / "rotate.prom", summary())


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    """A folder that is none is named, with the reason, and what was there stays."""
    (tmp_path / "file").write_text("kept")

    with pytest.raises(MetricsError, match="Not a directory"):
        write_metrics(tmp_path / "file" / "rotate.prom", summary())

    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone who may not write")
def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """Without the right to write there it says so, and leaves the former file as it was."""
    folder = tmp_path / "collector"
    folder.mkdir(mode=0o755)
    (folder / "rotate.prom").write_text("kept")
    (tmp_path / "summary.json").write_text(json.dumps(summary()))
    script = (
        "import json, os, pathlib, sys\n"
        "from migrator.report.metrics import MetricsError, write_metrics\n"
        "found = json.loads(pathlib.Path('summary.json').read_text())\n"
        "os.chdir('collector')\n"
        "os.setuid(65534)\n"
        "try:\n"
        "    write_metrics(pathlib.Path('rotate.prom'), found)\n"
        "except MetricsError as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.stdout == "rotate.prom cannot be written: Permission denied\n"
    assert [path.name for path in folder.iterdir()] == ["rotate.prom"]
    assert (folder / "rotate.prom").read_text() == "kept"


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    """What is no regular file, such as a link, is refused and left alone, and so is what it leads to."""
    (tmp_path / "target").write_text("kept")
    (tmp_path / "rotate.prom").symlink_to(tmp_path / "target")

    with pytest.raises(MetricsError, match="no regular file"):
        write_metrics(tmp_path / "rotate.prom", summary())

    assert (tmp_path / "rotate.prom").is_symlink()
    assert (tmp_path / "target").read_text() == "kept"


def test_name_that_the_collector_passes_over(tmp_path: Path) -> None:
    """A name that the node exporter would never read is refused at once, and the message says which it reads."""
    with pytest.raises(MetricsError, match=r"end in \.prom"):
        write_metrics(tmp_path / "rotate.txt", summary())

    assert list(tmp_path.iterdir()) == []
