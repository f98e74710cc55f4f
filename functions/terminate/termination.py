"""Ends sessions: read each that has a condition, call, and check with a GET if the answer is ambiguous."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from dataclasses import replace
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


def end_sessions(
    messages: Sequence[Message],
    client: DevinClient,
    executor: Executor,
    settings: Settings,
    on_bug: Callable[[Exception], None],
) -> dict[Order, Result]:
    """Make the calls, each order once, however many messages ask for it; never raises."""
    conditions, may_have_ended = orders(messages)
    results: dict[Order, Result] = {}
    waiting = deque(conditions)

    def work() -> None:
        # Each thread takes the next one when it is free: a task for each of thousands would cost more than its call.
        while waiting:
            try:
                session_id, action = waiting.popleft()
            except IndexError:  # another thread took the last
                return
            wanted = conditions[session_id, action]
            started = time.monotonic()
            try:
                found = end_session(
                    client,
                    session_id,
                    action,
                    wanted,
                    may_have_ended=session_id in may_have_ended,
                    dry_run=settings.dry_run,
                    protect_tag=settings.protect_tag,
                )
            except Exception as error:  # noqa: BLE001 - one id's bug must not affect the others
                on_bug(error)
                found = dict.fromkeys(wanted, UNEXPECTED_ERROR)
            took = round((time.monotonic() - started) * 1000)
            for since, result in found.items():
                results[session_id, action, since] = replace(result, duration_ms=took)

    for worker in [executor.submit(work) for _ in range(min(settings.max_workers, len(waiting)))]:
        worker.result()
    return results


def orders(messages: Sequence[Message]) -> tuple[dict[tuple[str, Action], set[Condition]], set[str]]:
    """The conditions of each call to make, and the sessions that another attempt may have ended."""
    conditions: dict[tuple[str, Action], set[Condition]] = {}
    may_have_ended: set[str] = set()
    for message in messages:
        # How often an event came is unknown: Lambda repeats one whose function was killed.
        repeated = message.attempts > 1 or message.receipt_handle is None
        for item in message.items:
            if isinstance(item, Request):
                conditions.setdefault((item.session_id, item.action), set()).add(item.unless_updated_since)
                if repeated:
                    may_have_ended.add(item.session_id)
    # What one message has terminated cannot be archived for another.
    may_have_ended |= {
        one for one, action in conditions if action is Action.ARCHIVE and (one, Action.TERMINATE) in conditions
    }
    return conditions, may_have_ended


def end_session(
    client: DevinClient,
    session_id: str,
    action: Action,
    conditions: AbstractSet[Condition],
    *,
    may_have_ended: bool,
    dry_run: bool,
    protect_tag: str,
) -> dict[Condition, Result]:
    """End a session once for all requests that name it, and say for each condition what came of it.

    A request without a condition overrides others. `may_have_ended`: another attempt may have ended the session without
    its answer being seen, so a rejection is checked by a GET.
    """
    results: dict[Condition, Result] = {}
    seen = None
    if None not in conditions:
        answer = client.get(session_id)
        seen = answer.session
        if seen is None:
            return dict.fromkeys(conditions, _unread(answer))
        results = _spared(seen, action, conditions, protect_tag, answer.status)
    left = conditions - results.keys()
    if left:
        result = _end(client, session_id, action, seen, may_have_ended=may_have_ended, dry_run=dry_run)
        results |= dict.fromkeys(left, result)
    return results


def _unread(answer: Answer) -> Result:
    """Without knowing when the session was updated, nothing is ended."""
    result = result_of(answer)
    if answer.ok:
        return replace(result, outcome=Outcome.RETRY)
    if answer.not_called or result.disposition is Disposition.RETRY:
        return result
    return replace(result, detail=f"reading the session: {answer.detail or 'no explanation'}")


def _spared(
    seen: Session, action: Action, conditions: AbstractSet[Condition], protect_tag: str, http_status: int | None
) -> dict[Condition, Result]:
    """Results for the conditions under which the session lives on, or which cannot be judged."""

    moved_on = {since for since in conditions if since and seen.updated_at and since < seen.updated_at}
    detail, spared = None, conditions
    if seen.exited:
        # Ending a session updates it, so the update may be our own.
        outcome, spared = Outcome.ALREADY_EXITED, moved_on if seen.updated_at else conditions
    elif seen.updated_at is None:
        outcome, detail = Outcome.RETRY, "the API does not say when the session was updated"
    elif seen.tags is None:
        outcome, detail = Outcome.RETRY, "the API does not say which tags the session has"
    elif as_seen(protect_tag) in all_as_seen(seen.tags):
        outcome, detail = Outcome.SPARED, f"protected by the tag {protect_tag}"
    elif seen.is_archived:
        outcome, detail = Outcome.ARCHIVED if action is Action.ARCHIVE else Outcome.SPARED, "archived already"
    else:
        outcome, spared = Outcome.SPARED, moved_on
    return dict.fromkeys(spared, Result(outcome, http_status, detail, session_status=seen.status))


def _end(
    client: DevinClient, session_id: str, action: Action, seen: Session | None, *, may_have_ended: bool, dry_run: bool
) -> Result:
    """`seen`: the session as it was before, if it was read."""
    status = None if seen is None else seen.status
    if dry_run:
        stopped = client.not_called()
        return result_of(stopped) if stopped else Result(Outcome.WOULD_TERMINATE, session_status=status)
    call = client.archive if action is Action.ARCHIVE else client.terminate
    answer = call(session_id, at_once=seen is not None)
    outcome, look = classify(answer)
    result = replace(result_of(answer), session_status=status)
    if outcome is Outcome.TERMINATED and action is Action.ARCHIVE:
        return replace(result, outcome=Outcome.ARCHIVED)
    if outcome is Outcome.REJECTED and seen is not None and seen.exited:
        # What has exited stays so.
        return replace(result, outcome=Outcome.ALREADY_EXITED)
    # A session that was read alive may have been ended since, by another message that asked for it.
    doubtful = may_have_ended or answer.replayed or seen is not None
    if look is Look.ALWAYS or (look is Look.IF_IT_MAY_HAVE_ENDED and doubtful):
        return _look(client, session_id, action, result)
    return result


def _look(client: DevinClient, session_id: str, action: Action, result: Result) -> Result:
    """The result in the light of what the session is now."""
    answer = client.get(session_id)
    session = answer.session
    if session is not None:
        result = replace(result, session_status=session.status)
        if session.exited:
            return replace(result, outcome=Outcome.ALREADY_EXITED)
        if action is Action.ARCHIVE and session.is_archived:
            return replace(result, outcome=Outcome.ARCHIVED)
        return result
    if answer.ok and not answer.other_session:
        return result
    unread = _unread(answer)
    return unread if unread.disposition is Disposition.RETRY else result


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
