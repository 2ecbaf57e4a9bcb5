"""Write the reference pages that are made from the code: commands, options, job file, exit codes, events.

`docs/conf.py` calls `write` at each build, so that the pages cannot go stale. They are not committed.
"""

import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

import migrator
from migrator.cli.main import cli
from migrator.job.profile.api_profile import job_schema
from migrator.results import Exit

__all__ = ["write"]

PACKAGE: Final = Path(migrator.__file__).parent


def write(folder: Path) -> None:
    """Write all generated pages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "commands.md": commands_page(),
        "job-file.md": job_file_page(job_schema()),
        "exit-codes.md": exit_codes_page(),
        "events.md": events_page(),
    }
    for name, lines in pages.items():
        text = "\n".join(lines) + "\n"
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def cell(text: str) -> str:
    """Return a text that fits a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def commands_page() -> Iterator[str]:
    """Yield the page of commands, a section each, from the commands themselves."""
    yield "# Commands and options"
    yield ""
    yield "Made from the program's own help. Every option of `run` can also stand in the environment as"
    yield "`MIGRATOR_<OPTION>`, and most of them in the job file's `run`. The command line comes before the"
    yield "environment, the environment before the job file, the job file before the default."
    context = click.Context(cli, info_name="migrator")
    for name in sorted(cli.list_commands(context)):
        command = cli.get_command(context, name)
        if command is None:
            continue
        yield from ["", f"## migrator {name}", "", inspect.cleandoc(command.help or "").replace("\b", ""), ""]
        if example := getattr(command, "example", None):
            yield from ["```sh", str(example), "```", ""]
        yield from parameters(command)


def parameters(command: click.Command) -> Iterator[str]:
    """Yield the table of a command's options."""
    context = click.Context(command, info_name=command.name)
    rows = [option.get_help_record(context) for option in command.get_params(context)]
    yield from ["| option | meaning |", "| --- | --- |"]
    for record in rows:
        if record is not None:
            yield f"| `{record[0].replace('|', chr(92) + '|')}` | {cell(record[1])} |"


def job_file_page(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the page of the job file, from its JSON Schema."""
    yield from ["# The job file", "", "Made from the JSON Schema that `migrator schema` prints.", ""]
    yield from members(schema, "")
    for name, part in schema.get("$defs", {}).items():
        if "properties" in part:
            yield from ["", f"## `{name}`", "", cell(part.get("description", "")), ""]
            yield from members(part, "")


def members(schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield the table of an object's members, nested ones with their path."""
    yield from ["| member | type | meaning |", "| --- | --- | --- |"]
    yield from rows_of(schema, prefix)


def rows_of(schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield a row for each member, and for those within it."""
    required = set(schema.get("required", ()))
    for name, part in schema.get("properties", {}).items():
        needed = " (required)" if name in required else ""
        yield f"| `{prefix}{name}`{needed} | {cell(type_of(part))} | {cell(part.get('description', ''))} |"
        if "properties" in part:
            yield from rows_of(part, f"{prefix}{name}.")


def type_of(part: Mapping[str, Any]) -> str:
    """Return what a member may be, in words."""
    if "$ref" in part:
        return f"`{part['$ref'].rsplit('/', 1)[-1]}`"
    if "enum" in part:
        return ", ".join(f"`{json.dumps(value)}`" for value in part["enum"])
    if "const" in part:
        return f"`{json.dumps(part['const'])}`"
    for either in ("oneOf", "anyOf"):
        if either in part:
            return " or ".join(dict.fromkeys(type_of(one) for one in part[either]))
    kind = part.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def exit_codes_page() -> Iterator[str]:
    """Yield the page of exit codes, from the enumeration and the comments on its members."""
    yield from ["# Exit codes", "", "| code | name | meaning |", "| --- | --- | --- |"]
    body = next(node.body for node in ast.parse(inspect.getsource(Exit)).body if isinstance(node, ast.ClassDef))
    meanings = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            said = after.value if isinstance(after, ast.Expr) else None
            meanings[node.targets[0].id] = said.value if isinstance(said, ast.Constant) else ""
    for code in Exit:
        yield f"| {code.value} | {code.name.lower()} | {cell(str(meanings.get(code.name, '')))} |"


def events() -> dict[str, set[str]]:
    """Return the events that the code emits, each with the fields that it names."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "event":
                name = node.args[0] if node.args else None
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    fields = {word.arg for word in node.keywords if word.arg not in {None, "level"}}
                    found.setdefault(name.value, set()).update(field for field in fields if field)
    return found


def events_page() -> Iterator[str]:
    """Yield the page of events, from the calls that emit them."""
    yield from ["# Events", ""]
    yield "`events.jsonl`, and standard error where it is no terminal, hold one JSON object a line with `timestamp`"
    yield "(UTC), `event`, `level` and `run`, then the fields of the event. Names are stable. The event `item` holds"
    yield "the record of an item, as `results.jsonl` does."
    yield from ["", "| event | fields |", "| --- | --- |"]
    for name, fields in sorted(events().items()):
        yield f"| `{name}` | {', '.join(f'`{field}`' for field in sorted(fields))} |"
