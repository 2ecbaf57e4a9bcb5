"""Measure the shape of the code and print it as a table: `make shape`.

Every figure is counted from the files and from git at the moment of the call. A figure past its alarm is marked, and
nothing fails: the table is for readers.
"""

import argparse
import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median, quantiles
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "migrator"
LAYERS: Final = ("cli", "commands", "cluster", "run", "report", "api", "job", "store", "ratelimit")

LONGEST_MODULE, MOST_MODULES, LONGEST_FUNCTION, DEEPEST = 420, 13, 60, 10


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file of the package.

    Attributes:
        name: dotted, without the package's own name.
        text: the source.
        tree: its syntax tree.
    """

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Lines of the file."""
        return self.text.count("\n")

    def functions(self) -> Iterator[int]:
        """Yield the length of each function, signature and docstring included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                yield node.end_lineno - node.lineno + 1

    def anys(self) -> int:
        """Count the uses of `Any`."""
        return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(self.tree))

    def comments(self, pattern: str) -> int:
        """Count the comments that match a pattern."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return sum(token.type == tokenize.COMMENT and bool(re.search(pattern, token.string)) for token in tokens)


def modules() -> dict[str, Module]:
    """Return the modules of the package by dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")
        text = path.read_text()
        found[name] = Module(name, text, ast.parse(text))
    return found


def imports(tree: ast.AST, known: Mapping[str, Module]) -> Iterator[tuple[str, bool]]:
    """Yield the package's modules that a file imports, and whether each import stands at the top of the file."""
    top = set(tree.body) if isinstance(tree, ast.Module) else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "migrator":
            base = node.module.removeprefix("migrator").removeprefix(".")
            for alias in node.names:
                full = f"{base}.{alias.name}" if base else alias.name
                target = full if full in known else base
                if target in known:
                    yield target, node in top
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name.removeprefix("migrator.")
                if alias.name.startswith("migrator.") and name in known:
                    yield name, node in top


def depth(graph: Mapping[str, set[str]]) -> tuple[int, list[list[str]]]:
    """Return the longest chain of imports, and the groups of modules that import each other in a circle."""
    order: list[list[str]] = []
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            place = stack.index(name)
            order.append(stack[place:])
            del stack[place:]

    for name in graph:
        if name not in index:
            visit(name)
    component = {name: number for number, group in enumerate(order) for name in group}

    @cache
    def level(number: int) -> int:
        below = {component[other] for name in order[number] for other in graph[name]} - {number}
        return 1 + max((level(one) for one in below), default=0)

    return max(level(number) for number in range(len(order))), [group for group in order if len(group) > 1]


