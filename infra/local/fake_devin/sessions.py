"""Sessions: their state, and how each version of the API shows it."""

import re
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

ORG_ID = "org-fake"

# Neither version's reference says how the vocabularies relate. v1's `finished` means that the task is complete, not
# that the session has exited: a `running` session of v3 with the detail `finished`.
_STATUS_ENUM = {"exit": "expired", "error": None, "suspended": "suspend_requested", "resuming": "resume_requested"}
_DETAIL_ENUM = {"waiting_for_user": "blocked", "waiting_for_approval": "blocked", "finished": "finished"}
_BARE = re.compile(r"[0-9a-f]{32}")
# Fields that v3 shows as they are.
_SHOWN = (
    "org_id", "status", "status_detail", "acus_consumed", "title", "user_id", "service_user_id", "origin",
    "is_archived",
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
            "pull_request": None,
        }

    def as_v3(self) -> dict[str, Any]:
        """SessionV3 of the contract; it has no null for tags, and times are whole Unix seconds."""
        bare = self.session_id.removeprefix("devin-")
        return {
            **{name: getattr(self, name) for name in _SHOWN},
            "session_id": bare if _BARE.fullmatch(bare) else self.session_id,
            "created_at": int(self.created_at.timestamp()),
            "updated_at": int(self.updated_at.timestamp()),
            "tags": self.tags or (),
            "url": f"https://app.devin.ai/sessions/{bare}",
            "pull_requests": [],
        }


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
        return self._by_id[session_id]

    def sessions(self) -> list[Session]:
        """All sessions, newest first. The API documents no order; a stable one keeps pages from shifting."""
        with self._lock:
            known = list(self._by_id.values())
        return sorted(known, key=lambda session: (session.created_at, session.session_id), reverse=True)
