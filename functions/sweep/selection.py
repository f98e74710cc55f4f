"""Which sessions a sweep would end: evaluated as they are listed, then by families, then checked against the caps."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from devin.session import Session
from sweep.notices import TerminationNotice
from sweep.policy import Policy, evaluate

_SAMPLE = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """A session that matches the policy, and why."""

    session_id: str
    updated_at: datetime
    why: tuple[str, ...]


@dataclass(slots=True)
class Selection:
    """The sessions that match, and how many are kept for which reason."""

    matched: dict[str, Candidate] = field(default_factory=dict)
    _kept: dict[str, str] = field(default_factory=dict)
    _without_id: int = 0
    _ended: set[str] = field(default_factory=set)
    _family_reasons: dict[str, str] = field(default_factory=dict)
    # A disjoint-set forest: members point to another one of their family, the root to itself.
    _families: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> Counter[str]:
        kept = Counter(self._kept.values())
        if self._without_id:
            kept["no session id"] = self._without_id
        return kept

    @property
    def listed(self) -> int:
        return len(self.matched) + len(self._kept) + self._without_id

    @property
    def alive(self) -> int:
        """How many could be ended. A session without an id may be listed twice, so it does not count."""
        return len(self.matched) + len(self._kept) - len(self._ended)

    def add(self, session: Session, policy: Policy, now: datetime, protect_tag: str) -> None:
        """Evaluate a session. One that is listed twice matches only if both occurrences do: pages shift while sessions
        change, and either may be the older one."""
        evaluation = evaluate(policy, session, now, protect_tag)
        relatives = [
            sys.intern(one) for one in (session.parent_session_id, *session.child_session_ids) if one is not None
        ]
        if session.session_id is None:
            self._without_id += 1
            for relative in relatives:
                self._family_reasons.setdefault(self._family(relative), "no session id")
            return
        # Interned, because relatives name it too.
        session_id = sys.intern(session.session_id)
        if session.exited or session.is_archived:
            self._ended.add(session_id)
        if evaluation.family_reason is not None:
            self._family_reasons[session_id] = evaluation.family_reason
        for relative in relatives:
            self._families[self._family(session_id)] = self._family(relative)
        if not evaluation.matched or session.updated_at is None:
            self.keep({session_id: evaluation.reasons[0]})
        elif session_id not in self._kept:
            before = self.matched.get(session_id)
            # The earlier of two dates spares the session if it was used in between.
            updated_at = session.updated_at if before is None else min(before.updated_at, session.updated_at)
            self.matched[session_id] = Candidate(session_id, updated_at, evaluation.reasons)

    def keep(self, reasons: Mapping[str, str]) -> None:
        """Keep these sessions, whether they matched or not."""
        for session_id, reason in reasons.items():
            self.matched.pop(session_id, None)
            self._kept[session_id] = reason

    def reason(self, session_id: str) -> str | None:
        """Why the session is kept, None if it matches or is not listed."""
        return self._kept.get(session_id)

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
            listed = member in self.matched or member in self._kept
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
        sample = ", ".join(sorted(selection.matched)[:_SAMPLE])
        raise CapExceededError(
            f"{matched} of {alive} sessions that could be ended match, a share of {share:.2f}, but "
            f"{' and '.join(exceeded)}; nothing was enqueued. Among them: {sample}"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the sessions that match: end them, announce it, or wait until the notice is old enough."""

    ready: tuple[Candidate, ...]
    to_announce: tuple[Candidate, ...]
    waiting: tuple[Candidate, ...]


def plan(
    candidates: Iterable[Candidate],
    notices: Mapping[str, TerminationNotice],
    notify_first: timedelta | None,
    now: datetime,
) -> Plan:
    """Sort the candidates by the notices there are. A session that was updated after its notice was used again: that
    notice is void."""
    ready, to_announce, waiting = [], [], []
    for candidate in candidates:
        notice = notices.get(candidate.session_id)
        if notify_first is None:
            ready.append(candidate)
        elif notice is None or candidate.updated_at != notice.updated_at or notice.announced_at > now:
            to_announce.append(candidate)
        elif now < max(notice.ends_after, notice.announced_at + notify_first):
            # A policy that was shortened since does not take back what was announced.
            waiting.append(candidate)
        else:
            ready.append(candidate)
    return Plan(tuple(ready), tuple(to_announce), tuple(waiting))
