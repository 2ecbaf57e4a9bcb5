"""A plan as a file: what would change, item by item, with secrets as fingerprints and states as digests."""

from pathlib import Path
from typing import Any, Final

import msgspec

from migrator.errors import MigratorError
from migrator.secret import Fingerprinter
from migrator.store.files import decoded, write_atomically

__all__ = ["Plan", "PlannedChange", "PlannedItem", "key_check", "read_plan", "write_plan"]

SCHEMA_VERSION: Final = 1


class PlannedChange(msgspec.Struct, kw_only=True, frozen=True):
    """A member that would change; secrets are masked.

    Attributes:
        pointer: where (JSON Pointer, RFC 6901).
        before: what it holds.
        after: what it would hold.
        absent: there is no such member now.
        masked: the service shows a mask, so that it is not known whether it would change.
    """

    pointer: str
    before: Any
    after: Any
    absent: bool = False
    masked: bool = False


class PlannedItem(msgspec.Struct, kw_only=True, frozen=True):
    """What a plan says of an item.

    Attributes:
        item: the row's number in the input, from 1.
        key: what names the item.
        action: change, unchanged, missing, forbidden or unreadable.
        state: the digest of what the record holds of the members that would be written; None where it was not shown.
        changes: what would change.
        message: why it cannot be read.
    """

    item: int
    key: str
    action: str
    state: str | None = None
    changes: tuple[PlannedChange, ...] = ()
    message: str | None = None


class Plan(msgspec.Struct, kw_only=True, frozen=True):
    """A plan.

    Attributes:
        job: the job's name.
        server: its base URL.
        job_digest: of the job that was planned.
        items_digest: of its items.
        key_check: tells whether a state folder's key made the digests.
        made: when, in UTC.
        counts: items by action.
        run_requests: how many requests a run with the same options takes, if none is sent twice.
        eta_s: the seconds that it takes at the least, under the quota that was seen; None where that cannot be told.
        requests: how many requests the reading took.
        items: what would become of each.
        warnings: what may be wrong with the items, each cause once.
    """

    schema: int = SCHEMA_VERSION
    job: str
    server: str
    job_digest: str
    items_digest: str
    key_check: str
    made: str
    counts: dict[str, int]
    eta_s: float | None
    run_requests: int = 0
    requests: int
    items: list[PlannedItem]
    warnings: tuple[str, ...] = ()


def key_check(fingerprint: Fingerprinter) -> str:
    """Return what is the same for two state folders only where their keys are."""
    return fingerprint("a plan's key")


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan, with mode 0600.

    Raises:
        FolderError: it cannot be written.
    """
    with write_atomically(path) as file:
        file.write(msgspec.json.encode(plan) + b"\n")


def read_plan(
    path: Path, *, job_digest: str, items_digest: str, server: str, fingerprint: Fingerprinter
) -> dict[int, PlannedItem]:
    """Return what a plan says, by item.

    Raises:
        MigratorError: it cannot be read, or is of another job, other items, another server or another state folder.
    """
    try:
        plan = decoded(path.read_bytes(), Plan)
    except OSError as error:
        raise MigratorError(f"{path}: {error.strerror or 'cannot be read'}") from None
    if plan is None:
        raise MigratorError(f"{path} is no plan; migrator plan JOB --out {path} makes one")
    if plan.schema != SCHEMA_VERSION:
        raise MigratorError(f"{path} was made by another version; make a new plan")
    of = {
        "another version of the job": (plan.job_digest, job_digest),
        "other items": (plan.items_digest, items_digest),
        f"the server {plan.server}": (plan.server, server),
        "another state folder, whose key this one does not have": (plan.key_check, key_check(fingerprint)),
    }
    for what, (planned, present) in of.items():
        if planned != present:
            raise MigratorError(f"{path} is a plan of {what}; make a new one")
    return {one.item: one for one in plan.items}
