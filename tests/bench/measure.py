"""Counts instructions with valgrind, which do not vary with the load of a machine, and takes times beside them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from infra.artefact import hash_authorities
from infra.environments import ENVIRONMENTS, ROOT
from tests.bench.server import Server

HERE = Path(__file__).parent
# The interpreter without any environment, as on Lambda.
PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
UNTOUCHED = ENVIRONMENTS["bench"].path / "lib" / "python3.13" / "site-packages"


class Subject(NamedTuple):
    """A handler's module, and the directories that modules come from."""

    module: str
    paths: tuple[Path, ...]


def subjects(artefact: Path, authority: Path, scratch: Path) -> list[Subject]:
    """The built artefact, then its peers on an untouched install of the same requirements.

    All trust one authority more than the real ones.
    """
    trusted, place, peers = scratch / "trust", scratch / "ours", scratch / "peers"
    shutil.copytree(UNTOUCHED / "certifi", trusted / "certifi")
    with (trusted / "certifi" / "cacert.pem").open("a") as bundle:
        bundle.write(authority.read_text())
    shutil.copytree(artefact, place, ignore=shutil.ignore_patterns("authorities"))
    hash_authorities((trusted / "certifi" / "cacert.pem").read_text(), place / "authorities")
    shutil.copytree(HERE / "peers", peers)
    # uv leaves no bytecode, pip does.
    subprocess.run([PYTHON, "-m", "compileall", "-q", peers, UNTOUCHED], check=True)
    modules = ("batch_processor", "three_clients", "bare_urllib3")
    return [
        Subject("terminate.handler", (trusted, place)),
        *(Subject(module, (trusted, peers, UNTOUCHED)) for module in modules),
    ]


def instructions(server: Server, subject: Subject, batches: Sequence[int] = (), status: int = 200) -> int:
    """Instructions of a fresh process that imports the handler and works off batches of so many ids."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    found = re.search(r"Collected : (\d+)", _run(valgrind, server, subject, batches, status).stderr)
    assert found
    return int(found[1])


def times(
    server: Server, subject: Subject, batches: Sequence[int] = (), status: int = 200
) -> list[Mapping[str, float]]:
    """Seconds, wall and CPU, and bytes of log, of the import and of each batch, in a fresh process."""
    return list(json.loads(_run([], server, subject, batches, status).stdout))


def _run(
    prefix: Sequence[str], server: Server, subject: Subject, batches: Sequence[int], status: int
) -> subprocess.CompletedProcess[str]:
    """Run it, and see that the work was done: each id one DELETE."""
    server.calls.clear()
    server.connections.clear()
    # -S: no site-packages of this machine. -B: Lambda's disk is read-only. -P: not the directory of loop.py.
    command = [*prefix, str(PYTHON), "-S", "-B", "-P", str(HERE / "loop.py"), subject.module, *map(str, batches)]
    # What Lambda gives a function, and nothing of the caller's own.
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(map(str, subject.paths)),
        "PYTHONHASHSEED": "0",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_SESSION_TOKEN": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "terminate",
        "LAMBDA_TASK_ROOT": str(subject.paths[1]),
        "DEVIN_API_URL": f"{server.url}/{status}",
        "API_KEY_SECRET_ARN": "key",
        "WORK_QUEUE_URL": f"{server.url}/123456789012/work",
        "DEAD_LETTER_QUEUE_URL": f"{server.url}/123456789012/dead",
        "STOP_SWITCH_PARAMETER": "/devin-session-cleanup/stop-switch",
        "MAX_WORKERS": "10",
        "POWERTOOLS_METRICS_NAMESPACE": "DevinSessionCleanup",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "_X_AMZN_TRACE_ID": "Root=1-65a1b2c3-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0",
    }
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or len(server.calls) != sum(batches):
        raise RuntimeError(f"{subject.module}: {len(server.calls)} calls for {sum(batches)} ids: {done.stderr}")
    return done
