"""Termination notices: what was announced and when. Both functions raise TableError: a sweep must not go on without its
memory."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sweep.policy import Policy, fingerprint
from table import Table, TableError

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
    found = table.get(fingerprint(policy), session_ids)
    try:
        return {session_id: TerminationNotice(**times) for session_id, times in found.items()}
    except TypeError as error:
        raise TableError(f"a notice cannot be read: {error}") from None


def add_notices(table: Table, policy: Policy, notices: Mapping[str, TerminationNotice], now: datetime) -> None:
    """Remember these, in place of earlier notices of the same sessions."""
    times = {session_id: asdict(notice) for session_id, notice in notices.items()}
    table.put(fingerprint(policy), times, now + _KEPT_FOR)
