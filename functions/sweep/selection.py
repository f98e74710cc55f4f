"""Which sessions a sweep would end: evaluated as they are listed, then by families, then checked against the caps."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from devin.session import Session
from sweep.notices import TerminationNotice
from sweep.policy import Policy, evaluate


@dataclass(frozen=True, slots=True)
class Candidate:
    """A session that matches the policy, and why."""

    session_id: str
    updated_at: datetime
    why: tuple[str, ...]


@dataclass(slots=True)
class Selection:
    """The sessions that match, and the `reasons` for which the others are kept."""

    matched: dict[str, Candidate] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)
    _family_reasons: dict[str, str] = field(default_factory=dict)
    # A disjoint-set forest: members point to another one of their family, the root to itself.
    _families: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> Counter[str]:
        return Counter(self.reasons.values())

    @property
    def listed(self) -> int:
        return len(self.matched) + len(self.reasons)

    @property
    def alive(self) -> int:
        """How many could be ended."""
        return self.listed - len(self._ended)

    def add(self, session: Session, policy: Policy, now: datetime, protect_tag: str) -> None:
        """Evaluate a session. One that is listed twice matches only if both occurrences do: pages shift while sessions
        change, and either may be the older one."""
        evaluation = evaluate(policy, session, now, protect_tag)
        # Interned, because relatives name it too.
        session_id = sys.intern(session.session_id or f"without an id, {len(self.reasons)}")
        # One without an id may be listed twice, so it does not count as alive.
        if session.session_id is None or session.exited or session.is_archived:
            self._ended.add(session_id)
        if evaluation.family_reason is not None:
            self._family_reasons[session_id] = evaluation.family_reason
        for relative in (session.parent_session_id, *session.child_session_ids):
            if relative is not None:
                self._families[self._family(session_id)] = self._family(sys.intern(relative))
        if not evaluation.matched or session.updated_at is None:
            self.keep({session_id: evaluation.reasons[0]})
        elif session_id not in self.reasons:
            before = self.matched.get(session_id)
            # The earlier of two dates spares the session if it was used in between.
            updated_at = session.updated_at if before is None else min(before.updated_at, session.updated_at)
            self.matched[session_id] = Candidate(session_id, updated_at, evaluation.reasons)

    def keep(self, reasons: Mapping[str, str]) -> None:
        """Keep these sessions, whether they matched or not."""
        for session_id, reason in reasons.items():
            self.matched.pop(session_id, None)
            self.reasons[session_id] = reason

    def keep_rejected(self, rejected: Mapping[str, datetime | None]) -> None:
        """Keep what the API refused to end and was not updated since (None: unknown): else it would be a dead letter
        at every sweep."""
        self.keep({
            session_id: "rejected before"
            for session_id, updated_at in rejected.items()
            if session_id in self.matched
            and (updated_at is None or self.matched[session_id].updated_at <= updated_at)
        })  # fmt: skip

    def keep_families(self) -> None:
        """Keep what matched if a relative is in use, protected, or not listed. Call it when everything is listed."""
        reasons: dict[str, str] = {}
        for member in self._families:
            listed = member in self.matched or member in self.reasons
            reason = self._family_reasons.get(member) if listed else "not listed"
            if reason is not None:
                family = self._family(member)
                reasons[family] = min(reason, reasons.get(family, reason))
        for member in self._families:
            if member in self.matched and (family := self._family(member)) in reasons:
                self.keep({member: f"family: {reasons[family]}"})

    def _family(self, member: str) -> str:
        """The root of the member's family."""
        while (other := self._families.setdefault(member, member)) != member:
            self._families[member] = member = self._families[other]
        return member


class CapExceededError(Exception):
    """More sessions match than the policy allows; nothing was done. The message has the numbers and a sample."""


def check_caps(selection: Selection, policy: Policy) -> None:
    """Raises CapExceededError if more sessions match than the policy's `max_sessions`, or than its `max_share` of those
    that could be ended: the policy may say something else than its author meant."""
    matched, alive = len(selection.matched), selection.alive
    share = matched / alive if alive else 0.0
    exceeded = [f"max_sessions is {policy.max_sessions}"] if matched > policy.max_sessions else []
    exceeded += [f"max_share is {policy.max_share:g}"] if share > policy.max_share else []
    if exceeded:
        sample = ", ".join(sorted(selection.matched)[:10])
        raise CapExceededError(
            f"{matched} of {alive} sessions that could be ended match, a share of {share:.2f}, but "
            f"{' and '.join(exceeded)}; nothing was enqueued. Among them: {sample}"
        )


def plan(
    candidates: Iterable[Candidate],
    notices: Mapping[str, TerminationNotice],
    notify_first: timedelta | None,
    now: datetime,
) -> dict[str, list[Candidate]]:
    """Which candidates are `due` to end, which are `to_announce`, and which are `waiting` until their notice is old
    enough. A session that was updated after its notice was used again: that notice is void."""
    planned: dict[str, list[Candidate]] = {"due": [], "to_announce": [], "waiting": []}
    for candidate in candidates:
        notice = notices.get(candidate.session_id)
        if notify_first is None:
            then = "due"
        elif notice is None or candidate.updated_at != notice.updated_at or notice.announced_at > now:
            then = "to_announce"
        elif now < max(notice.ends_after, notice.announced_at + notify_first):
            # A policy that was shortened since does not take back what was announced.
            then = "waiting"
        else:
            then = "due"
        planned[then].append(candidate)
    return planned
