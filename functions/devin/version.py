"""The versions of the API."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Version:
    """What differs between the versions of the API.

    `page_query` makes the query of a page from `following`; `page_after` finds the next `following` in an answer, and
    raises ValueError if the answer contradicts itself.
    """

    sessions_path: str
    status_fields: tuple[str, ...]
    exited: frozenset[str]
    user_fields: tuple[str, ...]
    pull_request_field: str
    items_field: str
    page_query: Callable[[str | None], dict[str, str]]
    page_after: Callable[[str | None, dict[str, Any], int], str | None]


def _offset_after(following: str | None, _: dict[str, Any], items: int) -> str | None:
    # A short page is not the last one for sure: the API may give fewer than were asked for.
    return str(int(following or 0) + items) if items else None


def _cursor_after(_: str | None, answer: dict[str, Any], __: int) -> str | None:
    more, cursor = answer.get("has_next_page"), answer.get("end_cursor")
    if more is None or more is False:
        return None
    if more is not True or not isinstance(cursor, str) or not cursor:
        raise ValueError("there may be more, but there is no way to it")
    return cursor


# Statuses: https://docs.devin.ai/api-reference/v1/sessions/retrieve-details-about-an-existing-session (status_enum may
# be null, then the free text in `status` is all there is) and
# https://docs.devin.ai/api-reference/v3/sessions/get-organizations-session. A status that is not in `exited` counts as
# alive: the price of a mistake is a dead letter, not a session forgotten. `finished` means that the task is complete:
# v1 shows it for sessions that still run, as v3 does in `status_detail`.
V1 = Version(
    sessions_path="/v1/sessions",
    status_fields=("status_enum", "status"),
    exited=frozenset({"expired", "stopped", "exit", "exited", "terminated"}),
    user_fields=("requesting_user_email",),
    pull_request_field="pull_request",
    items_field="sessions",
    page_query=lambda following: {"limit": "100", "offset": following or "0"},
    page_after=_offset_after,
)
V3 = Version(
    sessions_path="/v3/organizations/{org_id}/sessions",
    status_fields=("status",),
    exited=frozenset({"exit"}),
    # Sessions of API keys and automations have a service user, and null for the user.
    user_fields=("user_id", "service_user_id"),
    pull_request_field="pull_requests",
    items_field="items",
    page_query=lambda following: {"first": "200"} | ({} if following is None else {"after": following}),
    page_after=_cursor_after,
)


def version_of(key: str) -> Version:
    return V3 if key.startswith("cog_") else V1
