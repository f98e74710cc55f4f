"""What follows from the results of an invocation: pure, so that every order of events can be tried."""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import batched, groupby

from queues import Outgoing
from redaction import one_line
from retry import retry_delay
from terminate.messages import Action, Item, Message, Request, rebuild_body
from terminate.outcomes import UNEXPECTED_ERROR, Disposition, Outcome, Result

# One less than the work queue's maxReceiveCount. While the API may not be called, because of the stop switch, a 429 or
# a refused key, a message is requeued before the redrive policy would make it a dead letter.
REQUEUE_AT_RECEIVE_COUNT = 4
# What is left of thousands of ids must not take thousands of writes. The deadline's reserve counts on it.
_MAX_MESSAGES = 100

type Order = tuple[str, Action, datetime | None]
"""What one call is made for: session id, action, condition."""
type Pairs = tuple[tuple[Item, Result], ...]


@dataclass(frozen=True, slots=True)
class MessageResult:
    """What becomes of one message: a result for each thing it asks for.

    `redeliver`: the message is not acknowledged, and becomes visible again after `delay_seconds`. Otherwise `requeue`
    are the messages that ask for the rest. `warnings` say what went wrong without changing the result.
    """

    message: Message
    results: Pairs
    delay_seconds: int
    redeliver: bool = False
    requeue: tuple[Outgoing, ...] = ()
    warnings: tuple[str, ...] = ()


def plan(message: Message, results: Mapping[Order, Result], base_seconds: int) -> MessageResult:
    """What to do with a message, given the results of its orders."""
    pairs = tuple(
        (
            item,
            results[item.session_id, item.action, item.unless_updated_since]
            if isinstance(item, Request)
            else Result(Outcome.INVALID, detail=item.why),
        )
        for item in message.items
    )
    retried = _indexes(pairs, Disposition.RETRY)
    retry_after = max((pairs[index][1].retry_after or 0 for index in retried), default=0)
    delay = retry_delay(message.attempts, base_seconds, retry_after, random.uniform)
    return _retry(MessageResult(message, pairs, delay), retried)


def plan_all(
    messages: Sequence[Message],
    results: Mapping[Order, Result],
    base_seconds: int,
    on_bug: Callable[[Exception], None],
) -> list[MessageResult]:
    """The same for each; never raises."""
    plans = []
    for message in messages:
        try:
            plans.append(plan(message, results, base_seconds))
        except Exception as error:  # noqa: BLE001 - one message's bug must not affect the others
            on_bug(error)
            unknown = tuple((item, UNEXPECTED_ERROR) for item in message.items)
            plans.append(MessageResult(message, unknown, base_seconds, redeliver=True))
    return plans


def keep_whole(planned: MessageResult, warning: str, *, letters_written: bool) -> MessageResult:
    """The rest could not be requeued: deliver the message again as a whole, and write no more dead letters."""
    why = "no dead letter yet: the rest of the message is redelivered with it"
    unwritten = () if letters_written else _indexes(planned.results, Disposition.DEAD_LETTER)
    results = _retried(planned, dict.fromkeys(unwritten, why))
    return replace(planned, results=results, redeliver=True, requeue=(), warnings=(*planned.warnings, warning))


def replan(planned: MessageResult, unwritten: Mapping[int, str]) -> MessageResult:
    """Some of its dead letters could not be written, for these reasons: their items are tried again."""
    return _retry(replace(planned, results=_retried(planned, unwritten), requeue=()), tuple(unwritten))


def _retried(planned: MessageResult, details: Mapping[int, str]) -> Pairs:
    """Its results, those at these indexes turned into retries."""
    return tuple(
        (item, replace(result, outcome=Outcome.RETRY, detail=details[index]) if index in details else result)
        for index, (item, result) in enumerate(planned.results)
    )


def letters(plans: Sequence[MessageResult], request_id: str) -> list[tuple[list[tuple[int, int]], Outgoing]]:
    """The dead letters of all messages, each with the places (message, result) that it stands for. A session has one,
    however many messages ask for it: the one that asks for most."""
    places: dict[object, list[tuple[int, int]]] = {}
    for number, planned in enumerate(plans):
        for index in _indexes(planned.results, Disposition.DEAD_LETTER):
            item = planned.results[index][0]
            subject = item.session_id if isinstance(item, Request) else (number, index)
            places.setdefault(subject, []).append((number, index))
    found = []
    for same in places.values():
        number, index = max(same, key=lambda place: _breadth(plans[place[0]].results[place[1]][0]))
        item, result = plans[number].results[index]
        found.append((same, _dead_letter(plans[number].message, item, result, request_id)))
    return found


def _breadth(item: Item) -> tuple[bool, datetime]:
    """How much is asked for: terminating is more than archiving, and no condition, or a later one, is more."""
    since = item.unless_updated_since if isinstance(item, Request) else None
    return isinstance(item, Request) and item.action is Action.TERMINATE, since or datetime.max.replace(tzinfo=UTC)


def _indexes(pairs: Pairs, wanted: Disposition) -> tuple[int, ...]:
    return tuple(index for index, (_, result) in enumerate(pairs) if result.disposition is wanted)


def _retry(planned: MessageResult, indexes: Sequence[int]) -> MessageResult:
    """Try a part of a message again: as messages of its own, or by redelivery if it is all that is asked for."""
    if not indexes:
        return planned
    message, retried = planned.message, [planned.results[index] for index in indexes]
    blocked = any(result.blocked for _, result in retried)
    receive_limit_reached = blocked and (message.receive_count or 0) >= REQUEUE_AT_RECEIVE_COUNT
    if len(retried) == len(planned.results) and message.receipt_handle and not receive_limit_reached:
        return replace(planned, redeliver=True)
    return replace(planned, requeue=requeued(message, [item for item, _ in retried], planned.delay_seconds))


def requeued(message: Message, items: Sequence[Item], delay: int) -> tuple[Outgoing, ...]:
    """Messages that ask for these items, with their history: one for each, but no more than _MAX_MESSAGES."""
    attributes: dict[str, str | int] = {"attempts": message.attempts, "source": message.source}
    if message.sweep_run:
        attributes["sweep_run"] = message.sweep_run
    together = math.ceil(len(items) / _MAX_MESSAGES)
    return tuple(
        Outgoing(rebuild_body(some), attributes, delay)
        for _, of_one_body in groupby(items, key=lambda item: id(item.body))
        for some in batched(of_one_body, together, strict=False)
    )


def _dead_letter(message: Message, item: Item, result: Result, request_id: str) -> Outgoing:
    attributes = {
        "reason": result.reason,
        "http_status": result.http_status,
        "session_id": item.session_id if isinstance(item, Request) else None,
        "session_status": result.session_status and one_line(result.session_status, 100),
        "source": message.source,
        "failed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "request_id": request_id,
        "attempts": message.attempts,
        "detail": result.detail and one_line(result.detail, 1000),
    }
    return Outgoing(rebuild_body([item]), {name: value for name, value in attributes.items() if value is not None})


def rejected_conditions(settled: Iterable[MessageResult]) -> dict[str, datetime | None]:
    """Conditions of the rejected sessions, of which a sweep need not ask for the same again."""
    return {
        item.session_id: item.unless_updated_since
        for one in settled
        for item, result in one.results
        if isinstance(item, Request) and item.unless_updated_since and result.outcome is Outcome.REJECTED
    }
