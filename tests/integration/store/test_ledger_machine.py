"""The ledger against a model: whatever is asked of it in one turn of the loop, it keeps as if asked one by one."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from result_rows import result, results

from migrator.results import ItemResult
from migrator.store.ledger_reader import InFlight, read_ledger
from migrator.store.ledger_writer import Ledger

ITEMS = st.integers(1, 5)

BEGIN = st.tuples(st.sampled_from(["begin", "begin durably"]), ITEMS, st.integers(1, 3))
WITHDRAW = st.tuples(st.just("withdraw"), ITEMS, st.none())
SETTLE = st.tuples(st.just("settle"), ITEMS, results(ITEMS))
REOPEN = st.tuples(st.just("reopen"), st.just(0), st.none())
PUT = st.tuples(
    st.just("put"), st.just(0), st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text("xyz é'\"", max_size=5))
)
OPERATIONS = st.lists(st.one_of(BEGIN, BEGIN, SETTLE, SETTLE, WITHDRAW, REOPEN, PUT), min_size=1, max_size=12)


class LedgerMachine(RuleBasedStateMachine):
    """A ledger in a real file, against plain dictionaries that take one operation after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.folders: list[Path] = []
        self.runner = asyncio.Runner()
        self.started: dict[int, int] = {}
        self.results: dict[int, ItemResult] = {}
        self.meta: dict[str, str] = {}
        self.open(self.new_folder())

    def new_folder(self) -> Path:
        """Return an empty folder."""
        self.folders.append(Path(tempfile.mkdtemp()))
        return self.folders[-1]

    def open(self, folder: Path) -> None:
        """Open the ledger in a folder."""
        self.path = folder / "ledger.db"
        self.context: AbstractAsyncContextManager[Ledger] = Ledger.open(self.path)
        self.ledger = self.runner.run(self.context.__aenter__())

    def close(self) -> None:
        """Close it."""
        self.runner.run(self.context.__aexit__(None, None, None))

    @rule(operations=OPERATIONS)
    def turn(self, operations: list[tuple[str, int, object]]) -> None:
        self.runner.run(self.at_once(operations))

    async def at_once(self, operations: list[tuple[str, int, object]]) -> None:
        """Ask for operations in one turn of the loop, so that they go together, and wait for them all."""
        waiting: list[Awaitable[object]] = []
        ended: set[int] = set()
        for name, item, value in operations:
            if name == "withdraw" and item in ended:
                # A test of its own shows what becomes of that.
                continue
            if name.startswith("begin") and item in self.results:
                # An item that has its result is not sent again.
                continue
            task = self.ask(name, item, value)
            if task is not None:
                waiting.append(task)
                # A task takes its first step, which is what orders operations, only when the loop comes to it.
                await asyncio.sleep(0)
            if name == "settle" and isinstance(value, ItemResult):
                ended.add(value.item)
        await asyncio.gather(*waiting)
        # A note for which no one waits is on the disk when something behind it is.
        await self.ledger.put(last="turn")
        self.meta["last"] = "turn"

    def ask(self, name: str, item: int, value: object) -> Awaitable[object] | None:
        """Ask the ledger and the model for one operation, and return what is to be waited for."""
        match name, value:
            case "begin", int():
                self.started[item] = value
                self.ledger.begin(item, "k", value, 7)
            case "begin durably", int():
                self.started[item] = value
                return asyncio.ensure_future(self.ledger.begin_durably(item, "k", value, 7))
            case "withdraw", _:
                self.started.pop(item, None)
                self.ledger.withdraw(item)
            case "settle", ItemResult():
                self.started.pop(value.item, None)
                self.results.pop(value.item, None)
                self.results[value.item] = value
                return asyncio.ensure_future(self.ledger.settle(value))
            case "put", dict():
                self.meta |= value
                return asyncio.ensure_future(self.ledger.put(**value))
            case _:
                self.results = {number: row for number, row in self.results.items() if not row.provisional}
                return asyncio.ensure_future(self.ledger.reopen())
        return None

    @rule()
    def close_and_open_again(self) -> None:
        self.close()
        self.open(self.path.parent)

    @rule()
    def die_and_open_again(self) -> None:
        # What a kill leaves is the files as they are at that moment: the database, and the log that no one has merged.
        left = self.new_folder()
        for name in ("ledger.db", "ledger.db-wal"):
            if (self.path.parent / name).exists():
                shutil.copyfile(self.path.parent / name, left / name)
        self.close()
        self.open(left)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        with read_ledger(self.path) as reader:
            assert list(reader.rows_as_finished()) == list(self.results.values())
            assert list(reader.finished()) == sorted(self.results)
            assert reader.in_flight() == [InFlight(item, "k", self.started[item], 7) for item in sorted(self.started)]
            assert dict(reader.meta()) == self.meta

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.close()
        self.runner.close()
        for folder in self.folders:
            shutil.rmtree(folder)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=40, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.anyio
async def test_withdrawal_right_behind_a_result(tmp_path: Path) -> None:
    """A result that was settled stays, though an attempt is withdrawn in the same turn of the loop."""
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        settled = asyncio.ensure_future(ledger.settle(result(1)))
        await asyncio.sleep(0)
        ledger.withdraw(1)
        await settled

    with read_ledger(tmp_path / "ledger.db") as reader:
        assert list(reader.finished()) == [1]
