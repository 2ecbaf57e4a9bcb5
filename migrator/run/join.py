"""Items that hold no ids find their records in the API's list: by a display name, or by the old webhook.

What was found is kept in the state folder by the values' fingerprints, since a rotation changes what it was found by: a
run that is resumed, or retried, goes on with the same records.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from migrator.api.reader import member
from migrator.api.session import open_session, safe_base_url, system_clock
from migrator.errors import MigratorError
from migrator.job.check import check
from migrator.job.job_file import Job, Join, Lookup
from migrator.job.profile.collection import Collection
from migrator.job.source import Source
from migrator.options import RunOptions
from migrator.secret import Fingerprinter
from migrator.store import files
from migrator.store.state_folder import StateFolder

__all__ = ["joined"]

SHOWN: Final = 5
"""Records that are named where a value names several."""

Found = dict[str, list[dict[str, str]]]
"""The members of the records that have a value, by the value's fingerprint."""


async def joined(job: Job, source: Source, options: RunOptions) -> Job:
    """Return a job that looks its items' records up, if it is one that does; else the job as it is.

    Raises:
        MigratorError: the API has no list, or it cannot be read.
        FolderError: the state folder cannot be used.
    """
    if job.join is None:
        return job
    if job.api.collection is None:
        raise MigratorError(f"the profile of {job.api.name} has no collection, which a join needs")
    state = StateFolder.open(Path(options.state))
    fingerprint = state.fingerprinter()
    digest = check(source.rewound(), form=source.form, job=job, name=source.name, limit=1).digest
    base_url = safe_base_url(job.api, options)
    kept = state.folder("joins") / f"{fingerprint.digest(f'{job.digest} {digest} {base_url}')[:32]}.json"
    found = None if options.fresh else _kept(kept)
    if found is None:
        found = await _read(job, options, state, fingerprint)
        with files.write_atomically(kept) as file:
            file.write(msgspec.json.encode(found))
    return replace(job, lookup=_lookup(found, job.join, fingerprint))


def _kept(path: Path) -> Found | None:
    try:
        return None if path.is_symlink() else files.decoded(path.read_bytes(), Found)
    except OSError:
        return None


def _lookup(found: Found, join: Join, fingerprint: Fingerprinter) -> Lookup:
    def lookup(value: str) -> Mapping[str, str] | str:
        records = found.get(fingerprint.digest(value), [])
        if not records:
            return f"names no record of the API: none has it as {join.member}"
        if len(records) > 1:
            ids = ", ".join(record.get("id", "?") for record in records[:SHOWN])
            return f"names {len(records)} records of the API ({ids}), and it cannot be told which is meant"
        return records[0]

    return lookup


async def _read(job: Job, options: RunOptions, state: StateFolder, fingerprint: Fingerprinter) -> Found:
    """Read the collection, and return the records by the value of the member that items name."""
    join, collection, base_url = job.join, job.api.collection, safe_base_url(job.api, options)
    masker = state.masker(job.api.credentials())
    found: Found = {}
    if join is None or collection is None:
        return found
    async with open_session(
        job.api, options, base_url=base_url, state=state, masker=masker, clock=system_clock()
    ) as session:
        async for page in session.reader.pages(collection, base_url=base_url, rules=job.api.rules):
            for record in page.records:
                value = member(record, join.member)
                if isinstance(value, str | int):
                    found.setdefault(fingerprint.digest(str(value)), []).append(_members(record, collection))
    return found


def _members(record: Mapping[str, Any], collection: Collection) -> dict[str, str]:
    """Return the members of a record that a path may need; nothing secret."""
    return {
        name: str(value)
        for name in {"id", *collection.columns} - collection.secrets
        if isinstance(value := member(record, name), str | int)
    }
