"""The functions' settings: read from the environment, checked, frozen."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

# The template's pattern. What two parsers could read differently is refused, and so is what would swallow the path that
# is put behind it.
_ADDRESS = re.compile(
    r"(https://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])|"
    r"http://(localhost|127(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}|\[::1\]))"
    r"(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*(?<!/v[0-9])/?"
)


class SettingsError(ValueError):
    """A setting is missing or unusable; the message names the variable and what it should hold."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The stack's settings. Version 1 needs no `devin_org_id`; `retry_base_seconds` is the first step of the backoff.
    Without a `stop_switch_parameter` there is no switch, without an `announcements_table` no policy can announce."""

    devin_api_url: str
    api_key_secret_arn: str
    work_queue_url: str
    dead_letter_queue_url: str
    dry_run: bool
    max_workers: int
    devin_org_id: str | None
    archive: bool
    retry_base_seconds: int
    stop_switch_parameter: str | None
    publish_outcomes: bool
    protect_tag: str
    announcements_table: str | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read and check every variable; raises SettingsError on the first one that will not do."""
        return cls(
            devin_api_url=_api_url(environ.get("DEVIN_API_URL") or "https://api.devin.ai"),
            api_key_secret_arn=_required(environ, "API_KEY_SECRET_ARN", "the ARN or name of the API key's secret"),
            work_queue_url=_required(environ, "WORK_QUEUE_URL", "the URL of the work queue"),
            dead_letter_queue_url=_required(environ, "DEAD_LETTER_QUEUE_URL", "the URL of the dead-letter queue"),
            dry_run=_flag(environ, "DRY_RUN"),
            max_workers=_number(environ, "MAX_WORKERS", default=10, low=1, high=64),
            devin_org_id=_org_id(environ.get("DEVIN_ORG_ID") or None),
            archive=_flag(environ, "ARCHIVE"),
            retry_base_seconds=_number(environ, "RETRY_BASE_SECONDS", default=30, low=1, high=300),
            stop_switch_parameter=environ.get("STOP_SWITCH_PARAMETER") or None,
            publish_outcomes=_flag(environ, "PUBLISH_OUTCOMES"),
            protect_tag=environ.get("PROTECT_TAG") or "keep",
            announcements_table=environ.get("ANNOUNCEMENTS_TABLE") or None,
        )


def _required(environ: Mapping[str, str], name: str, what: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set; it should hold {what}")
    return value


def _flag(environ: Mapping[str, str], name: str) -> bool:
    flag = {"": False, "false": False, "0": False, "true": True, "1": True}.get(environ.get(name, "").lower())
    if flag is None:  # an unreadable DRY_RUN must not count as "no"
        raise SettingsError(f"{name} should hold true or false")
    return flag


def _number(environ: Mapping[str, str], name: str, *, default: int, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,4}", text) or not low <= int(text) <= high:
        raise SettingsError(f"{name} should hold a whole number from {low} to {high}")
    return int(text)


def _org_id(value: str | None) -> str | None:
    # It becomes a path segment of every v3 call, so it is matched against an allow-list like a session id.
    if value is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", value):
        raise SettingsError("DEVIN_ORG_ID should hold an organisation id such as org-abc123def456")
    return value


def _api_url(value: str) -> str:
    # Splitting raises ValueError for a host in brackets that is none, reading the port for one that is too large.
    with suppress(ValueError):
        if _ADDRESS.fullmatch(value) and urlsplit(value).port != 0:
            return value.rstrip("/")
    raise SettingsError(
        "DEVIN_API_URL should hold an https address (http for loopback addresses alone) without the API's version, "
        "e.g. https://api.devin.ai"
    )
