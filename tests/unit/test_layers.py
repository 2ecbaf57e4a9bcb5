"""The architecture's table of modules is true: who may import whom, and what the core may never import."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "migrator"
TABLE = {
    name: (int(ring), place)
    for place, (ring, name) in enumerate(
        re.findall(r"^\| (\d) \| `(\w+)` \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    )
}
WORLD = {"asyncio", "anyio", "aiohttp", "aiolimiter", "sqlite3", "structlog", "logging", "time", "os", "socket"}


def imports(path: Path) -> list[tuple[int, str]]:
    """Return the modules that a file imports, with their lines."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module == "migrator":
                found += [(node.lineno, f"migrator.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, node.module))
    return found


def test_every_module_is_in_the_table() -> None:
    """The table names each module once, and no other."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}

    assert set(TABLE) == modules


@pytest.mark.parametrize("name", sorted(TABLE))
def test_direction(name: str) -> None:
    """An import goes to a lower ring, or within a ring further up; the core never imports the world."""
    ring, place = TABLE[name]
    wrong = []

    for line, imported in imports(PACKAGE / f"{name}.py"):
        top, _, rest = imported.partition(".")
        if top == "migrator" and rest in TABLE and TABLE[rest] >= (ring, place):
            wrong.append(f"{name}.py:{line} imports {imported}")
        if ring <= 1 and top in WORLD:
            wrong.append(f"{name}.py:{line} imports {imported}, and is of the core")

    assert wrong == []


def test_sandbox_stands_apart() -> None:
    """The sandbox imports nothing of the program that it bears witness against."""
    wrong = [
        f"{path.name}:{line} imports {imported}"
        for path in (PACKAGE / "sandbox").glob("*.py")
        for line, imported in imports(path)
        if imported.startswith("migrator.") and not imported.startswith("migrator.sandbox")
    ]

    assert wrong == []
