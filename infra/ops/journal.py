"""What was sent already, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import fcntl
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from infra.ops.problems import FoundError, UsageError

_KINDS = {"sending", "sent", "refused"}


class Journal:
    """A line before a batch is sent and one after: `sent` are those with both, `in_doubt` those with the first.

    Nothing is buffered, so that a killed process leaves its lines; a power failure may take the last few. `forget` it,
    and it is removed in the end.
    """

    def __init__(
        self, file: BinaryIO | io.RawIOBase | None = None, path: Path = Path(), header: bytes = b"", end: int = 0
    ) -> None:
        self._file = file
        self._path = path
        self._header = header
        self._end = end
        self._broken: str | None = None
        self._lock = Lock()
        self.sent: set[str] = set()
        self.in_doubt: set[str] = set()
        self.forgotten = False

    def sending(self, ids: Sequence[str]) -> None:
        """To be said before they are; raises FoundError if it cannot be written, and then they must not be sent."""
        with self._lock:
            self._append("sending", ids)
            self.note("sending", ids)

    def sent_now(self, ids: Sequence[str]) -> None:
        """Raises FoundError if it cannot be written: they stay in doubt for the next run."""
        self._settle("sent", ids)

    def refused(self, ids: Sequence[str]) -> None:
        """They were certainly not sent; raises as `sent_now` does."""
        self._settle("refused", ids)

    def _settle(self, what: str, ids: Sequence[str]) -> None:
        with self._lock:
            self.note(what, ids)
            self._append(what, ids)

    def note(self, what: str, ids: Sequence[str]) -> None:
        if what == "sending":
            self.in_doubt |= set(ids)
            return
        self.in_doubt -= set(ids)
        if what == "sent":
            self.sent |= set(ids)

    def _append(self, what: str, ids: Sequence[str]) -> None:
        if self._file is None or not ids:
            return
        if self._broken is None:
            line = json.dumps({what: list(ids)}).encode() + b"\n"
            try:
                # Whatever lies behind is half a line of a run that was killed.
                self._file.truncate(self._file.seek(self._end))
                whole = line if self._end else self._header + line
                write_whole(self._file, whole)
                self._end += len(whole)
            except OSError as error:
                self._broken = f"the journal {self._path} cannot be written ({error.strerror}), so no more is sent"
                with suppress(OSError):
                    self._file.truncate(self._end)
        if self._broken is not None:
            raise FoundError(self._broken)

    @property
    def is_empty(self) -> bool:
        return self._end == 0


def write_whole(file: BinaryIO | io.RawIOBase, data: bytes) -> None:
    """A disk that is nearly full takes the beginning and says so."""
    while data:
        data = data[file.write(data) or 0 :]


@contextmanager
def open_journal(path: Path, job: Mapping[str, str | None]) -> Iterator[Journal]:
    """The journal in this file, which is made when there is something to write. `job` is what has to be the same for it
    to be the same work: queue and condition. Raises UsageError if it is another's, or in use."""
    another = "name another with --resume"
    try:
        file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")
    except OSError as error:
        raise UsageError(f"the journal {path} cannot be used ({error.strerror}); {another}") from None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UsageError(f"{path} is no file; {another}")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = file.readall()
        except BlockingIOError:
            raise UsageError(f"another run is sending with the journal {path}") from None
        except OSError as error:
            raise UsageError(f"the journal {path} cannot be used ({error.strerror}); {another}") from None
        if os.fstat(file.fileno()).st_nlink == 0:
            raise UsageError(f"another run has just ended and removed the journal {path}; repeat the command")
        header = json.dumps({"job": job}).encode() + b"\n"
        whole = content.rpartition(b"\n")[0]
        if not whole and header.startswith(content):
            # New, or the last run was killed before it had sent anything.
            journal = Journal(file, path, header)
        else:
            journal = Journal(file, path, end=len(whole) + 1)
            _read(whole, path, job, journal)
        try:
            yield journal
        finally:
            # As long as it is locked: another run that finds it then finds it gone.
            if journal.forgotten or journal.is_empty:
                path.unlink(missing_ok=True)


def _read(whole: bytes, path: Path, job: Mapping[str, str | None], journal: Journal) -> None:
    for number, line in enumerate(whole.split(b"\n"), 1):
        try:
            ((what, value),) = json.loads(line.decode()).items()
        except (ValueError, AttributeError, RecursionError):
            what, value = "", None
        is_list = isinstance(value, list) and all(isinstance(one, str) for one in value)
        if (what != "job") if number == 1 else (what not in _KINDS or not is_list):
            raise UsageError(f"{path} is no journal of this command (line {number}); name another with --resume")
        if what != "job":
            journal.note(what, value)
        elif value != job:
            raise UsageError(
                f"{path} is the journal of other work (another queue or another --unless-updated-since); remove it, "
                "or name another with --resume"
            )
