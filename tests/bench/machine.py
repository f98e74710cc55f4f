"""What a chapter was measured on: when, which code, which machine."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from infra.environments import ROOT
from tests.bench.fleet import PYTHON


def stamp() -> str:
    """For the head of a chapter, taken as it begins."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} at {_commit()}, on {os.cpu_count()} x {_cpu()}, {memory:.0f} GB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {_versions()}. Load average "
        f"when it began: {os.getloadavg()[0]:.2f}."
    )


def _commit() -> str:
    """The documents do not count: they are what a measurement changes."""
    found = _git("rev-parse", "--short", "HEAD")
    if not found:
        return "a commit that is not known"
    return f"commit {found}" + (
        " with uncommitted changes" if _git("status", "--porcelain", "--", ".", ":!docs") else ""
    )


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""  # no git, or a copy of the files without it


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _versions() -> str:
    script = "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    names = ["boto3", "requests", "urllib3", "aws-lambda-powertools", "aiohttp"]
    return subprocess.run([PYTHON, "-c", script, *names], capture_output=True, text=True, check=True).stdout.strip()
