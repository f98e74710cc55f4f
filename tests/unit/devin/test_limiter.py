"""The rate limiter: alone, and shared by execution environments that do not know of each other."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devin.limiter import RateLimiter
from retry import MAX_DELAY_SECONDS


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """A limiter and its clock. `call` waits for the next call and makes it."""

    def __init__(self, uniform: Callable[[float, float], float] = lambda _, high: high) -> None:
        self.clock = Clock()
        self.limiter = RateLimiter(self.clock, uniform)

    def call(self) -> float:
        acquired = self.limiter.acquire(1e9)
        assert acquired is not None
        begins, seconds = acquired
        assert begins == pytest.approx(self.clock.now + seconds)
        self.clock.now = begins
        return begins

    def spacing(self, calls: int = 5) -> float:
        """Seconds between calls that begin as soon as they may, without the wait for the first one."""
        first = self.call()
        return max((self.call() - first) / (number + 1) for number in range(calls))

    def used_at(self, rate: float, calls: int) -> float:
        """So many calls, evenly spaced; returns when the last one began, which is now."""
        for _ in range(calls):
            self.clock.now += 1 / rate
            self.call()
        return self.clock.now

    def succeeds(self, seconds: float) -> float:
        """As many calls as fit, each answered at once; returns how many a second are possible then."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.limiter.on_success(self.call())
        return 1 / self.spacing(1)


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
def slow() -> Caller:
    """At the lowest rate."""
    made = Caller()
    for _ in range(50):
        made.limiter.on_throttle(made.call(), 0)
    return made


def test_nothing_is_spaced_before_the_first_429(caller: Caller) -> None:
    assert [caller.call() for _ in range(100)] == [1000.0] * 100
    assert caller.limiter.retry_in() == 0


@pytest.mark.parametrize(("rate", "left"), [(20, 16), (0.99, 0.792), (0.2, 0.75), (0.01, 0.75)])
def test_a_429_cuts_the_recent_rate_by_a_fifth_down_to_three_calls_in_four_seconds(
    caller: Caller, rate: float, left: float
) -> None:
    caller.limiter.on_throttle(caller.used_at(rate, 30 if rate > 1 else 5), 0)
    assert caller.spacing() == pytest.approx(1 / left, rel=0.1)


def test_a_burst_counts_as_the_rate_that_it_was(caller: Caller) -> None:
    begun = [caller.call() for _ in range(10)]
    caller.clock.now += 0.1
    for one in begun:
        # All ten were under way: they cut the rate once, and what succeeds among them does not undo it.
        caller.limiter.on_throttle(one, 0)
        caller.limiter.on_success(one)
    assert caller.spacing() == pytest.approx(1 / 80), "ten in a tenth of a second, and a fifth less"


def test_neither_a_pause_nor_a_wait_that_was_given_up_counts_as_calls(caller: Caller) -> None:
    caller.limiter.on_throttle(caller.used_at(100, 200), 60)
    begun = caller.call()
    for _ in range(9):
        assert caller.limiter.acquire(60) is not None
    caller.clock.now += 0.005
    caller.limiter.on_throttle(begun, 0)
    assert caller.spacing() == pytest.approx(1 / (0.8 * 0.8 * 100), rel=0.1)


def test_retry_after_is_a_pause_for_all_calls(caller: Caller) -> None:
    caller.limiter.on_throttle(caller.call(), 30)
    assert caller.limiter.retry_in() == pytest.approx(37.5)
    assert [caller.limiter.acquire(37.4) for _ in range(100)] == [None] * 100
    acquired = caller.limiter.acquire(37.6)
    assert acquired is not None
    assert acquired[1] == pytest.approx(37.5), "what was not acquired delays no other"


@given(st.randoms(use_true_random=False), st.one_of(st.none(), st.floats(0, MAX_DELAY_SECONDS)))
def test_a_pause_is_what_is_asked_for_and_up_to_a_quarter_more(
    source: random.Random, retry_after: float | None
) -> None:
    caller = Caller(source.uniform)
    caller.limiter.on_throttle(caller.used_at(100, 200), retry_after)
    # Where nothing is asked for, calls are as far apart as the new rate has them.
    asked = max(1.0 if retry_after is None else retry_after, 1 / 80)
    assert 0.99 * asked <= caller.limiter.retry_in() <= min(1.26 * asked, MAX_DELAY_SECONDS + 0.001)


def test_environments_that_are_given_the_same_pause_do_not_return_at_once() -> None:
    source = random.Random(20261124)  # noqa: S311 - not a secret
    fleet = [Caller(source.uniform) for _ in range(20)]
    for one in fleet:
        one.limiter.on_throttle(one.call(), 8)
    pauses = sorted(one.limiter.retry_in() for one in fleet)
    assert pauses[0] >= 8
    assert pauses[-1] - pauses[0] > 1
    assert max(after - before for before, after in pairwise(pauses)) < 1


@pytest.mark.parametrize(("first", "second", "pause"), [(4, 40, 50), (40, 4, 49)])
def test_of_the_pauses_that_calls_under_way_are_given_the_longest_counts(
    caller: Caller, first: int, second: int, pause: int
) -> None:
    begun = [caller.call() for _ in range(2)]
    caller.limiter.on_throttle(begun[0], first)
    caller.clock.now += 1
    caller.limiter.on_throttle(begun[1], second)
    assert caller.limiter.retry_in() == pytest.approx(pause)


def test_a_call_that_does_not_wait_delays_the_next_one(slow: Caller) -> None:
    apart = slow.spacing()
    begun = slow.call()
    assert slow.limiter.record() == begun
    assert slow.call() - begun == pytest.approx(2 * apart)


