"""Completion in real shells: types the beginning of a command, presses Tab, and looks at the line that comes of it.

Run by `make shells`; it tries bash, zsh and fish, those that are installed, and ends within some minutes.
"""

import os
import pty
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
QUIET_S = 2.0
"""Seconds without output after which a shell has answered a Tab."""
LONGEST_S = 30.0

START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
SET_UP = {
    "bash": 'eval "$(_MIGRATOR_COMPLETE=bash_source migrator)"',
    "zsh": 'autoload -U compinit; compinit -u -D; eval "$(_MIGRATOR_COMPLETE=zsh_source migrator)"',
    "fish": "_MIGRATOR_COMPLETE=fish_source migrator | source",
}
RUN = "zebra-20261123T120000Z-0a1b"
CASES = {
    "migrator rec": "migrator reconcile",
    "migrator run --pace s": "migrator run --pace smooth",
    "migrator check --no-cr": "migrator check --no-credentials",
    "migrator check rot": "migrator check rotate.json",
    "migrator check --items web": "migrator check --items webhooks.csv",
    "migrator status zeb": f"migrator status {RUN}",
    "migrator export conf": "migrator export confluent-cloud",
}
"""What is typed before Tab, and the line that it has to become."""


class Shell:
    """A shell on a terminal of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self._folder = folder
        env = {"PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm", "HOME": str(folder)}
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.chdir(folder)
            os.execvpe(START[name][0], START[name], env)  # noqa: S606  the shell is what is tried
        self.press(f"{SET_UP[name]}\n")

    def press(self, keys: str) -> None:
        """Press keys, and wait until the shell says nothing more."""
        os.write(self._terminal, keys.encode())
        ends = time.monotonic() + LONGEST_S
        while time.monotonic() < ends and select.select([self._terminal], [], [], QUIET_S)[0]:
            os.read(self._terminal, 65536)

    def completed(self, begun: str) -> str:
        """Return the line that Tab makes of a beginning: the shell itself writes it to a file."""
        got = self._folder / "got"
        got.unlink(missing_ok=True)
        self.press(begun)
        self.press("\t")
        self.press("\x01echo \x05 >got\n")
        return " ".join(got.read_text().split()) if got.exists() else ""

    def close(self) -> None:
        """End the shell."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._terminal)


def main() -> int:
    """Try every shell that is installed; return 1 if a line was not completed."""
    wrong = 0
    for name in START:
        if shutil.which(name) is None:
            print(f"{name}: not installed, not tried")
            continue
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "rotate.json").write_text("{}")
            (place / "webhooks.csv").write_text("id\n")
            (place / ".migrator" / "runs" / RUN).mkdir(parents=True)
            shell = Shell(name, place)
            try:
                for begun, expected in CASES.items():
                    line = shell.completed(begun)
                    good = line == expected
                    wrong += not good
                    print(f"{name}: {'ok' if good else 'WRONG'}: {begun!r} became {line!r}")
            finally:
                shell.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
