"""All of the organisation's sessions, a page at a time, from an API whose pages may shift, repeat or never end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from devin.session import Page, Session

# Two hundred thousand sessions in v3; whatever goes on longer does not end.
MOST_PAGES = 1000
# So many pages in a row without anything new: the API repeats itself.
_MOST_STALE_PAGES = 3


@dataclass(slots=True)
class Listing:
    """Iterates over the sessions, each as often as the API lists it: a later showing is the newer truth.

    `fetch(following)` gets a page, raising what it likes. `has_time` is asked before every page. When the iteration
    has ended, `listed` is the number of different sessions and `complete` says whether the API came to its end;
    `end` says in words what the end was.
    """

    fetch: Callable[[str | None], Page]
    has_time: Callable[[], bool]
    pages: int = 0
    end: str = "not begun"
    _seen: set[str | None] = field(default_factory=set)

    @property
    def listed(self) -> int:
        return len(self._seen)

    @property
    def complete(self) -> bool:
        return self.end == "complete"

    def __iter__(self) -> Iterator[Session]:
        following: str | None = None
        asked: set[str] = set()
        stale_pages = 0
        while True:
            if self.pages == MOST_PAGES:
                self.end = f"more than {MOST_PAGES} pages"
                return
            if not self.has_time():
                self.end = "out of time"
                return
            page = self.fetch(following)
            self.pages += 1
            before = self.listed
            for session in page.sessions:
                self._seen.add(session.session_id)
                yield session
            stale_pages = stale_pages + 1 if self.listed == before else 0
            following = page.following
            if following is None:
                self.end = "complete"
                return
            if following in asked or stale_pages == _MOST_STALE_PAGES:
                self.end = "the API repeats itself"
                return
            asked.add(following)
