"""The time budget of an invocation: what to reserve for queues and logs."""

from collections.abc import Callable
from dataclasses import dataclass

# For dead letters. Those that are not written by then go back to the work queue.
_DEAD_LETTER_SECONDS = 0.75
# A log line takes a tenth of a millisecond of a whole CPU, and 256 MB come with a seventh of one. No more than half of
# the time, or a message of very many short ids would never get to its first call.
_SECONDS_PER_ID = 0.001
_MAX_SECONDS_FOR_IDS = 30.0
# How long a client goes on that gets no answer from the table: three attempts of seven seconds each.
TABLE_SECONDS = 22.0
# To requeue what is left (a write to SQS takes some ten milliseconds, and `plan` makes a hundred messages at most), and
# for the answer.
_LAST_SECONDS = 2.75


@dataclass(frozen=True, slots=True)
class Deadline:
    """Lambda's limit, less what follows the calls: dead letters, what is requeued, a log line for each id, the answer.
    `remaining_milliseconds` asks Lambda, `ids` is how many ids were given."""

    remaining_milliseconds: Callable[[], int]
    ids: int

    def seconds_left(self) -> float:
        """Until the answer has to be given."""
        return self.remaining_milliseconds() / 1000 - _LAST_SECONDS

    def seconds_for_a_call(self) -> float:
        """How long a call that starts now may take; negative if it is too late."""
        for_ids = min(_SECONDS_PER_ID * self.ids, _MAX_SECONDS_FOR_IDS)
        return self.seconds_left() - for_ids - _DEAD_LETTER_SECONDS

    def allows_a_write(self) -> bool:
        """Whether there is time for another dead letter."""
        return self.seconds_for_a_call() > -_DEAD_LETTER_SECONDS
