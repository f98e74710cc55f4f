"""What can become of an id, and which answer of the API means which: the outcome table."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from devin.client import Answer, NotCalled


class Outcome(StrEnum):
    """The result of one attempt to end one session; the value names it in logs, metrics and answers."""

    TERMINATED = "terminated"
    ARCHIVED = "archived"
    SPARED = "spared"
    WOULD_TERMINATE = "would_terminate"
    ALREADY_EXITED = "already_exited"
    REJECTED = "rejected"
    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    RETRY = "retry"


class Disposition(Enum):
    """What has to happen to the request after an outcome."""

    DONE = "done"
    DEAD_LETTER = "dead letter"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome and what is known about how it came about.

    `retry_after` is in seconds; `session_status` is what a GET said, if one was made; `detail` holds no secret.
    `blocked`: nothing was learnt about the session, because of the key, a 429, the stop switch or the time.
    """

    outcome: Outcome
    http_status: int | None = None
    detail: str | None = None
    retry_after: float | None = None
    session_status: str | None = None
    duration_ms: int | None = None
    blocked: bool = False

    @property
    def disposition(self) -> Disposition:
        """A new outcome has to be decided upon here, or the types do not check."""
        match self.outcome:
            case Outcome.TERMINATED | Outcome.ARCHIVED | Outcome.ALREADY_EXITED:
                return Disposition.DONE
            case Outcome.SPARED | Outcome.WOULD_TERMINATE:
                return Disposition.DONE
            case Outcome.REJECTED | Outcome.INVALID:
                return Disposition.DEAD_LETTER
            case Outcome.UNAUTHORIZED | Outcome.FORBIDDEN | Outcome.RETRY:
                return Disposition.RETRY

    @property
    def reason(self) -> str:
        """The dead letter's `reason`: one word to filter by."""
        return "invalid_message" if self.outcome is Outcome.INVALID else f"{self.outcome}_{self.http_status}"


UNEXPECTED_ERROR = Result(Outcome.RETRY, detail="unexpected error, see the traceback")


class Look(Enum):
    """When a GET has to say whether the session has ended already."""

    NEVER = "never"
    IF_IT_MAY_HAVE_ENDED = "an earlier attempt may have ended it"
    ALWAYS = "always"


def classify(answer: Answer) -> tuple[Outcome, Look]:
    """The outcome table: the outcome of a terminate or archive call, and when to look at the session. If the look shows
    that it has exited, the outcome is `already_exited` instead."""
    if answer.status == 401 or answer.key_refused:
        return Outcome.UNAUTHORIZED, Look.NEVER
    if answer.not_called is NotCalled.UNSUPPORTED:
        return Outcome.INVALID, Look.NEVER
    match answer.status:
        # No call was made, or no whole response arrived; or there was too little time, or too many calls.
        case None | 408 | 425 | 429:
            return Outcome.RETRY, Look.NEVER
        case _ if answer.confirmed:
            return Outcome.TERMINATED, Look.NEVER
        case 403:
            return Outcome.FORBIDDEN, Look.NEVER
        # Version 3 rejects a session that has exited with 400. 409 is documented, its cause is not.
        case 400 | 409:
            return Outcome.REJECTED, Look.ALWAYS
        # 404, 405 and 410 are no success: a wrong organisation, or a version that was switched off, answers every call
        # like that.
        case 422 | 404 | 405 | 410:
            return Outcome.REJECTED, Look.IF_IT_MAY_HAVE_ENDED
        # Redirects are not followed: they would carry the key away.
        case status if 300 <= status < 500:
            return Outcome.REJECTED, Look.IF_IT_MAY_HAVE_ENDED
        # A 2xx that does not confirm the end: a maintenance page, another session.
        case status if 200 <= status < 300:
            return Outcome.RETRY, Look.ALWAYS
        case _:
            return Outcome.RETRY, Look.NEVER
