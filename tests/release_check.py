"""Check that a release can be made: `make release-check`.

The version stands in the changelog with a date; the wheel and the source archive are built twice to the same bytes; the
wheel is installed into an empty environment, and the installed program answers, checks a job and serves the sandbox.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
START_S: Final = 60.0


def run(*command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; end with its errors if it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def version() -> str:
    """Return the version that the package states, which the changelog has to name with a date."""
    found = re.search(r'__version__\s*(?::[^=]*)?= "([^"]+)"', (ROOT / "migrator/__init__.py").read_text())
    if found is None:
        sys.exit("migrator/__init__.py states no version")
    heading = re.search(
        rf"^## {re.escape(found[1])} - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    if heading is None:
        sys.exit(f"CHANGELOG.md has no section '## {found[1]} - YYYY-MM-DD'")
    return found[1]


def build(folder: Path) -> dict[str, str]:
    """Build wheel and source archive; return their SHA-256 by name."""
    when = run("git", "log", "-1", "--format=%ct").strip()
    hatch = Path(sys.executable).with_name("hatchling")
    run(hatch, "build", "-d", folder, env=os.environ | {"SOURCE_DATE_EPOCH": when})
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def try_wheel(wheel: Path, folder: Path, expected: str) -> None:
    """Install the wheel with the locked dependencies and use what it installs."""
    run(sys.executable, "-m", "venv", folder / "venv")
    python, program = folder / "venv/bin/python", folder / "venv/bin/migrator"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints(folder), wheel)
    shown = run(program, "--version", cwd=folder).strip()
    if shown != f"migrator {expected}":
        sys.exit(f"the installed program says {shown!r}, not migrator {expected}")
    for name in ("rotate-slack-webhooks.json", "rotate-slack-webhooks.csv"):
        shutil.copy(ROOT / "jobs" / name, folder)
    credentials = {"CONFLUENT_CLOUD_API_KEY": "example", "CONFLUENT_CLOUD_API_SECRET": "example"}
    print(run(program, "check", "rotate-slack-webhooks.json", cwd=folder, env=os.environ | credentials).strip())
    with subprocess.Popen([program, "sandbox", "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            print(server.stdout.readline().strip())
        finally:
            server.terminate()
            server.wait(START_S)


def constraints(folder: Path) -> Path:
    """Write the lock file without its hashes, as constraints for pip."""
    pins = re.findall(r"^[a-z0-9][^\s\\]*==[^\\\n]*", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    path = folder / "constraints.txt"
    path.write_text("\n".join(pin.strip() for pin in pins) + "\n")
    return path


def main() -> None:
    """Check everything in a temporary folder; copy the archives to dist/."""
    expected = version()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        built, again = build(folder / "one"), build(folder / "two")
        if built != again:
            sys.exit(f"two builds differ: {built} and {again}")
        try_wheel(next((folder / "one").glob("*.whl")), folder, expected)
        shutil.copytree(folder / "one", ROOT / "dist", dirs_exist_ok=True)
    for name, digest in built.items():
        print(f"{digest}  dist/{name}")


if __name__ == "__main__":
    main()
