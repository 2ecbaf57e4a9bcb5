"""Variables in job files and profiles: the one way by which a secret enters."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Outside", "ReadFile", "RunCommand", "no_commands"]

VARIABLE: Final = re.compile(r"\$\{(?P<name>[^}]*)\}")

ReadFile = Callable[[str], str]
RunCommand = Callable[[str], str]


def no_commands(_command: str) -> str:
    """Refuse every command, which is what a job file from elsewhere deserves."""
    raise OSError("is not run: commands in a job file need --allow-commands")


@dataclass(frozen=True, slots=True)
class Outside:
    """What a job file's values may take from outside of it.

    Attributes:
        env: the variables that ``${NAME}`` stands for.
        read_file: returns the content of the file that ``${file:PATH}`` names; raises OSError.
        run_command: returns what the command of ``${command:…}`` prints; raises OSError.
    """

    env: Mapping[str, str] = field(repr=False)
    read_file: ReadFile
    run_command: RunCommand = no_commands
