"""Templates are compiled once, where that can be kept; nothing in the cache keeps a page from being written."""

from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes
from jinja2.compiler import CodeGenerator

from migrator.report.page.bytecode import Bytecode


class Refusing(CodeGenerator):
    """Compiles nothing."""

    def visit_Template(self, node: nodes.Template, frame: object = None) -> None:  # noqa: N802  jinja2's name
        """Refuse."""
        raise AssertionError("a template was compiled")


class Compiled(jinja2.Environment):
    """Renders only templates that are compiled already."""

    code_generator_class = Refusing


def rendered(kind: type[jinja2.Environment], cache: Path, source: str = "{{ 'a' }} {{ b }}") -> str:
    """Return what a new environment of a kind makes of a template."""
    made = kind(loader=jinja2.DictLoader({"page": source}), bytecode_cache=Bytecode(cache))
    return made.get_template("page").render(b="b")


@pytest.fixture(autouse=True)
def may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python keep bytecode, whatever the environment says."""
    monkeypatch.setattr("sys.dont_write_bytecode", False)


def test_compiled_once(tmp_path: Path) -> None:
    """The next process compiles nothing, until the template changes."""
    assert rendered(jinja2.Environment, tmp_path) == "a b"
    assert rendered(Compiled, tmp_path) == "a b"
    with pytest.raises(AssertionError, match="was compiled"):
        rendered(Compiled, tmp_path, source="{{ b }}")


@pytest.mark.parametrize("kept", [0, 10, 25, 70, -3])
def test_damaged(tmp_path: Path, kept: int) -> None:
    """A file of which a power loss has left a part is made again."""
    rendered(jinja2.Environment, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])

    assert rendered(jinja2.Environment, tmp_path) == "a b"
    assert file.read_bytes() == whole


def test_nowhere_to_write(tmp_path: Path) -> None:
    """A folder that is not there, as one that is read-only, keeps nothing from being rendered."""
    assert rendered(jinja2.Environment, tmp_path / "none") == "a b"


def test_no_bytecode_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONDONTWRITEBYTECODE counts for templates too."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)

    assert rendered(jinja2.Environment, tmp_path) == "a b"
    assert not [*tmp_path.iterdir()]
