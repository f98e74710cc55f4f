"""The command as it runs where width, colours, pipes and signals matter: in a forked process, with the fakes of the
test."""

import fcntl
import os
import pty
import struct
import sys
import termios
import traceback
import warnings
from collections.abc import Callable

from infra.ops.app import main


def in_terminal(*arguments: str, columns: int = 80) -> tuple[int, str]:
    """Run it in a pseudo-terminal; returns the exit status and the screen, with escape sequences and LF line ends."""
    return _forked(arguments, lambda: pty.openpty(), columns)  # noqa: PLW0108 - for its type


def in_pipe(*arguments: str) -> tuple[int, str]:
    """Run it with both outputs in one pipe."""
    return _forked(arguments, os.pipe)


def into(path: str, *arguments: str) -> tuple[int, str]:
    """Run it with the standard output in this file; returns what the standard error got."""
    return _forked(arguments, os.pipe, stdout=os.open(path, os.O_WRONLY))


def into_closed_pipe(*arguments: str) -> tuple[int, str]:
    """Run it with a standard output that nobody reads any more; returns what the standard error got."""
    reader, writer = os.pipe()
    os.close(reader)
    return _forked(arguments, os.pipe, stdout=writer)


def _forked(
    arguments: tuple[str, ...], ends: Callable[[], tuple[int, int]], columns: int = 0, stdout: int | None = None
) -> tuple[int, str]:
    ours, theirs = ends()
    if columns:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads are idle
        child = os.fork()
    if child == 0:
        _run(arguments, theirs, stdout)
    for end in filter(None, (theirs, stdout)):
        os.close(end)
    said = b""
    try:
        while piece := os.read(ours, 65_536):
            said += piece
    except OSError:
        pass  # a terminal that nobody holds any more
    os.close(ours)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.decode().replace("\r\n", "\n")


def _run(arguments: tuple[str, ...], end: int, stdout: int | None) -> None:
    """In the child, which never returns."""
    status = 99
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(end if stdout is None else stdout, 1)
        os.dup2(end, 2)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
        status = main(arguments, name="devin-ops")
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)
