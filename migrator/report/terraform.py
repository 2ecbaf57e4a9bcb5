"""Terraform owns some of what a run writes: which, and the values that its variables need afterwards.

A rotation by other means leaves Terraform's state and variables behind. The next `terraform apply` then puts the old
values back. The input is the output of `terraform show -json` (format version 1.0, "values"): every managed resource
has a `type`, an `address` and its `values`, among them the `id` that the API gave it.
"""

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from migrator.errors import MigratorError
from migrator.job.json_reader import Unreadable, decode
from migrator.messages import Request
from migrator.store.files import write_atomically

__all__ = ["FILE", "owned_in", "read_show", "warning_of", "write_variables"]

FILE: Final = "terraform.tfvars.json"
VARIABLE: Final = "migrated"
SHOWN: Final = 5
DEEPEST: Final = 50
"""Levels of modules inside modules."""


def read_show(path: Path) -> Mapping[str, str]:
    """Return the address of each managed resource in a file, by the id that the API gave it.

    Raises:
        MigratorError: the file cannot be read, or is not what `terraform show -json` prints.
    """
    try:
        found = decode(path.read_bytes())
    except OSError as error:
        raise MigratorError(f"{path}: {error.strerror or 'cannot be read'}") from None
    if isinstance(found, Unreadable) or not isinstance(found, dict) or "format_version" not in found:
        raise MigratorError(f"{path}: is not the output of terraform show -json")
    values = found.get("values")
    root = values.get("root_module") if isinstance(values, dict) else None
    return dict(_resources(root, 0))


def _resources(module: Any, level: int) -> Iterator[tuple[str, str]]:
    if not isinstance(module, dict) or level > DEEPEST:
        return
    for resource in module.get("resources") or ():
        if not isinstance(resource, dict) or resource.get("mode", "managed") != "managed":
            continue
        values, address = resource.get("values"), resource.get("address")
        name = values.get("id") if isinstance(values, dict) else None
        if isinstance(name, str) and name and isinstance(address, str):
            yield name, address
    for inner in module.get("child_modules") or ():
        yield from _resources(inner, level + 1)


def owned_in(requests: Iterable[Request], addresses: Mapping[str, str]) -> Iterator[tuple[Request, str]]:
    """Yield the requests whose record Terraform owns, with its address: the record's id is the URL's last segment."""
    for request in requests:
        last = unquote(urlsplit(request.url).path.rpartition("/")[2])
        if (address := addresses.get(last)) is not None:
            yield request, address


def warning_of(owned: Iterable[str], *, total: int, path: Path) -> str | None:
    """Return what a user has to know before the run; None where Terraform owns nothing of it.

    Args:
        owned: the addresses of the items that Terraform owns.
        total: how many items there are.
        path: the file that says so.
    """
    addresses = list(owned)
    if not addresses:
        return None
    more = f" and {len(addresses) - SHOWN:,} more" if len(addresses) > SHOWN else ""
    return (
        f"Terraform owns {len(addresses):,} of the {total:,} items ({path}): {', '.join(addresses[:SHOWN])}{more}. "
        f"The next terraform apply puts the old values back, unless its variables are changed first: "
        f"{FILE} in the run's folder has the new ones"
    )


def write_variables(place: Path, owned: Iterable[tuple[Request, str]], written: Container[int]) -> int:
    """Write the new values of what was written and Terraform owns, by address, and return how many there are.

    The file has mode 0600, since the values may be secrets. It sets one variable, `migrated`: a map from the resource's
    address to the members that were written.

    Args:
        place: the run's folder.
        owned: the requests and their addresses.
        written: the numbers of the items that the server holds as wanted.

    Raises:
        FolderError: the file cannot be written.
    """
    values = {
        address: msgspec.json.decode(request.wanted or request.body or b"null")
        for request, address in owned
        if request.item in written
    }
    if values:
        with write_atomically(place / FILE) as file:
            file.write(json.dumps({VARIABLE: values}, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace"))
    return len(values)
