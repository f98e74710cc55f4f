"""The pace of calls after a 429: alone, shared by environments that know nothing of each other, and in the handler."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devin.limiter import RateLimiter
from retry import MAX_DELAY_SECONDS
from terminate import handler
from tests.unit.world import World, answer, session

Log = Callable[[], list[dict[str, Any]]]


class Clock:
    """Time that goes by when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def call(pace: RateLimiter, clock: Clock) -> float:
    """Take a turn and let its time come; returns when the call begins."""
    turn = pace.acquire(1e9)
    assert turn is not None
    begins, seconds = turn
    assert begins == pytest.approx(clock.now + seconds)
    clock.now = begins
    return begins


def spacing(pace: RateLimiter, clock: Clock, calls: int = 5) -> float:
    """Seconds between calls that begin as soon as they may, the wait for the first one apart."""
    first = call(pace, clock)
    return max((call(pace, clock) - first) / (number + 1) for number in range(calls))


def longest(_: float, high: float) -> float:
    """A random source that always draws the most there is."""
    return high


def used_at(rate: float, calls: int, pace: RateLimiter, clock: Clock) -> float:
    """So many calls, evenly spaced; returns when the last one began, which is now."""
    for _ in range(calls):
        clock.now += 1 / rate
        call(pace, clock)
    return clock.now


def goes_well(pace: RateLimiter, clock: Clock, seconds: float) -> float:
    """As many calls as fit, each answered at once and well; returns how many a second they are by then."""
    end = clock.now + seconds
    while clock.now < end:
        pace.on_success(call(pace, clock))
    return 1 / spacing(pace, clock, 1)


def test_nothing_is_spaced_before_the_first_429() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    assert [call(pace, clock) for _ in range(100)] == [1000.0] * 100
    assert pace.retry_in() == 0


def test_a_429_takes_a_fifth_off_the_rate_of_late() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    pace.on_throttle(used_at(20, 30, pace, clock), 0)
    assert spacing(pace, clock) == pytest.approx(1 / (0.8 * 20), rel=0.1)


def test_a_burst_is_taken_for_the_rate_that_it_was() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    for _ in range(10):
        call(pace, clock)
    clock.now += 0.1
    pace.on_throttle(1000.0, 0)
    assert spacing(pace, clock) == pytest.approx(1 / 80), "ten in a tenth of a second, and a fifth less"


@pytest.mark.parametrize(("rate", "left"), [(0.99, 0.792), (0.95, 0.76), (0.2, 0.75), (0.01, 0.75)])
def test_a_trickle_is_taken_for_the_rate_that_it_was(rate: float, left: float) -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    begun = used_at(rate, 5, pace, clock)
    pace.on_throttle(begun, 0)
    assert spacing(pace, clock) == pytest.approx(1 / left, rel=0.01), "and three in four seconds is the slowest"


def test_a_rest_is_not_taken_for_slow_use() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    pace.on_throttle(used_at(100, 200, pace, clock), 60)
    begun = call(pace, clock)
    for _ in range(9):
        assert pace.acquire(60) is not None
    # Before a second one could begin.
    clock.now += 0.005
    pace.on_throttle(begun, 0)
    assert spacing(pace, clock) == pytest.approx(1 / (0.8 * 0.8 * 100), rel=0.1)


def test_turns_that_nobody_came_for_are_not_taken_for_calls() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    pace.on_throttle(used_at(40, 40, pace, clock), 0)
    begun = call(pace, clock)
    # Nine wait for their turns when the call is refused, and are told to give them up.
    for _ in range(9):
        assert pace.acquire(60) is not None
    pace.on_throttle(begun, 0)
    pace.on_throttle(used_at(2, 2, pace, clock), 0)
    assert spacing(pace, clock) == pytest.approx(1 / 3.2), "two in half a second, and a fifth less"


