"""The old webhooks that nothing uses any more after a run, so that they can be revoked."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from migrator.api.session import Session
from migrator.job.profile.collection import Collection
from migrator.secret import Secret
from migrator.store.files import write_atomically
from migrator.store.ledger_reader import LedgerReader
from migrator.store.vault import Vault

__all__ = ["urls_in", "write_retired"]

NAME: Final = "retired.csv"


async def write_retired(
    place: Path, reader: LedgerReader, session: Session, *, collection: Collection, vault: Vault
) -> int:
    """Write `retired.csv`, with a row for each old webhook that nothing uses any more, and return how many there are.

    A webhook is a credential, so its fingerprint stands for it: the one that `export --redact` shows.

    Raises:
        ReadingError: the collection cannot be read.
        WaitTooLong: the quota makes us wait for longer than the user allows.
        FolderError: it cannot be written.
    """
    old: dict[str, tuple[int, str]] = {}
    for kept in reader.images():
        image: Any = vault.open(kept.item, kept.locked)
        for url in set(urls_in(image["before"])) - set(urls_in(image["sent"])):
            old[url] = kept.item, kept.key
    if old:
        async for page in session.reader.pages(collection, base_url=session.base_url):
            for record in page.records:
                for url in urls_in(record):
                    old.pop(url, None)
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("item", "key", "webhook"))
    table.writerows((item, key, session.masker.shown(Secret(url))) for url, (item, key) in old.items())
    with write_atomically(place / NAME) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))
    return len(old)


def urls_in(value: Any) -> Iterator[str]:
    """Yield every URL that is a text in a document."""
    if isinstance(value, str):
        if value.startswith(("https://", "http://")):
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from urls_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from urls_in(inner)
