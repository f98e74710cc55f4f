"""Sessions that the API refused to end, so that no sweep asks for the same again."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from table import Table, TableError
from timestamps import parse_timestamp

# Then it is tried once more: the API may have changed.
_KEPT_FOR = timedelta(days=30)


class Rejections:
    """Items `rejected/<session id>` with the session's `updated_at`."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def remember(self, rejected: Mapping[str, datetime | None], now: datetime) -> str | None:
        """Remember the sessions and when they were last updated, None if unknown. Best effort: tries once, and returns
        what went wrong instead of raising it."""
        items = {
            f"rejected/{session_id}": {"updated_at": updated_at.isoformat()} if updated_at else {}
            for session_id, updated_at in rejected.items()
        }
        try:
            self._table.put(items, now + _KEPT_FOR, attempts=1)
        except TableError as error:
            return str(error)
        return None

    def of(self, session_ids: Iterable[str]) -> dict[str, datetime | None]:
        """Those that were rejected, with the time they were last updated. Raises TableError."""
        items = self._table.get(f"rejected/{session_id}" for session_id in session_ids)
        try:
            return {
                subject.removeprefix("rejected/"): parse_timestamp(item["updated_at"]) if "updated_at" in item else None
                for subject, item in items.items()
            }
        except ValueError as error:
            raise TableError(f"a rejection cannot be read: {error}") from None
