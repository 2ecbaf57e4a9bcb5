"""Options are read by one rule wherever they stand, and the nearest place wins."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import OptionError
from migrator.messages import JSON
from migrator.options import PARSERS, Pace, RunOptions, Threshold, parse_rate, resolve
from migrator.times import parse_duration


def read(
    typed: Mapping[str, str | bool | None] | None = None, *, job_run: Mapping[str, JSON] | None = None
) -> RunOptions:
    """Resolve with an empty environment."""
    return resolve(command_line=typed or {}, env={}, job_run=job_run or {}, source="job.json")


def test_precedence() -> None:
    """Command line beats environment beats job file beats default."""
    env = {"MIGRATOR_CONCURRENCY": "2", "MIGRATOR_TIMEOUT": "2s"}
    job_run: dict[str, JSON] = {"concurrency": 3, "timeout": 3, "max_attempts": 3}

    chosen = resolve(command_line={"concurrency": "1"}, env=env, job_run=job_run, source="job.json")

    assert (chosen.concurrency, chosen.timeout, chosen.max_attempts, chosen.canary) == (1, 2.0, 3, 1)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("concurrency", "auto", None),
        ("concurrency", "16", 16),
        ("rate", "600/m", 10.0),
        ("rate", "50/s", 50.0),
        ("rate", "5000/h", 5000 / 3600),
        ("pace", "smooth", Pace.SMOOTH),
        ("max_wait", "1h", 3600.0),
        ("max_wait", "90", 90.0),
        ("max_wait", "250ms", 0.25),
        ("reserve", "20%", 0.2),
        ("max_failures", "5", Threshold(count=5)),
        ("max_failures", "2.5%", Threshold(share=0.025)),
        ("canary", "0", 0),
        ("yes", "true", True),
        ("yes", "0", False),
        ("log_level", "DEBUG", "debug"),
    ],
)
def test_values(name: str, text: str, expected: object) -> None:
    """Each kind of value is read as it is written."""
    assert getattr(read({name: text}), name) == expected
    assert getattr(read(job_run={name: text}), name) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("concurrency", "0"),
        ("concurrency", "many"),
        ("rate", "50"),
        ("rate", "0/s"),
        ("pace", "slow"),
        ("max_wait", "-1"),
        ("max_wait", "1 fortnight"),
        ("reserve", "100%"),
        ("reserve", "0.2"),
        ("max_failures", "few"),
        ("max_attempts", "0"),
        ("canary", "-1"),
        ("yes", "maybe"),
        ("log_level", "loud"),
    ],
)
def test_wrong_values(name: str, text: str) -> None:
    """A value that is not allowed is named, with its place and what is allowed."""
    option = f"--{name.replace('_', '-')}"

    with pytest.raises(OptionError, match=rf"^{option} takes .+, not '{text}'$"):
        read({name: text})
    with pytest.raises(OptionError, match=rf"^job\.json: run\.{name} takes "):
        read(job_run={name: text})


def test_unknown_member() -> None:
    """A misspelt option in the job file is an error, not silence."""
    with pytest.raises(OptionError, match=r"run\.concurency is no option"):
        read(job_run={"concurency": 3})


@given(st.sampled_from(sorted(PARSERS)), st.text(max_size=12))
def test_any_text(name: str, text: str) -> None:
    """Whatever is typed is read or refused with a message, and never ends in another error."""
    try:
        read({name: text})
    except OptionError as error:
        assert f"--{name.replace('_', '-')}" in str(error)  # noqa: PT017  either end is right


@given(st.integers(1, 10**5), st.sampled_from([("s", 1), ("m", 60), ("h", 3600)]))
def test_units(number: int, unit: tuple[str, int]) -> None:
    """Durations and rates keep their units."""
    name, seconds = unit

    assert parse_duration(f"{number}{name}") == number * seconds
    assert parse_rate(f"{number}/{name}") == pytest.approx(number / seconds)


@pytest.mark.parametrize("name", ["allow_commands", "base_url"])
def test_job_file_cannot_give_itself_leave(name: str) -> None:
    """Neither commands nor another server than its profile's are the job file's to choose."""
    with pytest.raises(OptionError, match=name):
        read(job_run={name: True if name == "allow_commands" else "https://collector.example"})

    assert read(job_run={"base_url": "http://127.0.0.1:8080"}).base_url == "http://127.0.0.1:8080"
