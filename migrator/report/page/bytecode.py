"""Keeps the templates' bytecode where Python keeps that of the program: to compile them takes 50 ms of each run."""

import sys
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket

from migrator import __version__

__all__ = ["Bytecode"]


class Bytecode(jinja2.FileSystemBytecodeCache):
    """Reads and writes bytecode as Python does (PEP 3147).

    It lies beside that of the program's modules, so that it is as safe as they are: only who may change the program can
    change it. What cannot be read or written is compiled at each start. Jinja2 checks the version of Python and the
    template's digest; the file's name tells its own version and the program's.

    Args:
        directory: where it is kept; None for where Python keeps the bytecode of this module.
    """

    def __init__(self, directory: Path | None = None) -> None:
        kept = directory or Path(cache_from_source(__file__)).parent
        super().__init__(str(kept), f"%s.jinja2-{jinja2.__version__}.migrator-{__version__}.cache")

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load a template's bytecode, if there is any that is whole."""
        try:
            super().load_bytecode(bucket)
        except Exception:  # noqa: BLE001  a power loss may have left half of a file, and pickle raises what it likes
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep a template's bytecode, if Python may keep its own there."""
        if not sys.dont_write_bytecode:
            with suppress(OSError):
                super().dump_bytecode(bucket)
