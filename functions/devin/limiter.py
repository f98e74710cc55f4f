"""The rate limiter: how fast this execution environment calls an API that has answered 429."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from retry import MAX_DELAY_SECONDS

# Multiplicative decrease: the rate after a 429, as a share of the rate before.
_RATE_AFTER_429 = 0.8
# Additive increase: calls a second that each second of answered calls adds, and the share of the distance to the rate
# of the last 429 that it adds on top. Slow environments catch up, and a rate that is known to be safe is soon reached.
_INCREASE = 0.1
_SHARE_OF_THE_DISTANCE = 0.1
# Calls a second. An environment that waits longer than others pause would never get a turn.
_MIN_RATE = 0.75
# From here on calls are not spaced.
_MAX_RATE = 1000.0
# The pause after a 429 without Retry-After, and the longest stretch of a pause: environments that were given the same
# Retry-After must not all come back at once.
_PAUSE_SECONDS = 1.0
_MAX_STRETCH = 1.25


class RateLimiter:
    """Additive increase, multiplicative decrease after a 429, so that execution environments share what the API allows
    without a store between them.

    The rate of the last 429 is remembered, as CUBIC does (https://www.rfc-editor.org/rfc/rfc9438). Until the first 429
    nothing is spaced. `clock` gives monotonic seconds. Safe to share between threads.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._lock = Lock()
        self._rate = _MAX_RATE
        self._throttled_rate = _MAX_RATE
        self._next = 0.0
        # Calls that began earlier were under way when the rate was cut, and say nothing about the new one.
        self._cut_at = 0.0
        self._stretch = 1.0
        self._begun: deque[float] = deque(maxlen=int(_MAX_RATE))

    def acquire(self, max_wait: float) -> tuple[float, float] | None:
        """When the caller may begin its call, and the seconds until then; None, and nothing acquired, if that is later
        than in `max_wait` seconds."""
        with self._lock:
            now = self._clock()
            begins = max(now, self._next)
            if begins - now > max_wait:
                return None
            if self._rate < _MAX_RATE:
                self._next = begins + 1 / self._rate
            self._begun.append(begins)
            return begins, begins - now

    def record(self) -> float:
        """Note a call that begins now without waiting, and return the time. The next one waits longer."""
        with self._lock:
            now = self._clock()
            if self._rate < _MAX_RATE:
                self._next = max(self._next, now) + 1 / self._rate
            self._begun.append(now)
            return now

    def retry_in(self) -> float:
        """Seconds until a call may begin."""
        with self._lock:
            return max(self._next - self._clock(), 0.0)

    def on_success(self, begun: float) -> None:
        """The call that began at `begun` was answered, and not by a 429."""
        with self._lock:
            if self._rate < _MAX_RATE and begun >= self._cut_at:
                increase = _INCREASE + _SHARE_OF_THE_DISTANCE * abs(self._throttled_rate - self._rate)
                # One call's share of a second.
                self._rate = min(self._rate + increase / self._rate, _MAX_RATE)

    def on_throttle(self, begun: float, retry_after: float | None) -> None:
        """The call that began at `begun` was answered by a 429 with this Retry-After, in seconds."""
        with self._lock:
            now = self._clock()
            pause = _PAUSE_SECONDS if retry_after is None else retry_after
            if begun < self._cut_at:
                self._next = max(self._next, self._after(pause, now))
                return
            self._throttled_rate = min(self._rate, self._recent_rate(begun, now))
            self._rate = max(self._throttled_rate * _RATE_AFTER_429, _MIN_RATE)
            self._stretch = self._uniform(1.0, _MAX_STRETCH)
            self._next = self._cut_at = self._after(max(pause, 1 / self._rate), now)
            # Those that wait are told to stop, and make no calls; and a pause is no slow rate.
            self._begun.clear()

    def _after(self, pause: float, now: float) -> float:
        return now + min(pause * self._stretch, MAX_DELAY_SECONDS)

    def _recent_rate(self, begun: float, now: float) -> float:
        """Calls a second from a second before that call until now, or since the last but one if it was alone. Calls
        that wait count: they would have followed."""
        recent = [call for call in self._begun if call > begun - 1.0]
        since = min(recent + list(self._begun)[-2:], default=now)
        # A burst is a rate too; one of a few milliseconds says little.
        return max(len(recent), 1) / max(now - since, 0.1)
