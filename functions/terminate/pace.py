"""The pace of calls: how fast this execution environment calls an API that has asked it to slow down."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from retry import MAX_DELAY_SECONDS

# Multiplicative decrease: what a 429 leaves of the rate. TCP leaves half, to drain a queue; here the rest drains it.
_LEFT_AFTER_429 = 0.8
# Additive increase: what a second of calls that go well adds. So many calls a second whatever the rate, by which the
# slow catch up with the fast, and such a share of the distance to the last congestion. So it is soon back up there,
# feels its way past it, and hurries once it is well past: then the API allows something else than it did.
_MORE_EACH_SECOND = 0.1
_SHARE_OF_THE_DISTANCE = 0.1
# Hardly slower than a rest is long. While an environment that keeps the API busy rests, there is room for others; who
# has no turn in that time is refused whenever he calls, and never gets faster. An API that wants fewer calls has
# Retry-After to say so.
_SLOWEST = 0.75
# Faster than this is no pace.
_FASTEST = 1000.0
# An API that says 429 and not for how long is left alone for so many seconds.
_REST_SECONDS = 1.0
# A rest is up to so many times as long as it has to be: told the same, all environments would come back at once.
_LONGEST_STRETCH = 1.25


class Pace:
    """Spaces calls after a 429, and brings them closer together again while they go well.

    Additive increase and multiplicative decrease, as TCP shares a line: execution environments that know nothing of
    each other come to share what the API allows, without a store between them. The rate that met congestion last is
    remembered, as CUBIC does (https://www.rfc-editor.org/rfc/rfc9438). Until the first 429 nothing is spaced. `clock`
    tells monotonic seconds. Safe to share between threads.
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
        # The rate at which there was congestion.
        self._congested = _FASTEST
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

    def follow(self) -> float:
        """When a call begins that must not wait because the one before it would grow stale: now. The next turn comes
        the later for it."""
        with self._lock:
            now = self._clock()
            if self._rate < _FASTEST:
                self._next = max(self._next, now) + 1 / self._rate
            self._begun.append(now)
            return now

    def rest(self) -> float:
        """Seconds until a call may begin."""
        with self._lock:
            return max(self._next - self._clock(), 0.0)

    def went_well(self, begun: float) -> None:
        """The call that began at `begun` was answered, and not by a 429."""
        with self._lock:
            if self._rate < _FASTEST and begun >= self._cut_until:
                each_second = _MORE_EACH_SECOND + _SHARE_OF_THE_DISTANCE * abs(self._congested - self._rate)
                # One call's share of that; far less than what the rate is, so no call can make it jump.
                self._rate = min(self._rate + each_second / self._rate, _FASTEST)

    def slow_down(self, begun: float, retry_after: float | None) -> None:
        """The call that began at `begun` was answered by a 429, which asked for so many seconds of rest."""
        with self._lock:
            now = self._clock()
            rest = _REST_SECONDS if retry_after is None else retry_after
            if begun < self._cut_until:
                self._next = max(self._next, self._after(rest, now))
                return
            self._congested = min(self._rate, self._recent(begun, now))
            self._rate = max(self._congested * _LEFT_AFTER_429, _SLOWEST)
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
