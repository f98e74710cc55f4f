"""The built artefact: as `make build` leaves it and as `sam build` alone would, and processes that start from it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.environments import ROOT
from infra.local import sam
from infra.local.processes import ProcessGroup
from tests.bench.fleet import BARE


@dataclass(frozen=True, slots=True)
class Artefact:
    """Two copies of the function `terminate`, with and without bytecode."""

    compiled: Path
    plain: Path


@dataclass(frozen=True, slots=True)
class Start:
    """What a process took, in seconds."""

    wall: float
    cpu: float


@contextmanager
def built() -> Iterator[Artefact]:
    """For as long as the block lasts; nobody else's build changes them meanwhile."""
    with tempfile.TemporaryDirectory() as scratch, ProcessGroup() as group:
        sam.build(group, Path(scratch) / "sam-build.log")
        function = sam.BUILD / "TerminateFunction"
        artefact = Artefact(Path(scratch) / "compiled", Path(scratch) / "plain")
        shutil.copytree(function, artefact.compiled)
        shutil.copytree(function, artefact.plain, ignore=shutil.ignore_patterns("__pycache__"))
        yield artefact


def placed(place: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables with which an interpreter finds the artefact; the peers and the steps are beside it."""
    return {**environment, "PYTHONPATH": f"{place}:{ROOT}"}


def start(script: str, environment: Mapping[str, str]) -> Start:
    """A process that runs this script: what it took from its start to its end."""
    began = time.perf_counter()
    process = subprocess.Popen(_command(script), env=dict(environment), cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ended with {process.returncode}: {script}")
    return Start(wall, usage.ru_utime + usage.ru_stime)


def said(script: str, environment: Mapping[str, str], *options: str) -> tuple[str, str]:
    """What a process that runs this script writes to its standard output and to the other one."""
    command = _command(script, *options)
    done = subprocess.run(command, env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def _command(script: str, *options: str) -> list[str]:
    # -S: no site-packages of this machine, whose .pth files may import anything. -B: Lambda's disk is read-only.
    return [str(BARE), "-S", "-B", *options, "-c", script]


def sizes(artefact: Path) -> list[list[str]]:
    """Unpacked and zipped kilobytes by package, the largest first."""
    unpacked: Counter[str] = Counter()
    zipped: Counter[str] = Counter()
    with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(artefact.rglob("*")):
            if path.is_file():
                relative = path.relative_to(artefact)
                archive.write(path, relative)
                top = relative.parts[0].split("-")[0]
                unpacked[top] += path.stat().st_size
                zipped[top] += archive.getinfo(str(relative)).compress_size
    named = [name for name, _ in unpacked.most_common(8)]
    rest = set(unpacked) - set(named)
    return [
        *([name, _kilobytes(unpacked[name]), _kilobytes(zipped[name])] for name in named),
        ["everything else", *(_kilobytes(sum(size[name] for name in rest)) for size in (unpacked, zipped))],
        ["**all**", _kilobytes(unpacked.total()), _kilobytes(zipped.total())],
    ]


def _kilobytes(size: int) -> str:
    return f"{size / 1024:,.0f}"
