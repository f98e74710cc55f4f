"""Termination notices: what was announced and when. The memory behind `notify_first`.

Items `<policy>/<session id>` of the table. Both functions raise TableError: a sweep must not go on without its memory.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from sweep.policy import Policy, fingerprint
from table import Table, TableError
from timestamps import parse_timestamp

# Three times the longest `notify_first`. A session that still matches after that is announced again.
_KEPT_FOR = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class TerminationNotice:
    """A notice, published at `announced_at`, that a session ends after `ends_after` unless it is updated after
    `updated_at`."""

    announced_at: datetime
    ends_after: datetime
    updated_at: datetime


def notices_of(table: Table, policy: Policy, session_ids: Iterable[str]) -> dict[str, TerminationNotice]:
    """The notices there are of these sessions, under this policy."""
    prefix = fingerprint(policy)
    try:
        return {
            subject.partition("/")[2]: TerminationNotice(
                *(parse_timestamp(item[name]) for name in ("announced_at", "ends_after", "updated_at"))
            )
            for subject, item in table.get(f"{prefix}/{session_id}" for session_id in session_ids).items()
        }
    except (KeyError, ValueError) as error:
        raise TableError(f"a notice cannot be read: {error}") from None


def add_notices(table: Table, policy: Policy, notices: Mapping[str, TerminationNotice], now: datetime) -> None:
    """Remember these, in place of earlier notices of the same sessions."""
    prefix = fingerprint(policy)
    items = {
        f"{prefix}/{session_id}": {name: moment.astimezone(UTC).isoformat() for name, moment in asdict(notice).items()}
        for session_id, notice in notices.items()
    }
    table.put(items, now + _KEPT_FOR)
