"""The pace of calls after a 429: alone, shared by environments that know nothing of each other, and in the handler."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retry import MAX_DELAY_SECONDS
from terminate import handler
from terminate.pace import Pace
from tests.unit.world import World, answer

Log = Callable[[], list[dict[str, Any]]]


class Clock:
    """Time that goes by when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def call(pace: Pace, clock: Clock) -> float:
    """Take a turn and let its time come; returns when the call begins."""
    turn = pace.turn(1e9)
    assert turn is not None
    begins, seconds = turn
    assert begins == pytest.approx(clock.now + seconds)
    clock.now = begins
    return begins


def spacing(pace: Pace, clock: Clock, calls: int = 5) -> float:
    """Seconds between calls that begin as soon as they may, the wait for the first one apart."""
    first = call(pace, clock)
    return max((call(pace, clock) - first) / (number + 1) for number in range(calls))


def longest(_: float, high: float) -> float:
    """A random source that always draws the most there is."""
    return high


def used_at(rate: float, calls: int, pace: Pace, clock: Clock) -> float:
    """So many calls, evenly spaced; returns when the last one began, which is now."""
    for _ in range(calls):
        clock.now += 1 / rate
        call(pace, clock)
    return clock.now


def test_nothing_is_spaced_before_the_first_429() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert [call(pace, clock) for _ in range(100)] == [1000.0] * 100
    assert pace.rest() == 0


def test_a_429_halves_the_rate_of_late() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(20):
        call(pace, clock)
        clock.now += 0.05
    pace.slow_down(clock.now, 0)
    assert spacing(pace, clock) == pytest.approx(2 / 20)


def test_a_burst_is_taken_for_the_rate_that_it_was() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(10):
        call(pace, clock)
    clock.now += 0.1
    pace.slow_down(clock.now, 0)
    assert spacing(pace, clock) == pytest.approx(2 / 100), "ten in a tenth of a second, halved"


@pytest.mark.parametrize(("rate", "left"), [(0.9, 0.45), (0.5, 0.25), (0.21, 0.105), (0.01, 0.1)])
def test_a_trickle_is_taken_for_the_rate_that_it_was(rate: float, left: float) -> None:
    clock = Clock()
    pace = Pace(clock)
    begun = used_at(rate, 5, pace, clock)
    pace.slow_down(begun, 0)
    assert spacing(pace, clock) == pytest.approx(1 / left, rel=0.01), "and one in ten seconds is the slowest"


def test_a_rest_is_not_taken_for_slow_use() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.slow_down(used_at(100, 200, pace, clock), 60)
    begun = call(pace, clock)
    for _ in range(9):
        assert pace.turn(60) is not None
    # Before a second one could begin.
    clock.now += 0.005
    pace.slow_down(begun, 0)
    assert spacing(pace, clock) == pytest.approx(4 / 100, rel=0.1)


def test_turns_that_nobody_came_for_are_not_taken_for_calls() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.slow_down(used_at(40, 40, pace, clock), 0)
    begun = call(pace, clock)
    # Nine wait for their turns when the call is refused, and are told to give them up.
    for _ in range(9):
        assert pace.turn(60) is not None
    pace.slow_down(begun, 0)
    pace.slow_down(used_at(2, 2, pace, clock), 0)
    assert spacing(pace, clock) == pytest.approx(2 / 4), "two in half a second, halved"


def test_what_a_429_asks_for_is_a_rest_for_all() -> None:
    clock = Clock()
    pace = Pace(clock, longest)
    pace.slow_down(call(pace, clock), 30)
    assert pace.rest() == pytest.approx(37.5)
    assert pace.turn(37.4) is None
    turn = pace.turn(37.6)
    assert turn is not None
    assert turn[1] == pytest.approx(37.5)


@given(st.randoms(use_true_random=False), st.one_of(st.none(), st.floats(0, MAX_DELAY_SECONDS)))
def test_a_rest_is_what_is_asked_for_and_up_to_a_quarter_more(source: random.Random, retry_after: float | None) -> None:
    clock = Clock()
    pace = Pace(clock, source.uniform)
    pace.slow_down(used_at(100, 200, pace, clock), retry_after)
    # Where nothing is asked for, calls are as far apart as the new pace has them.
    asked = max(1.0 if retry_after is None else retry_after, 2 / 100)
    assert 0.99 * asked <= pace.rest() <= min(1.26 * asked, MAX_DELAY_SECONDS + 0.001)


def test_environments_that_are_asked_for_the_same_rest_do_not_come_back_at_once() -> None:
    clock = Clock()
    source = random.Random(20261124)  # noqa: S311 - not a secret
    fleet = [Pace(clock, source.uniform) for _ in range(20)]
    for pace in fleet:
        pace.slow_down(call(pace, clock), 8)
    rests = sorted(pace.rest() for pace in fleet)
    assert rests[0] >= 8
    assert rests[-1] - rests[0] > 1
    assert max(after - before for before, after in pairwise(rests)) < 1


