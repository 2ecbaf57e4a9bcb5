"""The shared budget: no order of events, and no death of a run, makes the runs send more than the window allows."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from migrator.ratelimit.shared.budget import MARGIN_S, PROBE_S, TRANSIT_S, UNLIMITED_S, Budget
from migrator.ratelimit.shared.model import Report, ReportKind, Share

T = 1_000_000.0
"""The clock at the beginning, in seconds."""


def opened(remaining: int, *, ends_in_s: float = 10.0, now: float = T) -> tuple[Budget, int]:
    """Return a budget whose window was opened, and the window."""
    budget = Budget()
    window = budget.take(now).window
    budget.opened(window, remaining, ends_in_s, now)
    return budget, window


def taken(budget: Budget, now: float = T, most: int = 1_000) -> int:
    """Take as much as there is, and return how much that was."""
    return next((number for number in range(most) if budget.take(now).wait_s > 0.0), most)


class TestTheFirstRequestOfAWindow:
    """It opens the window for all."""

    def test_goes_alone(self) -> None:
        budget = Budget()
        assert budget.take(T).wait_s == 0.0
        assert budget.take(T).wait_s > 0.0

    def test_opens_the_window_for_all_with_its_answer(self) -> None:
        budget, _ = opened(remaining=9)
        assert taken(budget) == 9

    def test_is_replaced_when_its_run_has_died(self) -> None:
        budget = Budget()
        first = budget.take(T).window
        assert budget.take(T + PROBE_S - 0.1).wait_s > 0.0
        second = budget.take(T + PROBE_S)
        assert second.wait_s == 0.0
        assert second.window > first

    def test_is_replaced_at_once_when_its_answer_was_lost_or_it_was_never_sent(self) -> None:
        for end in (Budget.lost, Budget.returned):
            budget = Budget()
            end(budget, budget.take(T).window, T)
            assert budget.take(T).wait_s == 0.0

    def test_leaves_room_for_those_in_flight_at_the_windows_end(self) -> None:
        budget, _ = opened(remaining=5, ends_in_s=1.0)
        assert taken(budget, T + 0.9) == 5
        later = T + 1.0 + MARGIN_S
        budget.opened(budget.take(later).window, 9, 10.0, later)
        assert taken(budget, later) == 4

    def test_forgets_those_that_a_dead_run_took_long_ago(self) -> None:
        budget, _ = opened(remaining=5)
        assert taken(budget) == 5
        later = T + 10.0 + MARGIN_S
        budget.opened(budget.take(later).window, 9, 10.0, later)
        assert taken(budget, later) == 9


class TestWithinAWindow:
    """The lowest report counts, less the requests in flight."""

    def test_a_late_answer_never_raises_what_is_left(self) -> None:
        budget, window = opened(remaining=9)
        assert [budget.take(T).window for _ in range(3)] == [window] * 3
        budget.opened(window, 2, 10.0, T)
        budget.opened(window, 8, 10.0, T)
        assert taken(budget) == 1

    def test_a_lost_answer_costs_its_unit(self) -> None:
        budget, window = opened(remaining=2)
        budget.take(T)
        budget.lost(window, T)
        assert taken(budget) == 1

    def test_a_request_that_was_never_sent_is_given_back(self) -> None:
        budget, window = opened(remaining=1)
        budget.take(T)
        budget.returned(window, T)
        assert taken(budget) == 1

    def test_a_used_up_window_is_waited_for(self) -> None:
        budget, window = opened(remaining=1)
        budget.take(T)
        budget.opened(window, 0, 10.0, T)
        assert budget.take(T + 4.0).wait_s == pytest.approx(6.0 + MARGIN_S)

    def test_the_end_that_the_lowest_report_told_counts(self) -> None:
        budget, window = opened(remaining=3)
        assert taken(budget) == 3
        budget.opened(window, 0, 6.0, T)
        budget.opened(window, 1, 3.0, T)
        budget.opened(window, 2, 9.0, T)
        assert budget.take(T).wait_s == pytest.approx(6.0 + MARGIN_S)

    def test_of_two_ends_that_differ_by_rounding_the_earlier_one_counts(self) -> None:
        budget, window = opened(remaining=3, ends_in_s=5.0)
        assert taken(budget) == 3
        budget.opened(window, 0, 5.0, T + 0.9)
        assert budget.take(T + 1.0).wait_s == pytest.approx(4.0 + MARGIN_S)

    def test_a_refusal_stops_all_runs_and_the_next_request_goes_alone(self) -> None:
        budget, window = opened(remaining=50)
        budget.take(T)
        budget.refused(window, 7.0, T)
        assert budget.take(T + 1.0).wait_s == pytest.approx(6.0)
        assert taken(budget, T + 7.0) == 1

    def test_reports_of_another_window_change_nothing(self) -> None:
        budget, window = opened(remaining=9)
        before = Budget(**{name: getattr(budget, name) for name in Budget.__struct_fields__})
        for kind in ReportKind:
            budget.tell(Report("key", window - 1, kind, 0, 99.0), T + 1.0)
        assert budget == before


class TestAnApiWithoutHeaders:
    """There is nothing to count down."""

    def test_is_not_held_back(self) -> None:
        budget = Budget()
        budget.unlimited(budget.take(T).window, T)
        assert taken(budget, T + 1.0, most=500) == 500

    def test_is_looked_at_again_after_a_while(self) -> None:
        budget = Budget()
        budget.unlimited(budget.take(T).window, T)
        assert taken(budget, T + UNLIMITED_S) == 1


def test_a_run_that_is_alone_is_never_held_back_and_leaves_true_numbers() -> None:
    """What it has taken counts for the run that joins it."""
    budget, window = opened(remaining=9)
    assert {budget.force(T).window for _ in range(7)} == {window}
    assert taken(budget) == 2


@dataclass
class Server:
    """A fixed window that starts with its first request, and tells its rest and its end."""

    limit: int
    window_s: float
    counted: int = 0
    ends: float = 0.0

    def arrive(self, now: float) -> tuple[int, float]:
        """Count a request; a rest below zero is a refusal."""
        if now >= self.ends:
            self.counted, self.ends = 0, now + self.window_s
        self.counted += 1
        return self.limit - self.counted, self.ends


@dataclass(eq=False)
class Sent:
    """A request on its way."""

    window: int
    first: bool
    taken_at: float
    answer: tuple[int, float] | None = None


class SharedBudget(RuleBasedStateMachine):
    """Runs take, requests arrive and are answered in any order, answers get lost, and runs die at any instant."""

    def __init__(self) -> None:
        super().__init__()
        self.now = T
        self.budget = Budget()
        self.server = Server(10, 10.0)
        self.sent: list[Sent] = []
        self.unanswered_first = 0

    @initialize(limit=st.integers(1, 12), window_s=st.sampled_from([1.0, 4.0, 30.0]))
    def start(self, limit: int, window_s: float) -> None:
        self.server = Server(limit, window_s)

    @rule(most=st.integers(1, 12))
    def take(self, most: int) -> None:
        for _ in range(most):
            before = self.budget.window
            share: Share = self.budget.take(self.now)
            if share.wait_s == 0.0:
                self.sent.append(Sent(share.window, share.window != before, self.now))

    @rule(delay_s=st.floats(0.0, 12.0))
    def wait(self, delay_s: float) -> None:
        until = self.now + delay_s
        for request in list(self.sent):
            if request.answer is None and request.taken_at + TRANSIT_S <= until:
                self.now = max(self.now, request.taken_at + TRANSIT_S - 1e-3)
                self.count(request)
        self.now = until

    @precondition(lambda self: any(one.answer is None for one in self.sent))
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        self.count(data.draw(st.sampled_from([one for one in self.sent if one.answer is None])))

    @precondition(lambda self: any(one.answer is not None for one in self.sent))
    @rule(data=st.data(), late_s=st.floats(0.0, 1.0), lost=st.sampled_from([False] * 9 + [True]))
    def answer(self, data: st.DataObject, late_s: float, lost: bool) -> None:
        request = data.draw(st.sampled_from([one for one in self.sent if one.answer is not None]))
        self.sent.remove(request)
        assert request.answer is not None
        remaining, ends = request.answer
        in_s = max(0.0, ends - self.now) + late_s
        if lost:
            self.unanswered_first += request.first
            self.budget.lost(request.window, self.now)
        elif remaining < 0:
            self.unanswered_first += request.first
            self.budget.refused(request.window, in_s, self.now)
        else:
            if request.window == self.budget.window:
                self.unanswered_first = 0
            else:
                # It was replaced before it was answered, so that its answer counts for nothing.
                self.unanswered_first += request.first
            self.budget.opened(request.window, remaining, in_s, self.now)

    @precondition(lambda self: any(one.answer is None for one in self.sent))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([one for one in self.sent if one.answer is None]))
        self.sent.remove(request)
        self.budget.returned(request.window, self.now)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """A run dies: some of its requests have arrived, the others never will, and nothing is reported."""
        for request in data.draw(st.lists(st.sampled_from(self.sent), unique_by=id)):
            if request.answer is None and data.draw(st.booleans()):
                self.count(request)
            self.unanswered_first += request.first
            self.sent.remove(request)

    def count(self, request: Sent) -> None:
        request.answer = self.server.arrive(self.now)
        if request.answer[0] < 0:
            # What a first request without an answer has used up is not known: the next one may meet a full window.
            assert request.first
            assert self.unanswered_first or any(one.first for one in self.sent if one is not request)


TestNoHistoryOverdrawsTheWindow = SharedBudget.TestCase
TestNoHistoryOverdrawsTheWindow.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
