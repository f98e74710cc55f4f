"""The record of calls: every request that arrived, in order, whatever became of it."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any


def fingerprint(key: str) -> str:
    """What the record keeps of a key: enough to tell keys apart, nothing to use one with."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that arrived at the API.

    method, path: as on the request line, path with the query; of a line that made no sense, nothing and all of it.
    session_id: of the path, with percent escapes resolved. operation: see Operation; None for any other path.
    key: the fingerprint of the key sent. reused: the connection had carried a request before.
    status: what was answered, or at least begun to be; None if nothing was, or not yet. fault: the kind of fault
    that was played. ended: this very call ended the session. at, answered_at: when it arrived, and when the answer
    began, in UTC.
    """

    number: int
    at: datetime
    method: str
    path: str
    operation: str | None = None
    session_id: str | None = None
    authorised: bool = False
    key: str | None = None
    reused: bool = False
    fault: str | None = None
    ended: bool = False
    status: int | None = None
    answered_at: datetime | None = None


class Calls:
    """The record. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, Call] = {}
        self._next = 0

    def arrived(self, method: str, path: str, *, reused: bool) -> int:
        """Records a request; returns the call's number, from 0. Numbers go on after `clear`."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._calls[number] = Call(number=number, at=datetime.now(UTC), method=method, path=path, reused=reused)
            return number

    def note(self, number: int, **facts: Any) -> None:
        """Adds to a call's record what has become known, unless it was cleared."""
        with self._lock:
            if number in self._calls:
                self._calls[number] = replace(self._calls[number], **facts)

    def answered(self, number: int, status: int) -> None:
        """Records that the answer begins now."""
        self.note(number, status=status, answered_at=datetime.now(UTC))

    def all(self) -> list[Call]:
        """The calls in the order in which they arrived, as they stand."""
        with self._lock:
            return list(self._calls.values())

    def clear(self) -> None:
        """Forgets all calls so far."""
        with self._lock:
            self._calls.clear()
