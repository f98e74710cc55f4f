"""The pace of calls: how fast this execution environment calls an API that has asked it to slow down."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from retry import MAX_DELAY_SECONDS

# What is left of the rate after a 429, and what a second of calls that go well adds to it: so many calls a second, and
# such a share of what it is, or a fast API would take minutes to be found.
_LEFT_AFTER_429 = 0.5
_MORE_EACH_SECOND = 1.0
_SHARE_EACH_SECOND = 0.05
# Slower than one call in ten seconds is no pace; faster than a thousand a second is none either.
_SLOWEST, _FASTEST = 0.1, 1000.0
# An API that says 429 and not for how long is left alone for so many seconds.
_REST_SECONDS = 1.0
# A rest is up to so many times as long as it has to be: told the same, all environments would come back at once.
_LONGEST_STRETCH = 1.25


class Pace:
    """Spaces calls after a 429, and brings them closer together again while they go well.

    Additive increase and multiplicative decrease, as TCP shares a line: execution environments that know nothing of
    each other come to share what the API allows, without a store between them. Until the first 429 nothing is spaced.
    `clock` tells monotonic seconds. Safe to share between threads.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._lock = Lock()
        self._rate = _FASTEST
        self._next = 0.0
        # Calls that began earlier were under way when the rate was cut, and say nothing about what it is now.
        self._cut_until = 0.0
        self._stretch = 1.0
        self._begun: deque[float] = deque(maxlen=int(_FASTEST))

    def turn(self, patience: float) -> tuple[float, float] | None:
        """When the caller may begin its call, and in how many seconds that is; None, and no turn, if the turn comes
        only after `patience` seconds."""
        with self._lock:
            now = self._clock()
            begins = max(now, self._next)
            if begins - now > patience:
                return None
            if self._rate < _FASTEST:
                self._next = begins + 1 / self._rate
            self._begun.append(begins)
            return begins, begins - now

    def rest(self) -> float:
        """Seconds until a call may begin."""
        with self._lock:
            return max(self._next - self._clock(), 0.0)

    def went_well(self, begun: float) -> None:
        """The call that began at `begun` was answered, and not by a 429."""
        with self._lock:
            if self._rate < _FASTEST and begun >= self._cut_until:
                # One call's share of what a second adds.
                self._rate = min(self._rate + _MORE_EACH_SECOND / self._rate + _SHARE_EACH_SECOND, _FASTEST)

    def slow_down(self, begun: float, retry_after: float | None) -> None:
        """The call that began at `begun` was answered by a 429, which asked for so many seconds of rest."""
        with self._lock:
            now = self._clock()
            rest = _REST_SECONDS if retry_after is None else retry_after
            if begun < self._cut_until:
                self._next = max(self._next, self._after(rest, now))
                return
            self._rate = max(min(self._rate, self._recent(begun, now)) * _LEFT_AFTER_429, _SLOWEST)
            self._stretch = self._uniform(1.0, _LONGEST_STRETCH)
            self._next = self._cut_until = self._after(max(rest, 1 / self._rate), now)
            # Those who wait for a turn are told to give it up: they make no calls. And a rest is no slow use.
            self._begun.clear()

    def _after(self, rest: float, now: float) -> float:
        return now + min(rest * self._stretch, MAX_DELAY_SECONDS)

    def _recent(self, begun: float, now: float) -> float:
        """Calls a second, as they went from a second before that call until now, or since the last but one if it was
        alone: what the pace was worth, however it was set. Those who wait for their turns count: they would go on."""
        lately = [call for call in self._begun if call > begun - 1.0]
        since = min(lately + list(self._begun)[-2:], default=now)
        # A burst is a rate too; one of a few milliseconds says little.
        return max(len(lately), 1) / max(now - since, 0.1)
