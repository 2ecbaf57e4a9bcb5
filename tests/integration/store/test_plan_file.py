"""A plan as a file comes back as it was written, and is refused wherever it does not belong."""

import stat
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import MigratorError
from migrator.secret import Fingerprinter
from migrator.store.plan_file import Plan, PlannedChange, PlannedItem, key_check, read_plan, write_plan

KEY = Fingerprinter(b"k" * 32)
SERVER = "https://api.example"

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS | st.lists(TEXTS, max_size=2)
CHANGES = st.builds(
    PlannedChange, pointer=TEXTS, before=VALUES, after=VALUES, absent=st.booleans(), masked=st.booleans()
)
ITEMS = st.builds(
    PlannedItem,
    item=st.integers(1, 10**6),
    key=TEXTS,
    action=st.sampled_from(["change", "unchanged", "missing", "forbidden", "unreadable"]),
    state=st.none() | TEXTS,
    changes=st.lists(CHANGES, max_size=3).map(tuple),
    message=st.none() | TEXTS,
)


def plan(*items: PlannedItem, **changes: object) -> Plan:
    """Return a plan of a job."""
    made = Plan(
        job="rotate",
        server=SERVER,
        job_digest="job",
        items_digest="items",
        key_check=key_check(KEY),
        made="2026-11-23T12:00:00Z",
        counts={},
        eta_s=1.5,
        requests=len(items),
        items=list(items),
    )
    return msgspec.structs.replace(made, **changes)


def read(path: Path) -> dict[int, PlannedItem]:
    """Read a plan for the job, the items, the server and the state folder that it was made for."""
    return read_plan(path, job_digest="job", items_digest="items", server=SERVER, fingerprint=KEY)


@given(st.lists(ITEMS, max_size=5, unique_by=lambda one: one.item))
def test_plan_comes_back_as_it_was(items: list[PlannedItem]) -> None:
    """What was planned for each item is read back unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plan.json")
        write_plan(path, plan(*items))

        assert read(path) == {one.item: one for one in items}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"job_digest": "other"}, "a plan of another version of the job"),
        ({"items_digest": "other"}, "a plan of other items"),
        ({"server": "https://staging.example"}, "a plan of the server https://staging.example"),
        ({"key_check": key_check(Fingerprinter(b"x" * 32))}, "a plan of another state folder"),
        ({"schema": 2}, "made by another version"),
    ],
)
def test_plan_of_something_else_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    """The message says what differs, and nothing is sent by such a plan."""
    write_plan(tmp_path / "plan.json", plan(**changes))

    with pytest.raises(MigratorError, match=message):
        read(tmp_path / "plan.json")


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"job": 3}', "id,name\n1,a\n"])
def test_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    """The message says how a plan is made."""
    (tmp_path / "plan.json").write_text(text)

    with pytest.raises(MigratorError, match=r"is no plan; migrator plan JOB --out .*plan\.json makes one"):
        read(tmp_path / "plan.json")


def test_missing_plan_is_told(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(MigratorError, match=r"plan\.json: No such file"):
        read(tmp_path / "plan.json")
