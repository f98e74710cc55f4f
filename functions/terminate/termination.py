"""Ends sessions: read each that has a condition, call, and check with a GET if the answer is ambiguous."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime

from comparison import all_as_seen, as_seen
from devin.client import Answer, DevinClient
from devin.session import Session
from settings import Settings
from terminate.messages import Action, Message, Request
from terminate.outcomes import UNEXPECTED_ERROR, Disposition, Look, Outcome, Result, classify
from terminate.plan import Order

# `unless_updated_since`, or None where a request has no condition.
Condition = datetime | None


@dataclass(slots=True)
class Call:
    """A session to end, once for all requests that name it. `may_have_ended`: another attempt may have ended it without
    its answer being seen, so a rejection is checked by a GET."""

    session_id: str
    action: Action
    conditions: set[Condition] = field(default_factory=set)
    may_have_ended: bool = False


def end_sessions(
    messages: Sequence[Message],
    client: DevinClient,
    executor: Executor,
    settings: Settings,
    on_bug: Callable[[Exception], None],
) -> dict[Order, Result]:
    """Make the calls, each once, however many messages ask for it; never raises."""
    calls = calls_for(messages)
    results: dict[Order, Result] = {}
    # Shared: each thread takes the next one when it is free. A task for each would cost more than its call.
    waiting = iter(calls)

    def work() -> None:
        for call in waiting:
            started = time.monotonic()
            try:
                found = end_session(client, call, settings)
            except Exception as error:  # noqa: BLE001 - one id's bug must not affect the others
                on_bug(error)
                found = dict.fromkeys(call.conditions, UNEXPECTED_ERROR)
            took = round((time.monotonic() - started) * 1000)
            for since, result in found.items():
                results[call.session_id, call.action, since] = replace(result, duration_ms=took)

    for worker in [executor.submit(work) for _ in range(min(settings.max_workers, len(calls)))]:
        worker.result()
    return results


def calls_for(messages: Sequence[Message]) -> list[Call]:
    calls: dict[tuple[str, Action], Call] = {}
    for message in messages:
        # How often an event came is unknown: Lambda repeats one whose function was killed.
        repeated = message.attempts > 1 or not message.receipt_handle
        for item in message.items:
            if isinstance(item, Request):
                call = calls.setdefault((item.session_id, item.action), Call(item.session_id, item.action))
                call.conditions.add(item.unless_updated_since)
                call.may_have_ended |= repeated
    return list(calls.values())


def end_session(client: DevinClient, call: Call, settings: Settings) -> dict[Condition, Result]:
    """Say for each condition what came of it. A request without a condition overrides others."""
    results: dict[Condition, Result] = {}
    seen = None
    if None not in call.conditions:
        answer = client.get(call.session_id)
        seen = answer.session
        if seen is None:
            # Without knowing when the session was updated, nothing is ended.
            unread = result_of(answer)
            if unread.disposition is not Disposition.RETRY:
                unread = replace(unread, detail=f"reading the session: {answer.detail or 'no explanation'}")
            return dict.fromkeys(call.conditions, unread)
        results = _spared(seen, call, settings.protect_tag, answer.status)
    if left := call.conditions - results.keys():
        results |= dict.fromkeys(left, _end(client, call, seen, dry_run=settings.dry_run))
    return results


def _spared(seen: Session, call: Call, protect_tag: str, http_status: int | None) -> dict[Condition, Result]:
    """Results for the conditions under which the session lives on, or which cannot be judged."""
    updated_at = seen.updated_at
    moved_on: set[Condition] = {since for since in call.conditions if since and updated_at and since < updated_at}
    detail, spared = None, call.conditions
    if seen.exited:
        # Ending a session updates it, so the update may be our own.
        outcome, spared = Outcome.ALREADY_EXITED, moved_on if updated_at else call.conditions
    elif updated_at is None or seen.tags is None:
        outcome, detail = Outcome.RETRY, "the API does not say when the session was updated, or which tags it has"
    elif as_seen(protect_tag) in all_as_seen(seen.tags):
        outcome, detail = Outcome.SPARED, f"protected by the tag {protect_tag}"
    elif seen.is_archived:
        outcome, detail = Outcome.ARCHIVED if call.action is Action.ARCHIVE else Outcome.SPARED, "archived already"
    else:
        outcome, spared = Outcome.SPARED, moved_on
    return dict.fromkeys(spared, Result(outcome, http_status, detail, session_status=seen.status))


def _end(client: DevinClient, call: Call, seen: Session | None, *, dry_run: bool) -> Result:
    """`seen`: the session as it was before, if it was read."""
    status = None if seen is None else seen.status
    if dry_run:
        return result_of(client.stop) if client.stop else Result(Outcome.WOULD_TERMINATE, session_status=status)
    end = client.archive if call.action is Action.ARCHIVE else client.terminate
    answer = end(call.session_id, at_once=seen is not None)
    outcome, look = classify(answer)
    result = replace(result_of(answer), session_status=status)
    if outcome is Outcome.TERMINATED and call.action is Action.ARCHIVE:
        return replace(result, outcome=Outcome.ARCHIVED)
    if outcome is Outcome.REJECTED and seen is not None and seen.exited:
        # What has exited stays so.
        return replace(result, outcome=Outcome.ALREADY_EXITED)
    # A session that was read alive may have been ended since, by another message that asked for it. What one message
    # has terminated cannot be archived for another.
    doubtful = call.may_have_ended or answer.replayed or seen is not None or call.action is Action.ARCHIVE
    if look is Look.ALWAYS or (look is Look.IF_IT_MAY_HAVE_ENDED and doubtful):
        return _look(client, call, result)
    return result


def _look(client: DevinClient, call: Call, result: Result) -> Result:
    """The result in the light of what the session is now."""
    answer = client.get(call.session_id)
    if answer.session is None:
        if answer.ok and not answer.other_session:
            return result
        unread = result_of(answer)
        return unread if unread.disposition is Disposition.RETRY else result
    result = replace(result, session_status=answer.session.status)
    if answer.session.exited:
        return replace(result, outcome=Outcome.ALREADY_EXITED)
    if call.action is Action.ARCHIVE and answer.session.is_archived:
        return replace(result, outcome=Outcome.ARCHIVED)
    return result


def result_of(answer: Answer) -> Result:
    """The result of a call by itself."""
    outcome, _ = classify(answer)
    return Result(
        outcome,
        http_status=answer.status,
        detail=None if outcome is Outcome.TERMINATED else answer.detail,
        retry_after=answer.retry_after,
        blocked=answer.not_called is not None or answer.key_refused or answer.status == 429,
    )
