"""All of the organisation's sessions, a page at a time, from an API whose pages may shift, repeat or never end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from devin.session import Page, Session

# A listing that goes on longer does not end. In v3 both limits are reached together.
MAX_PAGES = 1000
MAX_SESSIONS = 200_000
# So many pages in a row without anything new: the API repeats itself.
_MAX_STALE_PAGES = 3


@dataclass(slots=True)
class Listing:
    """Iterates over the sessions, each as often as the API lists it.

    `fetch(cursor)` gets a page, raising what it likes. `has_time` is asked before every page. After the iteration,
    `end` says what the end was: "complete" if the API came to its end.
    """

    fetch: Callable[[str | None], Page]
    has_time: Callable[[], bool]
    pages: int = 0
    end: str = "not begun"

    @property
    def complete(self) -> bool:
        return self.end == "complete"

    def __iter__(self) -> Iterator[Session]:
        cursor: str | None = None
        asked: set[str] = set()
        seen: set[str | None] = set()
        stale_pages = 0
        while True:
            if self.pages == MAX_PAGES:
                self.end = f"more than {MAX_PAGES} pages"
                return
            if len(seen) > MAX_SESSIONS:
                self.end = f"more than {MAX_SESSIONS} sessions"
                return
            if not self.has_time():
                self.end = "out of time"
                return
            page = self.fetch(cursor)
            self.pages += 1
            before = len(seen)
            for session in page.sessions:
                seen.add(session.session_id)
                yield session
            stale_pages = stale_pages + 1 if len(seen) == before else 0
            cursor = page.following
            if cursor is None:
                self.end = "complete"
                return
            if cursor in asked or stale_pages == _MAX_STALE_PAGES:
                self.end = "the API repeats itself"
                return
            asked.add(cursor)
