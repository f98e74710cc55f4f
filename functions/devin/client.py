"""The Devin API: terminate, read and list sessions, in whichever version the key belongs to."""

from __future__ import annotations

from devin.api_key import ApiKeyError
from devin.http import Reply, Transport
from devin.session import PAGE_BYTES, SESSION_BYTES, Page, Session, parse_page_body, parse_session_body
from devin.version import V3, Version, version_of

# Enough for any explanation of a refusal.
_DETAIL_BYTES = 64 * 1024


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
        version = version_of(key)
        params = {"archive": "true"} if self._archive and version is V3 else None
        path = f"{self._sessions_path(version)}/{session_id}"
        return self._transport.request(
            "DELETE", path, key=key, params=params, seconds=seconds, keep_bytes=_DETAIL_BYTES
        )

    def get(self, session_id: str, *, key: str, seconds: float) -> tuple[Reply, Session | None]:
        """GET the session; the session is None unless the answer is a 2xx that holds one."""
        version = version_of(key)
        path = f"{self._sessions_path(version)}/{session_id}"
        reply = self._transport.request("GET", path, key=key, params=None, seconds=seconds, keep_bytes=SESSION_BYTES)
        return reply, parse_session_body(reply.body, version) if 200 <= reply.status < 300 else None

    def page(self, following: str | None, *, key: str, seconds: float) -> tuple[Reply, Page | None]:
        """GET a page of the organisation's sessions, the first one for None; the page is None unless the answer is a
        2xx that holds one."""
        version = version_of(key)
        path, query = self._sessions_path(version), version.page_query(following)
        reply = self._transport.request("GET", path, key=key, params=query, seconds=seconds, keep_bytes=PAGE_BYTES)
        return reply, parse_page_body(reply.body, version, following) if 200 <= reply.status < 300 else None

    def _sessions_path(self, version: Version) -> str:
        if version is V3 and self._org_id is None:
            raise ApiKeyError("a key that starts with cog_ needs the organisation's id; set DEVIN_ORG_ID")
        return version.sessions_path.format(org_id=self._org_id)


def bad_key_is_403(key: str) -> bool:
    """Whether the version that the key belongs to answers 403 to a bad key, as it does to a session that is not the
    organisation's."""
    return version_of(key).bad_key_is_403
