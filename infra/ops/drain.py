"""Waiting until the work queue is drained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.ops.depth import Depth

# SQS's numbers are approximate, and one of them may be late: a queue is drained once it was seen empty so often, and
# for as long as the numbers take to settle.
_SEEN_EMPTY = 3


@dataclass(frozen=True, slots=True)
class Moment:
    """What was seen at a time; `new_letters` since the watch began. An empty queue is drained if that stays so for
    `to_settle` seconds more."""

    seconds: float
    work: Depth
    new_letters: int
    drained: bool
    to_settle: float
    per_second: float

    def as_dict(self) -> dict[str, object]:
        return {
            "seconds": round(self.seconds, 1),
            **self.work.as_dict(),
            "new_dead_letters": self.new_letters,
            "drained": self.drained,
        }


def watch(
    look: Callable[[], tuple[Depth, int]],
    *,
    every: float,
    settle: float,
    timeout: float | None,
    letters_before: int,
    sent: int = 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Moment]:
    """What there is, again and again, until the queue is drained or the time is up; the last one says which.

    `look` tells the work queue's depth and how many dead letters there are, which are new above `letters_before`.
    `sent` was sent just before; the first looks may know nothing of it yet, but it counts for the pace.
    """
    began = clock()
    first = (0.0, sent) if sent else None
    empty, empty_since = 0, 0.0
    while True:
        depth, letters = look()
        seconds = clock() - began
        first = (first[0], max(first[1], depth.total)) if first and sent else first or (seconds, depth.total)
        if depth.total:
            empty = 0
        else:
            empty_since = empty_since if empty else seconds
            empty += 1
        to_settle = max(empty_since + settle - seconds, 0.0) if empty else settle
        gone, took = first[1] - depth.total, seconds - first[0]
        yield (
            seen := Moment(
                seconds=seconds,
                work=depth,
                new_letters=letters - letters_before,
                drained=empty >= _SEEN_EMPTY and to_settle == 0,
                to_settle=to_settle,
                per_second=max(gone / took, 0.0) if took else 0.0,
            )
        )
        if seen.drained or (timeout is not None and seconds >= timeout):
            return
        sleep(every)
