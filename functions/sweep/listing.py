"""All of the organisation's sessions, a page at a time, from an API whose pages may shift, repeat or never end."""

from collections.abc import Callable, Generator, Iterator
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

    def __iter__(self) -> Iterator[Session]:
        self.end = yield from self._sessions()

    def _sessions(self) -> Generator[Session, None, str]:
        cursor: str | None = None
        seen: set[str | None] = set()
        stale_pages = 0
        while True:
            if self.pages == MAX_PAGES:
                return f"more than {MAX_PAGES} pages"
            if len(seen) > MAX_SESSIONS:
                return f"more than {MAX_SESSIONS} sessions"
            if not self.has_time():
                return "out of time"
            page = self.fetch(cursor)
            self.pages += 1
            before = len(seen)
            for session in page.sessions:
                seen.add(session.session_id)
                yield session
            stale_pages = stale_pages + 1 if len(seen) == before else 0
            cursor = page.following
            if cursor is None:
                return "complete"
            if stale_pages == _MAX_STALE_PAGES:
                return "the API repeats itself"
