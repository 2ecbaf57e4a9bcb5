"""Mutation testing of the packages that decide without the network, the disk and the clock: `make mutate`.

mutmut changes a module in one place at a time, and the module's own test file has to notice. Of each module a sample is
tried, drawn with a seed; what survived is printed with its change. It is installed below `build/`, since nothing else
needs it. The packages are ratelimit and job, and api.outcome and api.state.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "mutate"
TOOLS: Final = BUILD / "tools"
MUTMUT: Final = "mutmut==3.8.1"
MODULE_S: Final = 240
"""Seconds that the mutants of one module may take."""


def modules(wanted: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the modules whose dotted name matches, each with its own test files."""
    paths = [*(ROOT / "migrator/ratelimit").rglob("*.py"), *(ROOT / "migrator/job").rglob("*.py")]
    for path in sorted([*paths, ROOT / "migrator/api/outcome.py", ROOT / "migrator/api/state.py"]):
        inner = path.relative_to(ROOT / "migrator")
        tests = [f"tests/{kind}/{inner.parent}/test_{path.stem}.py" for kind in ("unit", "integration")]
        found = [test for test in tests if (ROOT / test).exists()]
        name = ".".join(inner.with_suffix("").parts)
        if found and re.search(wanted, name):
            yield name, found


def prepare(name: str, tests: list[str]) -> Path:
    """Make a copy of the project in which one module is mutated, and return its folder."""
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in ("migrator", "tests", "jobs", "docs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    settings = {
        "source_paths": ["migrator"],
        "only_mutate": [f"migrator/{name.replace('.', '/')}.py"],
        "also_copy": ["jobs", "docs"],
        "pytest_add_cli_args": ["-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider", "--timeout", "0"],
        "pytest_add_cli_args_test_selection": tests,
    }
    # A list of texts is the same in TOML and in JSON.
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    text = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(f"{text}\n[tool.mutmut]\n{table}\n")
    return folder


def mutmut(folder: Path, *arguments: str) -> str:
    """Run mutmut and return what it printed."""
    path = os.pathsep.join([str(TOOLS), str(folder / "mutants")])
    command = ["timeout", str(MODULE_S), sys.executable, "-m", "mutmut", *arguments]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def results(folder: Path) -> dict[str, int | None]:
    """Return the exit code of each mutant's tests by its name; None where they did not run."""
    found: dict[str, int | None] = {}
    for path in (folder / "mutants").rglob("*.meta"):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def survivors(folder: Path, rng: random.Random, most: int) -> tuple[int, list[str]]:
    """Try a sample of a module's mutants; return how many were tried, and those that no test noticed.

    Raises:
        RuntimeError: mutmut did not run.
    """
    said = mutmut(folder, "run", "nothing")
    names = sorted(results(folder))
    if not names:
        raise RuntimeError(said[-2000:])
    said = mutmut(folder, "run", "--max-children", "2", *rng.sample(names, min(most, len(names))))
    tried = {name: code for name, code in results(folder).items() if code is not None}
    if not tried:
        raise RuntimeError(said[-2000:])
    return len(tried), sorted(name for name, code in tried.items() if code in {0, 33})


def main() -> None:
    """Try mutants module by module, until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="start no module after so long")
    parser.add_argument("--most", type=int, default=25, help="mutants of a module at the most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modules", default="", help="a regular expression for dotted names")
    given = parser.parse_args()
    end = time.monotonic() + 60.0 * given.minutes
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(TOOLS), "--no-deps"]
    if not (TOOLS / "mutmut").exists():
        wanted = [MUTMUT, "libcst", "textual", "rich", "markdown-it-py", "mdurl", "mdit-py-plugins", "linkify-it-py",
                  "uc-micro-py", "platformdirs", "setproctitle"]  # fmt: skip
        subprocess.run([*command, *wanted], check=True)
    total = noticed = 0
    for name, tests in modules(given.modules):
        if time.monotonic() > end:
            print(f"{name}: not tried, the time is over")
            continue
        folder = prepare(name, tests)
        try:
            tried, left = survivors(folder, random.Random(f"{given.seed} {name}"), given.most)
        except RuntimeError as error:
            print(f"{name}: mutmut did not run: {error}", flush=True)
            continue
        total, noticed = total + tried, noticed + tried - len(left)
        print(f"{name}: {tried - len(left)} of {tried} noticed", flush=True)
        for mutant in left:
            print(mutmut(folder, "show", mutant).strip(), flush=True)
        shutil.rmtree(folder)
    print(f"{noticed} of {total} mutants were noticed (seed {given.seed}, {given.most} a module at the most)")


if __name__ == "__main__":
    main()
