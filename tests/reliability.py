"""docs/reliability.md: each command that tries the program hard writes its own section, with what it did not try."""

import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from textwrap import fill
from typing import Final

__all__ = ["table", "write_section"]

PAGE: Final = Path(__file__).parents[1] / "docs" / "reliability.md"
WIDTH: Final = 120
ORDER: Final = ("crash", "power-loss", "model", "hostile", "soak")
TITLE: Final = """# Reliability, as measured

Each section is written by the command that it names, and by nothing else. Real processes, sockets and SQLite files, all
on one machine; what a section does not say was not tried.
"""
SECTION: Final = re.compile(r"<!-- (\S+) -->\n(.*?)(?=<!-- \S+ -->\n|\Z)", re.DOTALL)


def write_section(name: str, heading: str, paragraphs: Iterable[str]) -> None:
    """Replace one section of the page, and leave the others.

    Args:
        name: the target of `make` that writes it.
        heading: what it shows.
        paragraphs: its text, in Markdown.
    """
    known = dict(SECTION.findall(PAGE.read_text()) if PAGE.exists() else [])
    today = datetime.now(UTC).date()
    machine = f"{platform.system()} {platform.machine()}, {cpu_count()} processors, Python {platform.python_version()}"
    whole = [f"## {heading}", f"`make {name}`, {today}, {machine}.", *paragraphs]
    known[name] = "\n\n".join(text if text.startswith("|") else fill(text, WIDTH) for text in whole)
    sections = [f"<!-- {one} -->\n{known[one].strip()}\n" for one in ORDER if one in known]
    PAGE.write_text("\n".join([TITLE, *sections]))


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table whose columns but the first are numbers."""
    names = list(heads)
    rule = ["---", *["---:"] * (len(names) - 1)]
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in (names, rule, *rows))
