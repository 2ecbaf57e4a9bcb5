"""--progress, --quiet and --log-level together say what a run shows."""

import pytest

from migrator.cli.display.output import Output, output_of
from migrator.options import resolve


@pytest.mark.parametrize(
    ("typed", "terminal", "display", "level"),
    [
        ({}, True, "bar", None),
        ({}, False, "plain", "info"),
        ({"progress": "bar"}, False, "bar", None),
        ({"progress": "plain"}, True, "plain", "info"),
        ({"progress": "none"}, True, "none", "warning"),
        ({"quiet": True}, True, "none", "warning"),
        ({"quiet": True, "progress": "bar"}, True, "none", "warning"),
        ({"quiet": True, "log_level": "debug"}, False, "none", "debug"),
        ({"progress": "none", "log_level": "error"}, False, "none", "error"),
        ({"log_level": "error"}, False, "plain", "error"),
    ],
)
def test_output(typed: dict[str, str | bool | None], terminal: bool, display: str, level: str | None) -> None:
    """A live display replaces events; a quiet run shows warnings only, unless a level is named."""
    options = resolve(command_line=typed, env={}, job_run={}, source="")

    assert output_of(options, terminal=terminal) == Output(display=display, level=level)  # type: ignore[arg-type]
