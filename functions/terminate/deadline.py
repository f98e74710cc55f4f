"""How long this invocation has before it must have put its affairs in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# For what follows the calls: dead letters, sending ids back, visibility timeouts. A write to SQS takes some ten
# milliseconds; sending back what is left of a long message takes up to a hundred of them, one after the other.
_RESERVE_SECONDS = 1.5
_RESERVE_SECONDS_PER_WRITE = 0.02
_MOST_WRITES = 100
# Dead letters may use most of the reserve: those that are not written in time go back to the work queue.
_LAST_SECONDS = 0.75


@dataclass(frozen=True, slots=True)
class Deadline:
    """Lambda's limit, seen from the inside. `remaining_milliseconds` asks Lambda, `ids` is how many ids were given."""

    remaining_milliseconds: Callable[[], int]
    ids: int

    def seconds_for_a_call(self) -> float:
        """How long a call that starts now may take, and the rest still be written; negative if it is too late."""
        reserve = _RESERVE_SECONDS + _RESERVE_SECONDS_PER_WRITE * min(self.ids, _MOST_WRITES)
        return self.remaining_milliseconds() / 1000 - reserve

    def allows_a_write(self) -> bool:
        """Whether another dead letter can be written, and what is left still be sent back."""
        return self.remaining_milliseconds() / 1000 > _LAST_SECONDS