def test_what_a_429_asks_for_is_a_rest_for_all() -> None:
    clock = Clock()
    pace = RateLimiter(clock, longest)
    pace.on_throttle(call(pace, clock), 30)
    assert pace.retry_in() == pytest.approx(37.5)
    assert pace.acquire(37.4) is None
    turn = pace.acquire(37.6)
    assert turn is not None
    assert turn[1] == pytest.approx(37.5)


@given(st.randoms(use_true_random=False), st.one_of(st.none(), st.floats(0, MAX_DELAY_SECONDS)))
def test_a_rest_is_what_is_asked_for_and_up_to_a_quarter_more(source: random.Random, retry_after: float | None) -> None:
    clock = Clock()
    pace = RateLimiter(clock, source.uniform)
    pace.on_throttle(used_at(100, 200, pace, clock), retry_after)
    # Where nothing is asked for, calls are as far apart as the new pace has them.
    asked = max(1.0 if retry_after is None else retry_after, 1 / 80)
    assert 0.99 * asked <= pace.retry_in() <= min(1.26 * asked, MAX_DELAY_SECONDS + 0.001)


def test_environments_that_are_asked_for_the_same_rest_do_not_come_back_at_once() -> None:
    clock = Clock()
    source = random.Random(20261124)  # noqa: S311 - not a secret
    fleet = [RateLimiter(clock, source.uniform) for _ in range(20)]
    for pace in fleet:
        pace.on_throttle(call(pace, clock), 8)
    rests = sorted(pace.retry_in() for pace in fleet)
    assert rests[0] >= 8
    assert rests[-1] - rests[0] > 1
    assert max(after - before for before, after in pairwise(rests)) < 1


def test_calls_that_were_under_way_do_not_draw_for_a_longer_rest() -> None:
    clock = Clock()
    drawn = iter([1.1, 1.25])
    pace = RateLimiter(clock, lambda *_: next(drawn))
    for begun in [call(pace, clock) for _ in range(10)]:
        pace.on_throttle(begun, 10)
    assert pace.retry_in() == pytest.approx(11)


def test_a_turn_that_was_not_taken_moves_nobody_back() -> None:
    clock = Clock()
    pace = RateLimiter(clock, longest)
    pace.on_throttle(call(pace, clock), 30)
    assert [pace.acquire(1) for _ in range(100)] == [None] * 100
    assert pace.retry_in() == pytest.approx(37.5)


def test_calls_that_were_under_way_cut_the_rate_once() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    begun = [call(pace, clock) for _ in range(10)]
    clock.now += 0.1
    for one in begun:
        pace.on_throttle(one, 0)
    assert spacing(pace, clock) == pytest.approx(1 / 80)


@pytest.mark.parametrize(("first", "second", "rest"), [(4, 40, 50), (40, 4, 49)])
def test_the_longest_rest_counts_of_those_that_calls_under_way_ask_for(first: int, second: int, rest: int) -> None:
    clock = Clock()
    pace = RateLimiter(clock, longest)
    begun = [call(pace, clock) for _ in range(2)]
    pace.on_throttle(begun[0], first)
    clock.now += 1
    pace.on_throttle(begun[1], second)
    assert pace.retry_in() == pytest.approx(rest)


def test_calls_that_were_under_way_do_not_undo_a_cut() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    begun = [call(pace, clock) for _ in range(10)]
    clock.now += 1
    pace.on_throttle(begun[0], 0)
    for one in begun[1:]:
        pace.on_success(one)
    assert spacing(pace, clock) == pytest.approx(1 / 8), "ten in a second, and a fifth less"


def slowest(clock: Clock) -> RateLimiter:
    """A pace that was cut as far as it goes."""
    pace = RateLimiter(clock)
    for _ in range(50):
        pace.on_throttle(call(pace, clock), 0)
    return pace


def test_a_call_that_follows_another_does_not_wait_and_the_next_turn_comes_the_later_for_it() -> None:
    clock = Clock()
    pace = slowest(clock)
    apart = spacing(pace, clock)
    begun = call(pace, clock)
    assert pace.record() == begun
    assert call(pace, clock) - begun == pytest.approx(2 * apart)


