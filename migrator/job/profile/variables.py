"""Variables in job files and profiles: the one way by which a secret enters."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec.structs import replace

__all__ = [
    "NOTHING_MORE",
    "Allowed",
    "Outside",
    "OwnProfiles",
    "ReadFile",
    "RunCommand",
    "no_commands",
    "with_stand_ins",
]

VARIABLE: Final = re.compile(r"\$\{(?P<name>[^}]*)\}")

OWN_PREFIX: Final = "MIGRATOR_"

ReadFile = Callable[[str], str]
RunCommand = Callable[[str], str]


def no_commands(_command: str) -> str:
    """Refuse every command, which is what a job file from elsewhere deserves."""
    raise OSError("is not run: commands in a job file need --allow-commands")


def no_files(_name: str) -> str:
    """Refuse every file."""
    raise OSError("is not read")


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What the person who starts the program lets a job file take from outside; a job file cannot say so itself.

    Attributes:
        commands: whether ``${command:…}`` are run.
        env: the variables that it may read, apart from those of a trusted profile; None for all.
        files: files, or folders with all that is in them, that it may read, apart from those below its own folder.
    """

    commands: bool = False
    env: frozenset[str] | None = None
    files: tuple[str, ...] = ()


NOTHING_MORE: Final = Allowed()
"""What a Python program allows that says nothing: all variables of the mapping that it passes, no command."""


class OwnProfiles(msgspec.Struct, frozen=True):
    """The profiles in the user's own folder, which are trusted as built-in ones are.

    Attributes:
        texts: returns their texts by name.
        read_file: returns the content of a file that one of them names, relative to that folder; raises OSError.
    """

    texts: Callable[[], Mapping[str, str]] = dict
    read_file: ReadFile = no_files


NO_PROFILES: Final = OwnProfiles()


@dataclass(frozen=True, slots=True)
class Outside:
    """What a job file's values may take from outside of it.

    Attributes:
        env: the variables that ``${NAME}`` stands for.
        read_file: returns the content of the file that ``${file:PATH}`` names; raises OSError.
        run_command: returns what the command of ``${command:…}`` prints; raises OSError.
        own_profiles: the profiles in the user's own folder.
        allowed_env: the variables that a job file may read; None for all.
    """

    env: Mapping[str, str] = field(repr=False)
    read_file: ReadFile
    run_command: RunCommand = no_commands
    own_profiles: OwnProfiles = NO_PROFILES
    allowed_env: frozenset[str] | None = None

    def variable(self, name: str, *, trusted: bool) -> str:
        """Return a variable's value.

        Args:
            name: the variable's.
            trusted: whether a profile asks for it that is built in, or the user's own.

        Raises:
            OSError: it may not be read, or is not set; the text says which.
        """
        if name.startswith(OWN_PREFIX):
            raise OSError(f"the variable {name} is one of migrator's own, which a job file may not read")
        if not trusted and self.allowed_env is not None and name not in self.allowed_env:
            raise OSError(f"the variable {name} may be read by this file only with --allow-env {name}")
        if not self.env.get(name):
            raise OSError(f"the variable {name} is not set")
        return self.env[name]


STAND_IN: Final = "stand-in"
STAND_IN_URL: Final = "https://stand-in.invalid"


def with_stand_ins(outside: Outside) -> Outside:
    """Return an outside that has something for every variable, file and command: for a check that sends nothing.

    A file that ends in .json is a profile, and is read.
    """

    def read_file(name: str) -> str:
        return outside.read_file(name) if name.endswith(".json") else STAND_IN

    own = replace(outside.own_profiles, read_file=lambda _: STAND_IN)
    return Outside(_StandIns(outside.env), read_file, lambda _: STAND_IN, own)


class _StandIns(Mapping[str, str]):
    """Variables, with a stand-in for each that is not set: a URL where the name says so."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def __getitem__(self, name: str) -> str:
        return self._env.get(name) or (STAND_IN_URL if "URL" in name.upper() else STAND_IN)

    def __iter__(self) -> Iterator[str]:
        return iter(self._env)

    def __len__(self) -> int:
        return len(self._env)
