"""Variables in job files and profiles: the one way by which a secret enters."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Outside", "OwnProfiles", "ReadFile", "RunCommand", "no_commands"]

VARIABLE: Final = re.compile(r"\$\{(?P<name>[^}]*)\}")

ReadFile = Callable[[str], str]
RunCommand = Callable[[str], str]


def no_commands(_command: str) -> str:
    """Refuse every command, which is what a job file from elsewhere deserves."""
    raise OSError("is not run: commands in a job file need --allow-commands")


def no_files(_name: str) -> str:
    """Refuse every file."""
    raise OSError("is not read")


@dataclass(frozen=True, slots=True)
class OwnProfiles:
    """The profiles in the user's own folder, which are trusted as built-in ones are.

    Attributes:
        texts: returns their texts by name.
        read_file: returns the content of a file that one of them names, relative to that folder; raises OSError.
    """

    texts: Callable[[], Mapping[str, str]] = dict
    read_file: ReadFile = no_files


@dataclass(frozen=True, slots=True)
class Outside:
    """What a job file's values may take from outside of it.

    Attributes:
        env: the variables that ``${NAME}`` stands for.
        read_file: returns the content of the file that ``${file:PATH}`` names; raises OSError.
        run_command: returns what the command of ``${command:…}`` prints; raises OSError.
        own_profiles: the profiles in the user's own folder.
    """

    env: Mapping[str, str] = field(repr=False)
    read_file: ReadFile
    run_command: RunCommand = no_commands
    own_profiles: OwnProfiles = OwnProfiles()