@given(st.lists(st.one_of(st.floats(0, 100), st.integers(1, 20)), max_size=10))
def test_no_call_makes_the_pace_jump(answers: list[float | int]) -> None:
    clock = Clock()
    pace = slowest(clock)
    for said in answers:
        if isinstance(said, float):
            pace.on_throttle(call(pace, clock), said)
            continue
        for _ in range(said):
            before = spacing(pace, clock, 1)
            pace.on_success(call(pace, clock))
            # The turn after this one was spaced before the answer came.
            call(pace, clock)
            assert before / 2 < spacing(pace, clock, 1) < before


def test_the_way_back_to_the_last_congestion_is_quick_then_slow_and_quick_again_once_past_it() -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    pace.on_throttle(used_at(50, 100, pace, clock), 0)
    assert goes_well(pace, clock, 10) > 0.9 * 50, "more than half of the way in ten seconds"
    assert goes_well(pace, clock, 30) < 1.1 * 50, "the next thirty for a tenth beyond it"
    assert goes_well(pace, clock, 30) > 2 * 50, "and as many to get far away"


def test_calls_that_go_well_come_closer_together_until_nothing_is_spaced() -> None:
    clock = Clock()
    pace = slowest(clock)
    while spacing(pace, clock, 1) > 0:
        pace.on_success(call(pace, clock))
        assert clock.now < 1000 + 600, "within minutes"


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6), st.just("well")), max_size=200))
def test_no_rest_is_longer_than_sqs_can_wait_and_every_pace_gets_on(answers: list[Any]) -> None:
    clock = Clock()
    pace = RateLimiter(clock)
    for said in answers:
        begun = call(pace, clock)
        if said == "well":
            pace.on_success(begun)
        else:
            pace.on_throttle(begun, said)
        assert 0 <= pace.retry_in() <= MAX_DELAY_SECONDS + 0.001
    assert spacing(pace, clock) <= 1 / 0.74


class Environments:
    """Execution environments that call an API of so many calls a second as fast as their paces let them, with so many
    calls under way at a time, each of a tenth of a second or so.

    The API fills a bucket of tokens: `burst` seconds' worth of them, or one. Whoever waits for a turn gives it up when
    another call of the environment is told to slow down, as in an invocation, and its id is handed back. Events in a
    queue: no time passes.
    """

    def __init__(
        self, environments: int, calls_a_second: float, burst: float, *, workers: int = 10, seed: int = 20261124
    ) -> None:
        self.clock = Clock()
        self.calls_a_second, self._burst = calls_a_second, burst
        self.answered = [0] * environments
        self.refused = self.given_up = 0
        self._longest_silence = 0.0
        self._answered_at = [self.clock.now] * environments
        self._halts = [0] * environments
        self._tokens, self._filled = 0.0, self.clock.now
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._draw = random.Random(seed)  # noqa: S311 - not a secret
        for number in range(environments):
            pace = RateLimiter(self.clock, self._draw.uniform)
            for _ in range(workers):
                self._at(self.clock.now, lambda number=number, pace=pace: self._ask(number, pace))  # type: ignore[misc]

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self._events[0][0] <= end:
            self.clock.now, _, happen = heapq.heappop(self._events)
            happen()
        self.clock.now = end

    def forget(self) -> None:
        """Begin to count anew, now that the paces have settled."""
        self.answered = [0] * len(self.answered)
        self.refused = self.given_up = 0
        self._longest_silence = 0.0

    @property
    def share_refused(self) -> float:
        """Of the calls."""
        return self.refused / (self.refused + sum(self.answered))

    @property
    def share_handed_back(self) -> float:
        """Of the ids that an invocation took, called or not."""
        back = self.refused + self.given_up
        return back / (back + sum(self.answered))

    @property
    def longest_silence(self) -> float:
        """Seconds for which an environment was answered nothing but 429."""
        return max(self._longest_silence, self.clock.now - min(self._answered_at))

    @property
    def fairness(self) -> float:
        """What the least has of what the most has."""
        return min(self.answered) / max(self.answered)

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def _ask(self, number: int, pace: RateLimiter) -> None:
        turn = pace.acquire(1e9)
        assert turn is not None
        halts = self._halts[number]
        self._at(turn[0], lambda: self._begin(number, pace, turn[0], halts))

    def _begin(self, number: int, pace: RateLimiter, begun: float, halts: int) -> None:
        if halts != self._halts[number]:
            self.given_up += 1
            self._ask(number, pace)
            return
        now = self.clock.now
        most = max(self._burst * self.calls_a_second, 1.0)
        self._tokens = min(self._tokens + (now - self._filled) * self.calls_a_second, most)
        self._filled = now
        granted = self._tokens >= 1
        self._tokens -= granted
        latency = 0.1 * self._draw.lognormvariate(0, 0.3)
        self._at(now + latency, lambda: self._answer(number, pace, begun, granted=granted))

    def _answer(self, number: int, pace: RateLimiter, begun: float, *, granted: bool) -> None:
        if granted:
            self.answered[number] += 1
            silence = self.clock.now - self._answered_at[number]
            self._longest_silence = max(self._longest_silence, silence)
            self._answered_at[number] = self.clock.now
            pace.on_success(begun)
        else:
            self.refused += 1
            self._halts[number] += 1
            pace.on_throttle(begun, None)
        self._ask(number, pace)


