"""`migrator init`: a job file and a template of its items, written into a folder."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.errors import MigratorError
from migrator.job.openapi.document import Document
from migrator.job.openapi.make import Made, from_document, from_profile
from migrator.job.problems import did_you_mean
from migrator.job.profile.api_profile import built_in, built_in_names
from migrator.messages import host_of
from migrator.store.files import write_atomically

__all__ = ["EXAMPLES", "Written", "init_example", "init_openapi", "init_profile"]

EXAMPLES: Final = {
    "confluent-cloud": "rotate-slack-webhooks",
    "datadog": "rotate-datadog-webhooks",
    "github": "rotate-github-webhooks",
    "jira": "rename-jira-labels",
    "okta": "move-okta-departments",
    "pagerduty": "move-pagerduty-escalation-policies",
    "stripe": "move-stripe-webhook-endpoints",
}
"""The example job of each built-in profile."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        files: the files, the job file first.
        notes: what the source does not say, and what to look at before the job is run.
        variables: the environment's variables that the job needs.
        trusted: whether a job may use these without `--allow-env`.
        example: whether the template has a row, as an example.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    trusted: bool = True
    example: bool = True

    def text(self) -> str:
        """Return what is printed."""
        job = self.files[0]
        lines = [f"wrote {path}" for path in self.files]
        lines += ["", "Look at these before you run it:", *(f"  - {note}" for note in self.notes)] if self.notes else []
        lines += ["", "Next:"]
        hint = "; the one in it is an example" if self.example else ""
        lines += [f"  put your rows into {self.files[1]}{hint}"] if len(self.files) > 1 else []
        lines += [f"  set {', '.join(self.variables)}"] if self.variables else []
        allow = "" if self.trusted or not self.variables else f" --allow-env {','.join(self.variables)}"
        return "\n".join([*lines, f"  migrator check {job}{allow}"])


def init_profile(name: str, *, operation: str | None, columns: Sequence[str], folder: Path, force: bool) -> Written:
    """Write the job of one of the requests that a built-in profile knows.

    Args:
        name: the profile's.
        operation: ``METHOD /path``; None where there is only one to choose.
        columns: the members of the body to fill; empty for all.
        folder: where to write.
        force: whether files that are there may be replaced.

    Raises:
        MigratorError: there is no such profile, operation or member, or a file is there already.
    """
    made = from_profile(name, _profile(name), operation=operation, columns=columns)
    return _write(made, folder, force=force, trusted=True)


def _profile(name: str) -> Mapping[str, Any]:
    names = built_in_names(templates=False)
    text = built_in(name) if name in names else None
    if text is None:
        raise MigratorError(f"{name} is no built-in profile: there is {', '.join(names)}{did_you_mean(name, names)}")
    document: Mapping[str, Any] = json.loads(text)
    return document


def init_openapi(spec: Path, *, operation: str | None, columns: Sequence[str], folder: Path, force: bool) -> Written:
    """Write the job of an operation of an OpenAPI document.

    Args:
        spec: the document, in JSON or YAML.
        operation: its operationId, or ``METHOD /path``; None where there is only one to choose.
        columns: the members of the body to fill; empty for all that a template can hold.
        folder: where to write.
        force: whether files that are there may be replaced.

    Raises:
        MigratorError: the document cannot be read or is none, there is no such operation or member, or a file is there
            already.
    """
    try:
        text = spec.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MigratorError(f"{spec}: {error.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError:
        raise MigratorError(f"{spec}: is not UTF-8") from None
    made = from_document(Document(text, spec.name, _beside(spec)), operation=operation, columns=columns)
    for name in built_in_names(templates=False):
        own = _profile(name)
        host = host_of(made.job["api"]["base_url"])  # none, where a variable names the server
        if host is not None and host_of(own["base_url"]) == host:
            made = _with_credentials_of(made, name, own)
    return _write(made, folder, force=force, trusted=False)


def _beside(spec: Path) -> Callable[[str], str]:
    return lambda name: (spec.parent / name).read_text("utf-8-sig")


def _with_credentials_of(made: Made, name: str, profile: Mapping[str, Any]) -> Made:
    """Return a job that takes its credentials as the built-in profile of the same server does."""
    job = made.job | {"api": made.job["api"] | {"auth": profile["auth"]}}
    own = json.dumps(profile["auth"])
    variables = tuple(word.partition("}")[0] for word in own.split("${")[1:])
    note = f'The built-in profile {name} knows this server: "api": "{name}" takes its credentials, list and limits.'
    return Made(
        job=job,
        columns=made.columns,
        example=made.example,
        lists=made.lists,
        notes=(*made.notes, note),
        variables=variables,
    )


def init_example(name: str, *, folder: Path, force: bool) -> Written:
    """Write the example job of a built-in profile.

    Raises:
        MigratorError: there is none, or a file is there already.
    """
    if name not in EXAMPLES:
        raise MigratorError(f"there is no example for {name}; there is one for {', '.join(sorted(EXAMPLES))}")
    stem = EXAMPLES[name]
    texts = {folder / f"{stem}{suffix}": _example(f"{stem}{suffix}") for suffix in (".json", ".csv")}
    _write_files(texts, force=force)
    profile = json.loads(texts[folder / f"{stem}.json"])["api"]
    variables = _variables(_profile(profile)) if isinstance(profile, str) else ()
    return Written(files=tuple(texts), variables=variables)


def _variables(profile: Mapping[str, Any]) -> tuple[str, ...]:
    words = json.dumps({name: profile.get(name) for name in ("base_url", "auth", "headers")}).split("${")[1:]
    return tuple(dict.fromkeys(word.partition("}")[0] for word in words))


def _example(name: str) -> str:
    """Return an example's text, which is in the wheel, or in a checkout beside the package."""
    package = resources.files("migrator")
    for place in (package / "examples" / name, package / ".." / "jobs" / name):
        if place.is_file():
            return place.read_text("utf-8")
    raise MigratorError(f"the example {name} is not part of this installation")


def _write(made: Made, folder: Path, *, force: bool, trusted: bool) -> Written:
    name = made.job["name"]
    items = f"{name}.jsonl" if made.lists else f"{name}.csv"
    job = {**made.job, "items": items}
    texts = {
        folder / f"{name}.json": json.dumps(job, indent=2, ensure_ascii=False) + "\n",
        folder / items: _lines(made) if made.lists else _table(made),
    }
    _write_files(texts, force=force)
    return Written(
        files=tuple(texts),
        notes=made.notes,
        variables=made.variables,
        trusted=trusted,
        example=made.example is not None,
    )


def _lines(made: Made) -> str:
    return json.dumps(made.example, ensure_ascii=False) + "\n"


def _table(made: Made) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(made.columns)
    if made.example is not None:
        table.writerow([_cell(made.example.get(column)) for column in made.columns])
    return text.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _write_files(texts: Mapping[Path, str], *, force: bool) -> None:
    there = [str(path) for path in texts if path.exists() or path.is_symlink()]
    if there and not force:
        verb = "is" if len(there) == 1 else "are"
        raise MigratorError(f"{' and '.join(there)} {verb} there already; --force replaces what is there")
    for path, text in texts.items():
        with write_atomically(path) as file:
            file.write(text.encode())
