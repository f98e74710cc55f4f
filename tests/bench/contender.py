"""One contender in a process of its own: `python contender.py <module of its handler>`.

Reads a command per line from standard input and answers each with a line: what an invocation took. What the handler
prints goes to /dev/null and is counted.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
import tracemalloc
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO


class Sink:
    """Standard output as Lambda would get it, but for the reading of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.characters = 0

    def write(self, text: str) -> int:
        self.characters += len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


class Context(SimpleNamespace):
    """Lambda's context, as far as handlers look at it."""

    def get_remaining_time_in_millis(self) -> int:
        return 600_000


REQUESTS = count(1)


def context() -> Context:
    return Context(
        function_name="terminate",
        memory_limit_in_mb=512,
        aws_request_id=f"00000000-0000-0000-0000-{next(REQUESTS):012d}",
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:terminate",
    )


def batch(first: int, ids: int) -> dict[str, Any]:
    """An event as the event source mapping sends it."""
    return {
        "Records": [
            {
                "messageId": f"19dd0b57-b21e-4ac1-bd88-{number:012d}",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a" * 4,
                "body": json.dumps({"session_id": f"devin-bench-{number}"}),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1769850000000"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:work",
                "awsRegion": "us-east-1",
            }
            for number in range(first, first + ids)
        ]
    }


def peak_kilobytes() -> int:
    """The most memory that this process ever had; `ru_maxrss` would begin with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def invoke(handler: Any, event: Any, sink: Sink, *, traced: bool = False) -> dict[str, Any]:
    """One invocation, and what it took."""
    logged = sink.characters
    if traced:
        tracemalloc.start()
    cpu, began = cpu_seconds(), time.perf_counter()
    answer = handler(event, context())
    wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    allocated = tracemalloc.get_traced_memory()[1] if traced else 0
    if traced:
        tracemalloc.stop()
    return {
        "wall": wall,
        "cpu": cpu,
        "logged": sink.characters - logged,
        "failed": len(answer.get("batchItemFailures", [])),
        "peak_kilobytes": peak_kilobytes(),
        "allocated": allocated,
        "answer": {name: value for name, value in answer.items() if isinstance(value, (int, str))},
    }


def main() -> None:
    said = os.fdopen(os.dup(1), "w")
    sink = Sink(Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process
    # Powertools takes hold of standard output when a logger is made.
    sys.stdout = sink
    handler = importlib.import_module(sys.argv[1]).lambda_handler
    for line in sys.stdin:
        command = json.loads(line)
        os.environ |= command.get("environment", {})
        event = command["event"] if "event" in command else batch(command["first"], command["ids"])
        said.write(json.dumps(invoke(handler, event, sink, traced=command.get("traced", False))) + "\n")
        said.flush()


if __name__ == "__main__":
    main()
