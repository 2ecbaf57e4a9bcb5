"""Every text that a user may see, in one place; `pytest -s -n 0 tests/unit/cli/test_messages.py` prints them.

Help comes from the commands themselves. Messages are found in the source: the texts that are given to what raises,
prints, records or sends them.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import migrator
from migrator.cli.commands import COMMANDS
from migrator.cli.main import cli

PACKAGE = Path(migrator.__file__).parent

SPEAKERS = re.compile(
    r"(.*Error|WaitTooLong|InputChanged|Problem|StopReason|say|echo|note|tell|warn|wrong|_wrong|prompt|confirm|_option|"
    r"Extra|Command|append|section|add_row|Text|write|yield_problem)"
)
"""What is called with texts for users."""

ARCHAIC = re.compile(
    r"\b(whoever|nobody|somebody|lest|alike|besides|beforehand|begun|taken up again|broken off|come to (its|their) end|"
    r"in all|of late|bears|dies with|under way|look after)\b"
)
"""Words that a reader whose second language is English has to look up, or that have a plainer one."""


def messages() -> Iterator[tuple[str, str]]:
    """Yield each message with the file and line where it stands; what is filled in is shown as braces."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "sandbox" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            for text in _spoken(node):
                yield f"{path.relative_to(PACKAGE)}:{text.lineno}", _plain(text)


def _spoken(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call) and SPEAKERS.fullmatch(_name(node.func)):
        for argument in [*node.args, *(word.value for word in node.keywords)]:
            yield from (text for text in _texts(argument) if _is_sentence(_plain(text)))
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id.isupper():
            yield from (text for text in _texts(node.value) if _is_sentence(_plain(text)))


def _name(function: ast.expr) -> str:
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _texts(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            yield node
        case ast.BinOp(left=left, right=right):
            yield from _texts(left)
            yield from _texts(right)
        case ast.IfExp(body=body, orelse=other):
            yield from _texts(body)
            yield from _texts(other)
        case ast.Dict(values=values) | ast.Tuple(elts=values) | ast.List(elts=values):
            for value in values:
                yield from _texts(value)
        case _:
            return


def _plain(text: ast.expr) -> str:
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)


def _is_sentence(text: str) -> bool:
    return len(text.split()) > 2 and bool(re.search(r"[a-z]{2,} [a-z]", text))


def helps() -> Iterator[str]:
    """Yield the help of every command, at 80 columns."""
    for command in (cli, *COMMANDS):
        with click.Context(command, info_name=command.name, terminal_width=80) as context:
            yield command.get_help(context)


def test_every_text_is_plain() -> None:
    """No text that a user may see has a word that does not belong to plain, present-day English."""
    found = list(messages())
    for text in helps():
        print(f"{text}\n{'-' * 80}")
    for place, message in found:
        print(f"{place}: {message}")

    assert len(found) > 200
    assert [one for one in found if ARCHAIC.search(one[1])] == []


@pytest.mark.parametrize("command", [cli, *COMMANDS], ids=lambda command: command.name or "")
def test_help_fits_a_terminal(command: click.Command) -> None:
    """Help is at most 80 columns wide but for examples, and has none of the plain words' opposites."""
    with click.Context(command, info_name=command.name, terminal_width=80) as context:
        text = command.get_help(context)

    before_example = text.partition("\nExample:")[0]
    assert max(map(len, before_example.splitlines())) <= 80
    assert not ARCHAIC.search(text)
