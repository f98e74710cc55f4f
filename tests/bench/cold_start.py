"""What a cold start costs: imports, clients, the first invocation; and what the artefact weighs."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.environments import ROOT
from infra.local import sam
from infra.local.processes import ProcessGroup
from tests.bench.contender import batch
from tests.bench.fleet import BARE, Server, Spread
from tests.bench.result import Goal, Section, Table

_INVOKE = """
import json, os, sys
from types import SimpleNamespace
sys.stdout = open(os.devnull, "w")
from {module} import lambda_handler
context = SimpleNamespace(
    aws_request_id="1", function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn",
    get_remaining_time_in_millis=lambda: 60000,
)
lambda_handler(json.loads(os.environ["EVENT"]), context)
"""
_CLIENT = "boto3 + one client"
_CLIENTS = "boto3 + our three clients"
_IMPORT = "ours: import alone"
# Without its settings the handler makes no clients when it is imported.
_ALONE = "import os; del os.environ['WORK_QUEUE_URL']; import terminate.handler"
_NAIVE = "first peer: import"
SCRIPTS = {
    "bare interpreter": "pass",
    _CLIENT: "import boto3; boto3.client('sqs')",
    _CLIENTS: "import boto3; [boto3.client(name) for name in ('sqs', 'ssm', 'secretsmanager')]",
    _IMPORT: _ALONE,
    "ours: initialised, clients and all": "import terminate.handler",
    _NAIVE: "import tests.bench.peers.batch_processor",
    "ours: import and first invocation": _INVOKE.format(module="terminate.handler"),
    "first peer: import and first invocation": _INVOKE.format(module="tests.bench.peers.batch_processor"),
}


@dataclass(frozen=True, slots=True)
class Start:
    wall: float
    cpu: float


def _start(script: str, environment: Mapping[str, str], *options: str) -> Start:
    """A process that runs this script: what it took from its start to its end."""
    # -S: no site-packages of this machine, whose .pth files may import anything. -B: Lambda's disk is read-only.
    command = [str(BARE), "-S", "-B", *options, "-c", script]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=dict(environment), cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ended with {process.returncode}: {script}")
    return Start(wall, usage.ru_utime + usage.ru_stime)


def _by_package(script: str, environment: Mapping[str, str]) -> Counter[str]:
    """Microseconds of import by top-level package, in the fastest of five runs."""
    best: Counter[str] = Counter()
    for _ in range(5):
        command = [str(BARE), "-S", "-B", "-X", "importtime", "-c", script]
        said = subprocess.run(
            command, env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=True
        ).stderr
        found: Counter[str] = Counter()
        for line in said.splitlines():
            cells = line.removeprefix("import time:").split("|")
            if len(cells) == 3 and cells[0].strip().isdigit():
                found[cells[2].strip().split(".")[0]] += int(cells[0])
        if not best or found.total() < best.total():
            best = found
    return best


def _owner(artefact: Path) -> Callable[[str], str]:
    shipped = {path.name.removesuffix(".py") for path in artefact.iterdir()}
    ours = {path.name.removesuffix(".py") for path in (ROOT / "functions").iterdir()}

    def owner(package: str) -> str:
        if package in ours:
            return "this project's own modules"
        return package if package in shipped else "standard library"

    return owner


def _sizes(artefact: Path) -> list[list[str]]:
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
    rows = [[name, f"{size / 1024:,.0f}", f"{zipped[name] / 1024:,.0f}"] for name, size in unpacked.most_common(8)]
    rest = set(unpacked) - {row[0] for row in rows}
    rows.append(
        [
            "everything else",
            f"{sum(unpacked[name] for name in rest) / 1024:,.0f}",
            f"{sum(zipped[name] for name in rest) / 1024:,.0f}",
        ]
    )
    rows.append(["**all**", f"{unpacked.total() / 1024:,.0f}", f"{zipped.total() / 1024:,.0f}"])
    return rows


def measure(server: Server, *, quick: bool) -> Section:
    """Fresh processes on the built artefact, as it is and with all of it precompiled, and without any bytecode."""
    repeats = 1 if quick else 9
    with tempfile.TemporaryDirectory() as scratch, ProcessGroup() as group:
        sam.build(group, Path(scratch) / "sam-build.log")
        built = sam.BUILD / "TerminateFunction"
        # As `make build` leaves it, and as `sam build` alone would.
        compiled, plain = Path(scratch) / "compiled", Path(scratch) / "plain"
        shutil.copytree(built, compiled)
        shutil.copytree(built, plain, ignore=shutil.ignore_patterns("__pycache__"))
        environment = server.environment("fixed-0-0") | {"EVENT": json.dumps(batch(0, 10))}
        places = {
            "with bytecode": environment | {"PYTHONPATH": f"{compiled}:{ROOT}"},
            "without": environment | {"PYTHONPATH": f"{plain}:{ROOT}"},
        }
        taken: dict[tuple[str, str], list[Start]] = {}
        for repeat in range(repeats + 1):
            for name, script in SCRIPTS.items():
                for place, variables in places.items():
                    if place == "without" and repeat > max(repeats // 2, 1):
                        continue
                    start = _start(script, variables)
                    if repeat:  # the first one also fills the page cache
                        taken.setdefault((name, place), []).append(start)
        owner = _owner(built)
        imports: Counter[str] = Counter()
        for package, microseconds in _by_package(_ALONE, places["with bytecode"]).items():
            imports[owner(package)] += microseconds
        sizes = _sizes(built)
    cpu = {key: Spread.of([start.cpu for start in starts]) for key, starts in taken.items()}
    wall = {key: Spread.of([start.wall for start in starts]) for key, starts in taken.items()}
    rows = [[name, *(found[name, place].told(1000) for place in places for found in (wall, cpu))] for name in SCRIPTS]
    ratio = cpu[_IMPORT, "with bytecode"].median / cpu[_CLIENT, "with bytecode"].median
    return Section(
        "Cold start",
        [
            (
                "A fresh interpreter on the built artefact: time from its start to its end, and CPU of the process. "
                "Of the "
                "CPU of a whole core: Lambda gives 512 MB some 29 % of one, but all of one "
                "while it initialises. With bytecode: the artefact as `make build` makes it. Without: as `sam build` "
                "alone would, with no `.pyc`, and none can be written, as in Lambda. The standard library has its "
                "bytecode in both cases."
            ),
        ],
        [
            Table(
                "Milliseconds",
                ["", *(f"{what}, {place}" for place in places for what in ("time", "CPU"))],
                rows,
            ),
            Table(
                "Where `import terminate.handler` goes",
                ["package", "ms (self, -X importtime)"],
                [[name, f"{microseconds / 1000:.1f}"] for name, microseconds in imports.most_common(14)],
            ),
            Table("What the artefact weighs", ["package", "KB unpacked", "KB zipped"], sizes),
        ],
        [
            Goal(
                "cold import (CPU, with bytecode)",
                "at most 1.05 x boto3 + one client",
                f"{ratio:.2f} x",
                ratio <= 1.05,
            )
        ],
    )
