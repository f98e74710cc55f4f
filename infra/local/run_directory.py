"""A directory for one run of the stack: its logs, certificate and scratch files."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.environments import ROOT

LOCAL = ROOT / ".local"


def _remove_dead() -> None:
    for directory in LOCAL.glob("run-*"):
        with (directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its run goes on
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def run_directory() -> Iterator[Path]:
    """A new directory; at the end the logs stay in it, until the next run begins.

    It is locked while in use. A lock, unlike a process id in a file, cannot outlive its holder, so what a killed run
    left behind is recognised and removed.
    """
    LOCAL.mkdir(exist_ok=True)
    # No directory may appear without its lock while others look for dead ones.
    with (LOCAL / "runs.lock").open("w") as runs:
        fcntl.flock(runs, fcntl.LOCK_EX)
        _remove_dead()
        directory = Path(tempfile.mkdtemp(prefix="run-", dir=LOCAL))
        lock = (directory / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield directory
    finally:
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix != ".log" and path.name != "lock":
                path.unlink()
        lock.close()
