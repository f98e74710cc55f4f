"""One invocation: all calls side by side, then each message settled so that nothing it asked for is lost."""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import batched
from threading import Lock

from queues import QueueError
from redaction import one_line
from retry import retry_delay
from runtime import Runtime
from settings import Settings
from terminate.calls import Calls
from terminate.events import InvalidItem, Item, Message, Request
from terminate.outcomes import Outcome, Then, Verdict, then
from terminate.termination import Condition, end_session

_DETAIL_CHARACTERS = 1000
# The deadline's reserve counts on it.
_MOST_MESSAGES = 100
# A message of more ids than these has its writes made side by side. Those of a smaller one are few, and other messages
# are settled beside it.
_FEW = 10
# One less than the work queue's maxReceiveCount: while nobody may call the API, because of the stop switch, a 429 or a
# refused key, a message is not worn out by being received, but sent anew before the redrive policy would make it a dead
# letter.
_MOST_RECEIVES_UNCALLED = 4


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a message: a verdict for each thing it asked for, and whether its delivery has to be kept.

    `kept`: something in it is neither done nor written to a queue, so it must not be acknowledged. `delay_seconds`:
    when what needs another try gets one, if it does. `warnings`: what went wrong without changing the result.
    """

    message: Message
    verdicts: Sequence[tuple[Item, Verdict]]
    kept: bool
    delay_seconds: int | None = None
    warnings: Sequence[str] = ()


class Invocation:
    """Ends what the messages of one invocation ask for.

    `on_bug` is given every exception that nobody expected, so that it can be logged with its traceback; the id or
    message that it hit is kept.
    """

    def __init__(
        self,
        calls: Calls,
        runtime: Runtime,
        settings: Settings,
        *,
        allows_a_write: Callable[[], bool],
        request_id: str,
        on_bug: Callable[[Exception], None],
        settled_before: Mapping[str, Verdict],
    ) -> None:
        self._calls = calls
        self._queues = runtime.queues
        self._executor = runtime.executor
        self._allows_a_write = allows_a_write
        self._request_id = request_id
        self._settings = settings
        self._on_bug = on_bug
        self._settled_before = settled_before
        self._written = _Once()

    def run(self, messages: Sequence[Message]) -> list[Settled]:
        """Settle every message; in the order given, and without raising."""
        verdicts = self._end_sessions(messages)
        settle = partial(self._settle, verdicts=verdicts)
        # A thread is for waiting; where all is done there is nothing to write, and so nothing to wait for. What is
        # large is settled here, and has all threads for its writes; in one of them, it would wait for itself.
        writing = {
            index: self._executor.submit(settle, message)
            for index, message in enumerate(messages)
            if len(message.reading.items) <= _FEW and not self._is_done(message, verdicts)
        }
        return [
            writing[index].result() if index in writing else settle(message) for index, message in enumerate(messages)
        ]

    def _is_done(self, message: Message, verdicts: Mapping[tuple[str, Condition], Verdict]) -> bool:
        return all(then(self._verdict(item, verdicts).outcome) is Then.DONE for item in message.reading.items)

    def _end_sessions(self, messages: Sequence[Message]) -> dict[tuple[str, Condition], Verdict]:
        """Every session once, however many messages ask for it."""
        conditions: dict[str, set[Condition]] = {}
        redelivered: set[str] = set()
        for message in messages:
            for item in message.reading.items:
                if isinstance(item, Request):
                    conditions.setdefault(item.session_id, set()).add(item.unless_updated_since)
                    # Nobody tells how often an event came: Lambda repeats one whose function was killed.
                    if message.attempts > 1 or message.receipt_handle is None:
                        redelivered.add(item.session_id)
        verdicts: dict[tuple[str, Condition], Verdict] = {}

        def end(session_id: str) -> None:
            wanted = frozenset(conditions[session_id])
            for since, verdict in self._end(session_id, wanted, session_id in redelivered).items():
                verdicts[session_id, since] = verdict

        self._side_by_side(end, conditions)
        return {key: self._calls.reconsidered(verdict) for key, verdict in verdicts.items()}

    def _side_by_side[T](self, do: Callable[[T], None], things: Iterable[T]) -> None:
        """Do it for everything, on as many threads as there are workers; what it raises is raised.

        Whoever is free takes the next one: a task for each of thousands would cost more than what it does.
        """
        waiting = deque(things)

        def work() -> None:
            while waiting:
                try:
                    thing = waiting.popleft()
                except IndexError:  # another one took the last
                    return
                do(thing)

        working = [self._executor.submit(work) for _ in range(min(self._settings.max_workers, len(waiting)))]
        for worker in working:
            worker.result()

    def _end(self, session_id: str, conditions: frozenset[Condition], redelivered: bool) -> dict[Condition, Verdict]:
        if session_id in self._settled_before:
            return dict.fromkeys(conditions, self._settled_before[session_id])
        started = time.monotonic()
        try:
            verdicts = end_session(
                session_id, conditions, self._calls, redelivered=redelivered, dry_run=self._settings.dry_run
            )
        except Exception as error:  # noqa: BLE001 - one id's bug must not take the others with it
            self._on_bug(error)
            verdicts = dict.fromkeys(conditions, _BUG)
        took = round((time.monotonic() - started) * 1000)
        return {since: replace(verdict, duration_ms=took) for since, verdict in verdicts.items()}

    def _settle(self, message: Message, verdicts: Mapping[tuple[str, Condition], Verdict]) -> Settled:
        try:
            judged = [(item, self._verdict(item, verdicts)) for item in message.reading.items]
            return self._hide(self._write(message, judged))
        except Exception as error:  # noqa: BLE001 - likewise for a message
            self._on_bug(error)
            return Settled(message, [(item, _BUG) for item in message.reading.items], kept=True)

    @staticmethod
    def _verdict(item: Item, verdicts: Mapping[tuple[str, Condition], Verdict]) -> Verdict:
        if isinstance(item, InvalidItem):
            return Verdict(Outcome.INVALID, detail=item.why)
        return verdicts[item.session_id, item.unless_updated_since]

    def _write(self, message: Message, judged: list[tuple[Item, Verdict]]) -> Settled:
        """Bring what is not done to where it has to go next.

        What needs another try is written first: if that fails and the message has to be kept whole, no part of it
        is in the dead-letter queue yet, so none gets there twice.
        """
        again = [pair for pair in judged if then(pair[1].outcome) is Then.TRY_AGAIN]
        settled = self._try_again(message, judged, again)
        if settled.kept:
            return replace(settled, verdicts=[(item, _unwritten(verdict)) for item, verdict in judged])
        unwritten = self._write_dead_letters(message, judged)
        return self._try_again(message, judged, unwritten) if unwritten else settled

    def _try_again(
        self, message: Message, judged: list[tuple[Item, Verdict]], again: Sequence[tuple[Item, Verdict]]
    ) -> Settled:
        """Have a part of a message come again: as messages of their own, or by keeping the message, if they are all
        it asks for or cannot be sent."""
        if not again:
            return Settled(message, judged, kept=False)
        delay = self._delay(message, again)
        uncalled = any(verdict.uncalled for _, verdict in again)
        worn = uncalled and (message.receive_count or 0) >= _MOST_RECEIVES_UNCALLED
        if len(again) == len(judged) and message.receipt_handle is not None and not worn:
            return Settled(message, judged, kept=True, delay_seconds=delay)
        try:
            self._hand_back(message, again, delay)
        except QueueError as error:
            return Settled(message, judged, kept=True, delay_seconds=delay, warnings=[str(error)])
        return Settled(message, judged, kept=False, delay_seconds=delay)

    def _write_dead_letters(
        self, message: Message, judged: list[tuple[Item, Verdict]]
    ) -> Sequence[tuple[Item, Verdict]]:
        """Write them; those that cannot be written get another verdict in `judged`, and are returned."""
        dead = [index for index, (_, verdict) in enumerate(judged) if then(verdict.outcome) is Then.DEAD_LETTER]

        def write(index: int) -> None:
            item, verdict = judged[index]
            try:
                self._dead_letter(message, item, verdict)
            except QueueError as error:
                judged[index] = (item, replace(verdict, outcome=Outcome.RETRY, detail=str(error)))

        self._write_each(message, write, dead)
        return [judged[index] for index in dead if then(judged[index][1].outcome) is not Then.DEAD_LETTER]

    def _write_each[T](self, message: Message, write: Callable[[T], None], things: Sequence[T]) -> None:
        if len(message.reading.items) > _FEW:
            self._side_by_side(write, things)
        else:
            for thing in things:
                write(thing)

    def _hide(self, settled: Settled) -> Settled:
        """Have SQS deliver a kept message again when its time has come. If that fails, its visibility timeout still
        brings it back, only later."""
        handle = settled.message.receipt_handle
        if not settled.kept or handle is None or settled.delay_seconds is None:
            return settled
        try:
            self._queues.hide(handle, settled.delay_seconds)
        except QueueError as error:
            return replace(settled, warnings=[*settled.warnings, str(error)])
        return settled

    def _delay(self, message: Message, pairs: Sequence[tuple[Item, Verdict]]) -> int:
        retry_after = max(verdict.retry_after or 0 for _, verdict in pairs)
        return retry_delay(message.attempts, self._settings.retry_base_seconds, retry_after, random.uniform)

    def _hand_back(self, message: Message, pairs: Sequence[tuple[Item, Verdict]], delay: int) -> None:
        """Send ids back to the work queue as messages of their own, with their history.

        More than _MOST_MESSAGES of them travel together: what is left of thousands must not take thousands of writes
        from an invocation that has no time left. Whatever becomes of one, the others are told apart again.
        """
        attributes: dict[str, str | int] = {"attempts": message.attempts, "source": message.source}
        together = math.ceil(len(pairs) / _MOST_MESSAGES)
        failed: list[QueueError] = []

        def send(some: Sequence[tuple[Item, Verdict]]) -> None:
            if failed:
                return  # the message is kept whole, so what has not been sent need not be
            try:
                self._queues.enqueue(message.reading.body_for([item for item, _ in some]), attributes, delay)
            except QueueError as error:
                failed.append(error)

        self._write_each(message, send, list(batched(pairs, together, strict=False)))
        if failed:
            raise failed[0]

    def _dead_letter(self, message: Message, item: Item, verdict: Verdict) -> None:
        if not self._allows_a_write():
            raise QueueError("not enough time left in this invocation to write the dead letter")
        attributes: dict[str, str | int | None] = {
            "reason": verdict.reason,
            "http_status": verdict.http_status,
            "session_id": item.session_id if isinstance(item, Request) else None,
            "session_status": verdict.session_status and one_line(verdict.session_status, 100),
            "source": message.source,
            "failed_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "request_id": self._request_id,
            "attempts": message.attempts,
            "detail": verdict.detail and one_line(verdict.detail, _DETAIL_CHARACTERS),
        }
        known = {name: value for name, value in attributes.items() if value is not None}
        write = partial(self._queues.dead_letter, message.reading.body_for([item]), known)
        if isinstance(item, Request):
            self._written(item.session_id, write)
        else:
            write()


_BUG = Verdict(Outcome.RETRY, detail="unexpected error, see the traceback")


def _unwritten(verdict: Verdict) -> Verdict:
    """A dead letter that was not written, because the message comes again as a whole, has not come to an end."""
    if then(verdict.outcome) is not Then.DEAD_LETTER:
        return verdict
    return replace(verdict, outcome=Outcome.RETRY, detail="no dead letter yet: the rest of the message is kept with it")


class _Once:
    """Runs a write once for each id, however many messages ask for it, and gives each the same result."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._writes: dict[str, Future[None]] = {}

    def __call__(self, key: str, write: Callable[[], None]) -> None:
        with self._lock:
            known = self._writes.get(key)
            mine = known or self._writes.setdefault(key, Future())
        if known is None:
            try:
                write()
                mine.set_result(None)
            except BaseException as error:
                mine.set_exception(error)
                raise
        mine.result()
