"""Which sessions a sweep would end: judged one by one as they are listed, and held against the caps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from devin.session import Session
from sweep.announcements import Announcement
from sweep.policy import Policy, judge

_SAMPLE = 10


@dataclass(frozen=True, slots=True)
class Choice:
    """A session that the policy chooses, when it was last updated, and why it is chosen."""

    session_id: str
    updated_at: datetime
    why: tuple[str, ...]


@dataclass(slots=True)
class Selection:
    """The chosen sessions, and how many were kept for which reason."""

    chosen: dict[str, Choice] = field(default_factory=dict)
    _kept: dict[str, str] = field(default_factory=dict)
    _nameless: int = 0

    @property
    def kept(self) -> Counter[str]:
        kept = Counter(self._kept.values())
        if self._nameless:
            kept["no session id"] = self._nameless
        return kept

    @property
    def listed(self) -> int:
        return len(self.chosen) + len(self._kept) + self._nameless

    def add(self, session: Session, policy: Policy, now: datetime, protect_tag: str) -> None:
        """Judge a session. One that is listed twice is chosen only if it is both times: pages shift while sessions
        change, and either showing may be the older one."""
        judgement = judge(policy, session, now, protect_tag)
        if session.session_id is None:
            self._nameless += 1
        elif not judgement.chosen or session.updated_at is None:
            self.chosen.pop(session.session_id, None)
            self._kept[session.session_id] = judgement.reasons[0]
        elif session.session_id not in self._kept:
            before = self.chosen.get(session.session_id)
            # The earlier of two dates spares the session if it was used in between.
            updated_at = session.updated_at if before is None else min(before.updated_at, session.updated_at)
            self.chosen[session.session_id] = Choice(session.session_id, updated_at, judgement.reasons)


class CapExceededError(Exception):
    """The policy chooses more than it may; nothing was done. The message has the numbers and a sample."""


def check_caps(selection: Selection, policy: Policy) -> None:
    """Raises CapExceededError if more was chosen than the policy's `max_sessions`, or than its `max_share` of what was
    listed: the mark of a policy that says something else than its author meant."""
    # What has no id cannot be told apart from another showing of itself, and must not make the share look smaller.
    chosen, listed = len(selection.chosen), selection.listed - selection.kept["no session id"]
    share = chosen / listed if listed else 0.0
    exceeded = []
    if chosen > policy.max_sessions:
        exceeded.append(f"max_sessions is {policy.max_sessions}")
    if share > policy.max_share:
        exceeded.append(f"max_share is {policy.max_share:g}")
    if exceeded:
        sample = ", ".join(sorted(selection.chosen)[:_SAMPLE])
        raise CapExceededError(
            f"{chosen} of {listed} sessions match, a share of {share:.2f}, but {' and '.join(exceeded)}; "
            f"nothing was enqueued. Among them: {sample}"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the chosen: end them, announce their end, or wait until an announcement is old enough."""

    due: tuple[Choice, ...]
    to_announce: tuple[Choice, ...]
    waiting: tuple[Choice, ...]


def plan(chosen: Iterable[Choice], announced: dict[str, Announcement], notice: timedelta | None, now: datetime) -> Plan:
    """Sort the chosen by what was announced of them. A session that was updated after its announcement was used
    again: that announcement counts no more."""
    due, to_announce, waiting = [], [], []
    for choice in chosen:
        announcement = announced.get(choice.session_id)
        if notice is None:
            due.append(choice)
        elif announcement is None or choice.updated_at != announcement.updated_at or announcement.announced_at > now:
            to_announce.append(choice)
        elif now < max(announcement.ends_after, announcement.announced_at + notice):
            # A notice that was shortened since does not take back what was promised.
            waiting.append(choice)
        else:
            due.append(choice)
    return Plan(tuple(due), tuple(to_announce), tuple(waiting))
