"""The processes of the benchmark: the server, and one for each contender."""

from __future__ import annotations

import json
import os
import ssl
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from infra.environments import ENVIRONMENTS, ROOT
from infra.local.certificate import Certificate

HERE = Path(__file__).parent
PYTHON = ENVIRONMENTS["bench"].path / "bin" / "python"
# The interpreter without any environment, as on Lambda.
BARE = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
WORKERS = 10

OURS = "this project"
FIRST_PEER = "BatchProcessor + requests.delete"
LIMIT = "threads + urllib3"
CONTENDERS = {
    OURS: "terminate.handler",
    FIRST_PEER: "tests.bench.peers.batch_processor",
    "BatchProcessor + Session": "tests.bench.peers.batch_processor_session",
    "AsyncBatchProcessor + threads": "tests.bench.peers.async_batch_processor",
    LIMIT: "tests.bench.peers.bare_urllib3",
    "asyncio + aiohttp": "tests.bench.peers.bare_aiohttp",
}
# Those that call one after the other.
SEQUENTIAL = {FIRST_PEER, "BatchProcessor + Session"}


class Server:
    """The API and the AWS endpoint; `url(behaviour)` is an API that behaves so. With a certificate it speaks TLS."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        shown = [certificate.chain, certificate.key] if certificate else []
        self._process = subprocess.Popen(
            [BARE, HERE / "server.py", *shown], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self._trusted = ssl.create_default_context(cafile=certificate.authority) if certificate else None
        scheme = "https" if certificate else "http"
        self.address = f"{scheme}://127.0.0.1:{_stream(self._process.stdout).readline().strip()}"

    def url(self, behaviour: str) -> str:
        return f"{self.address}/{behaviour}"

    def counts(self) -> dict[str, int]:
        """The calls since this was last asked, by method and by operation of AWS."""
        with urllib.request.urlopen(f"{self.address}/counts", context=self._trusted) as answer:  # noqa: S310 - loopback
            return dict(json.loads(answer.read()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._process)

    def environment(self, behaviour: str, workers: int = WORKERS) -> dict[str, str]:
        """What Lambda would tell a function, and nothing of the caller's own."""
        return {
            "PATH": os.defpath,
            "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}",
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "DEVIN_API_URL": self.url(behaviour),
            "DEVIN_ORG_ID": "org-bench",
            "API_KEY_SECRET_ARN": "key",
            "WORK_QUEUE_URL": f"{self.address}/work",
            "DEAD_LETTER_QUEUE_URL": f"{self.address}/dead",
            "STOP_SWITCH_PARAMETER": "/devin-session-cleanup/stop-switch",
            "MAX_WORKERS": str(workers),
            "POWERTOOLS_METRICS_NAMESPACE": "DevinSessionCleanup",
            "POWERTOOLS_LOG_LEVEL": "INFO",
            # Lambda sets it, and Powertools logs it.
            "_X_AMZN_TRACE_ID": "Root=1-65a1b2c3-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0",
        }


@dataclass(frozen=True, slots=True)
class Took:
    """What one invocation took. Seconds, characters of log, kilobytes, bytes."""

    wall: float
    cpu: float
    logged: int
    failed: int
    peak_kilobytes: int
    allocated: int
    answer: Mapping[str, Any]


class Contender:
    """A handler in a process of its own."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [PYTHON, HERE / "contender.py", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(environment),
            cwd=ROOT,
        )

    def invoke(self, *, first: int = 0, ids: int = 0, **more: Any) -> Took:
        """Invoke it with a batch of `ids` messages, numbered from `first`, or with the `event` given."""
        said = _stream(self._process.stdin)
        said.write(json.dumps({"first": first, "ids": ids, **more}) + "\n")
        said.flush()
        answer = _stream(self._process.stdout).readline()
        if not answer:
            raise RuntimeError("a contender ended; what it said is above")
        return Took(**json.loads(answer))

    def at(self, url: str, ids: int = WORKERS) -> None:
        """Have it call another API from now on, with as many connections made as it then has calls at once."""
        # Not from the first id, which is among those that fail: of one alone, all would.
        self.invoke(first=1, ids=ids, environment={"DEVIN_API_URL": url})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._process)


def work(server: Server, contender: Contender, *, ids: int, first: int = 0, failing: int = 0, **more: Any) -> Took:
    """Invoke it with a batch, and see that the batch was worked off: who does not do the work is fast.

    Each id has to be one DELETE, and so many of them reported as failed. Raises RuntimeError otherwise.
    """
    server.counts()
    took = contender.invoke(first=first, ids=ids, **more)
    called = server.counts().get("DELETE", 0)
    if (called, took.failed) != (ids, failing):
        raise RuntimeError(
            f"{ids} ids, {failing} of which fail: {called} were called, {took.failed} reported as failed"
        )
    return took


@contextmanager
def contenders(server: Server, behaviour: str, names: Sequence[str] = ()) -> Iterator[dict[str, Contender]]:
    """All of them, or those named, each warm."""
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(Contender(CONTENDERS[name], server.environment(behaviour)))
            for name in names or CONTENDERS
        }
        for contender in started.values():
            contender.at(server.url(behaviour))
        yield started


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeated measurements of one thing."""

    median: float
    low: float
    high: float
    times: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The median, and the quartiles where there are enough values for them, otherwise the extremes."""
        ordered = sorted(values)
        if len(ordered) < 4:
            return cls(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))
        low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(middle, low, high, len(ordered))

    def told(self, factor: float = 1.0, digits: int = 0) -> str:
        return (
            f"{self.median * factor:,.{digits}f} ({self.low * factor:,.{digits}f} to {self.high * factor:,.{digits}f})"
        )


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _end(process: subprocess.Popen[str]) -> None:
    """Their input ends, so they end."""
    _stream(process.stdin).close()
    process.wait()
    _stream(process.stdout).close()
