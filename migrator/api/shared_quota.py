"""Which quota a session shares with other runs, and where: a file of the state folder, or a Redis server."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from migrator.errors import FolderError, MigratorError, OptionError
from migrator.options import RunOptions
from migrator.ratelimit.shared.local_quota import LocalQuota, boot_name
from migrator.ratelimit.shared.model import SharedQuota
from migrator.store.vault import read_passphrase

__all__ = ["Tell", "open_shared_quota"]

Tell = Callable[[str | None], None]
"""Told why runs can share no longer, and None when they share again."""


@asynccontextmanager
async def open_shared_quota(
    options: RunOptions, *, base_url: str, identity: Sequence[str], learned: Path, tell: Tell
) -> AsyncIterator[SharedQuota]:
    """Open the quota that a session shares, and close it on leaving.

    Args:
        options: whether the runs of other hosts share it.
        base_url: the server.
        identity: what tells one credential from another, in clear.
        learned: the file of the state folder for what is learned of this server with this credential.
        tell: told when the runs of other hosts cannot be reached, and when they can again.

    Raises:
        FolderError: the state folder cannot be used.
        MigratorError: the Redis client is not installed.
        OptionError: nothing names the quota.
    """
    if options.shared_quota is None:
        # The instants in the file mean something on this host only, and only until it is started again.
        path = learned.with_name(f"{learned.stem}-{boot_name()}.quota")
        with ExitStack() as stack:
            try:
                quota = stack.enter_context(LocalQuota(path, one_pacer=not options.on_workers))
            except OSError as error:
                raise FolderError(f"{path}: {error.strerror}") from None
            yield quota
        return
    try:
        from migrator.ratelimit.shared.redis_quota import RedisQuota
    except ImportError:
        raise MigratorError("--shared-quota needs the extra redis (package redis)") from None
    key = quota_identity(options, base_url=base_url, identity=identity)
    url, files = options.shared_quota.reveal(), (options.ca_file, options.client_cert)
    async with RedisQuota(url, identity=key, changed=tell, ca_file=files[0], client_cert=files[1]) as shared:
        yield shared


def quota_identity(options: RunOptions, *, base_url: str, identity: Sequence[str]) -> bytes:
    """Return what names a quota for all hosts: 32 bytes that tell nothing about the credential.

    Runs with one `--quota-name` share a quota whatever their credentials are. Without a name it is the credential's
    own, digested with the key that all hosts have in MIGRATOR_KEY.

    Raises:
        OptionError: there is neither a name nor a key.
    """
    host = urlsplit(base_url).netloc.lower()
    if options.quota_name:
        return _digest("name", options.quota_name, host)
    try:
        key = read_passphrase(options).reveal()
    except MigratorError:
        raise OptionError(
            "--shared-quota needs a name that all its runs have: give --quota-name NAME, "
            "or set MIGRATOR_KEY to the same key on all hosts"
        ) from None
    return _digest("credential", key, host, *identity)


def _digest(kind: str, key: str, *texts: str) -> bytes:
    message = "\0".join([kind, *texts]).encode("utf-8", "surrogatepass")
    return hmac.digest(key.encode("utf-8", "surrogatepass"), message, hashlib.sha256)
