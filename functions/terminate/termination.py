"""One session's end: read it if asked to, terminate it, and look again if the API's answer leaves a doubt."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime

from devin.session import Session
from terminate.calls import Calls, UnsettledError
from terminate.outcomes import Outcome, Verdict

Condition = datetime | None
"""`unless_updated_since`, or None where a request has no condition."""


def end_session(
    session_id: str, conditions: AbstractSet[Condition], calls: Calls, *, redelivered: bool, dry_run: bool
) -> dict[Condition, Verdict]:
    """End a session once for all that ask for it, and say for each condition what came of it.

    A request without a condition asks for the end whatever others say. `redelivered`: an earlier attempt may have
    ended the session without its answer being seen, so a rejection is checked by a GET.
    """
    verdicts: dict[Condition, Verdict] = {}
    try:
        seen = None
        if None not in conditions:
            verdicts, seen = _spared(session_id, conditions, calls)
        doomed = conditions - verdicts.keys()
        if doomed:
            verdict = _terminate(session_id, calls, seen, redelivered=redelivered, dry_run=dry_run)
            verdicts |= dict.fromkeys(doomed, verdict)
    except UnsettledError as error:
        verdicts |= dict.fromkeys(conditions - verdicts.keys(), error.verdict)
    return verdicts


def _spared(
    session_id: str, conditions: AbstractSet[Condition], calls: Calls
) -> tuple[dict[Condition, Verdict], Session]:
    """Verdicts for the conditions under which the session lives on, and the session as it was seen."""
    reply, session = calls.session(session_id)
    if not 200 <= reply.status < 300:
        verdict = calls.verdict(reply)
        raise UnsettledError(replace(verdict, detail=f"reading the session: {verdict.detail or 'no explanation'}"))
    if session is None or session.updated_at is None:
        # When it was updated is the whole question; without an answer nothing is ended.
        raise UnsettledError(
            Verdict(Outcome.RETRY, http_status=reply.status, detail="the API does not say when the session was updated")
        )
    # The end of a session is an update, too: it may be the very one that an earlier attempt brought about.
    outcome = Outcome.ALREADY_EXITED if session.exited else Outcome.SPARED
    spared = Verdict(outcome, http_status=reply.status, session_status=session.status)
    later = {since for since in conditions if since is not None and session.updated_at > since}
    return dict.fromkeys(later, spared), session


def _terminate(session_id: str, calls: Calls, seen: Session | None, *, redelivered: bool, dry_run: bool) -> Verdict:
    """`seen`: the session as it was before, if it was read."""
    status = None if seen is None else seen.status
    if dry_run:
        calls.ensure_going()
        return Verdict(Outcome.WOULD_TERMINATE, session_status=status)
    reply = calls.terminate(session_id, at_once=seen is not None)
    verdict = replace(calls.verdict(reply), session_status=status)
    if verdict.outcome is not Outcome.REJECTED:
        return verdict
    if seen is not None and seen.exited:
        # Two sweeps may both have asked for it; what has exited stays so.
        return replace(verdict, outcome=Outcome.ALREADY_EXITED)
    # A session that was read alive may have been ended since, by another message that asked for it.
    if redelivered or reply.repeated or reply.status == 409 or seen is not None:
        _, session = calls.session(session_id)
        if session is not None:
            verdict = replace(verdict, session_status=session.status)
            if session.exited:
                return replace(verdict, outcome=Outcome.ALREADY_EXITED)
    return verdict
