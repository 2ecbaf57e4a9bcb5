"""Where a job and its items come from: opens what the command line names."""

import io
import re
import shlex
import shutil
import subprocess
import tempfile
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec.structs import replace

from migrator.errors import SourceError
from migrator.job.items import Form
from migrator.job.job_file import Job, builtin_template, load_job
from migrator.job.json_reader import decode
from migrator.job.problems import JobError, Problem
from migrator.job.profile.api_profile import ApiProfile, named_profile
from migrator.job.profile.variables import NOTHING_MORE, Allowed, Outside, OwnProfiles, no_commands, with_stand_ins

__all__ = [
    "DEFAULT_TEMPLATE",
    "STANDARD_INPUT",
    "UTF_8",
    "Source",
    "find_job",
    "find_profile",
    "open_items",
    "outside_of",
    "run_command",
]

DEFAULT_TEMPLATE: Final = "confluent-integration"
LARGEST_VALUE: Final = 1 << 20
"""Bytes of a file that stands for a value in a job file."""

FORMS: Final = {".csv": Form.CSV, ".tsv": Form.CSV, ".jsonl": Form.JSONL, ".ndjson": Form.JSONL, ".json": Form.JSON}
STANDARD_INPUT: Final = "-"
UTF_8: Final = "utf-8"

NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
LONGEST_STEM: Final = 60
"""Characters of an items file's name in its job's name, which is a part of other files' names."""

COMMAND_S: Final = 30.0
"""Seconds that a command may take to print a secret; a password manager may ask for a fingerprint."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An items file, open and seekable, so that it can be checked first and sent afterwards.

    Attributes:
        stream: the bytes.
        form: how they are to be read.
        name: what to call it in messages.
        path: the file; None for standard input and items that stand in the job file.
        facts: how to find both again: the arguments that were given, with absolute paths.
    """

    stream: BinaryIO
    form: Form
    name: str
    path: Path | None = None
    facts: Mapping[str, str] = msgspec.field(default_factory=dict)

    def state(self) -> tuple[int, ...]:
        """Return what changes when a program writes to the file while it is read."""
        if self.path is None:
            return ()
        status = self.path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def rewound(self) -> BinaryIO:
        """Return the stream, at its beginning."""
        self.stream.seek(0)
        return self.stream


def find_job(
    argument: str,
    *,
    items: str | None,
    template: str | None,
    env: Mapping[str, str],
    allowed: Allowed = NOTHING_MORE,
    credentials: bool = True,
) -> Job:
    """Return the job that the command line names.

    Args:
        argument: a job file, an items file, or ``-`` for items on standard input.
        items: an items file in place of the job's own, or ``-``.
        template: the job file, or the name of a built-in one, that goes with an items file.
        env: the environment.
        allowed: what the job file may take from outside.
        credentials: False puts a stand-in where a variable, a file or a command is missing; nothing can be sent then.

    Raises:
        SourceError: a file cannot be read, or it is not clear what it is.
        JobError: the job file is not valid.
    """
    finder = _Finder(env, allowed, credentials=credentials)
    if _holds_items(argument):
        if items is not None:
            raise SourceError(f"{argument} holds the items; --items is for a job file")
        job = finder.template(template or DEFAULT_TEMPLATE)
        return replace(job, name=_name_with_items(job.name, argument))
    if template is not None:
        raise SourceError(f"--template is for an items file, and {argument} is a job file")
    return finder.load(Path(argument))


def _name_with_items(template: str, argument: str) -> str:
    """Return the name of a job that is an items file: two files are two jobs, and one file is one wherever it runs."""
    if argument == STANDARD_INPUT:
        return template
    path = Path(argument).absolute()
    stem = NOT_IN_A_NAME.sub("-", path.stem)[:LONGEST_STEM]
    return f"{template}-{stem}-{blake2b(str(path).encode('utf-8', 'surrogateescape'), digest_size=2).hexdigest()}"