def settled(
    environments: int, calls_a_second: float, burst: float, seed: int, *, workers: int = 10, seconds: float = 60
) -> Environments:
    """So many seconds of a fleet whose paces have had half a minute to settle."""
    fleet = Environments(environments, calls_a_second, burst, workers=workers, seed=seed)
    fleet.run(30)
    fleet.forget()
    fleet.run(seconds)
    return fleet


each_seed = pytest.mark.parametrize("seed", [1, 2])


class Bounds(NamedTuple):
    """Of what the API allows, how much is used at least; which share of the calls is refused and of the ids handed back
    at most; how much of what the most has the least has."""

    used: float
    refused: float
    handed_back: float
    fairness: float


@each_seed
@pytest.mark.parametrize(
    ("environments", "calls_a_second", "burst", "bounds"),
    [
        (1, 10, 0.1, Bounds(0.78, 0.02, 0.12, 1.0)),
        (1, 10, 1.0, Bounds(0.93, 0.02, 0.10, 1.0)),
        (1, 50, 0.1, Bounds(0.87, 0.002, 0.01, 1.0)),
        (1, 50, 1.0, Bounds(0.93, 0.002, 0.01, 1.0)),
        (2, 10, 1.0, Bounds(0.97, 0.03, 0.22, 0.3)),
        (5, 10, 1.0, Bounds(0.97, 0.10, 0.48, 0.3)),
        (5, 50, 0.1, Bounds(0.91, 0.015, 0.11, 0.25)),
        (5, 50, 1.0, Bounds(0.97, 0.015, 0.11, 0.25)),
        (20, 50, 0.1, Bounds(0.92, 0.07, 0.42, 0.2)),
        (20, 50, 1.0, Bounds(0.97, 0.07, 0.42, 0.2)),
    ],
)
def test_environments_come_to_share_what_the_api_allows(
    environments: int, calls_a_second: int, burst: float, bounds: Bounds, seed: int
) -> None:
    fleet = settled(environments, calls_a_second, burst, seed)
    assert sum(fleet.answered) > bounds.used * 60 * calls_a_second
    assert fleet.share_refused < bounds.refused
    assert fleet.share_handed_back < bounds.handed_back
    assert fleet.fairness >= bounds.fairness


@each_seed
def test_more_workers_than_the_pace_has_turns_for_take_nothing_away(seed: int) -> None:
    fleet = settled(1, 50, 0.1, seed, workers=20)
    assert sum(fleet.answered) > 0.88 * 60 * 50
    assert fleet.share_refused < 0.002
    assert fleet.share_handed_back < 0.03


