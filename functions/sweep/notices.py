"""Termination notices: what was announced and when. The memory behind `notify_first`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

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


class Notices:
    """Items `<policy>/<session id>`. Every method raises TableError: a sweep must not go on without its memory."""

    def __init__(self, table: Table, policy: str) -> None:
        self._table = table
        self._policy = policy

    def of(self, session_ids: Iterable[str]) -> dict[str, TerminationNotice]:
        """The notices there are of these sessions, under this policy."""
        items = self._table.get(map(self._subject, session_ids))
        try:
            return {
                subject.partition("/")[2]: TerminationNotice(
                    *(parse_timestamp(item[name]) for name in ("announced_at", "ends_after", "updated_at"))
                )
                for subject, item in items.items()
            }
        except (KeyError, ValueError) as error:
            raise TableError(f"a notice cannot be read: {error}") from None

    def add(self, notices: Mapping[str, TerminationNotice], now: datetime) -> None:
        """Remember these, in place of earlier notices of the same sessions."""
        items = {
            self._subject(session_id): {
                name: moment.astimezone(UTC).isoformat() for name, moment in asdict(notice).items()
            }
            for session_id, notice in notices.items()
        }
        self._table.put(items, now + _KEPT_FOR)

    def _subject(self, session_id: str) -> str:
        return f"{self._policy}/{session_id}"
