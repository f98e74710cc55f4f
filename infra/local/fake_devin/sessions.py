"""Sessions: their state, and how each version of the API shows it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack, cast

ORG_ID = "org-fake"

STATUSES = frozenset({"new", "creating", "claimed", "running", "exit", "error", "suspended", "resuming"})
# Neither version's reference says how the vocabularies relate; this relation is an assumption, except for `exit`.
_STATUS_ENUM = {
    "exit": "finished",
    "error": "expired",
    "suspended": "suspend_requested",
    "resuming": "resume_requested",
}
_WAITING = frozenset({"waiting_for_user", "waiting_for_approval", "finished"})
_ID = re.compile(r"devin-[A-Za-z0-9_-]{1,122}")


def is_session_id(text: str) -> bool:
    """Whether the API would look such an id up at all: `devin-` + letters, digits, `-`, `_`; 128 characters at most."""
    return _ID.fullmatch(text) is not None


class Fields(TypedDict, total=False):
    """What can be set of a session: see Session."""

    org_id: str
    status: str
    status_detail: str | None
    created_at: datetime
    updated_at: datetime
    title: str | None
    tags: tuple[str, ...] | None
    user_email: str | None
    user_id: str | None
    is_archived: bool
    bare_id: bool


def fields_from_json(data: Mapping[str, Any]) -> Fields:
    """Fields whose instants are ISO 8601 texts and whose tags are a list. Raises ValueError on an unknown name."""
    if unknown := data.keys() - Fields.__annotations__.keys():
        raise ValueError(f"a session has no {', '.join(sorted(unknown))}")
    instants = {name: datetime.fromisoformat(data[name]) for name in ("created_at", "updated_at") if name in data}
    return cast(Fields, {**data, **instants})


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session, in the words of v3. Instants are aware; `bare_id`: v3 shows the id without its `devin-`."""

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
    is_archived: bool = False
    bare_id: bool = False

    def __post_init__(self) -> None:
        if not is_session_id(self.session_id):
            raise ValueError(f"{self.session_id!r} is no session id")
        if self.status not in STATUSES:
            raise ValueError(f"{self.status!r} is no status; there are {', '.join(sorted(STATUSES))}")
        if self.created_at.tzinfo is None or self.updated_at.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        if self.tags is not None:
            object.__setattr__(self, "tags", tuple(self.tags))

    @property
    def exited(self) -> bool:
        return self.status == "exit"

    def to_json(self) -> dict[str, Any]:
        """All fields; instants as ISO 8601."""
        return {
            **asdict(self),
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Session:
        """What `to_json` gave. Raises ValueError, KeyError or TypeError on anything else."""
        others = {name: value for name, value in data.items() if name != "session_id"}
        return cls(session_id=data["session_id"], **fields_from_json(others))

    def as_v1(self) -> dict[str, Any]:
        """SessionV1 of the contract."""
        waiting = self.status == "running" and self.status_detail in _WAITING
        status = _STATUS_ENUM.get(self.status, "blocked" if waiting else "working")
        return {
            "session_id": self.session_id,
            "status": status,
            "status_enum": status,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "title": self.title,
            "tags": self.tags,
            "requesting_user_email": self.user_email,
            "pull_request": None,
            "playbook_id": None,
            "snapshot_id": None,
            "structured_output": None,
        }

    def as_v3(self) -> dict[str, Any]:
        """SessionV3 of the contract; it has no null for tags, and instants are whole Unix seconds."""
        return {
            "session_id": self.session_id.removeprefix("devin-") if self.bare_id else self.session_id,
            "org_id": self.org_id,
            "status": self.status,
            "status_detail": self.status_detail,
            "created_at": int(self.created_at.timestamp()),
            "updated_at": int(self.updated_at.timestamp()),
            "acus_consumed": 0.0,
            "tags": self.tags or (),
            "title": self.title,
            "url": f"https://app.devin.ai/sessions/{self.session_id.removeprefix('devin-')}",
            "user_id": self.user_id,
            "is_archived": self.is_archived,
            "parent_session_id": None,
            "child_session_ids": None,
            "pull_requests": [],
        }


def _now() -> datetime:
    return datetime.now(UTC)


class Sessions:
    """All sessions, of every organisation. Safe to share between threads."""

    def __init__(self, clock: Callable[[], datetime] = _now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_id: dict[str, Session] = {}

    def add(self, session_ids: tuple[str, ...], fields: Fields) -> list[Session]:
        """New sessions, created now unless the fields say otherwise. Raises ValueError, adding none, if one exists."""
        created = fields.get("created_at", self._clock())
        defaults: Fields = {"created_at": created, "updated_at": created}
        added = [Session(session_id=session_id, **(defaults | fields)) for session_id in session_ids]
        with self._lock:
            if known := [session_id for session_id in session_ids if session_id in self._by_id]:
                raise ValueError(f"{known[0]} exists already")
            self._by_id.update((session.session_id, session) for session in added)
        return added

    def update(self, session_id: str, **fields: Unpack[Fields]) -> Session:
        """The session with these fields, updated now unless they say otherwise. Raises KeyError for an unknown id."""
        now: Fields = {"updated_at": self._clock()}
        with self._lock:
            session = replace(self._by_id[session_id], **(now | fields))
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
                session, status="exit", status_detail=None, updated_at=self._clock(), is_archived=archive
            )
        return ended

    def get(self, session_id: str) -> Session | None:
        """The session, or None if there is none."""
        return self._by_id.get(session_id)

    def all(self) -> list[Session]:
        """All sessions, newest first. The API documents no order; a stable one keeps pages from shifting."""
        with self._lock:
            known = list(self._by_id.values())
        return sorted(known, key=lambda session: (session.created_at, session.session_id), reverse=True)
