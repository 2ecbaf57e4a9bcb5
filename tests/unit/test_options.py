"""Options are read by one rule wherever they stand, and the nearest place wins."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import OptionError
from migrator.job.problems import compile_schema
from migrator.messages import JSON
from migrator.options import OPTIONS, Pace, RunOptions, Threshold, options_of, resolve, run_schema, wrong_members


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
    if OPTIONS[name].in_job_file:
        assert getattr(read(job_run={name: text}), name) == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("only_changed", "yes", "has to be of type boolean"),
        ("plan", 5, "has to be of type string"),
        ("timeout", True, "has to be of type number or string"),
        ("limit", None, "has to be of type integer or string"),
        ("limit", 0, "takes a whole number from 1 up"),
    ],
)
def test_types_in_a_job_file(name: str, value: JSON, message: str) -> None:
    """A member has the type that the schema says."""
    assert dict(wrong_members({name: value})) == {name: message}


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
    if OPTIONS[name].in_job_file:
        with pytest.raises(OptionError, match=rf"^job\.json: run\.{name} takes "):
            read(job_run={name: text})


def test_unknown_member() -> None:
    """A misspelt option in the job file is an error that names the right one."""
    with pytest.raises(OptionError, match=r"^job\.json: run\.concurency is not an option; did you mean concurrency\?$"):
        read(job_run={"concurency": 3})


@given(st.sampled_from(sorted(OPTIONS)), st.text(max_size=12))
def test_any_text(name: str, text: str) -> None:
    """Whatever is typed is read or refused with a message, and never ends in another error."""
    try:
        read({name: text})
    except OptionError as error:
        assert f"--{name.replace('_', '-')}" in str(error)  # noqa: PT017  either end is right


@pytest.mark.parametrize("name", ["allow_commands", "base_url", "key_file", "metrics_file", "state", "yes"])
def test_job_file_cannot_set(name: str) -> None:
    """A job file sets neither what only its user may allow, nor another server than its profile's."""
    with pytest.raises(OptionError, match=rf"run\.{name} may .* give --{name.replace('_', '-')} on the command line"):
        read(job_run={name: "https://collector.example"})


def test_job_file_may_set_a_server_on_this_machine() -> None:
    """A rehearsal's server may stand in the job file."""
    assert read(job_run={"base_url": "http://127.0.0.1:8080"}).base_url == "http://127.0.0.1:8080"


def test_only_a_commands_own_options_are_read() -> None:
    """A variable for an option that means nothing to a command changes nothing there."""
    env = {"MIGRATOR_STAGES": "1,100%", "MIGRATOR_TIMEOUT": "2s"}

    chosen = resolve(command_line={}, env=env, job_run={}, source="", command="rollback")

    assert (chosen.stages, chosen.timeout) == ((), 2.0)
    assert "stages" not in {option.name for option in options_of("rollback")}


SCHEMA = compile_schema(run_schema())
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2000),
    st.sampled_from(["5%", "1h", "fast", "read", "auto", "50/s", "info", "03:30", "many", "http://127.0.0.1"]),
    st.just(["1", "100%"]),
)


@given(st.dictionaries(st.sampled_from([*OPTIONS, "max_failure"]), VALUES, max_size=3))
def test_schema_accepts_what_the_check_accepts(job_run: dict[str, JSON]) -> None:
    """The exported schema finds no fault with options that the program takes, and knows the same names."""
    wrong = dict(wrong_members(job_run))

    if not wrong:
        assert SCHEMA.is_valid(job_run)
    for name, value in job_run.items():
        if name not in OPTIONS or not OPTIONS[name].in_job_file:
            assert name in wrong
            assert not SCHEMA.is_valid({name: value})


def test_defaults_are_shown_as_they_are_read() -> None:
    """The default that help shows is the one that applies."""
    for option in OPTIONS.values():
        if option.shown and "," not in option.shown:
            assert option.kind.parse(option.shown) == option.default, option.name
