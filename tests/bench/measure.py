"""Counts instructions with valgrind, which do not vary with the load of a machine, and takes times beside them."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from infra.artefact import hash_authorities
from infra.environments import ENVIRONMENTS, ROOT
from infra.local.certificate import Certificate

HERE = Path(__file__).parent
# The interpreter without any environment, as on Lambda.
PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
UNTOUCHED = ENVIRONMENTS["bench"].path / "lib" / "python3.13" / "site-packages"
WORKERS = 10


class Server:
    """The API and AWS. With a certificate it speaks TLS."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        files = [certificate.chain, certificate.key] if certificate else []
        self._process = subprocess.Popen(
            [PYTHON, HERE / "server.py", *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.scheme = "https" if certificate else "http"
        self.address = f"{self.scheme}://127.0.0.1:{_stream(self._process.stdout).readline().strip()}"
        self._certificate = certificate

    def counts(self) -> dict[str, int]:
        """Calls and connections since this was last asked."""
        trusted = ssl.create_default_context(cafile=self._certificate.authority) if self._certificate else None
        with urllib.request.urlopen(f"{self.address}/counts", context=trusted) as answer:  # noqa: S310 - loopback
            return dict(json.loads(answer.read()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _stream(self._process.stdin).close()
        self._process.wait()
        _stream(self._process.stdout).close()


@dataclass(frozen=True, slots=True)
class Subject:
    """A handler, and the directories its modules come from."""

    name: str
    module: str
    paths: Sequence[Path]


def ours(artefact: Path, scratch: Path) -> Subject:
    """The built artefact, with the authority of the benchmark beside the others."""
    place = scratch / "ours"
    shutil.copytree(artefact, place)
    shutil.rmtree(place / "authorities")
    hash_authorities((scratch / "trust" / "certifi" / "cacert.pem").read_text(), place / "authorities")
    return Subject("ours", "terminate.handler", [place])


def peer(name: str, module: str, scratch: Path) -> Subject:
    """A peer on an untouched install of the same requirements. Its own module has bytecode too."""
    place = scratch / "peers"
    if not place.exists():
        shutil.copytree(HERE / "peers", place)
        # uv leaves no bytecode, pip does.
        subprocess.run([PYTHON, "-m", "compileall", "-q", place, UNTOUCHED], check=True)
    return Subject(name, module, [place, UNTOUCHED])


def trust(scratch: Path, authority: Path) -> Path:
    """A directory with a `certifi` that holds one authority more than the real one, for everybody."""
    place = scratch / "trust"
    shutil.copytree(UNTOUCHED / "certifi", place / "certifi")
    with (place / "certifi" / "cacert.pem").open("a") as bundle:
        bundle.write(authority.read_text())
    return place


@dataclass(slots=True)
class Bench:
    """Runs handlers against a server; `last_counts` are its counts of the latest run."""

    server: Server
    trusted: Path
    last_counts: Mapping[str, int] = field(default_factory=dict)

    def environment(self, subject: Subject, status: int) -> dict[str, str]:
        """What Lambda gives a function, and nothing of the caller's own."""
        address = self.server.address
        return {
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join(map(str, [self.trusted, *subject.paths])),
            "PYTHONHASHSEED": "0",
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_SESSION_TOKEN": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_LAMBDA_FUNCTION_NAME": "terminate",
            "LAMBDA_TASK_ROOT": str(subject.paths[0]),
            "DEVIN_API_URL": f"{address}/{status}",
            "API_KEY_SECRET_ARN": "key",
            "WORK_QUEUE_URL": f"{address}/123456789012/work",
            "DEAD_LETTER_QUEUE_URL": f"{address}/123456789012/dead",
            "STOP_SWITCH_PARAMETER": "/devin-session-cleanup/stop-switch",
            "MAX_WORKERS": str(WORKERS),
            "POWERTOOLS_METRICS_NAMESPACE": "DevinSessionCleanup",
            "POWERTOOLS_LOG_LEVEL": "INFO",
            "_X_AMZN_TRACE_ID": "Root=1-65a1b2c3-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0",
        }

    def instructions(self, subject: Subject, batches: Sequence[int] = (), status: int = 200) -> int:
        """Instructions of a fresh process that imports the handler and works off batches of so many ids."""
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *self._command(subject, batches)]
        done = self._run(command, subject, batches, status)
        found = re.search(r"Collected : (\d+)", done.stderr)
        assert found, done.stderr
        return int(found[1])

    def times(self, subject: Subject, batches: Sequence[int] = (), status: int = 200) -> list[Mapping[str, float]]:
        """Seconds, wall and CPU, of the import and of each batch, in a fresh process."""
        done = self._run(self._command(subject, batches), subject, batches, status)
        return list(json.loads(done.stdout))

    def _command(self, subject: Subject, batches: Sequence[int]) -> list[str]:
        # -S: no site-packages of this machine. -B: Lambda's disk is read-only. -P: not the directory of loop.py.
        ranges = [f"{sum(batches[:number])}:{ids}" for number, ids in enumerate(batches)]
        return [str(PYTHON), "-S", "-B", "-P", str(HERE / "loop.py"), subject.module, *ranges]

    def _run(
        self, command: Sequence[str], subject: Subject, batches: Sequence[int], status: int
    ) -> subprocess.CompletedProcess[str]:
        """Run it, and see that the work was done: each id one DELETE, none reported as failed."""
        self.server.counts()
        environment = self.environment(subject, status)
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{subject.name}: {done.stderr}")
        failed = sum(step["failed"] for step in json.loads(done.stdout))
        counts = self.last_counts = self.server.counts()
        if (called := counts.get("DELETE", 0)) != sum(batches) or failed:
            raise RuntimeError(f"{subject.name}: {called} calls for {sum(batches)} ids, {failed} failed: {done.stderr}")
        return done


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
