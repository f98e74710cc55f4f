"""The audit for a machine with a network: pip-audit asks PyPI about every lock file. `python -m infra.audit.online`"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

from infra.audit import pins
from infra.audit.check import Acceptance, accepted
from infra.environments import ENVIRONMENTS, ROOT


def command(lock: Path, acceptances: Iterable[Acceptance], today: date) -> list[str]:
    """Audits one lock file as it is, without resolving anything; what PyPI does not know fails too."""
    ignored = [one.advisory for one in acceptances if str(lock.relative_to(ROOT)) in one.locks and today <= one.until]
    return [
        str(ENVIRONMENTS["audit"].path / "bin" / "pip-audit"),
        *("--strict", "--require-hashes", "--disable-pip", "--progress-spinner", "off"),
        *(f"--ignore-vuln={one}" for one in ignored),
        *("--requirement", str(lock)),
    ]


def main() -> int:
    acceptances, today = accepted(), datetime.now(UTC).date()
    failed = 0
    for lock in pins.lock_files():
        print(lock.relative_to(ROOT), flush=True)
        failed += subprocess.run(command(lock, acceptances, today), cwd=ROOT, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