def test_calls_that_were_under_way_do_not_draw_for_a_longer_rest() -> None:
    clock = Clock()
    drawn = iter([1.1, 1.25])
    pace = Pace(clock, lambda *_: next(drawn))
    for begun in [call(pace, clock) for _ in range(10)]:
        pace.slow_down(begun, 10)
    assert pace.rest() == pytest.approx(11)


def test_a_turn_that_was_not_taken_moves_nobody_back() -> None:
    clock = Clock()
    pace = Pace(clock, longest)
    pace.slow_down(call(pace, clock), 30)
    assert [pace.turn(1) for _ in range(100)] == [None] * 100
    assert pace.rest() == pytest.approx(37.5)


def test_calls_that_were_under_way_cut_the_rate_once() -> None:
    clock = Clock()
    pace = Pace(clock)
    begun = [call(pace, clock) for _ in range(10)]
    clock.now += 0.1
    pace.slow_down(begun[0], 0)
    once = Pace(clock)
    for _ in range(10):
        call(once, clock)
    once.slow_down(clock.now, 0)
    for one in begun[1:]:
        pace.slow_down(one, 0)
    assert spacing(pace, clock) == pytest.approx(spacing(once, clock))


@pytest.mark.parametrize(("first", "second", "rest"), [(4, 40, 50), (40, 4, 49)])
def test_the_longest_rest_counts_of_those_that_calls_under_way_ask_for(first: int, second: int, rest: int) -> None:
    clock = Clock()
    pace = Pace(clock, longest)
    begun = [call(pace, clock) for _ in range(2)]
    pace.slow_down(begun[0], first)
    clock.now += 1
    pace.slow_down(begun[1], second)
    assert pace.rest() == pytest.approx(rest)


def test_calls_that_were_under_way_do_not_undo_a_cut() -> None:
    clock = Clock()
    pace = Pace(clock)
    begun = [call(pace, clock) for _ in range(10)]
    clock.now += 0.9
    pace.slow_down(begun[0], 0)
    for one in begun[1:]:
        pace.went_well(one)
    assert spacing(pace, clock) == pytest.approx(2 * 0.9 / 10), "ten in nine tenths of a second, halved"


def test_calls_that_go_well_come_closer_together_until_nothing_is_spaced() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.slow_down(call(pace, clock), 0)
    slow = spacing(pace, clock)
    begun = clock.now
    while clock.now < begun + 10:
        pace.went_well(call(pace, clock))
    # One and a twentieth more in every second, from five a second.
    assert 1 / 24 < spacing(pace, clock) < 1 / 18 < slow
    for _ in range(600_000):
        pace.went_well(clock.now)
    assert spacing(pace, clock) == 0


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6), st.just("well")), max_size=200))
def test_no_rest_is_longer_than_sqs_can_wait_and_every_pace_gets_on(answers: list[Any]) -> None:
    clock = Clock()
    pace = Pace(clock)
    for said in answers:
        begun = call(pace, clock)
        if said == "well":
            pace.went_well(begun)
        else:
            pace.slow_down(begun, said)
        assert 0 <= pace.rest() <= MAX_DELAY_SECONDS + 0.001
    assert spacing(pace, clock) <= 10.001


class Environments:
    """Execution environments that call an API of so many calls a second as fast as their paces let them, with ten
    calls under way at a time, each of a tenth of a second.

    Whoever waits for a turn gives it up when another call of the environment is told to slow down, as in an invocation.
    Events in a queue: no time passes.
    """

    def __init__(self, environments: int, calls_a_second: float) -> None:
        self.clock = Clock()
        self.calls_a_second = calls_a_second
        self.answered = [0] * environments
        self._halts = [0] * environments
        self.refused = 0
        self._tokens = calls_a_second
        self._filled = self.clock.now
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._draw = random.Random(20261124)  # noqa: S311 - not a secret
        for number in range(environments):
            pace = Pace(self.clock, self._draw.uniform)
            for _ in range(10):
                self._at(self.clock.now, lambda number=number, pace=pace: self._ask(number, pace))  # type: ignore[misc]

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self._events[0][0] <= end:
            self.clock.now, _, happen = heapq.heappop(self._events)
            happen()
        self.clock.now = end

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def _ask(self, number: int, pace: Pace) -> None:
        turn = pace.turn(1e9)
        assert turn is not None
        halts = self._halts[number]
        self._at(turn[0], lambda: self._begin(number, pace, turn[0], halts))

    def _begin(self, number: int, pace: Pace, begun: float, halts: int) -> None:
        if halts != self._halts[number]:
            self._ask(number, pace)
            return
        now = self.clock.now
        self._tokens = min(self._tokens + (now - self._filled) * self.calls_a_second, self.calls_a_second)
        self._filled = now
        granted = self._tokens >= 1
        self._tokens -= granted
        latency = 0.1 * self._draw.lognormvariate(0, 0.3)
        self._at(now + latency, lambda: self._answer(number, pace, begun, granted=granted))

    def _answer(self, number: int, pace: Pace, begun: float, *, granted: bool) -> None:
        if granted:
            self.answered[number] += 1
            pace.went_well(begun)
        else:
            self.refused += 1
            self._halts[number] += 1
            pace.slow_down(begun, None)
        self._ask(number, pace)