def by_package(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return which packages import which; the modules of the root are one, and its faces are left out."""

    def package(name: str) -> str:
        head, dot, _ = name.partition(".")
        return head if dot or head in LAYERS else "the root"

    found: dict[str, set[str]] = {}
    for name, others in graph.items():
        if name not in {"", "__main__"}:
            found.setdefault(package(name), set()).update(map(package, others))
    return {name: others - {name} for name, others in found.items()}


def upward(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the imports that go from a lower layer to a higher one."""

    def layer(name: str) -> int:
        head = name.split(".", maxsplit=1)[0]
        return LAYERS.index(head) if head in LAYERS else len(LAYERS)

    faces = {"", "__main__"}
    return [f"{a} -> {b}" for a in graph for b in graph[a] if a not in faces and b not in faces and layer(b) < layer(a)]


def packages(known: Mapping[str, Module]) -> Counter[str]:
    """Count the modules of each package: its own, and one for each sub-package."""
    members: dict[str, set[str]] = {}
    for name in known:
        parts = name.split(".")
        for level in range(1, len(parts)):
            members.setdefault(".".join(parts[:level]), set()).add(parts[level])
    return Counter({package: len(found - {"__init__"}) for package, found in members.items()})


def untested(known: Mapping[str, Module]) -> list[str]:
    """Return the modules that no test imports."""
    seen = set()
    for path in (ROOT / "tests").rglob("*.py"):
        seen |= {name for name, _ in imports(ast.parse(path.read_text()), known)}
    faces = {name for name in known if any(other.startswith(f"{name}.") for other in known)} | {"", "__main__"}
    return sorted(known.keys() - seen - faces)


def commit_sizes(base: str) -> list[int]:
    """Return the changed lines of each commit since a revision, lock files and pure moves left out."""
    log = ["git", "log", "--no-merges", "--numstat", "-M", "--format=%x00", f"{base}..HEAD"]
    done = subprocess.run(log, cwd=ROOT, capture_output=True, text=True, check=True)
    sizes = []
    for block in done.stdout.split("\0")[1:]:
        rows = re.findall(r"^(\d+)\t(\d+)\t(.+)$", block, re.MULTILINE)
        sizes.append(sum(int(added) + int(gone) for added, gone, name in rows if not name.endswith(".lock")))
    return sizes


def text_lines(folder: Path, pattern: str) -> int:
    """Count the lines of the files below a folder."""
    return sum(path.read_text().count("\n") for path in folder.rglob(pattern))


def report(base: str | None) -> Iterator[tuple[str, str, bool]]:
    """Yield the rows of the table: what, how much, and whether that is past its alarm."""
    known = modules()
    own = {name: one for name, one in known.items() if not name.startswith("sandbox")}
    lines = sum(one.lines for one in own.values())
    functions = sorted(length for one in own.values() for length in one.functions())
    graph = {name: {other for other, _ in imports(one.tree, known)} - {name} for name, one in known.items()}
    at_top = {name: {other for other, top in imports(one.tree, known) if top} - {name} for name, one in known.items()}
    deepest, cycles = depth(at_top)
    yield "lines, sandbox left out", f"{lines:,}", lines > 15_000
    longest = max(own.values(), key=lambda one: one.lines)
    yield "longest module", f"{longest.name} ({longest.lines})", longest.lines > LONGEST_MODULE
    over = sorted(f"{name} ({count})" for name, count in packages(known).items() if count > MOST_MODULES)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(packages(known).items()))
    yield "modules a package", counts, bool(over)
    tenth = round(quantiles(functions, n=10)[-1])
    shape = f"{median(functions):.0f} / {tenth} / {functions[-1]}"
    yield "lines a function: median / 90 % / longest", shape, functions[-1] > LONGEST_FUNCTION
    packages_deep, _ = depth(by_package(at_top))
    yield "import depth: packages / modules", f"{packages_deep} / {deepest}", packages_deep > DEEPEST
    yield "import cycles", "; ".join(" ".join(group) for group in cycles) or "0", bool(cycles)
    yield "upward imports", "; ".join(upward(graph)) or "0", bool(upward(graph))
    thousand = lines / 1000
    anys = sum(one.anys() for one in own.values()) / thousand
    yield "Any, per 1,000 lines", f"{anys:.1f}", anys > 6
    ignored = sum(one.comments(r"type:\s*ignore") for one in own.values()) / thousand
    yield "ignored type errors, per 1,000 lines", f"{ignored:.1f}", ignored > 2
    noqa = sum(one.comments("noqa") for one in own.values())
    yield "noqa", str(noqa), noqa > 25
    tests, code = text_lines(ROOT / "tests", "*.py"), text_lines(PACKAGE, "*.py")
    yield "test lines per code line", f"{tests / code:.2f}", tests / code < 1.1
    missing = untested(own)
    yield "modules that no test imports", f"{len(missing)} {' '.join(missing)}".strip(), bool(missing)
    if base is not None:
        sizes = commit_sizes(base)
        middle = median(sizes) if sizes else 0
        yield f"changed lines a commit since {base}, median of {len(sizes)}", f"{middle:.0f}", middle > 150


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", help="a git revision: the size of the commits since then is measured too")
    given = parser.parse_args()
    for what, value, alarm in report(given.base):
        print(f"{'!' if alarm else ' '} {what:<52} {value}")


if __name__ == "__main__":
    main()
