"""What commands do, called within the tests' own process: a job in a folder, and a sandbox in the same event loop.

The whole program in a process of its own is what `tests/end_to_end` runs; it costs a hundred times as much.
"""

import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import CREDENTIALS, Workplace
from sandbox_server import Clock, Guest, visit
from sandboxes import KEY, SECRET

import migrator
from migrator.commands.retry import find_job
from migrator.job.check import Verdict, check
from migrator.job.job_file import Job
from migrator.job.profile.variables import NOTHING_MORE
from migrator.job.source import Source, open_items
from migrator.options import RunOptions, resolve
from migrator.sandbox.app import Settings
from migrator.secret import Masker
from migrator.store.state_folder import StateFolder

__all__ = ["Bench", "bench", "offline", "settings"]


def settings(**changes: Any) -> Settings:
    """Return the settings of a sandbox that lets in the tests' credentials alone, and has no limit."""
    values: dict[str, Any] = {"items": 9, "limit": 0, "api_key": KEY, "api_secret": SECRET}
    return Settings(**(values | changes))


@dataclass(frozen=True)
class Bench:
    """A folder with a job, and the server that it is for.

    Attributes:
        workplace: the folder.
        guest: the server.
        opened: what is closed at the end.
    """

    workplace: Workplace
    guest: Guest
    opened: ExitStack

    def options(self, command: str = "run", **typed: str | bool | None) -> RunOptions:
        """Return what a command is given, with the server and the state folder."""
        named = {"base_url": self.guest.url, "state": str(self.state.path)} | typed
        return resolve(command_line=named, env={}, job_run={}, source="", command=command)

    @property
    def state(self) -> StateFolder:
        """The state folder."""
        return StateFolder(self.workplace.folder / ".migrator")

    @property
    def masker(self) -> Masker:
        """What keeps secrets out."""
        return self.state.masker()

    def job(self, rows: int = 3, **changes: Any) -> Job:
        """Write a job of so many rows, and load it."""
        name = self.workplace.write_job(rows, **changes)
        return migrator.load_job(self.workplace.folder / name, env=CREDENTIALS)

    async def run(self, job: Job, **options: Any) -> Path:
        """Run a job, and return the run's folder."""
        named: dict[str, Any] = {
            "base_url": self.guest.url,
            "state": str(self.state.path),
            "max_failures": "100%",
            "canary": 0,
        }
        result = await migrator.migrate(job, migrator.Options(**(named | options)))
        assert result.folder is not None
        return result.folder

    def origin(self, place: Path) -> tuple[Job, Source, Mapping[str, str]]:
        """Return what a run was made from."""
        found = find_job(place, env=CREDENTIALS, allowed=NOTHING_MORE)
        self.opened.enter_context(found[1].stream)
        return found

    def checked(self, job: Job, **options: Any) -> tuple[Source, Verdict]:
        """Return a job's items, and what the check finds in them."""
        source = open_items(job, job.arguments["job"], items=None, template=None, stdin=io.BytesIO())
        self.opened.enter_context(source.stream)
        return source, check(source.rewound(), form=source.form, job=job, name=source.name, **options)

    async def held(self, number: int) -> str:
        """Return the webhook that the server holds of an item."""
        response, body = await self.guest.send("GET", f"i-{number:05d}")
        assert response.status == 200, body
        return str(json.loads(body)["target"]["webhook_url"])


@asynccontextmanager
async def bench(
    workplace: Workplace, served: Settings | None = None, *, clock: Clock | None = None
) -> AsyncIterator[Bench]:
    """Serve a sandbox beside a folder; without a clock it has those of the machine."""
    async with visit(served if served is not None else settings(), clock=clock, auth=(KEY, SECRET)) as guest:
        with ExitStack() as opened:
            yield Bench(workplace, guest, opened)


@contextmanager
def offline(workplace: Workplace) -> Iterator[Bench]:
    """Return a folder for a server that is never asked."""

    class Nowhere(Guest):
        def __init__(self) -> None:
            self.url = "https://api.example"

    with ExitStack() as opened:
        yield Bench(workplace, Nowhere(), opened)
