"""List what the tests do not reach, with the reason: the second half of `make coverage`.

A line's reason is told by what stands on it, or by the block that it is in. What has none is a gap.
"""

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
GAP: Final = "no test"

REASONS: Final = (
    (r"def __repr__|\.\.\.$", "shown to programmers alone"),
    (r"except (ImportError|ModuleNotFoundError)", "an extra that is installed here"),
    (r"except .*(OSError|PermissionError|Timeout|BrokenPipe)", "a refusal of the system that no test can order"),
    (r"except .*(Cancelled|BaseException|Exception\b)", "the last line of defence"),
    (r"sys\.platform|sqlite_version|version_info", "another system, or another version"),
    (r"os\._exit|prctl|setrlimit", "ends or changes the whole process, which then keeps no record"),
)
"""What stands on the first line of a block, or on the line itself, and why no test comes there."""


def reasons(path: Path) -> dict[int, str]:
    """Return the reason of each line of a file that has one."""
    text = path.read_text()
    lines = text.splitlines()
    found: dict[int, str] = {}
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.stmt | ast.ExceptHandler) or node.end_lineno is None:
            continue
        why = next((why for pattern, why in REASONS if re.search(pattern, lines[node.lineno - 1])), None)
        if why is not None:
            found |= dict.fromkeys(range(node.lineno, node.end_lineno + 1), why)
    return found


def gaps(report: Path) -> Iterator[tuple[str, float, Counter[str], list[int]]]:
    """Yield each file that is not covered whole: its share, its missing lines by reason, and those without one."""
    measured = json.loads(report.read_text())
    for name, one in sorted(measured["files"].items()):
        lines = set(one["missing_lines"]) | {abs(start) for start, _ in one.get("missing_branches", ())}
        if lines:
            known = reasons(ROOT / name)
            why = {line: known.get(line, GAP) for line in sorted(lines)}
            left = [line for line, reason in why.items() if reason == GAP]
            yield name, one["summary"]["percent_covered"], Counter(why.values()), left


def main() -> None:
    """Print the table."""
    report = Path(sys.argv[1])
    total: Counter[str] = Counter()
    for name, share, why, left in gaps(report):
        total += why
        if left:
            print(f"{share:5.1f} %  {name}  lines {', '.join(map(str, left))}")
    print("\nlines that are not reached, by reason:")
    for reason, count in total.most_common():
        print(f"{count:6}  {reason}")
    print(f"{json.loads(report.read_text())['totals']['percent_covered']:.1f} % of lines and branches are covered")


if __name__ == "__main__":
    main()
