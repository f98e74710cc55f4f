"""How long a call may take before this invocation has to put its affairs in order."""

from __future__ import annotations

from collections.abc import Callable

# For writing dead letters, sending ids back and setting visibility timeouts: calls to SQS, side by side.
_RESERVE_SECONDS = 1.5
# A message with thousands of ids may have to be sent back in hundreds of batches.
_RESERVE_SECONDS_PER_ID = 0.0005


def seconds_left(remaining_milliseconds: Callable[[], int], ids: int) -> Callable[[], float]:
    """A clock for calls: seconds until no call may be under way any more, from Lambda's own remaining time."""
    reserve = _RESERVE_SECONDS + _RESERVE_SECONDS_PER_ID * ids
    return lambda: remaining_milliseconds() / 1000 - reserve
