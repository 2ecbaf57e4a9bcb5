"""A shell is offered commands, options, their values, files, runs and profiles."""

from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from migrator.cli.completion import files, of_kind, words
from migrator.cli.main import cli
from migrator.options import OPTIONS


def offered(*arguments: str, begun: str = "") -> list[tuple[str, str]]:
    """Return what is offered behind some arguments, with its type."""
    completion = ShellComplete(cli, {}, "migrator", "_MIGRATOR_COMPLETE")
    return [(item.value, item.type) for item in completion.get_completions(list(arguments), begun)]


@pytest.mark.parametrize(
    ("arguments", "begun", "expected"),
    [
        ((), "rec", [("reconcile", "plain")]),
        (("run", "--pace"), "", [("fast", "plain"), ("smooth", "plain")]),
        (("run", "--verify"), "re", [("response", "plain"), ("read", "plain")]),
        (("run", "--key-file"), "", [("", "file")]),
        (("run", "--state"), "", [("", "dir")]),
        (("run",), "job", [("job", "file")]),
        (("check", "--items"), "", [("", "file")]),
        (("export",), "conf", [("confluent-cloud", "plain")]),
        (("export",), "./acme", [("./acme", "file")]),
        (("ctl", "last"), "pa", [("pause", "plain")]),
        (("rollback", "last"), "--st", [("--state", "plain")]),
    ],
)
def test_offers(arguments: tuple[str, ...], begun: str, expected: list[tuple[str, str]]) -> None:
    """Words where there are few, paths where a path is meant."""
    assert offered(*arguments, begun=begun) == expected


def test_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are offered the latest first, from the state folder that is meant; without one only `last` is."""
    monkeypatch.delenv("MIGRATOR_STATE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert offered("status") == [("last", "plain")]

    for name in ("zebra-20261123T120000Z-0a1b", "rotate-20261124T120000Z-0a1b"):
        (tmp_path / "kept" / "runs" / name).mkdir(parents=True)

    assert [value for value, _ in offered("retry", "--state", "kept")] == [
        "last",
        "rotate-20261124T120000Z-0a1b",
        "zebra-20261123T120000Z-0a1b",
    ]
    monkeypatch.setenv("MIGRATOR_STATE", "kept")
    assert [value for value, _ in offered("ctl", begun="z")] == ["zebra-20261123T120000Z-0a1b"]


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_value_is_completed(name: str) -> None:
    """What is offered for a value of words is one that the option takes; a path is left to the shell."""
    option = OPTIONS[name]
    context, parameter = click.Context(cli), click.Option([option.flag])

    offered = of_kind(option.kind)(context, parameter, "")

    if option.kind.path is not None:
        assert [item.type for item in offered] == [option.kind.path]
    for word in option.kind.choices:
        assert word in {item.value for item in offered}
        option.kind.parse(word)


def test_words_and_files() -> None:
    """A word is offered by its beginning; a file's name is for the shell to find."""
    context, parameter = click.Context(cli), click.Argument(["job"])

    assert [item.value for item in words(["fast", "smooth"])(context, parameter, "s")] == ["smooth"]
    assert [(item.value, item.type) for item in files(context, parameter, "jo")] == [("jo", "file")]
