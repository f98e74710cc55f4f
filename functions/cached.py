"""A value that is read again when it has become too old."""

import time
from collections.abc import Callable
from threading import Lock


def cached[T](read: Callable[[], T], seconds: float) -> Callable[[bool], T]:
    """A function that returns what `read` returned at most so many seconds ago, or reads it now if it is told to. A
    read that fails keeps nothing, and raises as `read` does."""
    lock = Lock()
    kept: list[tuple[float, T]] = []

    def get(fresh: bool) -> T:
        with lock:
            # By the clock of the day: a monotonic one may stand still while Lambda freezes the environment.
            if fresh or not kept or not 0 <= time.time() - kept[0][0] < seconds:
                kept[:] = [(time.time(), read())]
            return kept[0][1]

    return get
