"""One sweep: list, judge, check the caps, then announce and enqueue, unless it is a dry run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from devin.client import DevinClient
from devin.session import Page
from queues import Outgoing
from redaction import Redactor, one_line
from runtime import Runtime
from sweep.announcements import Announcement, Announcements
from sweep.listing import Listing
from sweep.policy import Policy
from sweep.selection import Choice, Plan, Selection, check_caps, plan

# For announcing and enqueuing what was chosen, and for the report.
RESERVE_SECONDS = 5.0
# Ages are differences between the API's clock and ours.
_MOST_SKEW_SECONDS = 300.0
_REPORTED_CHOICES = 100
_WHY_CHARACTERS = 200


class SweepError(Exception):
    """The sweep could not be carried out, or not to its end; the message says what was done."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a sweep found and did."""

    selection: Selection
    plan: Plan
    listing: Listing
    enqueued: int
    announced: int


class Sweep:
    """The parts that a sweep works with. `announcements` is None where the stack has no table for them."""

    def __init__(
        self,
        runtime: Runtime,
        client: DevinClient,
        redact: Redactor,
        *,
        announcements: Announcements | None,
        protect_tag: str,
        remaining_seconds: Callable[[], float],
    ) -> None:
        self._client = client
        self._queues = runtime.queues
        self._bus = runtime.bus
        self._executor = runtime.executor
        self._reason_to_stop = runtime.reason_to_stop
        self._redact = redact
        self._announcements = announcements
        self._protect_tag = protect_tag
        self._remaining_seconds = remaining_seconds

    def run(self, policy: Policy, now: datetime) -> Done:
        """Raises SweepError, CapExceededError, ApiKeyError and BusError, and botocore's errors for the memory of
        announcements. Nothing is announced or enqueued before the whole listing is judged."""
        if policy.notify_first is not None and self._announcements is None:
            raise SweepError("notify_first needs a table to remember announcements; set ANNOUNCEMENTS_TABLE")
        listing = Listing(self._page, self._has_time)
        selection = Selection()
        for session in listing:
            if session.session_id is not None and self._redact(session.session_id) != session.session_id:
                # It would be told to queue, table and bus; whatever it is, it is no id.
                session = replace(session, session_id=None)  # noqa: PLW2901
            selection.add(session, policy, now, self._protect_tag)
        if not listing.complete and not policy.dry_run:
            # What was not seen might protect what was: a later showing of a session, or its share of the whole.
            raise SweepError(f"listing sessions: {listing.end} after {listing.pages} pages; nothing was enqueued")
        check_caps(selection, policy)
        planned = self._plan(policy, selection, now)
        if policy.dry_run:
            return Done(selection, planned, listing, enqueued=0, announced=0)
        if stopped := self._reason_to_stop():
            raise SweepError(f"{stopped}; nothing was enqueued")
        self._announce(planned.to_announce, policy, now)
        return Done(selection, planned, listing, self._enqueue(planned.due), len(planned.to_announce))

    def _has_time(self) -> bool:
        return self._remaining_seconds() > 2 * RESERVE_SECONDS

    def _page(self, following: str | None) -> Page:
        answer = self._client.list_page(following)
        if answer.page is None:
            what = "a page that cannot be read" if answer.ok else answer.detail or "no explanation"
            where = "" if answer.status is None else f"the API answered {answer.status}: "
            raise SweepError(f"listing sessions: {where}{one_line(what, 500)}; nothing was enqueued")
        _check_clock(answer.date, datetime.now(UTC))
        return answer.page

    def _plan(self, policy: Policy, selection: Selection, now: datetime) -> Plan:
        chosen = sorted(selection.chosen.values(), key=lambda choice: choice.session_id)
        announced: dict[str, Announcement] = {}
        if policy.notify_first is not None and self._announcements is not None:
            announced = dict(self._announcements.of(choice.session_id for choice in chosen))
        return plan(chosen, announced, policy.notify_first, now)

    def _announce(self, choices: tuple[Choice, ...], policy: Policy, now: datetime) -> None:
        """Tell first, remember then: what was told and forgotten is told again, what was remembered but never told
        would be ended without a warning."""
        if policy.notify_first is None or self._announcements is None:
            return
        ends_after = now + policy.notify_first
        details = [
            {
                "session_id": choice.session_id,
                "ends_after": ends_after.isoformat(),
                "why": [one_line(self._redact(why), _WHY_CHARACTERS) for why in choice.why],
            }
            for choice in choices
        ]
        self._bus.publish("Devin Session Termination Announced", details)
        remember = self._announcements.add
        # Into a list, so that the first failure is raised here.
        list(
            self._executor.map(
                lambda one: remember(one.session_id, Announcement(now, ends_after, one.updated_at)), choices
            )
        )

    def _enqueue(self, choices: tuple[Choice, ...]) -> int:
        """Send each to the work queue, with the condition that it was not updated since it was listed."""
        bodies = [
            {"session_id": choice.session_id, "unless_updated_since": choice.updated_at.isoformat()}
            for choice in choices
        ]
        errors = [error for error in self._queues.enqueue([Outgoing(json.dumps(body)) for body in bodies]) if error]
        if errors:
            raise SweepError(
                f"enqueued {len(choices) - len(errors)} of {len(choices)} sessions: {errors[0]}; "
                "run it again, repeats do no harm"
            )
        return len(choices)


def _check_clock(date: str | None, now: datetime) -> None:
    """Refuse to judge ages if the API's clock and ours differ by more than minutes."""
    try:
        theirs = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return  # it does not say
    skew = abs((theirs.replace(tzinfo=theirs.tzinfo or UTC) - now).total_seconds())
    if skew > _MOST_SKEW_SECONDS:
        raise SweepError(f"the API's clock and this one differ by {skew:.0f} s, so ages mean nothing; nothing enqueued")


def report(done: Done, policy: Policy, redact: Redactor) -> dict[str, Any]:
    """A sweep as plain JSON: counts for each reason, the chosen with their why (the first hundred), caps and mode.
    What the API said of them is made fit to be read by others."""

    def told(choices: tuple[Choice, ...]) -> list[dict[str, Any]]:
        return [
            {
                "session_id": choice.session_id,
                "updated_at": choice.updated_at.isoformat(),
                "why": [one_line(redact(why), _WHY_CHARACTERS) for why in choice.why],
            }
            for choice in choices[:_REPORTED_CHOICES]
        ]

    return {
        "mode": "dry_run" if policy.dry_run else "enforce",
        "listed": done.selection.listed,
        "pages": done.listing.pages,
        "listing": done.listing.end,
        "kept": dict(sorted(done.selection.kept.items())),
        "chosen": len(done.selection.chosen),
        "enqueued": done.enqueued,
        "announced": done.announced,
        "caps": {"max_sessions": policy.max_sessions, "max_share": policy.max_share},
        "due": told(done.plan.due),
        "to_announce": told(done.plan.to_announce),
        "waiting": told(done.plan.waiting),
    }
