"""The Devin API: terminate and read a session, in whichever version the key belongs to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from devin.api_key import ApiKeyError
from devin.transport import Reply, Transport
from instant import parse_instant

# A session carries its messages, which nobody here reads but which have to be parsed to get past them.
_SESSION_BYTES = 8 * 1024 * 1024
# Enough for any explanation of a refusal.
_DETAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Session:
    """What this project wants to know of a session; None stands for what the API did not say, or not readably."""

    status: str | None
    exited: bool
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Version:
    """What differs between the versions of the API."""

    sessions_path: str
    status_fields: tuple[str, ...]
    exited: frozenset[str]


# Statuses: https://docs.devin.ai/api-reference/v1/sessions/retrieve-details-about-an-existing-session (status_enum may
# be null, then the free text in `status` is all there is) and
# https://docs.devin.ai/api-reference/v3/sessions/get-organizations-session. A status that is not in `exited` counts as
# alive: the price of a mistake is a dead letter, not a session forgotten.
_V1 = _Version(
    sessions_path="/v1/sessions",
    status_fields=("status_enum", "status"),
    exited=frozenset({"finished", "expired", "stopped", "exit", "exited", "terminated"}),
)
_V3 = _Version(
    sessions_path="/v3/organizations/{org_id}/sessions",
    status_fields=("status",),
    exited=frozenset({"exit"}),
)


class DevinClient:
    """Calls the API with the key and within the time given to each call; what an answer means is for others to say.

    Every method raises TransportError if no whole response arrived, and ApiKeyError if the key needs a setting that
    is missing. Session ids must come from `parse_session_id`.
    """

    def __init__(self, transport: Transport, *, org_id: str | None, archive: bool) -> None:
        self._transport = transport
        self._org_id = org_id
        self._archive = archive

    def terminate(self, session_id: str, *, key: str, seconds: float) -> Reply:
        """DELETE the session: it ends, and cannot be resumed."""
        version = _version_of(key)
        params = {"archive": "true"} if self._archive and version is _V3 else None
        path = f"{self._sessions_path(version)}/{session_id}"
        return self._transport.request(
            "DELETE", path, key=key, params=params, seconds=seconds, keep_bytes=_DETAIL_BYTES
        )

    def get(self, session_id: str, *, key: str, seconds: float) -> tuple[Reply, Session | None]:
        """GET the session; the session is None unless the answer is a 2xx that holds one."""
        version = _version_of(key)
        path = f"{self._sessions_path(version)}/{session_id}"
        reply = self._transport.request("GET", path, key=key, params=None, seconds=seconds, keep_bytes=_SESSION_BYTES)
        fields = _json(reply.body) if 200 <= reply.status < 300 else None
        return reply, _session(fields, version) if isinstance(fields, dict) else None

    def _sessions_path(self, version: _Version) -> str:
        if version is _V3 and self._org_id is None:
            raise ApiKeyError("a key that starts with cog_ needs the organisation's id; set DEVIN_ORG_ID")
        return version.sessions_path.format(org_id=self._org_id)


def error_detail(body: bytes) -> str | None:
    """What the API says of an error: FastAPI's `detail` (a text, or a list of complaints), a problem of RFC 9457, or,
    where it is neither, the text of the body itself. None for an empty body."""
    fields = _json(body)
    if isinstance(fields, dict):
        detail = fields.get("detail")
        if isinstance(detail, list):
            return "; ".join(_complaint(item) for item in detail) or None
        told = [text for text in (fields.get("title"), detail) if isinstance(text, str) and text]
        if told:
            return ": ".join(told)
    return body.decode("utf-8", "replace").strip() or None


def _complaint(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    location, message = item.get("loc"), str(item.get("msg", ""))
    where = ".".join(str(part) for part in location) if isinstance(location, list) else ""
    return f"{where}: {message}" if where else message


def _version_of(key: str) -> _Version:
    return _V3 if key.startswith("cog_") else _V1


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _session(fields: dict[str, Any], version: _Version) -> Session:
    known = (fields.get(name) for name in version.status_fields)
    status = next((value for value in known if isinstance(value, str) and value), None)
    return Session(
        status=status,
        exited=status is not None and status.lower() in version.exited,
        updated_at=_moment(fields.get("updated_at")),
    )


def _moment(value: object) -> datetime | None:
    """v1 tells ISO 8601, v3 Unix seconds."""
    try:
        if isinstance(value, str):
            return parse_instant(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
