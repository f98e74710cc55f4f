"""What is known of events that Lambda will deliver again, because their invocation failed half way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from terminate.events import Message, Request
from terminate.invocation import Settled
from terminate.outcomes import Then, Verdict, then

_MOST_EVENTS = 100


@dataclass(slots=True)
class _Event:
    attempts: int = 1
    settled: dict[str, Verdict] = field(default_factory=dict)


class Memory:
    """Failed asynchronous invocations by request id, which Lambda keeps for its retries.

    A help, not a promise: a retry that reaches another execution environment calls again, and a GET then finds out that
    the session has ended.
    """

    def __init__(self) -> None:
        self._events: OrderedDict[str, _Event] = OrderedDict()

    def recall(self, request_id: str, message: Message) -> Message:
        """The message with the number of times it was tried before."""
        event = self._events.get(request_id)
        return message if event is None else replace(message, attempts=event.attempts + 1)

    def settled(self, request_id: str) -> Mapping[str, Verdict]:
        """Verdicts by session id that an earlier try of this request has carried out."""
        event = self._events.get(request_id)
        return {} if event is None else event.settled

    def keep(self, request_id: str, settled: Settled) -> None:
        """Remember what a failed invocation did carry out."""
        event = self._events.setdefault(request_id, _Event())
        event.attempts = settled.message.attempts
        for item, verdict in settled.verdicts:
            if isinstance(item, Request) and then(verdict.outcome) is Then.DONE:
                event.settled[item.session_id] = verdict
        while len(self._events) > _MOST_EVENTS:
            self._events.popitem(last=False)

    def forget(self, request_id: str) -> None:
        """Its event is accounted for."""
        self._events.pop(request_id, None)