def test_the_rate_returns_quickly_to_the_last_congestion_then_slowly_then_quickly_beyond_it(caller: Caller) -> None:
    caller.limiter.on_throttle(caller.used_at(50, 100), 0)
    assert caller.succeeds(10) > 0.9 * 50, "more than half of the way in ten seconds"
    assert caller.succeeds(30) < 1.1 * 50, "the next thirty for a tenth beyond it"
    assert caller.succeeds(30) > 2 * 50, "and as many to get far beyond"


def test_after_minutes_without_a_429_nothing_is_spaced(slow: Caller) -> None:
    while slow.spacing(1) > 0:
        slow.limiter.on_success(slow.call())
        assert slow.clock.now < 2000 + 600


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6), st.just("success")), max_size=100))
def test_no_pause_is_longer_than_sqs_can_wait_and_no_answer_changes_the_rate_much(answers: list[Any]) -> None:
    caller = Caller()
    for said in answers:
        before, begun = caller.spacing(1), caller.call()
        if said == "success":
            caller.limiter.on_success(begun)
            # The next call was spaced before the answer came.
            caller.call()
            assert before / 2 <= caller.spacing(1) <= before
        else:
            caller.limiter.on_throttle(begun, said)
        assert 0 <= caller.limiter.retry_in() <= MAX_DELAY_SECONDS + 0.001
    assert caller.spacing() <= 1 / 0.74


class SlowLimiter(RateLimiter):
    """Lets the first call begin at once and the others in five minutes, for tests of what waits."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def acquire(self, max_wait: float) -> tuple[float, float] | None:
        found = super().acquire(max_wait)
        self._calls += 1
        return found if found is None or self._calls == 1 else (found[0] + 300, 300.0)


class Environments:
    """A simulation: execution environments that call an API of so many calls a second as fast as their limiters allow,
    ten calls under way at a time, each of a tenth of a second or so.

    The API fills a bucket of tokens: `burst` seconds' worth of them, or one. A call that waits is cancelled when
    another one of its environment is throttled, as in an invocation.
    """

    def __init__(self, environments: int, calls_a_second: float, burst: float) -> None:
        self.clock = Clock()
        self.calls_a_second, self._burst = calls_a_second, burst
        self.answered = [0] * environments
        self.refused = 0
        self._longest_silence = 0.0
        self._answered_at = [self.clock.now] * environments
        self._halts = [0] * environments
        self._tokens, self._filled = 0.0, self.clock.now
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._draw = random.Random(20261124)  # noqa: S311 - not a secret
        for number in range(environments):
            limiter = RateLimiter(self.clock, self._draw.uniform)
            for _ in range(10):
                self._at(self.clock.now, lambda number=number, limiter=limiter: self._ask(number, limiter))  # type: ignore[misc]

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self._events[0][0] <= end:
            self.clock.now, _, happen = heapq.heappop(self._events)
            happen()
        self.clock.now = end

    def forget(self) -> None:
        """Start the counts again, now that the rates have settled."""
        self.answered = [0] * len(self.answered)
        self.refused = 0
        self._longest_silence = 0.0

    @property
    def share_refused(self) -> float:
        """Of the calls."""
        return self.refused / (self.refused + sum(self.answered))

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

    def _ask(self, number: int, limiter: RateLimiter) -> None:
        acquired = limiter.acquire(1e9)
        assert acquired is not None
        halts = self._halts[number]
        self._at(acquired[0], lambda: self._begin(number, limiter, acquired[0], halts))

    def _begin(self, number: int, limiter: RateLimiter, begun: float, halts: int) -> None:
        if halts != self._halts[number]:
            self._ask(number, limiter)
            return
        now = self.clock.now
        most = max(self._burst * self.calls_a_second, 1.0)
        self._tokens = min(self._tokens + (now - self._filled) * self.calls_a_second, most)
        self._filled = now
        granted = self._tokens >= 1
        self._tokens -= granted
        latency = 0.1 * self._draw.lognormvariate(0, 0.3)
        self._at(now + latency, lambda: self._answer(number, limiter, begun, granted=granted))

    def _answer(self, number: int, limiter: RateLimiter, begun: float, *, granted: bool) -> None:
        if granted:
            self.answered[number] += 1
            silence = self.clock.now - self._answered_at[number]
            self._longest_silence = max(self._longest_silence, silence)
            self._answered_at[number] = self.clock.now
            limiter.on_success(begun)
        else:
            self.refused += 1
            self._halts[number] += 1
            limiter.on_throttle(begun, None)
        self._ask(number, limiter)


@pytest.mark.parametrize(
    ("environments", "calls_a_second", "burst", "used", "refused"),
    [(1, 10, 0.1, 0.78, 0.02), (5, 50, 1.0, 0.97, 0.015), (20, 50, 1.0, 0.97, 0.07)],
)
def test_environments_share_what_the_api_allows(
    environments: int, calls_a_second: int, burst: float, used: float, refused: float
) -> None:
    fleet = Environments(environments, calls_a_second, burst)
    fleet.run(30)
    fleet.forget()
    fleet.run(60)
    assert sum(fleet.answered) > used * 60 * calls_a_second
    assert fleet.share_refused < refused
    assert fleet.fairness >= 0.2


def test_no_environment_starves_and_more_is_used_when_the_api_allows_more() -> None:
    """A bucket of one token: an environment that calls regularly finds it full, the others find it empty."""
    fleet = Environments(5, 10, 0.1)
    fleet.run(330)
    assert fleet.longest_silence < 90
    assert fleet.fairness > 0.1
    fleet.calls_a_second = 400
    fleet.run(60)
    fleet.forget()
    fleet.run(10)
    assert sum(fleet.answered) > 0.75 * 10 * 400
