"""What Terraform owns of a job's items, and the file that it gets back."""

import json
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import MigratorError
from migrator.messages import Request
from migrator.report.terraform import FILE, owned_in, read_show, warning_of, write_variables

KIND = "confluent_notifications_integration"


def resource(address: str, name: object, **more: Any) -> dict[str, Any]:
    """Return a resource as `terraform show -json` has it."""
    return {"address": address, "mode": "managed", "type": KIND, "values": {"id": name}, **more}


@pytest.fixture
def show(tmp_path: Path) -> Path:
    """Write a state with a module inside a module."""
    inner = {"address": "module.a.module.b", "resources": [resource(f'module.a.module.b.{KIND}.x["k"]', "i-2")]}
    root = {
        "resources": [
            resource(f"{KIND}.one", "i-1"),
            resource(f"data.{KIND}.read", "i-3", mode="data"),
            resource(f"{KIND}.new", None),
        ],
        "child_modules": [{"address": "module.a", "child_modules": [inner]}],
    }
    path = tmp_path / "show.json"
    path.write_text(json.dumps({"format_version": "1.0", "values": {"root_module": root}}))
    return path


def request(item: int, name: str) -> Request:
    """Return a request that writes a record."""
    return Request(item=item, key=name, method="PATCH", url=f"https://api.acme.io/x/{name}", body=b'{"url": "new"}')


def test_managed_resources_of_all_modules(show: Path) -> None:
    """Data sources are read by Terraform and not owned; a resource without an id is none yet."""
    assert read_show(show) == {"i-1": f"{KIND}.one", "i-2": f'module.a.module.b.{KIND}.x["k"]'}


def test_which_items_are_owned(show: Path) -> None:
    """The record's id is the last segment of the request's URL."""
    owned = list(owned_in([request(1, "i-1"), request(2, "i-9"), request(3, "i%2D2")], read_show(show)))

    assert [(one.item, address) for one, address in owned] == [
        (1, f"{KIND}.one"),
        (3, f'module.a.module.b.{KIND}.x["k"]'),
    ]


def test_the_warning() -> None:
    """It names some addresses, says what happens, and is left out where nothing is owned."""
    found = warning_of([f"r.{number}" for number in range(1200)], total=5000, path=Path("show.json")) or ""

    assert "Terraform owns 1,200 of the 5,000 items (show.json): r.0, r.1, r.2, r.3, r.4 and 1,195 more." in found
    assert "puts the old values back" in found
    assert warning_of([], total=5, path=Path("show.json")) is None


def test_the_variables(tmp_path: Path, show: Path) -> None:
    """What was written is in a file for its owner alone; what failed keeps its old value there."""
    owned = list(owned_in([request(1, "i-1"), request(2, "i-2")], read_show(show)))

    count = write_variables(tmp_path, owned, {1})

    assert count == 1
    assert json.loads((tmp_path / FILE).read_text()) == {"migrated": {f"{KIND}.one": {"url": "new"}}}
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [None, "{", "[]", '{"version": 4, "resources": []}'])
def test_no_output_of_terraform_show(tmp_path: Path, text: str | None) -> None:
    """A raw state file or anything else is refused by name."""
    path = tmp_path / "show.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(MigratorError, match=r"show\.json: (No such file|is not the output of terraform show -json)"):
        read_show(path)


def test_an_empty_state(tmp_path: Path) -> None:
    """A state without resources owns nothing."""
    path = tmp_path / "show.json"
    path.write_text('{"format_version": "1.0"}')

    assert read_show(path) == {}
