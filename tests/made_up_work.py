"""A work list that is no job: items made by a test, for the parts of a run that take any list."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from driven_run import requests
from msgspec.structs import replace

from migrator.api.session import Session
from migrator.job.profile.api_profile import ApiProfile
from migrator.messages import Request
from migrator.report.csv_files import Cells
from migrator.run.preconditions import Precondition
from migrator.run.work_list import RunFiles, WorkFacts

__all__ = ["MadeUpWork"]


class MadeUpWork:
    """Items `i-1`, `i-2` and so on of a server.

    Args:
        url: the server's.
        total: how many items there are.
        facts: what else is known of them.

    Attributes:
        steps: which of the steps around the items were taken.
    """

    def __init__(self, url: str, total: int, **facts: Any) -> None:
        self.steps: list[str] = []
        known: dict[str, Any] = {
            "job": "made-up",
            "api": ApiProfile(name="made-up", base_url=url),
            "base_url": url,
            "method": "PATCH",
            "undo": "not possible",
            "total": total,
            "name": "a list",
            "job_digest": "job",
            "items_digest": "items",
        }
        self.facts = WorkFacts(**(known | facts))

    def requests(self, done: Iterator[int]) -> Iterator[Request]:
        """Yield the requests of what is not done."""
        finished = set(done)
        for request in requests(self.facts.total):
            if request.item not in finished:
                yield replace(request, url=f"{self.facts.base_url}/things/{request.key}")

    def cells(self) -> Cells:
        """Return the keys."""
        return ["id"], ((number, [f"i-{number}"]) for number in range(1, self.facts.total + 1))

    @asynccontextmanager
    async def precondition(self, session: Session, files: RunFiles) -> AsyncIterator[Precondition | None]:
        """Look at nothing."""
        self.steps.append("precondition")
        yield None

    async def before(self) -> Sequence[str]:
        """Note that it was asked."""
        self.steps.append("before")
        return ["a note from before"]

    async def after(self, session: Session, files: RunFiles) -> Sequence[str]:
        """Note that it was asked."""
        self.steps.append("after")
        return ["a note from after"]
