"""Waiting until the work queue is drained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.ops.depth import Depth
from retry import MAX_DELAY_SECONDS

# SQS's numbers are approximate, and one of them may be late: a queue is drained once it was seen empty so often, and
# for as long as the numbers take to settle.
_SEEN_EMPTY = 3
# No message is hidden for longer than MAX_DELAY_SECONDS. If nothing changes for longer, nothing processes the queue.
STALLED_SECONDS = MAX_DELAY_SECONDS + 300


@dataclass(frozen=True, slots=True)
class Moment:
    """What was seen at a time; `new_letters` since the watch began. An empty queue is drained if that stays so for
    `to_settle` seconds more. `hidden_for`: what is in flight or delayed is visible again within so many seconds.
    `stopped` is why nothing is processed, if the stop switch says so or nothing has changed for too long."""

    seconds: float
    work: Depth
    new_letters: int
    drained: bool
    to_settle: float
    per_second: float
    hidden_for: float = 0.0
    stopped: str | None = None

    def as_dict(self) -> dict[str, object]:
        return {
            "seconds": round(self.seconds, 1),
            **self.work.as_dict(),
            "new_dead_letters": self.new_letters,
            "drained": self.drained,
            "stopped": self.stopped,
        }


def watch(
    look: Callable[[], tuple[Depth, int, str | None]],
    *,
    every: float,
    settle: float,
    timeout: float | None,
    letters_before: int,
    sent: int = 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Moment]:
    """What there is, again and again, until the queue is drained or cannot be, or the time is up; the last says which.

    `look` returns the work queue's depth, the number of dead letters, which are new above `letters_before`, and why
    nothing is processed now, if that is so. `sent` was sent just before; the first looks may not show it yet, but it
    counts for the rate.
    """
    began = clock()
    first = (0.0, sent) if sent else None
    empty, empty_since = 0, 0.0
    last, changed = None, 0.0
    while True:
        depth, letters, why = look()
        seconds = clock() - began
        first = (first[0], max(first[1], depth.total)) if first and sent else first or (seconds, depth.total)
        if depth.total:
            empty = 0
        else:
            empty_since = empty_since if empty else seconds
            empty += 1
        if depth != last:
            last, changed = depth, seconds
        if seconds - changed > STALLED_SECONDS:
            why = why or f"nothing has changed for {STALLED_SECONDS // 60} minutes"
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
                hidden_for=max(changed + MAX_DELAY_SECONDS - seconds, 0.0),
                stopped=why if depth.total else None,
            )
        )
        if seen.drained or seen.stopped or (timeout is not None and seconds >= timeout):
            return
        sleep(every)
