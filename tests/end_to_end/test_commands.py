"""Each command answers quickly, explains itself, and refuses wrong use with one message."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MIGRATOR, Workplace

from migrator.cli.commands import COMMANDS as DECLARED
from migrator.job.problems import compile_schema

COMMANDS = [command.name or "" for command in DECLARED]
JOBS = Path(__file__).parents[2] / "jobs"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(workplace: Workplace, command: str) -> None:
    """Every command's help ends with an example of itself."""
    done = workplace.run(command, "--help")

    assert done.code == 0
    assert re.search(rf"Example:\n +migrator {command}", done.out)


def test_help_lists_commands(workplace: Workplace) -> None:
    """The program's help names every command, and its version is told."""
    assert all(command in workplace.run("--help").out for command in COMMANDS)
    assert re.fullmatch(r"migrator \d+\.\d+\.\d+\n", workplace.run("--version").out)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["status", "--help"]])
def test_help_is_quick(arguments: list[str]) -> None:
    """Help imports nothing that only a run needs."""
    code = (
        "import atexit, sys; from migrator.cli.main import main; slow = {'aiohttp', 'anyio', 'rich', 'structlog'}; "
        "atexit.register(lambda: print(slow & set(sys.modules))); main()"
    )

    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "set()"


def test_help_offers_only_what_means_something(workplace: Workplace) -> None:
    """A command's help has its own options, and not those of others."""
    rollback = workplace.run("rollback", "--help").out

    assert "--key-file" in rollback
    assert not [name for name in ("--plan", "--stages", "--limit", "--only-changed") if name in rollback]


def test_misspelt_option_in_a_job_file(workplace: Workplace) -> None:
    """The check finds a misspelt option, says where it is, and what was meant."""
    job = workplace.write_job(1, run={"max_failure": "5%"})

    done = workplace.run("check", job)

    assert done.code == 2
    assert re.search(
        r"^job\.json:1:\d+: run\.max_failure: is not an option; did you mean max_failures\?$", done.err, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'JOB'"),
        (["run", "nothing.json"], "nothing.json: No such file or directory"),
        (["run", "items.txt"], "a job is a .json file"),
        (["check", "job.json", "--template", "x"], "--template is for an items file"),
        (["check", "job.json", "--items", "gone.csv"], "gone.csv: No such file"),
        (["run", "job.json", "--rate", "fast"], "--rate takes a rate such as 50/s"),
        (["run", "job.json", "--bogus"], "No such option"),
        (["sandbox", "--error-rate", "often"], "sandbox takes a percentage"),
        (["sandbox", "--window", "nan"], "sandbox takes a window of more than 0 s"),
        (["sandbox", "--api-secret", "x"], "sandbox takes an API secret only with its API key"),
    ],
)
def test_wrong_use(workplace: Workplace, arguments: list[str], message: str) -> None:
    """Wrong use ends with 2 and a message that says what is allowed, never with a traceback."""
    workplace.write_job(1)

    done = workplace.run(*arguments)

    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_port_in_use(workplace: Workplace) -> None:
    """A port that someone else listens on is said to be so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = workplace.run("sandbox", "--port", str(taken.getsockname()[1]))

    assert done.code == 2
    assert "cannot listen on port" in done.err
    assert "Traceback" not in done.err


def test_unset_variable(workplace: Workplace) -> None:
    """A variable that is not set is named before anything is sent."""
    workplace.write_job(1)

    done = workplace.run("check", "job.json", env={"PATH": "/usr/bin"})

    assert done.code == 2
    assert "the variable CONFLUENT_CLOUD_API_KEY is not set" in done.err
    assert "give --no-credentials" in done.err


def test_schema_accepts_the_jobs_that_ship(workplace: Workplace) -> None:
    """The exported schema is JSON Schema, and finds the job of the demo valid."""
    schema = json.loads(workplace.run("schema").out)

    assert compile_schema(schema).is_valid(json.loads((JOBS / "rotate-slack-webhooks.json").read_text()))


@pytest.mark.parametrize(
    "arguments",
    [
        ["rotate-slack-webhooks.json"],
        ["rotate-slack-webhooks.json", "--items", str(JOBS / "rotate-slack-webhooks.jsonl")],
        ["rotate-slack-webhooks.csv", "--template", str(JOBS / "rotate-slack-webhooks.json")],
        ["confluent-integration.csv"],
    ],
)
def test_jobs_that_ship_are_valid(workplace: Workplace, arguments: list[str]) -> None:
    """Each job file that ships passes its check."""
    done = workplace.run("check", str(JOBS / arguments[0]), *arguments[1:])

    assert (done.code, done.err) == (0, "")
    assert "400 items, no problems" in done.out


def test_sample_webhooks_are_no_secrets() -> None:
    """No secret scanner takes a webhook of the samples for a real one (trufflehog's and detect-secrets' pattern)."""
    pattern = re.compile(r"hooks\.slack\.com/|T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{23,25}")

    for path in JOBS.iterdir():
        assert not pattern.search(path.read_text())


def test_module_and_command_are_one() -> None:
    """`python -m migrator` is the command."""
    done = subprocess.run([*MIGRATOR, "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("migrator ")
