"""What the documents tell a reader to type works as it stands there, on a sandbox.

Every `console` block of README.md and docs/ is run, in order, in one shell a document. A block that cannot be run here
has the comment `<!-- not run: reason -->` before it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CREDENTIALS
from sandboxes import StartSandbox

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?P<reason><!-- not run: [^>]+? -->\n)?^ *```console\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


def commands(path: Path) -> Iterator[str]:
    """Yield the commands of a document that are to be run."""
    for block in BLOCK.finditer(path.read_text()):
        if not block["reason"]:
            yield from re.findall(r"^ *\$ (.+)$", block["text"], re.MULTILINE)


RUN = [path for path in DOCUMENTS if any(commands(path))]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", RUN, ids=[str(path.relative_to(ROOT)) for path in RUN])
def test_commands_of(path: Path, tmp_path: Path, start_sandbox: StartSandbox) -> None:
    """The commands of a document succeed one after the other."""
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    with start_sandbox("--items", "400", "--limit", "0") as sandbox:
        place = {
            "MIGRATOR_BASE_URL": sandbox.url,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        script = "set -e -o pipefail\n" + "\n".join(commands(path))
        done = subprocess.run(
            ["bash", "-x", "-c", script],  # noqa: S607
            cwd=tmp_path,
            env=os.environ | CREDENTIALS | place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_site_builds(tmp_path: Path) -> None:
    """The documentation builds without a warning, so that no link in it is broken."""
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-n",
        str(ROOT / "docs"),
        str(tmp_path / "site"),
    ]

    done = subprocess.run([*build, "-d", str(tmp_path / "doctrees")], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "site" / "index.html").exists()


def test_nothing_tells_to_install_it_by_name() -> None:
    """It is on no package index, so that anybody could register the name there."""
    told = re.compile(r"install\s+(--?\S+\s+)*['\"]?(rest-)?migrator\b(?!/)")
    files = [*DOCUMENTS, *(ROOT / "migrator").rglob("*.py"), *(ROOT / "jobs").rglob("*")]
    found = [path for path in files if path.is_file() and told.search(path.read_text(errors="replace"))]
    assert found == []
