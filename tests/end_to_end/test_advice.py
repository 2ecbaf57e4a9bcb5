"""Each command that the program advises works as it stands, whatever it was that ended the run before."""

import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from crash import RUN, SCENARIOS, Bench, Scenario, check_run, lines
from crash_witness import witness

from migrator.commands.status import of_one
from migrator.store.state_folder import StateFolder

KEPT = [*RUN, "--keep-before"]
ELSEWHERE = [*RUN, "--state", "a state"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the witness of the crash tests."""
    with witness() as url:
        yield url


def advised(bench: Bench, state: str) -> list[str] | None:
    """Return the command that `status` advises for the last run, and hold the summary's words against it."""
    folder = StateFolder(bench.work / state)
    place = folder.find("last")
    command: str | None = of_one(folder, place)["next"]
    if command is None:
        return None
    program, *words = shlex.split(command)
    assert program == "migrator"
    return words


def follow(bench: Bench, *, state: str = ".migrator", most: int = 3) -> list[str]:
    """Give what is advised until nothing is, and return the commands' names."""
    names: list[str] = []
    while (words := advised(bench, state)) is not None:
        assert len(names) < most, words
        names.append(words[0])
        code = bench.run(words)
        assert code in {0, 1}, (words, (bench.work / "err.txt").read_text()[-500:])
    return names


@pytest.mark.parametrize(
    ("method", "command", "trouble", "names"),
    [
        pytest.param("PATCH", RUN, {"refused": ["t-1"]}, ["run"], id="failed canary"),
        pytest.param("PATCH", RUN, {"refused": ["t-3"]}, ["retry"], id="failed item"),
        pytest.param("PATCH", [*ELSEWHERE, "--fresh"], {"refused": ["t-3"]}, ["retry"], id="another state folder"),
        pytest.param("PATCH once", RUN, {"broken": ["t-3"]}, ["reconcile"], id="in doubt"),
        pytest.param(
            "PATCH once", RUN, {"broken": ["t-3"], "refused": ["t-2"]}, ["reconcile", "retry"], id="in doubt and failed"
        ),
        pytest.param("PATCH", [*RUN, "--rate", "4/s", "--deadline", "1s"], {}, ["run"], id="deadline"),
    ],
)
def test_after_an_ending(
    tmp_path: Path, url: str, method: str, command: Sequence[str], trouble: dict[str, list[str]], names: list[str]
) -> None:
    """Once the cause is removed, the advised commands finish the items, and then nothing more is advised."""
    bench = Bench(tmp_path, url)
    scenario = Scenario("advice", command, method)
    bench.prepare(scenario)
    bench.refuse(trouble.get("refused", ()), broken=trouble.get("broken", ()))

    assert bench.run(command) in {1, 3}
    bench.refuse(())

    assert follow(bench, state="a state" if "--state" in command else ".migrator") == names
    assert {thing["name"] for thing in bench.seen()["things"].values()} == {f"new {n}" for n in range(1, 6)}


@pytest.mark.parametrize(
    ("name", "number", "steps"),
    [
        pytest.param("run PATCH", signal.SIGTERM, 38, id="run that was asked to stop"),
        pytest.param("run --fresh", signal.SIGKILL, 45, id="fresh run that was killed while it sent"),
        pytest.param("run PATCH", signal.SIGKILL, 85, id="run that was killed while it ended"),
        pytest.param("retry", signal.SIGKILL, 45, id="retry that was killed while it sent"),
        pytest.param("retry", signal.SIGKILL, 85, id="retry that was killed while it ended"),
        pytest.param("rollback", signal.SIGKILL, 45, id="rollback that was killed while it sent"),
    ],
)
def test_after_a_death(tmp_path: Path, url: str, name: str, number: signal.Signals, steps: int) -> None:
    """Half way through, the command that goes on is the one that was given, without what would start it again."""
    scenario = SCENARIOS.get(name, Scenario(name, [*RUN, "--fresh"]))
    bench = Bench(tmp_path, url)
    bench.prepare(scenario)

    assert bench.run(scenario.command, signal_after=steps, signal=number) in {-9, 143}

    assert follow(bench) == [scenario.command[0]]
    if scenario.check is None:
        assert list(check_run(bench, scenario)) == []
    else:
        assert list(scenario.check(bench, scenario)) == []
    assert all(lines(run / "results.jsonl") for run in bench.runs())
