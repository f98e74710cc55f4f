"""One sweep: list, evaluate, check the caps, then announce and enqueue, unless it is a dry run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from devin.client import DevinClient
from devin.session import Page
from eventbridge import Bus
from queues import Outgoing, Queues
from redaction import Redactor, one_line
from sweep.listing import Listing
from sweep.notices import Notices, TerminationNotice
from sweep.policy import Policy
from sweep.selection import Candidate, Plan, Selection, check_caps, plan
from table import Rejections

# For announcing and enqueuing, and for the report.
RESERVE_SECONDS = 5.0
# Ages are differences between the API's clock and ours.
_MAX_SKEW_SECONDS = 300.0
_REPORTED_CANDIDATES = 100
_WHY_CHARACTERS = 200


class SweepError(Exception):
    """The sweep could not be carried out, or not to its end; the message says what was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The parts of a sweep. `run` is its id; `notices` and `rejections` are None if the stack has no table."""

    run: str
    client: DevinClient
    queues: Queues
    eventbridge: Bus
    reason_to_stop: Callable[[], str | None]
    redact: Redactor
    notices: Notices | None
    rejections: Rejections | None
    protect_tag: str
    remaining_seconds: Callable[[], float]

    def carry_out(self, policy: Policy, now: datetime) -> tuple[dict[str, Any], tuple[Candidate, ...]]:
        """The report of what was found and done, and the sessions that were announced.

        Nothing is announced or enqueued before the whole listing is evaluated. Raises SweepError, CapExceededError,
        TableError and BusError.
        """
        if policy.notify_first is not None and self.notices is None:
            raise SweepError("notify_first needs a table to remember notices; set ANNOUNCEMENTS_TABLE")
        listing = Listing(
            lambda cursor: self._page(cursor, policy), lambda: self.remaining_seconds() > 2 * RESERVE_SECONDS
        )
        selection = Selection()
        for session in listing:
            if session.session_id is not None and self.redact(session.session_id) != session.session_id:
                # Whatever holds a key is no id, and must not get to queue, table and bus.
                session = replace(session, session_id=None)  # noqa: PLW2901
            selection.add(session, policy, now, self.protect_tag)
        if not listing.complete and not policy.dry_run:
            # What was not seen might protect what was: another occurrence of a session, a relative, the whole's size.
            raise SweepError(f"listing sessions: {listing.end} after {listing.pages} pages; nothing was enqueued")
        selection.keep_families()
        if self.rejections is not None:
            selection.keep_rejected(self.rejections.of(selection.matched))
        check_caps(selection, policy)
        candidates = sorted(selection.matched.values(), key=lambda one: one.session_id)
        notices: dict[str, TerminationNotice] = {}
        if policy.notify_first is not None and self.notices is not None:
            notices = self.notices.of(one.session_id for one in candidates)
        planned = plan(candidates, notices, policy.notify_first, now)
        report = self._report(policy, listing, selection, planned)
        if policy.dry_run:
            return report, ()
        if stopped := self.reason_to_stop():
            raise SweepError(f"{stopped}; nothing was enqueued")
        self._announce(planned.to_announce, policy, now)
        self._enqueue(planned.ready, policy)
        return report, planned.to_announce

    def _page(self, cursor: str | None, policy: Policy) -> Page:
        answer = self.client.list_page(cursor)
        if answer.page is None:
            what = "a page that cannot be read" if answer.ok else answer.detail or "no explanation"
            where = "" if answer.status is None else f"the API answered {answer.status}: "
            raise SweepError(f"listing sessions: {where}{one_line(what, 500)}; nothing was enqueued")
        if policy.action == "archive" and not answer.page.can_archive:
            raise SweepError(
                "action archive needs version 3 of the API, which a key that starts with cog_ selects; "
                "nothing was enqueued"
            )
        _check_clock(answer.date, datetime.now(UTC))
        return answer.page

    def _announce(self, candidates: tuple[Candidate, ...], policy: Policy, now: datetime) -> None:
        """Publish first, remember second: what was published and forgotten is published again, what was remembered but
        never published would be ended without a warning."""
        if policy.notify_first is None or self.notices is None:
            return
        ends_after = now + policy.notify_first
        details = [
            {
                "session_id": candidate.session_id,
                "ends_after": ends_after.isoformat(),
                "why": self._why(candidate),
                "run": self.run,
                **_action(policy),
            }
            for candidate in candidates
        ]
        self.eventbridge.publish("Devin Session Termination Announced", details)
        self.notices.add(
            {one.session_id: TerminationNotice(now, ends_after, one.updated_at) for one in candidates}, now
        )

    def _enqueue(self, candidates: tuple[Candidate, ...], policy: Policy) -> None:
        """Send each to the work queue, with the condition that it was not updated since it was listed."""
        attributes = {"source": "sweep", "sweep_run": self.run}
        bodies = [
            {"session_id": one.session_id, "unless_updated_since": one.updated_at.isoformat(), **_action(policy)}
            for one in candidates
        ]
        errors = self.queues.enqueue([Outgoing(json.dumps(body), attributes) for body in bodies])
        if failed := [error for error in errors if error is not None]:
            raise SweepError(
                f"enqueued {len(errors) - len(failed)} of {len(errors)} sessions: {failed[0]}; "
                "run it again, repeats do no harm"
            )

    def _report(self, policy: Policy, listing: Listing, selection: Selection, planned: Plan) -> dict[str, Any]:
        """A sweep as plain JSON: counts for each reason, the candidates with their why (the first hundred of each
        kind), caps and mode."""

        def listed(candidates: tuple[Candidate, ...]) -> list[dict[str, Any]]:
            return [
                {"session_id": one.session_id, "updated_at": one.updated_at.isoformat(), "why": self._why(one)}
                for one in candidates[:_REPORTED_CANDIDATES]
            ]

        return {
            "mode": "dry_run" if policy.dry_run else "enforce",
            "run": self.run,
            **_action(policy),
            "listed": selection.listed,
            "pages": listing.pages,
            "listing": listing.end,
            "kept": dict(sorted(selection.kept.items())),
            "chosen": len(selection.matched),
            "enqueued": 0 if policy.dry_run else len(planned.ready),
            "announced": 0 if policy.dry_run else len(planned.to_announce),
            "caps": {"max_sessions": policy.max_sessions, "max_share": policy.max_share},
            "due": listed(planned.ready),
            "to_announce": listed(planned.to_announce),
            "waiting": listed(planned.waiting),
        }

    def _why(self, candidate: Candidate) -> list[str]:
        return [one_line(self.redact(reason), _WHY_CHARACTERS) for reason in candidate.why]


def _action(policy: Policy) -> dict[str, str]:
    """For bodies and reports, which say nothing of the default."""
    return {} if policy.action == "terminate" else {"action": policy.action}


def _check_clock(date: str | None, now: datetime) -> None:
    """Raises SweepError if the API's clock and ours differ by more than minutes."""
    try:
        theirs = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return  # it does not say
    skew = abs((theirs.replace(tzinfo=theirs.tzinfo or UTC) - now).total_seconds())
    if skew > _MAX_SKEW_SECONDS:
        raise SweepError(f"the API's clock and this one differ by {skew:.0f} s, so ages mean nothing; nothing enqueued")
