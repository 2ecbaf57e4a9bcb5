"""Where a job and its items come from: opens what the command line names."""

import io
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from migrator.items import Form
from migrator.job import Job, JobError, builtin_template, load_job
from migrator.problem import Problem

__all__ = ["DEFAULT_TEMPLATE", "Source", "SourceError", "find"]

DEFAULT_TEMPLATE: Final = "confluent-integration"
FORMS: Final = {".csv": Form.CSV, ".tsv": Form.CSV, ".jsonl": Form.JSONL, ".ndjson": Form.JSONL, ".json": Form.JSON}
STANDARD_INPUT: Final = "-"


class SourceError(Exception):
    """A file that the command line names cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An items file, open and seekable, so that it can be checked first and sent afterwards.

    Attributes:
        stream: the bytes.
        form: how they are to be read.
        name: what to call it in messages.
        path: the file; None for standard input and items that stand in the job file.
    """

    stream: BinaryIO
    form: Form
    name: str
    path: Path | None = None

    def state(self) -> tuple[int, ...]:
        """Return what changes when somebody writes to the file while it is read."""
        if self.path is None:
            return ()
        status = self.path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def rewound(self) -> BinaryIO:
        """Return the stream, at its beginning."""
        self.stream.seek(0)
        return self.stream


def find(
    argument: str, *, items: str | None, template: str | None, env: Mapping[str, str], stdin: BinaryIO
) -> tuple[Job, Source]:
    """Return the job and its items.

    Args:
        argument: a job file, an items file, or ``-`` for items on standard input.
        items: an items file in place of the job's own, or ``-``.
        template: the job file, or the name of a built-in one, that goes with an items file.
        env: the environment.
        stdin: standard input.

    Raises:
        SourceError: a file cannot be opened, or it is not clear what it is.
        JobError: the job file is not valid.
    """
    if argument == STANDARD_INPUT or _is_items(Path(argument)):
        if items is not None:
            raise SourceError(f"{argument} holds items already; --items goes with a job file")
        return _job(template or DEFAULT_TEMPLATE, env=env), _open(argument, stdin)
    if template is not None:
        raise SourceError(f"--template goes with an items file, and {argument} is a job file")
    job = _load(Path(argument), env=env)
    if items is not None:
        return job, _open(items, stdin)
    if isinstance(job.items, str):
        return job, _open(str(Path(argument).parent / job.items), stdin)
    if job.items is None:
        raise SourceError(f"{argument} names no items: give it a member 'items', or use --items FILE")
    stream = io.BytesIO(msgspec.json.encode(job.items))
    return job, Source(stream=stream, form=Form.JSON, name=f"{argument} (items)")


def _is_items(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in FORMS:
        raise SourceError(f"{path}: a job is a .json file, items are a .csv, .jsonl, .ndjson or .json file")
    return suffix != ".json" or _first_character(path) == "["


def _first_character(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1].decode("latin-1")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or 'cannot be read'}") from None


def _job(template: str, *, env: Mapping[str, str]) -> Job:
    if template.endswith(".json"):
        return _load(Path(template), env=env)
    return builtin_template(template, env=env, read_file=_reader(Path()))


def _load(path: Path, *, env: Mapping[str, str]) -> Job:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = Problem(file=str(path), line=line, column=None, field=None, message="is not UTF-8")
        raise JobError((problem,)) from None
    return load_job(text, source=str(path), env=env, read_file=_reader(path.parent))


def _reader(folder: Path) -> Callable[[str], str]:
    return lambda name: (folder / name).read_text("utf-8")


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
