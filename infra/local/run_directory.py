"""A directory for one run of the stack: its logs, certificate and scratch files."""

import contextlib
import fcntl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.environments import ROOT

LOCAL = ROOT / ".local"


def _remove_dead() -> None:
    for directory in LOCAL.glob("run-*"):
        # Without a lock it is being removed already.
        with contextlib.suppress(FileNotFoundError, BlockingIOError), (directory / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(directory)


def _remove(*paths: Path) -> None:
    """In the background: the files of the functions are thousands."""
    subprocess.run(["/bin/sh", "-c", 'rm -rf -- "$@" >/dev/null 2>&1 &', "rm", *paths], check=True)


@contextmanager
def run_directory() -> Iterator[Path]:
    """A new directory; at the end the logs stay in it, until the next run begins.

    It is locked while in use. The lock ends with its holder, so what a killed run left behind is found and removed.
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
        _remove(*(path for path in directory.iterdir() if path.suffix != ".log" and path.name != "lock"))
        lock.close()
