"""A value that is read again when it has become too old."""

import time
from collections.abc import Callable
from threading import Lock


class Cached[T]:
    """What `read` returned at most so many seconds ago. A read that fails keeps nothing, and raises as `read` does."""

    def __init__(self, read: Callable[[], T], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = Lock()
        self._value: T
        self._read_at = float("-inf")

    def get(self, *, fresh: bool = False) -> T:
        """The value; `fresh` reads it now, whatever is kept."""
        with self._lock:
            # By the clock of the day: a monotonic one may stand still while Lambda freezes the environment.
            if fresh or not 0 <= time.time() - self._read_at < self._seconds:
                self._value = self._read()
                self._read_at = time.time()
            return self._value
