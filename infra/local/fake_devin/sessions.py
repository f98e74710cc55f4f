"""Sessions: their state, and how each version of the API shows it."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

ORG_ID = "org-fake"

# Neither version's reference says how the vocabularies relate. v1's `finished` means that the task is complete, not
# that the session has exited: a `running` session of v3 with the detail `finished`.
_STATUS_ENUM = {"exit": "expired", "error": None, "suspended": "suspend_requested", "resuming": "resume_requested"}
_DETAIL_ENUM = {"waiting_for_user": "blocked", "waiting_for_approval": "blocked", "finished": "finished"}
# A session that waits for a person falls asleep after some 0.1 ACU of idleness. Whether that moves `updated_at` is not
# known; here it does not.
_SLEEPS_AFTER = timedelta(minutes=30)
# Fields that v3 shows as they are.
_SHOWN = (
    "org_id", "status", "status_detail", "acus_consumed", "title", "user_id", "service_user_id", "origin",
    "playbook_id", "automation_id", "category", "is_archived",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session, in the words of v3."""

    session_id: str
    created_at: datetime
    updated_at: datetime
    org_id: str = ORG_ID
    status: str = "running"
    status_detail: str | None = None
    title: str | None = None
    tags: tuple[str, ...] | None = ()
    user_email: str | None = None
    user_id: str | None = None
    service_user_id: str | None = None
    origin: str | None = None
    playbook_id: str | None = None
    automation_id: str | None = None
    category: str | None = None
    parent_session_id: str | None = None
    pull_request_states: tuple[str | None, ...] = ()
    acus_consumed: float = 0.0
    is_archived: bool = False

    @property
    def exited(self) -> bool:
        return self.status == "exit"

    def as_v1(self) -> dict[str, Any]:
        """SessionV1 of the contract."""
        status = _STATUS_ENUM.get(self.status, _DETAIL_ENUM.get(self.status_detail or "", "working"))
        return {
            "session_id": self.session_id,
            "status": status or self.status,
            "status_enum": status,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "title": self.title,
            "tags": self.tags,
            "requesting_user_email": self.user_email,
            "pull_request": {"url": self._pull_request(1)} if self.pull_request_states else None,
            "playbook_id": self.playbook_id,
        }

    def as_v3(self, children: Sequence[str] = ()) -> dict[str, Any]:
        """SessionV3 of the contract; it has no null for tags, and times are whole Unix seconds."""
        return {
            **{name: getattr(self, name) for name in _SHOWN},
            "session_id": _shown(self.session_id),
            "created_at": int(self.created_at.timestamp()),
            "updated_at": int(self.updated_at.timestamp()),
            "tags": self.tags or (),
            "url": f"https://app.devin.ai/sessions/{self.session_id.removeprefix('devin-')}",
            "parent_session_id": self.parent_session_id and _shown(self.parent_session_id),
            "child_session_ids": [_shown(child) for child in children] or None,
            "pull_requests": [
                {"pr_url": self._pull_request(number), "pr_state": state}
                for number, state in enumerate(self.pull_request_states, 1)
            ],
        }

    def _pull_request(self, number: int) -> str:
        return f"https://github.com/example/{self.session_id}/pull/{number}"


class Sessions:
    """All sessions, of every organisation. Safe to share between threads. Unknown ids raise KeyError."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, Session] = {}

    def add_sessions(self, *session_ids: str, **fields: Any) -> None:
        """New sessions with these fields, created now unless they say otherwise. Raises ValueError if one exists."""
        created = fields.get("created_at", datetime.now(UTC))
        fields = {"created_at": created, "updated_at": created, **fields}
        added = {session_id: Session(session_id=session_id, **fields) for session_id in session_ids}
        with self._lock:
            if known := added.keys() & self._by_id.keys():
                raise ValueError(f"{min(known)} exists already")
            self._by_id |= added

    def update_session(self, session_id: str, **fields: Any) -> Session:
        """The session with these fields, updated now unless they say otherwise."""
        with self._lock:
            return self._update(session_id, **fields)

    def _update(self, session_id: str, **fields: Any) -> Session:
        session = replace(self._by_id[session_id], **{"updated_at": datetime.now(UTC), **fields})
        self._by_id[session_id] = session
        return session

    def wake(self, session_id: str) -> None:
        """The session goes on working, now."""
        self.update_session(session_id, status="running", status_detail="working")

    def terminate(self, session_id: str, *, archive: bool) -> Session | None:
        """End a session, or return None if it had exited: of two calls at once exactly one ends it."""
        with self._lock:
            if self._by_id[session_id].exited:
                return None
            return self._update(session_id, status="exit", status_detail=None, is_archived=archive)

    def archive(self, session_id: str) -> Session:
        """Archive a session, and put it to sleep unless it has exited."""
        asleep = {} if self.session(session_id).exited else {"status": "suspended", "status_detail": "user_request"}
        return self.update_session(session_id, **asleep, is_archived=True)

    def session(self, session_id: str) -> Session:
        return _now(self._by_id[session_id])

    def sessions(self) -> list[Session]:
        """All sessions, newest first. The API documents no order; a stable one keeps pages from shifting."""
        with self._lock:
            known = [_now(session) for session in self._by_id.values()]
        return sorted(known, key=lambda session: (session.created_at, session.session_id), reverse=True)

    def children(self) -> dict[str, list[str]]:
        """Ids of children by the id of their parent."""
        children: dict[str, list[str]] = {}
        with self._lock:
            for session in self._by_id.values():
                if session.parent_session_id is not None:
                    children.setdefault(session.parent_session_id, []).append(session.session_id)
        return children


def _now(session: Session) -> Session:
    idle = session.status == "running" and session.status_detail in _DETAIL_ENUM
    if idle and datetime.now(UTC) - session.updated_at > _SLEEPS_AFTER:
        return replace(session, status="suspended", status_detail="inactivity")
    return session


def _shown(session_id: str) -> str:
    bare = session_id.removeprefix("devin-")
    return bare if re.fullmatch("[0-9a-f]{32}", bare) else session_id
