"""Death at chosen moments: a fair part of what `make crash` does at every durable step of every command."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from crash import SCENARIOS, Bench, examine
from crash_witness import witness

SPACED = 20
"""Steps between two kills."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the witness."""
    with witness() as url:
        yield url


@pytest.mark.parametrize(
    "name",
    [
        "run POST",
        "run POST with a key",
        "run PATCH, keep-before and plan",
        "run PATCH, verify read and stages",
        "rollback",
        "retry",
        "reconcile",
        "export",
        "prune",
    ],
)
def test_killed_at_a_step(tmp_path: Path, url: str, name: str) -> None:
    """The same command goes on, and ledger, results, views and server agree."""
    # Each scenario begins at another step, so that they do not all die at the same places.
    first = 5 + 7 * list(SCENARIOS).index(name) % SPACED

    tally = examine(Bench(tmp_path, url), SCENARIOS[name], every=SPACED, first=first)

    assert tally.kills
    assert tally.findings == []
