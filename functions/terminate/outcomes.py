"""What can become of an id, and what then: plain values and pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import assert_never


class Outcome(StrEnum):
    """The result of one attempt to end one session; the value names it in logs, metrics and answers."""

    TERMINATED = "terminated"
    SPARED = "spared"
    WOULD_TERMINATE = "would_terminate"
    ALREADY_EXITED = "already_exited"
    REJECTED = "rejected"
    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    RETRY = "retry"


class Then(Enum):
    """What has to follow an outcome before its message may go."""

    DONE = "done"
    DEAD_LETTER = "dead letter"
    TRY_AGAIN = "try again"


def then(outcome: Outcome) -> Then:
    """What follows. An outcome that is added has to be decided upon here, or the types do not check."""
    match outcome:
        case Outcome.TERMINATED | Outcome.SPARED | Outcome.WOULD_TERMINATE | Outcome.ALREADY_EXITED:
            return Then.DONE
        case Outcome.REJECTED | Outcome.INVALID:
            return Then.DEAD_LETTER
        case Outcome.UNAUTHORIZED | Outcome.FORBIDDEN | Outcome.RETRY:
            return Then.TRY_AGAIN
        case _:
            assert_never(outcome)


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome and what is known about how it came to be.

    `retry_after` is in seconds; `session_status` is what a GET said, if one was made; `detail` holds no secret.
    `uncalled`: nothing was learnt about the session, because nobody may call the API just now, or there was no time.
    """

    outcome: Outcome
    http_status: int | None = None
    detail: str | None = None
    retry_after: float | None = None
    session_status: str | None = None
    duration_ms: int | None = None
    uncalled: bool = False

    @property
    def reason(self) -> str:
        """Why it is a dead letter, as one word to filter by."""
        return "invalid_message" if self.outcome is Outcome.INVALID else f"{self.outcome}_{self.http_status}"


def outcome_of(http_status: int) -> Outcome:
    """What the status of the answer to a terminate call says by itself.

    404 and 410 are no success: a wrong organisation, or a version of the API that was switched off, answers every
    call like that and would leave every session running. A redirect is not followed, so it is a rejection too.
    """
    if 200 <= http_status < 300:
        return Outcome.TERMINATED
    if http_status == 401:
        return Outcome.UNAUTHORIZED
    if http_status == 403:
        return Outcome.FORBIDDEN
    if http_status in {408, 425, 429} or not 300 <= http_status < 500:
        return Outcome.RETRY
    return Outcome.REJECTED