@pytest.mark.parametrize(("environments", "calls_a_second"), [(2, 10), (5, 10), (5, 50), (5, 200), (20, 50), (20, 200)])
def test_environments_come_to_share_what_the_api_allows(environments: int, calls_a_second: int) -> None:
    fleet = Environments(environments, calls_a_second)
    fleet.run(60)
    settled, refused = fleet.answered.copy(), fleet.refused

    fleet.run(240)

    shares = [after - before for after, before in zip(fleet.answered, settled, strict=True)]
    assert sum(shares) > 0.9 * 240 * calls_a_second, "most of what the API allows is used"
    assert fleet.refused - refused < 0.12 * sum(shares), "and little of it is asked for in vain"
    assert min(shares) > 0.3 * max(shares), "by all of them"


def test_a_later_invocation_does_not_start_where_an_earlier_one_was_slowed_down(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-1", answer(429, "", Retry_After="600"))
    world.send("devin-1")
    assert len(world.deliver()) == 1
    log()

    world.send("devin-2", "devin-3")
    assert len(world.deliver()) == 2

    assert world.api.calls == [("DELETE", "devin-1")]
    assert [590 < line["retry_in_seconds"] <= 750 for line in log()] == [True, True]
    assert world.queued() == (0, 3, 0)


def test_a_direct_invocation_that_may_not_call_hands_its_ids_to_the_queue(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(429, "", Retry_After="600"))
    assert world.invoke({"session_id": "devin-1"}) == {"retry": ["devin-1"]}
    assert world.invoke({"session_ids": ["devin-2", "devin-3"]}) == {"retry": ["devin-2", "devin-3"]}
    assert world.api.deleted() == ["devin-1"]
    assert world.queued() == (0, 0, 3)


def test_when_the_rest_is_over_calls_go_on(world: World) -> None:
    for number in range(50):
        world.send(f"devin-{number}")
    assert world.deliver() == []
    world.api.on("DELETE", "devin-x", answer(429, "", Retry_After="0"))
    assert world.invoke({"session_id": "devin-x"}) == {"retry": ["devin-x"]}
    # A call each 40 ms now; the invocation waits for its turns.
    assert world.invoke({"session_ids": ["devin-y", "devin-z"]}) == {"terminated": ["devin-y", "devin-z"]}


class _Waiting(Pace):
    """Lets the first call begin at once and the others in five minutes."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = 0

    def turn(self, patience: float) -> tuple[float, float] | None:
        found = super().turn(patience)
        self._turns += 1
        return found if found is None or self._turns == 1 else (found[0] + 300, 300.0)


def test_who_waits_for_a_turn_hears_of_the_brake(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "pace", _Waiting())
    monkeypatch.setenv("MAX_WORKERS", "3")
    for number in (1, 2, 3):
        world.api.on("DELETE", f"devin-{number}", answer(429))
    world.send("devin-1", "devin-2", "devin-3")
    # Would take five minutes if they did not.
    assert len(world.deliver()) == 3
    assert len(world.api.calls) == 1


def received(world: World, times: int) -> dict[str, Any]:
    event = world.batch()
    for record in event["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = str(times)
    return event


def test_what_was_only_braked_is_not_worn_out_by_it(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(429))
    world.send("devin-1", "devin-2")
    event = received(world, 4)

    failed = world.invoke(event)["batchItemFailures"]

    kept = {record["body"] for record in event["Records"] if {"itemIdentifier": record["messageId"]} in failed}
    assert kept == {"devin-1"}, "the one that was called counts as tried"
    (send,) = [given for name, given in world.aws.calls if name == "sqs.SendMessage"][2:]
    assert send["MessageBody"] == "devin-2"
    assert send["MessageAttributes"]["attempts"]["StringValue"] == "4"


def test_a_call_that_failed_otherwise_wears_its_message_out(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(500))
    world.send("devin-1")
    assert len(world.invoke(received(world, 4))["batchItemFailures"]) == 1
