"""When this execution environment may call the API again after a 429."""

import random
import time
from collections.abc import Callable

# Without Retry-After. The queue's backoff does the rest: messages come back over minutes, with full jitter.
_DEFAULT_SECONDS = 1.0
# Environments that were given the same Retry-After do not all come back at once.
_MAX_STRETCH = 1.25


class Throttle:
    """Remembers the end of the pause that a 429 asked for. Safe to share between threads."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._ends = 0.0

    def pause(self, retry_after: float | None) -> None:
        """A call was answered by a 429 with this Retry-After, in seconds."""
        seconds = (_DEFAULT_SECONDS if retry_after is None else retry_after) * self._uniform(1.0, _MAX_STRETCH)
        self._ends = max(self._ends, self._clock() + seconds)

    def retry_in(self) -> float:
        """Seconds until a call may begin."""
        return max(self._ends - self._clock(), 0.0)
