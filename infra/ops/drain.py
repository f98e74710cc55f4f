"""Waiting until the work queue is drained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.ops.depth import Depth

# SQS's numbers are approximate, and one of them may be late: a queue is drained once it was seen empty so often.
_SEEN_EMPTY = 3


@dataclass(frozen=True, slots=True)
class Moment:
    """What was seen at a time; `new_letters` since the watch began."""

    seconds: float
    work: Depth
    new_letters: int
    drained: bool
    per_second: float

    def as_dict(self) -> dict[str, object]:
        return {
            "seconds": round(self.seconds, 1),
            **self.work.as_dict(),
            "new_dead_letters": self.new_letters,
            "drained": self.drained,
        }


def watch(
    work: Callable[[], Depth],
    letters: Callable[[], int],
    *,
    every: float,
    timeout: float | None,
    letters_before: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Moment]:
    """What there is, again and again, until the queue is drained or the time is up; the last one says which.

    Dead letters are new if there are more than `letters_before`, which is what there are now unless it is given.
    """
    began = clock()
    if letters_before is None:
        letters_before = letters()
    first: tuple[float, int] | None = None
    empty = 0
    while True:
        depth = work()
        seconds = clock() - began
        first = first or (seconds, depth.total)
        empty = empty + 1 if depth.total == 0 else 0
        gone, took = first[1] - depth.total, seconds - first[0]
        yield (
            seen := Moment(
                seconds=seconds,
                work=depth,
                new_letters=letters() - letters_before,
                drained=empty >= _SEEN_EMPTY,
                per_second=max(gone / took, 0.0) if took else 0.0,
            )
        )
        if seen.drained or (timeout is not None and seconds >= timeout):
            return
        sleep(every)
