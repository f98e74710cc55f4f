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
    r"(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*(?<!/v[0-9])(?<!/v[0-9]{2})/?"
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
            api_key_secret_arn=_setting(environ, "API_KEY_SECRET_ARN", r".+", "the ARN or name of the key's secret"),
            work_queue_url=_setting(environ, "WORK_QUEUE_URL", r".+", "the URL of the work queue"),
            dead_letter_queue_url=_setting(environ, "DEAD_LETTER_QUEUE_URL", r".+", "the URL of the dead-letter queue"),
            dry_run=_flag(environ, "DRY_RUN"),
            max_workers=int(_setting(environ, "MAX_WORKERS", r"[1-9]|[1-5][0-9]|6[0-4]", "1 to 64", "10")),
            # It becomes a path segment of every v3 call, so it is matched against an allow-list like a session id.
            devin_org_id=_setting(
                environ, "DEVIN_ORG_ID", r"[A-Za-z0-9_-]{0,128}", "an organisation id such as org-abc123def456"
            )
            or None,
            archive=_flag(environ, "ARCHIVE"),
            retry_base_seconds=int(
                _setting(environ, "RETRY_BASE_SECONDS", r"[1-9][0-9]?|[12][0-9]{2}|300", "1 to 300 seconds", "30")
            ),
            stop_switch_parameter=environ.get("STOP_SWITCH_PARAMETER") or None,
            publish_outcomes=_flag(environ, "PUBLISH_OUTCOMES"),
            protect_tag=environ.get("PROTECT_TAG") or "keep",
            announcements_table=environ.get("ANNOUNCEMENTS_TABLE") or None,
        )


def _setting(environ: Mapping[str, str], name: str, pattern: str, expected: str, default: str = "") -> str:
    value = environ.get(name) or default
    if not re.fullmatch(pattern, value):
        raise SettingsError(f"{name} should hold {expected}")
    return value


def _flag(environ: Mapping[str, str], name: str) -> bool:
    # An unreadable DRY_RUN must not count as "no".
    return _setting(environ, name, "(?i:true|false|1|0|)", "true or false").lower() in {"true", "1"}


def _api_url(value: str) -> str:
    # Splitting raises ValueError for a host in brackets that is none, reading the port for one that is too large.
    with suppress(ValueError):
        if _ADDRESS.fullmatch(value) and urlsplit(value).port != 0:
            return value.rstrip("/")
    raise SettingsError(
        "DEVIN_API_URL should hold an https address (http for loopback addresses alone) without the API's version, "
        "e.g. https://api.devin.ai"
    )
