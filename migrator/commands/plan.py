"""A plan: reads what every item holds at the quota's pace, and says what would change. Nothing is written."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
import msgspec

from migrator.api.reader import Record
from migrator.api.session import Session, open_session, safe_base_url, system_clock
from migrator.api.state import ABSENT, changes, not_the_record, wanted_of
from migrator.errors import ReadingError, WaitTooLong
from migrator.job import template as templates
from migrator.job.check import Verdict
from migrator.job.job_file import Job
from migrator.job.source import Source
from migrator.messages import JSON, Request
from migrator.options import RunOptions
from migrator.report.estimate import least_s, requests_of, told_cycle
from migrator.results import ErrorKind, ItemError
from migrator.run.preconditions import LIST_FROM, listed, state_digest, states
from migrator.secret import Masker, Secret, has_mask
from migrator.store.plan_file import Plan, PlannedChange, PlannedItem, key_check
from migrator.store.state_folder import StateFolder
from migrator.times import duration_text

__all__ = ["make_plan", "plan_text"]

READERS: Final = 64
"""Records that are read at a time at the most; the throttle decides how many of them are."""

ACTIONS: Final[Mapping[ErrorKind, str]] = {ErrorKind.NOT_FOUND: "missing", ErrorKind.FORBIDDEN: "forbidden"}
NOT_LISTED: Final = ItemError(kind=ErrorKind.NOT_FOUND, message="it is not in the list of the API")
SHOWN: Final = 200
"""Items whose changes are shown on a terminal; the file has all."""

Styled: TypeAlias = Callable[[str, str | None], str]

COLOURS: Final = {"change": "yellow", "missing": "red", "forbidden": "red", "unreadable": "red"}


async def make_plan(
    job: Job, source: Source, verdict: Verdict, options: RunOptions, *, tell: Callable[[str], None]
) -> Plan:
    """Read every item's state, and return what would change.

    Raises:
        MigratorError: nothing can be read.
    """
    job.must_be_readable("a plan")
    base_url = safe_base_url(job.api, options)
    state = StateFolder.open(Path(options.state))
    planner = _Planner(job, source, verdict, options, base_url=base_url, state=state, tell=tell)
    return await planner.plan()


class _Planner:
    def __init__(
        self,
        job: Job,
        source: Source,
        verdict: Verdict,
        options: RunOptions,
        *,
        base_url: str,
        state: StateFolder,
        tell: Callable[[str], None],
    ) -> None:
        self._tell = tell
        self._job, self._source, self._verdict, self._options = job, source, verdict, options
        self._base_url, self._state = base_url, state
        self._masker = state.masker(job.api.credentials())
        self._items: list[PlannedItem] = []
        self._listed = False
        self._only = None if verdict.selected is None else frozenset(verdict.selected.values())
        self._total = verdict.items if self._only is None else len(self._only)

    async def plan(self) -> Plan:
        async with open_session(
            self._job.api,
            self._options,
            base_url=self._base_url,
            state=self._state,
            masker=self._masker,
            clock=system_clock(),
        ) as session:
            known = None
            if self._job.api.collection is not None and self._total >= LIST_FROM:
                known = await states(self._job, session)
            await self._look_at_all(session, known)
            stands = session.throttle.statistics()
            self._items.sort(key=lambda one: one.item)
            counts = Counter(one.action for one in self._items)
            return Plan(
                job=self._job.name,
                server=self._base_url,
                job_digest=self._job.digest,
                items_digest=self._verdict.digest,
                key_check=key_check(self._masker.fingerprint),
                made=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                counts={action: counts[action] for action in ("change", "unchanged", *ACTIONS.values(), "unreadable")},
                run_requests=(requests := self._run_requests(counts["change"], stands.requests)),
                eta_s=least_s(
                    requests,
                    ceiling=stands.ceiling,
                    cycle=told_cycle(stands),
                    spaced_s=self._job.api.write_spacing_s * (math.ceil(counts["change"] / self._batch_size) - 1),
                    slots_rate=stands.slots / stands.latency_s if stands.latency_s else None,
                )
                if requests
                else 0.0,
                requests=stands.requests,
                items=self._items,
            )

    def _run_requests(self, changes: int, read: int) -> int:
        """Return how many requests a run with the same options takes.

        Args:
            changes: items that would change.
            read: requests that this plan has taken, by pages where the API has a list.
        """
        options = self._options
        keeps = options.keep_before or self._job.keep_before
        writes = changes if options.only_changed or options.plan else self._total
        if options.plan:
            reads = changes
        elif keeps or templates.needs_record(self._job.request):
            reads = self._total
        else:
            reads = read if options.only_changed else 0
        return requests_of(writes, reads=reads, batch_size=self._batch_size, verify=options.verify)

    @property
    def _batch_size(self) -> int:
        batch = self._job.request.batch
        return 1 if batch is None else batch.size

    async def _look_at_all(self, session: Session, known: Mapping[str, bytes] | None) -> None:
        template = templates.Template.compile(self._job, base_url=self._base_url)
        requests = templates.requests_of(self._source, self._job, template, total=self._verdict.items, only=self._only)
        if known is not None:
            self._listed = True
            requests = self._unlisted(requests, known)
        failures: list[Exception] = []
        async with anyio.create_task_group() as readers:
            for _ in range(READERS):
                readers.start_soon(self._read, session, requests, failures)
        if failures:
            raise failures[0]

    def _unlisted(self, requests: Iterator[Request], known: Mapping[str, bytes]) -> Iterator[Request]:
        """Yield the requests whose record is not in the list; a list may leave records out, or know another URL."""
        for request in requests:
            record = listed(known, request)
            if record is None:
                yield request
            else:
                self._items.append(self._planned(request, record))

    async def _read(self, session: Session, requests: Iterator[Request], failures: list[Exception]) -> None:
        for request in requests:
            if failures:
                return
            try:
                record = await session.reader.record(request)
                if self._listed and record.error is not None and record.error.kind is ErrorKind.FORBIDDEN:
                    record = Record(error=NOT_LISTED)  # some APIs answer 403 for a record that does not exist
                self._items.append(self._planned(request, record))
            except (ReadingError, WaitTooLong) as error:
                failures.append(error)
            if (count := len(self._items)) % 1000 == 0:
                self._tell(f"read {count} of {self._total}")

    def _planned(self, request: Request, record: Record) -> PlannedItem:
        if record.document is None:
            error = record.error
            action = "unreadable" if error is None else ACTIONS.get(error.kind, "unreadable")
            message = None if error is None else error.message
            return PlannedItem(item=request.item, key=request.key, action=action, message=message)
        if message := not_the_record(request, record.document):
            return PlannedItem(item=request.item, key=request.key, action="unreadable", message=message)
        shown = _Shown(self._masker, request)
        found = tuple(
            PlannedChange(
                pointer=one.pointer,
                before=None if one.before is ABSENT else shown.before(one.before, one.after),
                after=shown.after(one.after),
                absent=one.before is ABSENT,
                masked=one.masked or has_mask(one.before),
            )
            for one in changes(wanted_of(request) or {}, record.document, request.rules)
        )
        return PlannedItem(
            item=request.item,
            key=request.key,
            action="change" if found else "unchanged",
            state=state_digest(self._masker.fingerprint, request, record.document),
            changes=found,
        )


class _Shown:
    """Makes values fit to be shown."""

    def __init__(self, masker: Masker, request: Request) -> None:
        self._masker = masker
        self._secrets = request.secrets
        self._values = [secret.reveal() for secret in request.secrets]

    def after(self, value: JSON) -> JSON:
        """Return a wanted value."""
        if isinstance(value, str):
            secret = next((one for one in self._secrets if one.reveal() == value), None)
            return self._masker.text(value, self._secrets) if secret is None else self._masker.shown(secret)
        if isinstance(value, Mapping):
            return {name: self.after(member) for name, member in value.items()}
        return [self.after(entry) for entry in value] if isinstance(value, list) else value

    def before(self, value: Any, wanted: JSON) -> JSON:
        """Return a value that the server holds; one in whose place a secret goes was one, too."""
        if isinstance(value, str):
            if isinstance(wanted, str) and any(secret in wanted for secret in self._values) and not has_mask(value):
                return self._masker.shown(Secret(value))
            return self._masker.server_text(value, self._secrets)
        if isinstance(value, Mapping):
            within = wanted if isinstance(wanted, Mapping) else {}
            return {name: self.before(member, within.get(name)) for name, member in value.items()}
        return [self.before(entry, None) for entry in value] if isinstance(value, list) else value


def plain(text: str, _colour: str | None) -> str:
    """Return a text without colour."""
    return text


def plan_text(plan: Plan, *, styled: Styled = plain) -> str:
    """Return a plan for people: its first 200 changes, and the counts.

    Args:
        plan: what would change.
        styled: gives a text a colour by its name; None is no colour.
    """
    lines: list[str] = []
    shown = [one for one in plan.items if one.action != "unchanged"]
    for one in shown[:SHOWN]:
        lines.append(styled(f"{one.action:>10}  {one.key}  (row {one.item})", COLOURS.get(one.action)))
        lines += _change_lines(one.changes, styled)
        if one.message is not None:
            lines.append(f"              {one.message}")
    if len(shown) > SHOWN:
        lines.append(f"… and {len(shown) - SHOWN} more; --out FILE has all of them")
    if any(change.masked for one in plan.items for change in one.changes):
        lines.append(
            "The API masks a field that would be written. It is not known whether it changes, and it "
            "cannot be rolled back."
        )
    counts = ", ".join(f"{count} {action}" for action, count in plan.counts.items() if count)
    lines.append(f"{plan.job} on {plan.server}: {counts or 'no items'}{_cost(plan)}")
    return "\n".join(lines)


def _cost(plan: Plan) -> str:
    if not plan.counts.get("change"):
        return ""
    count = "1 request" if plan.run_requests == 1 else f"{plan.run_requests:,} requests"
    least = f", at least {duration_text(math.ceil(plan.eta_s))}" if plan.eta_s else ""
    return f"; the run takes {count}{least}"


def _change_lines(found: Iterable[PlannedChange], styled: Styled) -> Iterator[str]:
    for change in found:
        before = "(absent)" if change.absent else _text(change.before)
        yield f"              {change.pointer}"
        yield "                " + styled(f"- {before}", "red") + (" (masked by the API)" if change.masked else "")
        yield "                " + styled(f"+ {_text(change.after)}", "green")


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
