"""Waiting until the work queue is drained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from infra.ops.depth import Depth
from retry import MAX_DELAY_SECONDS

# SQS's numbers are approximate, and one of them may be late: a queue is drained once it was seen empty so often, and
# for as long as the numbers take to settle.
_SEEN_EMPTY = 3
# No message is hidden for longer than MAX_DELAY_SECONDS. If nothing changes for longer, nothing processes the queue.
STALLED_SECONDS = MAX_DELAY_SECONDS + 300


@dataclass(frozen=True, slots=True)
class Moment:
    """What was seen `seconds` after the watch began.

    An empty queue is drained if it stays empty for `to_settle` seconds more. What is in flight or delayed is visible
    again within `hidden_for` seconds. `stopped` says why nothing is processed, if that is so.
    """

    seconds: float
    work: Depth
    new_letters: int
    drained: bool
    to_settle: float
    per_second: float
    hidden_for: float
    stopped: str | None

    def as_dict(self) -> dict[str, object]:
        return {
            "seconds": round(self.seconds, 1),
            **asdict(self.work),
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
    """What there is, again and again, until the queue is drained or cannot be, or the time is up.

    `look` returns the work queue's depth, the number of dead letters, and why nothing is processed, if that is so.
    `sent` messages were sent just before: the first looks may not show them yet, but they count for the rate.
    """
    began = clock()
    most, since = sent, 0.0
    empty, empty_since = 0, 0.0
    last, changed = None, 0.0
    while True:
        depth, letters, stopped = look()
        seconds = clock() - began
        if last is None and not sent:
            since = seconds
        most = max(most, depth.total) if sent or last is None else most
        if depth != last:
            last, changed = depth, seconds
        empty_since = empty_since if empty else seconds
        empty = 0 if depth.total else empty + 1
        to_settle = max(empty_since + settle - seconds, 0.0) if empty else settle
        if seconds - changed > STALLED_SECONDS:
            stopped = stopped or f"nothing has changed for {STALLED_SECONDS // 60} minutes"
        seen = Moment(
            seconds=seconds,
            work=depth,
            new_letters=letters - letters_before,
            drained=empty >= _SEEN_EMPTY and to_settle == 0,
            to_settle=to_settle,
            per_second=max((most - depth.total) / (seconds - since), 0.0) if seconds > since else 0.0,
            hidden_for=max(changed + MAX_DELAY_SECONDS - seconds, 0.0),
            stopped=stopped if depth.total else None,
        )
        yield seen
        if seen.drained or seen.stopped or (timeout is not None and seconds >= timeout):
            return
        sleep(every)
