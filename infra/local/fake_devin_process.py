"""The stand-in of the Devin API as a process of its own, as the real one is."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from infra.environments import ROOT
from infra.local.processes import ProcessFailedError, ProcessGroup, tail

# The one key that is valid at first; made up, and worth nothing elsewhere.
API_KEY = "apk_user_local-stack-0123456789abcdef"


@dataclass(frozen=True)
class FakeDevinProcess:
    """A stand-in that is starting or running."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_ready(self, seconds: float = 20) -> str:
        """The address of the API, once it listens.

        Raises ProcessFailedError when it ends or says nothing in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            # A whole line, because what is read may end in the middle of the port.
            if found := re.search(r"^(http://\S+)\n", self.log.read_text(errors="replace"), re.MULTILINE):
                return found[1]
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ProcessFailedError(f"the stand-in did not start:\n{tail(self.log)}\n(whole log: {self.log})")
            time.sleep(0.05)


def start(group: ProcessGroup, directory: Path) -> FakeDevinProcess:
    """Starts a stand-in with empty state on a free port."""
    log = directory / "fake_devin.log"
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    process = group.start(
        [sys.executable, "-m", "infra.local.fake_devin", "--port", "0", "--key", API_KEY],
        env=environment,
        cwd=ROOT,
        log=log,
    )
    return FakeDevinProcess(process, log)