@each_seed
@pytest.mark.parametrize(("environments", "used"), [(2, 0.22), (5, 0.27), (20, 0.6)])
def test_nobody_starves_where_the_api_takes_no_bursts(environments: int, used: float, seed: int) -> None:
    """A bucket of one token: whoever calls regularly finds it full, and whoever calls in between finds it empty."""
    fleet = settled(environments, 10, 0.1, seed, seconds=300)
    assert fleet.longest_silence < 90
    assert fleet.fairness > 0.1
    assert sum(fleet.answered) > used * 300 * 10, "though that has its price"


@each_seed
@pytest.mark.parametrize(("environments", "used", "refused"), [(1, 0.6, 0.35), (2, 0.7, 0.55), (5, 0.75, 0.8)])
def test_one_call_a_second_is_shared_too(environments: int, used: float, refused: float, seed: int) -> None:
    fleet = settled(environments, 1, 1.0, seed, seconds=300)
    assert fleet.longest_silence < 120
    assert fleet.fairness > 0.2
    assert sum(fleet.answered) > used * 300
    assert fleet.share_refused < refused


@each_seed
def test_what_an_api_allows_more_than_it_did_is_found(seed: int) -> None:
    fleet = settled(5, 50, 0.1, seed)
    fleet.calls_a_second = 400
    fleet.run(60)
    fleet.forget()
    fleet.run(10)
    assert sum(fleet.answered) > 0.75 * 10 * 400


@each_seed
def test_what_an_api_allows_less_than_it_did_is_found(seed: int) -> None:
    fleet = Environments(5, 400, 0.1, seed=seed)
    fleet.run(10)
    fleet.calls_a_second = 50
    fleet.run(20)
    fleet.forget()
    fleet.run(30)
    assert sum(fleet.answered) > 0.85 * 30 * 50
    assert fleet.share_refused < 0.05


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
    # Calls are spaced by now, and the invocation waits for its turns.
    assert world.invoke({"session_ids": ["devin-y", "devin-z"]}) == {"terminated": ["devin-y", "devin-z"]}


class _Waiting(RateLimiter):
    """Lets the first call begin at once and the others in five minutes."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = 0

    def acquire(self, max_wait: float) -> tuple[float, float] | None:
        found = super().acquire(max_wait)
        self._turns += 1
        return found if found is None or self._turns == 1 else (found[0] + 300, 300.0)


def test_who_waits_for_a_turn_hears_of_the_brake(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "limiter", _Waiting())
    monkeypatch.setenv("MAX_WORKERS", "3")
    for number in (1, 2, 3):
        world.api.on("DELETE", f"devin-{number}", answer(429))
    world.send("devin-1", "devin-2", "devin-3")
    # Would take five minutes if they did not.
    assert len(world.deliver()) == 3
    assert len(world.api.calls) == 1


def test_nobody_waits_between_the_look_at_a_session_and_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It might wake up meanwhile."""
    monkeypatch.setattr(handler, "limiter", _Waiting())
    world.api.on("GET", "devin-1", session())
    world.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-29T00:00:00Z"}')
    # Would take five minutes if somebody did.
    assert world.deliver() == []
    assert world.api.deleted() == ["devin-1"]


def received(world: World, times: int) -> dict[str, Any]:
    event = world.batch()
    for record in event["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = str(times)
    return event


def test_what_was_only_braked_is_not_worn_out_by_it(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(429))
    world.send("devin-1", "devin-2")
    event = received(world, 4)

    assert world.invoke(event) == {"batchItemFailures": []}
    sent = [given for name, given in world.aws.calls if name == "sqs.SendMessage"][2:]
    assert [one["MessageBody"] for one in sent] == ["devin-1", "devin-2"]
    assert {one["MessageAttributes"]["attempts"]["StringValue"] for one in sent} == {"4"}


def test_a_call_that_failed_otherwise_wears_its_message_out(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(500))
    world.send("devin-1")
    assert len(world.invoke(received(world, 4))["batchItemFailures"]) == 1
