"""What differs between the versions of the API."""

from typing import Any


class V1:
    # Statuses: https://docs.devin.ai/api-reference/v1/sessions/retrieve-details-about-an-existing-session (status_enum
    # may be null, then the free text in `status` is all there is) and
    # https://docs.devin.ai/api-reference/v3/sessions/get-organizations-session. A status that is not in `exited` counts
    # as alive: the price of a mistake is a dead letter, not a session forgotten. `finished` means that the task is
    # complete: v1 shows it for sessions that still run, as v3 does in `status_detail`.
    status_fields: tuple[str, ...] = ("status_enum", "status")
    exited = frozenset({"expired", "stopped", "exit", "exited", "terminated"})
    sessions_path = "/v1/sessions"
    user_fields: tuple[str, ...] = ("requesting_user_email",)
    pull_request_field = "pull_request"
    items_field = "sessions"

    @staticmethod
    def page_query(following: str | None) -> dict[str, str]:
        """The query of the page with this cursor, the first one for None."""
        return {"limit": "100", "offset": following or "0"}

    @staticmethod
    def page_after(following: str | None, _answer: dict[str, Any], items: int, /) -> str | None:
        """The cursor of the page after an answer. Raises ValueError if the answer contradicts itself."""
        # A short page is not the last one for sure: the API may give fewer than were asked for.
        return str(int(following or 0) + items) if items else None


class V3(V1):
    status_fields = ("status",)
    exited = frozenset({"exit"})
    sessions_path = "/v3/organizations/{org_id}/sessions"
    # Sessions of API keys and automations have a service user, and null for the user.
    user_fields = ("user_id", "service_user_id")
    pull_request_field = "pull_requests"
    items_field = "items"

    @staticmethod
    def page_query(following: str | None) -> dict[str, str]:
        return {"first": "200"} | ({} if following is None else {"after": following})

    @staticmethod
    def page_after(_following: str | None, answer: dict[str, Any], _items: int, /) -> str | None:
        more, cursor = answer.get("has_next_page"), answer.get("end_cursor")
        if more is None or more is False:
            return None
        if more is not True or not isinstance(cursor, str) or not cursor:
            raise ValueError("there may be more, but there is no way to it")
        return cursor


Version = type[V1]


def version_of(key: str) -> Version:
    return V3 if key.startswith("cog_") else V1
