"""One invocation: every order carried out once, side by side, then a plan for each message."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from devin.client import DevinClient
from settings import Settings
from terminate.messages import Action, Message, Request
from terminate.outcomes import UNEXPECTED_ERROR, Result
from terminate.plan import MessageResult, Order, plan
from terminate.termination import Condition, end_session


def end_sessions(
    messages: Sequence[Message],
    client: DevinClient,
    executor: Executor,
    settings: Settings,
    on_bug: Callable[[Exception], None],
) -> dict[Order, Result]:
    """Make the calls, each order once, however many messages ask for it; never raises."""
    conditions, may_have_ended = _orders(messages)
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


def _orders(messages: Sequence[Message]) -> tuple[dict[tuple[str, Action], set[Condition]], set[str]]:
    """The conditions of each call to make, and the sessions that an earlier attempt may have ended."""
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
    return conditions, may_have_ended


def plan_all(
    messages: Sequence[Message],
    results: Mapping[Order, Result],
    base_seconds: int,
    on_bug: Callable[[Exception], None],
) -> list[MessageResult]:
    """Plan what becomes of each message; never raises."""
    plans = []
    for message in messages:
        try:
            plans.append(plan(message, results, base_seconds, random.uniform))
        except Exception as error:  # noqa: BLE001 - likewise for a message
            on_bug(error)
            unknown = tuple((item, UNEXPECTED_ERROR) for item in message.items)
            plans.append(MessageResult(message, unknown, redeliver=True))
    return plans
