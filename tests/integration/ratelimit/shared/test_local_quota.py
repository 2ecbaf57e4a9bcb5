"""The quota that the processes of one host share through a file."""

import fcntl
import multiprocessing
import os
import stat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from migrator.ratelimit.shared.local_quota import LocalQuota
from migrator.ratelimit.shared.model import Report, ReportKind

FORKS: Any = multiprocessing.get_context("forkserver")


def taken(quota: LocalQuota, key: str = "key", most: int = 1_000) -> int:
    """Take as much as there is, and return how much that was."""
    return next((number for number in range(most) if quota.take_at_once(key) is None), most)


def open_window(quota: LocalQuota, remaining: int, key: str = "key", ends_in_s: float = 600.0) -> int:
    """Take the first request of a window, and report what is left."""
    window = quota.take_at_once(key)
    assert window is not None
    quota.report(Report(key, window, ReportKind.ANSWERED, remaining, ends_in_s))
    return window


def test_a_run_that_is_alone_is_never_held_back(tmp_path: Path) -> None:
    """Its own pacer decides."""
    with LocalQuota(tmp_path / "quota") as quota:
        open_window(quota, 5)
        assert taken(quota, most=100) == 100


def test_a_run_whose_requests_several_pacers_send_is_never_alone(tmp_path: Path) -> None:
    """No pacer knows what the others have sent, so that the budget decides."""
    with LocalQuota(tmp_path / "quota", one_pacer=False) as quota:
        open_window(quota, 5)
        assert taken(quota) == 5


def test_questions_and_reports_within_a_block_count_as_they_would_one_by_one(tmp_path: Path) -> None:
    """Another run that asks meanwhile finds the lock taken, and goes by its own pacer; after it, what is left."""
    with LocalQuota(tmp_path / "quota") as first, LocalQuota(tmp_path / "quota") as second:
        window = open_window(first, 5)
        with first.together():
            assert [first.take_at_once("key") for _ in range(3)] == [window] * 3
            first.report(Report("key", window, ReportKind.RETURNED))
            assert second.take_at_once("key") == 0
        assert taken(second) == 3


def test_two_runs_take_what_is_left_together(tmp_path: Path) -> None:
    """What the first had taken alone counts as well."""
    with LocalQuota(tmp_path / "quota") as first:
        window = open_window(first, 10)
        assert [first.take_at_once("key") for _ in range(4)] == [window] * 4
        with LocalQuota(tmp_path / "quota") as second:
            assert [second.take_at_once("key") for _ in range(3)] == [window] * 3
            assert taken(first) + taken(second) == 3


def test_what_was_spent_is_known_to_a_run_that_comes_later(tmp_path: Path) -> None:
    """The file outlives its runs."""
    with LocalQuota(tmp_path / "quota") as first:
        open_window(first, 10)
        assert taken(first, most=8) == 8
    with LocalQuota(tmp_path / "quota") as second, LocalQuota(tmp_path / "quota") as third:
        assert taken(second) + taken(third) == 2


def test_each_limiter_key_has_a_budget_of_its_own(tmp_path: Path) -> None:
    """There are more than the file has room for at first, and the other run adds some of them."""
    with LocalQuota(tmp_path / "quota") as first, LocalQuota(tmp_path / "quota") as second:
        for number in range(150):
            open_window(first if number % 2 else second, number % 7, f"key {number}")
        for number in range(150):
            assert taken(second if number % 2 else first, f"key {number}") == number % 7


def test_a_process_that_holds_the_lock_for_ever_stops_no_other(tmp_path: Path) -> None:
    """Such as one that was stopped at that instant: the run goes by its own pacer."""
    with LocalQuota(tmp_path / "quota") as quota:
        open_window(quota, 5)
        stopped = os.open(tmp_path / "quota", os.O_RDWR)
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert quota.take_at_once("key") == 0
        quota.report(Report("key", 1, ReportKind.LOST))
        os.close(stopped)
        assert quota.take_at_once("key")


def test_the_file_is_private_and_a_link_is_not_followed(tmp_path: Path) -> None:
    """It may stand where others can write."""
    with LocalQuota(tmp_path / "quota"):
        pass
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    (tmp_path / "link").symlink_to(tmp_path / "quota")
    with pytest.raises(OSError, match="symbolic links"), LocalQuota(tmp_path / "link"):
        pass


def _take_all(path: Path, said: Connection) -> None:
    with LocalQuota(path) as quota:
        said.send("ready")
        said.recv()
        said.send(taken(quota))
        said.recv()


def test_processes_never_take_more_than_there_is(tmp_path: Path) -> None:
    """Four at once take 400 requests between them, to the last one; a killed one takes no more than it had."""
    with LocalQuota(tmp_path / "quota") as quota:
        open_window(quota, 400)
        pipes, processes = [], []
        for _ in range(4):
            here, there = FORKS.Pipe()
            process = FORKS.Process(target=_take_all, args=(tmp_path / "quota", there), daemon=True)
            process.start()
            pipes.append(here)
            processes.append(process)
        assert [here.recv() for here in pipes] == ["ready"] * 4
        for here in pipes:
            here.send("go")
        assert sum(here.recv() for here in pipes) == 400
        for process in processes:
            process.kill()
            process.join()
