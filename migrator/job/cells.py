"""CSV cells that a spreadsheet would take for a formula: made harmless in what is written, restored when read.

A cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break is run by spreadsheets (CWE-1236), and is
therefore written with an apostrophe in front. One apostrophe in front of such a beginning is no part of a cell's value.
"""

import re
from typing import Final

__all__ = ["neutralised", "restored"]

FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n\0]")
NEUTRALISED: Final = re.compile(r"'+[=+\-@\t\r\n\0]")


def neutralised(value: str) -> str:
    """Return a value as it is written into a cell."""
    return f"'{value}" if FORMULA.match(value) else value


def restored(cell: str) -> str:
    """Return the value that a cell was written for."""
    return cell[1:] if NEUTRALISED.match(cell) else cell