def open_items(
    job: Job, argument: str, *, items: str | None, template: str | None, stdin: BinaryIO, encoding: str = UTF_8
) -> Source:
    """Open the items that go with a job, as the command line names them.

    Args:
        job: the job.
        argument: the job file, or the items file, or ``-``.
        items: an items file in place of the job's own, or ``-``.
        template: the job file that goes with an items file.
        stdin: standard input.
        encoding: the file's encoding, as Python names it. One with UTF-8's byte order mark is UTF-8 all the same, as
            the files of a run are.

    Raises:
        SourceError: the file cannot be opened, or there is none.
        JobError: a byte is not of that encoding.
    """
    given = {"job_argument": argument, "items_argument": items, "template_argument": template}
    facts = {name: _absolute(text) for name, text in given.items() if text is not None}
    opened = replace(_opened(job, argument, items, stdin), facts=facts)
    if encoding == UTF_8:
        return opened
    marked = opened.stream.read(len(BOM_UTF8)) == BOM_UTF8
    opened.stream.seek(0)
    return replace(opened, facts={**facts, "encoding": encoding}) if marked else _recoded(opened, encoding)


def _recoded(source: Source, encoding: str) -> Source:
    """Return a source in UTF-8: a copy without a name, which the system removes with the process."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the run
    line = 1
    try:
        with source.stream, io.TextIOWrapper(source.stream, encoding=encoding, newline="") as text:
            while chunk := text.read(1 << 20):
                line += chunk.count("\n")
                spool.write(chunk.encode("utf-8", "surrogatepass"))
    except UnicodeError:
        message = f"holds a byte that is not {encoding}, on this line or after it"
        raise JobError((Problem(source.name, line, None, None, message),)) from None
    spool.seek(0)
    return replace(source, stream=spool, facts={**source.facts, "encoding": encoding})


def find_profile(name: str, *, env: Mapping[str, str], allowed: Allowed) -> ApiProfile:
    """Return a profile: built in, in the user's own folder, a file, or a job file's.

    Raises:
        SourceError: the file cannot be read.
        JobError: there is no such profile, or it is not valid.
    """
    finder = _Finder(env, allowed)
    if not name.endswith(".json"):
        return named_profile(name, finder.outside(Path()))
    path = Path(name)
    if _is_profile(path):
        return named_profile(path.name, finder.outside(path.parent))
    return finder.load(path).api


def _absolute(text: str) -> str:
    return str(Path(text).absolute()) if Path(text).suffix else text


def outside_of(path: str, *, env: Mapping[str, str], allowed: Allowed) -> Outside:
    """Return what a job file may take from this machine, wherever it was read itself.

    Args:
        path: where the job file is; other files are found relative to it.
        env: the environment.
        allowed: what the job file may take from outside.
    """
    return _Finder(env, allowed).outside(Path(path).parent)


class _Finder(msgspec.Struct, frozen=True):
    """What a job file may reach for."""

    env: Mapping[str, str]
    allowed: Allowed
    credentials: bool = True

    def outside(self, folder: Path) -> Outside:
        runs = run_command if self.allowed.commands else no_commands
        reads = _reader_below(folder, self.allowed.files)
        outside = Outside(self.env, reads, runs, _own_profiles(self.env), self.allowed.env)
        return outside if self.credentials else with_stand_ins(outside)

    def template(self, name: str) -> Job:
        if name.endswith(".json"):
            return self.load(Path(name))
        return builtin_template(name, self.outside(Path()))

    def load(self, path: Path) -> Job:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or 'cannot be read'}") from None
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            problem = Problem(
                file=str(path), line=line, column=None, field=None, message="is not UTF-8; save it again as UTF-8"
            )
            raise JobError((problem,)) from None
        return load_job(text, source=str(path), outside=self.outside(path.parent))


def _opened(job: Job, argument: str, items: str | None, stdin: BinaryIO) -> Source:
    if _holds_items(argument):
        return _open(argument, stdin)
    if items is not None:
        return _open(items, stdin)
    if isinstance(job.items, str):
        return _open(str(Path(argument).parent / job.items), stdin)
    if job.items is None:
        raise SourceError(f"{argument} names no items: add a member 'items', or use --items FILE")
    stream = io.BytesIO(msgspec.json.encode(job.items))
    return Source(stream=stream, form=Form.JSON, name=f"{argument} (items)")


def _holds_items(argument: str) -> bool:
    return argument == STANDARD_INPUT or _is_items(Path(argument))


def _is_items(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in FORMS:
        raise SourceError(f"{path}: a job is a .json file, items are a .csv, .jsonl, .ndjson or .json file")
    return suffix != ".json" or _first_character(path) == "["


def _is_profile(path: Path) -> bool:
    """Tell whether a file holds a profile by itself; any other is read as a job file, which says what is wrong."""
    try:
        found = decode(path.read_bytes())
    except OSError:
        return False
    return isinstance(found, Mapping) and "base_url" in found and "request" not in found


def _first_character(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1].decode("latin-1")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or 'cannot be read'}") from None


def _own_profiles(env: Mapping[str, str]) -> OwnProfiles:
    """Return the profiles of the folder ``migrator/apis`` where the user keeps settings (XDG Base Directory)."""
    places = [Path(env.get("XDG_CONFIG_HOME", "")), Path(env.get("HOME", "")) / ".config"]
    settings = next((place for place in places if place.is_absolute()), None)
    if settings is None:
        return OwnProfiles()
    folder = settings / "migrator" / "apis"

    def texts() -> dict[str, str]:
        return {path.stem: path.read_text("utf-8") for path in folder.glob("*.json")}

    return OwnProfiles(texts, _reader(folder))


def _reader(folder: Path) -> Callable[[str], str]:
    return lambda name: _small_text(folder / name)


def _small_text(path: Path) -> str:
    """Return the text of a file; a pipe or a device could keep the program waiting for ever."""
    if not path.is_dir() and path.exists() and not path.is_file():
        raise OSError("is no regular file")
    if path.stat().st_size > LARGEST_VALUE:
        raise OSError("is larger than 1 MB")
    return path.read_text("utf-8")


def _reader_below(folder: Path, others: Sequence[str]) -> Callable[[str], str]:
    """Return what reads files below a folder, and those that the user allows; links are followed first."""

    def read(name: str) -> str:
        path = (folder / name).resolve()
        if not any(path.is_relative_to(place.resolve()) for place in (folder, *map(Path, others))):
            raise OSError(f"is not below the job file's folder: give --allow-file {name}")
        return _small_text(path)

    return read


def run_command(command: str) -> str:
    """Return what a command prints, such as a password manager's; the shell is not asked.

    Raises:
        OSError: it cannot be run or fails; its output is in no message.
    """
    words = shlex.split(command)
    name = words[0] if words else "''"
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=COMMAND_S, check=True)  # noqa: S603  the user has allowed it
        return done.stdout.decode().removesuffix("\n").removesuffix("\r")
    except subprocess.CalledProcessError as error:
        raise OSError(f"{name} ended with {error.returncode}") from None
    except subprocess.TimeoutExpired:
        raise OSError(f"{name} did not end within {COMMAND_S:.0f} s") from None
    except (OSError, IndexError, ValueError) as error:
        raise OSError(f"{name} cannot be run: {getattr(error, 'strerror', None) or 'not a command'}") from None


def _open(name: str, stdin: BinaryIO) -> Source:
    if name == STANDARD_INPUT:
        return _spooled(stdin)
    path = Path(name)
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise SourceError(f"{name}: items are a .csv, .jsonl, .ndjson or .json file")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise SourceError(f"{name}: {error.strerror or 'cannot be read'}") from None
    return Source(stream=stream, form=form, name=name, path=path)


def _spooled(stdin: BinaryIO) -> Source:
    """Copy standard input to a file without a name, since it is read twice and gone when the process is."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the run
    shutil.copyfileobj(stdin, spool)
    spool.seek(0)
    first = spool.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    spool.seek(0)
    form = {b"[": Form.JSON, b"{": Form.JSONL}.get(first, Form.CSV)
    return Source(stream=spool, form=form, name="standard input")
