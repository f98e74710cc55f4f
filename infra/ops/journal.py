"""What was sent already, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO

from infra.ops.problems import UsageError


class Journal:
    """A line before a batch is sent and one after: `sent` are those with both, `in_doubt` those with the first.

    Lines are flushed one by one, so that a killed process leaves them; a power failure may take the last few.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        self._file = file
        self._lock = Lock()
        self.sent: set[str] = set()
        self.in_doubt: set[str] = set()

    def sending(self, ids: Sequence[str]) -> None:
        self._add("sending", ids)

    def sent_now(self, ids: Sequence[str]) -> None:
        self._add("sent", ids)

    def refused(self, ids: Sequence[str]) -> None:
        """They were certainly not sent."""
        self._add("refused", ids)

    def _add(self, what: str, ids: Sequence[str]) -> None:
        if not ids:
            return
        with self._lock:
            self.note(what, ids)
            if self._file is not None:
                self._file.write(json.dumps({what: list(ids)}) + "\n")
                self._file.flush()

    def note(self, what: str, ids: Sequence[str]) -> None:
        if what == "sending":
            self.in_doubt |= set(ids)
            return
        self.in_doubt -= set(ids)
        if what == "sent":
            self.sent |= set(ids)


@contextmanager
def open_journal(path: Path, job: Mapping[str, str | None]) -> Iterator[Journal]:
    """The journal in this file, which is made if there is none. `job` is what has to be the same for it to be the same
    work: queue and condition. Raises UsageError if it is another's, or in use."""
    try:
        # Appending never loses what is there, whatever the file turns out to be.
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the journal {path} cannot be used ({error.strerror}); name another with --resume") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another run is sending with the journal {path}") from None
        journal = Journal(file)
        _read(file, path, job, journal)
        yield journal


def _read(file: IO[str], path: Path, job: Mapping[str, str | None], journal: Journal) -> None:
    file.seek(0)
    whole, _, cut = file.read().rpartition("\n")
    if not whole and not cut:
        file.write(json.dumps({"job": job}) + "\n")
        file.flush()
        return
    for number, line in enumerate(whole.split("\n"), 1):
        try:
            ((what, value),) = json.loads(line).items()
        except (ValueError, AttributeError):
            what, value = "", None
        if (what != "job") if number == 1 else what not in {"sending", "sent", "refused"}:
            raise UsageError(f"{path} is no journal of this command (line {number}); name another with --resume")
        if what != "job":
            journal.note(what, value)
        elif value != job:
            raise UsageError(
                f"{path} is the journal of other work (another queue or another --unless-updated-since); remove it, "
                "or name another with --resume"
            )
    if cut:
        # The last run was killed while it wrote this line: what it was about stays in doubt.
        file.truncate(len(whole.encode()) + 1)
