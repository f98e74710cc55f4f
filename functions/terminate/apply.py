"""Carries out what was planned: requeue first, then dead letters, then visibility timeouts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from queues import Queues
from terminate.plan import MessageResult, keep_whole, letters, replan, requeued


class RedeliveryError(Exception):
    """Something could be neither settled nor written to a queue: it has to be delivered again."""


def apply(
    plans: Sequence[MessageResult], queues: Queues, request_id: str, has_time: Callable[[], bool]
) -> list[MessageResult]:
    """Write what the plans ask for, and return what became of each message. Raises RedeliveryError only if a message
    that no queue holds could not be sent to one."""
    done = list(plans)
    # Requeued before the dead letters are written: if that fails and the message is redelivered whole, no part of it
    # is in the dead-letter queue yet, so none gets there twice.
    _requeue(done, range(len(done)), queues, letters_written=False)
    unwritten = _write_letters(done, queues, request_id, has_time)
    for number, reasons in unwritten.items():
        done[number] = replan(done[number], reasons)
    _requeue(done, unwritten, queues, letters_written=True)
    _change_visibility(done, queues)
    return done


def _requeue(done: list[MessageResult], numbers: Iterable[int], queues: Queues, *, letters_written: bool) -> None:
    entries = [(number, outgoing) for number in numbers for outgoing in done[number].requeue]
    errors = queues.enqueue([outgoing for _, outgoing in entries])
    for (number, _), error in zip(entries, errors, strict=True):
        if error is not None and not done[number].redeliver:
            done[number] = keep_whole(done[number], str(error), letters_written=letters_written)


def _write_letters(
    done: list[MessageResult], queues: Queues, request_id: str, has_time: Callable[[], bool]
) -> dict[int, dict[int, str]]:
    """Write the dead letters; returns why some were not written, by message and result."""
    wanted = letters(done, request_id)
    unwritten: dict[int, dict[int, str]] = {}
    errors = queues.dead_letter([letter for _, letter in wanted], has_time)
    for (places, _), error in zip(wanted, errors, strict=True):
        for number, index in places if error is not None else ():
            unwritten.setdefault(number, {})[index] = str(error)
    return unwritten


def _change_visibility(done: list[MessageResult], queues: Queues) -> None:
    """Set the visibility timeout of what is redelivered. If that fails, the queue's own brings it back, only later."""
    numbers = [number for number, planned in enumerate(done) if planned.redeliver and planned.message.receipt_handle]
    timeouts = [(done[number].message.receipt_handle, done[number].delay_seconds) for number in numbers]
    for number, error in zip(numbers, queues.change_visibility(timeouts), strict=True):
        if error is None:
            continue
        planned, warnings = done[number], [str(error)]
        if error.handle_invalid:
            # The record came by another way than the queue, by an asynchronous invocation for instance: nobody reads
            # the answer, so it is sent to the queue.
            items = [item for item, _ in planned.results]
            for failed in queues.enqueue(requeued(planned.message, items, planned.delay_seconds)):
                if failed is not None:
                    raise RedeliveryError(str(failed))
            warnings.append("the queue does not hold this message; it was sent to the queue")
        done[number] = replace(planned, warnings=(*planned.warnings, *warnings))
