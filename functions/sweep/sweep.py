"""One sweep: list, evaluate, check the caps, then announce and enqueue, unless it is a dry run."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from devin.client import DevinClient
from devin.session import Page
from eventbridge import publish
from queues import Outgoing
from redaction import Redactor, one_line
from runtime import Runtime
from sweep.listing import Listing
from sweep.notices import TerminationNotice, add_notices, notices_of
from sweep.policy import Policy
from sweep.selection import Candidate, Selection, check_caps, plan
from table import rejections_of

# For announcing and enqueuing, and for the report.
RESERVE_SECONDS = 5.0
# Ages are differences between the API's clock and ours.
_MAX_SKEW_SECONDS = 300.0


class SweepError(Exception):
    """The sweep could not be carried out, or not to its end; the message says what was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The parts of a sweep. `run` is its id."""

    run: str
    runtime: Runtime
    client: DevinClient
    redact: Redactor
    protect_tag: str
    remaining_seconds: Callable[[], float]

    def carry_out(self, policy: Policy, now: datetime) -> tuple[dict[str, Any], list[Candidate]]:
        """The report of what was found and done, and the sessions that were announced.

        Nothing is announced or enqueued before the whole listing is evaluated. Raises SweepError, CapExceededError,
        TableError and BusError.
        """
        table = self.runtime.table
        if policy.notify_first and not table:
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
        if listing.end != "complete" and not policy.dry_run:
            # What was not seen might protect what was: another occurrence of a session, a relative, the whole's size.
            raise SweepError(f"listing sessions: {listing.end} after {listing.pages} pages; nothing was enqueued")
        selection.keep_families()
        if table:
            selection.keep_rejected(rejections_of(table, selection.matched))
        check_caps(selection, policy)
        candidates = sorted(selection.matched.values(), key=lambda one: one.session_id)
        notices = notices_of(table, policy, selection.matched) if policy.notify_first and table else {}
        planned = plan(candidates, notices, policy.notify_first, now)
        report = self._report(policy, listing, selection, planned)
        if policy.dry_run:
            return report, []
        if stopped := self.runtime.reason_to_stop():
            raise SweepError(f"{stopped}; nothing was enqueued")
        self._announce(planned["to_announce"], policy, now)
        self._enqueue(planned["due"], policy)
        return report, planned["to_announce"]

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
        with suppress(ValueError, OverflowError):  # raised for a date that is not there or cannot be read
            theirs = parsedate_to_datetime(answer.date or "")
            skew = abs((theirs.replace(tzinfo=theirs.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
            if skew > _MAX_SKEW_SECONDS:
                raise SweepError(
                    f"the API's clock and this one differ by {skew:.0f} s, so ages mean nothing; nothing enqueued"
                )
        return answer.page

    def _announce(self, candidates: list[Candidate], policy: Policy, now: datetime) -> None:
        """Publish first, remember second: what was published and forgotten is published again, what was remembered but
        never published would be ended without a warning."""
        if policy.notify_first is None or self.runtime.table is None:
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
        publish(self.runtime.events, "Devin Session Termination Announced", details)
        notices = {one.session_id: TerminationNotice(now, ends_after, one.updated_at) for one in candidates}
        add_notices(self.runtime.table, policy, notices, now)

    def _enqueue(self, candidates: list[Candidate], policy: Policy) -> None:
        """Send each to the work queue, with the condition that it was not updated since it was listed."""
        attributes = {"source": "sweep", "sweep_run": self.run}
        bodies = [
            {"session_id": one.session_id, "unless_updated_since": one.updated_at.isoformat(), **_action(policy)}
            for one in candidates
        ]
        errors = self.runtime.queues.enqueue([Outgoing(json.dumps(body), attributes) for body in bodies])
        if failed := [error for error in errors if error is not None]:
            raise SweepError(
                f"enqueued {len(errors) - len(failed)} of {len(errors)} sessions: {failed[0]}; "
                "run it again, repeats do no harm"
            )

    def _report(
        self, policy: Policy, listing: Listing, selection: Selection, planned: dict[str, list[Candidate]]
    ) -> dict[str, Any]:
        """A sweep as plain JSON, with the first hundred candidates of each kind."""
        candidates = {
            kind: [
                {"session_id": one.session_id, "updated_at": one.updated_at.isoformat(), "why": self._why(one)}
                for one in some[:100]
            ]
            for kind, some in planned.items()
        }
        return {
            "mode": "dry_run" if policy.dry_run else "enforce",
            "run": self.run,
            **_action(policy),
            "listed": selection.listed,
            "pages": listing.pages,
            "listing": listing.end,
            "kept": dict(sorted(selection.kept.items())),
            "chosen": len(selection.matched),
            "enqueued": 0 if policy.dry_run else len(planned["due"]),
            "announced": 0 if policy.dry_run else len(planned["to_announce"]),
            "caps": {"max_sessions": policy.max_sessions, "max_share": policy.max_share},
            **candidates,
        }

    def _why(self, candidate: Candidate) -> list[str]:
        return [one_line(self.redact(reason), 200) for reason in candidate.why]


def _action(policy: Policy) -> dict[str, str]:
    """For bodies and reports, which say nothing of the default."""
    return {} if policy.action == "terminate" else {"action": policy.action}
