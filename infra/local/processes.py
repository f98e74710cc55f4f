"""A group of processes that ends with its owner, whatever ends the owner."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self


class ProcessFailedError(RuntimeError):
    """A step on the way to a running stack failed."""


class ProcessGroup:
    """Starts programs in one process group of their own, and kills the group as a whole.

    What a program starts (the emulator starts a worker for each function environment) is in the group too. The group's
    leader waits on a pipe that only this process holds open: when this process ends, even by SIGKILL, the kernel closes
    the pipe and the leader kills the group. A terminal's Ctrl-C reaches the owner alone.
    """

    def __enter__(self) -> Self:
        self._leader = subprocess.Popen(
            ["/bin/sh", "-c", "trap '' HUP INT TERM; cat >/dev/null; kill -KILL 0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        self._members: list[subprocess.Popen[bytes]] = []
        return self

    def __exit__(self, *_: object) -> None:
        # SIGKILL, because nothing in the group has state to save and a function may ignore anything less.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._leader.pid, signal.SIGKILL)
        for process in (*self._members, self._leader):
            process.wait()
        if self._leader.stdin is not None:
            self._leader.stdin.close()

    def start(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start a program; its output is appended to `log`."""
        with log.open("ab") as sink:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=pass_fds,
                process_group=self._leader.pid,
            )
        self._members.append(process)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the program as an exception does, so that what it started is ended too."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread alone; the process group still ends with the process
        return
    mine = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
