"""Run the tests on every Python 3.11 to 3.14 that this machine has: `make matrix`.

Interpreters are taken from the PATH, from pyenv and from uv. `--tree FOLDER` adds the Python of a system tree, such as
`debootstrap trixie FOLDER` makes; the tests run in it by chroot (as root). What ran and what was not found is printed.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
GIT: Final = shutil.which("git") or "git"
LIMIT_S: Final = 1800
TRIAL: Final = """
set -e
python="$1"; source="$2"; work="$3"
cp -r "$source" "$work/project"
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --require-hashes -r "$work/project/requirements.lock"
"$work/venv/bin/pip" install --quiet --no-deps --no-build-isolation -e "$work/project"
cd "$work/project"
shift 3
"$work/venv/bin/pytest" -p no:cacheprovider "$@"
"""


def version_of(python: Path) -> str | None:
    """Return an interpreter's version as major.minor, if it starts."""
    command = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None


def candidates() -> Iterator[Path]:
    """Yield the interpreters of this machine, the PATH's first."""
    for version in VERSIONS:
        if found := shutil.which(f"python{version}"):
            yield Path(found)
    yield from sorted(Path.home().glob(".pyenv/versions/3.1*/bin/python3"))
    yield from sorted(Path.home().glob(".local/share/uv/python/cpython-3.1*/bin/python3"))
    yield Path(sys.base_prefix) / "bin/python3"


def interpreters() -> dict[str, Path]:
    """Return one interpreter for each version that is found."""
    found: dict[str, Path] = {}
    for path in candidates():
        if path.exists() and (version := version_of(path)) in VERSIONS and version is not None:
            found.setdefault(version, path)
    return found


def summary(output: str) -> str:
    """Return the line of pytest that counts the tests."""
    lines = re.findall(r"^.*\d+ (?:passed|failed).*$", output, re.MULTILINE)
    return lines[-1].strip("= ") if lines else output[-500:]


def trial(python: Path, tests: Sequence[str], *, tree: Path | None = None) -> tuple[bool, str]:
    """Install the locked dependencies for an interpreter, run the tests, and return how they ended."""
    with tempfile.TemporaryDirectory(dir=None if tree is None else tree / "tmp") as temporary:
        source = Path(temporary) / "source"
        subprocess.run([GIT, "clone", "--quiet", ROOT, source], check=True)
        inside = Path(temporary) if tree is None else Path("/") / Path(temporary).relative_to(tree)
        command = ["sh", "-c", TRIAL, "trial", str(python), str(inside / "source"), str(inside), *tests]
        if tree is not None:
            command = ["chroot", str(tree), *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        return done.returncode == 0, summary(done.stdout + done.stderr)


def main() -> None:
    """Run the tests on each version and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, action="append", default=[], help="a system tree with a Python of its own")
    parser.add_argument("tests", nargs="*", help="files or folders of tests; all where none are named")
    given = parser.parse_args()
    trees: list[Path] = given.tree
    good = True
    found = interpreters()
    for version, python in sorted(found.items()):
        passed, said = trial(python, given.tests)
        good &= passed
        print(f"{version}  {'passed' if passed else 'FAILED'}  {said}", flush=True)
    for tree in trees:
        passed, said = trial(Path("/usr/bin/python3"), given.tests, tree=tree)
        good &= passed
        print(f"{tree}  {'passed' if passed else 'FAILED'}  {said}", flush=True)
    for version in VERSIONS:
        if version not in found:
            print(f"{version}  not found on this machine")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
