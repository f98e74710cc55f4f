"""What Lambda's runtime does with a handler: `python loop.py <module> [first:ids ...]`.

Imports the module, then hands it an SQS batch for each argument: so many ids, numbered from the first. Writes what each
step took to standard output, as JSON; the handler's own output is only counted.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any


class Context:
    """Lambda's context, as far as handlers use it."""

    function_name = "terminate"
    function_version = "$LATEST"
    memory_limit_in_mb = 512
    aws_request_id = "00000000-0000-0000-0000-000000000000"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:terminate"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        # Under valgrind everything takes fifty times as long.
        return 600_000


def batch(first: int, ids: int) -> str:
    """An event as the event source mapping sends it."""
    records = [
        {
            "messageId": f"19dd0b57-b21e-4ac1-bd88-{number:012d}",
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a" * 4,
            "body": json.dumps({"session_id": f"devin-bench-{number}"}),
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1769850000000"},
            "messageAttributes": {},
            "md5OfBody": "0" * 32,
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:work",
            "awsRegion": "us-east-1",
        }
        for number in range(first, first + ids)
    ]
    return json.dumps({"Records": records})


class Log:
    """Standard output, counted and dropped. CloudWatch adds 26 bytes to a line."""

    size = 0

    def write(self, text: str) -> int:
        self.size += len(text) + 26 * text.count("\n")
        return len(text)

    def flush(self) -> None:
        """Nothing is kept."""


def _timed(step: Any, log: Log) -> dict[str, float]:
    logged, wall, cpu = log.size, time.perf_counter(), time.process_time()
    answer = step()
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "logged": log.size - logged}
    return took | {"failed": len(answer["batchItemFailures"]) if isinstance(answer, dict) else 0}


def main() -> None:
    output = os.fdopen(os.dup(1), "w")
    # Powertools keeps the standard output that it finds when a logger is made.
    log = sys.stdout = Log()
    events = [batch(*map(int, argument.split(":"))) for argument in sys.argv[2:]]
    took = [_timed(lambda: importlib.import_module(sys.argv[1]), log)]
    handler: Any = getattr(sys.modules[sys.argv[1]], "lambda_handler", None)
    took += [_timed(lambda event=event: handler(json.loads(event), Context()), log) for event in events]
    output.write(json.dumps(took))
    output.flush()


if __name__ == "__main__":
    main()
