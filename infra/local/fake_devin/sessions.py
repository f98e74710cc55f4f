"""Sessions: their state, and how each version of the API shows it."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

ORG_ID = "org-fake"

STATUSES = frozenset({"new", "creating", "claimed", "running", "exit", "error", "suspended", "resuming"})
# Neither version's reference says how the vocabularies relate. v1's `finished` means that the task is complete, not
# that the session has exited: a `running` session of v3 with the detail `finished`.
_STATUS_ENUM = {"exit": "expired", "error": None, "suspended": "suspend_requested", "resuming": "resume_requested"}
_IDLE = frozenset({"waiting_for_user", "waiting_for_approval", "finished"})
# A session that waits for a person falls asleep after some 0.1 ACU of idleness. Whether that moves `updated_at` is not
# known; here it does not.
_SLEEPS_AFTER = timedelta(minutes=30)
_ID = re.compile(r"devin-[A-Za-z0-9_-]{1,122}")
_BARE = re.compile(r"devin-[0-9a-f]{32}")
# Fields that v3 shows as they are.
_SHOWN = (
    "org_id", "status", "status_detail", "acus_consumed", "title", "user_id", "service_user_id", "origin",
    "playbook_id", "automation_id", "category", "is_archived",
)  # fmt: skip


def is_session_id(text: str) -> bool:
    """Whether the API would look such an id up at all: `devin-` + letters, digits, `-`, `_`; 128 characters at most."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session, in the words of v3. Raises ValueError for an id, a status or a time that is none.

    `bare_id`: v3 shows the id without its `devin-`, as it does with every id of 32 hexadecimal digits.
    """

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
    bare_id: bool = False

    def __post_init__(self) -> None:
        if not is_session_id(self.session_id):
            raise ValueError(f"{self.session_id!r} is no session id")
        if self.status not in STATUSES:
            raise ValueError(f"{self.status!r} is no status; there are {', '.join(sorted(STATUSES))}")
        if self.created_at.tzinfo is None or self.updated_at.tzinfo is None:
            raise ValueError("a time needs a time zone")

    @property
    def exited(self) -> bool:
        return self.status == "exit"

    @property
    def idle(self) -> bool:
        return self.status == "running" and self.status_detail in _IDLE

    def as_v1(self) -> dict[str, Any]:
        """SessionV1 of the contract."""
        running = "working"
        if self.idle:
            running = "finished" if self.status_detail == "finished" else "blocked"
        status = _STATUS_ENUM.get(self.status, running)
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
            "snapshot_id": None,
            "structured_output": None,
        }

    def as_v3(self, children: Sequence[str] = ()) -> dict[str, Any]:
        """SessionV3 of the contract; it has no null for tags, and times are whole Unix seconds."""
        return {
            **{name: getattr(self, name) for name in _SHOWN},
            "session_id": self._shown(self.session_id),
            "created_at": int(self.created_at.timestamp()),
            "updated_at": int(self.updated_at.timestamp()),
            "tags": self.tags or (),
            "url": f"https://app.devin.ai/sessions/{self.session_id.removeprefix('devin-')}",
            "parent_session_id": self.parent_session_id and self._shown(self.parent_session_id),
            "child_session_ids": [self._shown(child) for child in children] or None,
            "pull_requests": [
                {"pr_url": self._pull_request(number), "pr_state": state}
                for number, state in enumerate(self.pull_request_states, 1)
            ],
        }

    def _shown(self, session_id: str) -> str:
        return session_id.removeprefix("devin-") if self.bare_id or _BARE.fullmatch(session_id) else session_id

    def _pull_request(self, number: int) -> str:
        return f"https://github.com/example/{self.session_id}/pull/{number}"


class Sessions:
    """All sessions, of every organisation. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, Session] = {}

    def add(self, session_ids: tuple[str, ...], fields: Mapping[str, Any]) -> None:
        """New sessions, created now unless the fields say otherwise. Raises ValueError, adding none, if one exists."""
        created = fields.get("created_at", datetime.now(UTC))
        fields = {"created_at": created, "updated_at": created, **fields}
        added = {session_id: Session(session_id=session_id, **fields) for session_id in session_ids}
        with self._lock:
            if known := added.keys() & self._by_id.keys():
                raise ValueError(f"{min(known)} exists already")
            self._by_id |= added

    def update(self, session_id: str, **fields: Any) -> Session:
        """The session with these fields, updated now unless they say otherwise. Raises KeyError for an unknown id."""
        with self._lock:
            session = replace(self._by_id[session_id], **{"updated_at": datetime.now(UTC), **fields})
            self._by_id[session_id] = session
        return session

    def terminate(self, session_id: str, *, archive: bool = False) -> Session | None:
        """Ends a session and returns it, or returns None if it had exited. Raises KeyError for an unknown id.

        One step, so that of two calls at once exactly one ends the session.
        """
        with self._lock:
            session = self._by_id[session_id]
            if session.exited:
                return None
            self._by_id[session_id] = ended = replace(
                session, status="exit", status_detail=None, updated_at=datetime.now(UTC), is_archived=archive
            )
        return ended

    def archive(self, session_id: str) -> Session:
        """Archives a session, and puts it to sleep unless it has exited. Raises KeyError for an unknown id."""
        if self._by_id[session_id].exited:
            return self.update(session_id, is_archived=True)
        return self.update(session_id, status="suspended", status_detail="user_request", is_archived=True)

    def get(self, session_id: str) -> Session:
        """The session as it is now. Raises KeyError for an unknown id."""
        return _now(self._by_id[session_id])

    def children(self) -> dict[str, list[str]]:
        """Ids of children by the id of their parent."""
        children: dict[str, list[str]] = {}
        with self._lock:
            for session in self._by_id.values():
                if session.parent_session_id is not None:
                    children.setdefault(session.parent_session_id, []).append(session.session_id)
        return children

    def all(self) -> list[Session]:
        """All sessions, newest first. The API documents no order; a stable one keeps pages from shifting."""
        with self._lock:
            known = [_now(session) for session in self._by_id.values()]
        return sorted(known, key=lambda session: (session.created_at, session.session_id), reverse=True)


def _now(session: Session) -> Session:
    if session.idle and datetime.now(UTC) - session.updated_at > _SLEEPS_AFTER:
        return replace(session, status="suspended", status_detail="inactivity")
    return session
